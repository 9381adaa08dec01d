/* one_client.h - an NBD client of an engine's export: EXPORT_NAME, then requests as the test likes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_ONE_CLIENT_H
#define TESTS_ONE_CLIENT_H

#include "engine_pair.h"

struct __attribute__((packed)) nbd_wire_request {
    uint32_t magic;
    uint16_t flags, type;
    uint64_t cookie, offset;
    uint32_t length;
};

static inline void read_all(int fd, void *buffer, size_t length)
{
    for (size_t got = 0; got < length;) {
        ssize_t n = read(fd, (char *)buffer + got, length - got);
        check(n > 0);
        got += (size_t)n;
    }
}

static inline void write_all(int fd, const void *buffer, size_t length)
{
    for (size_t put = 0; put < length;) {
        ssize_t n = write(fd, (const char *)buffer + put, length - put);
        check(n > 0);
        put += (size_t)n;
    }
}

static inline int nbd_connect(struct node *node)
{
    int pair[2];
    uint8_t greeting[18];
    uint8_t size_and_flags[10];
    uint32_t client_flags = htobe32(3);
    uint8_t option[16];
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    check(fcntl(pair[1], F_SETFL, O_NONBLOCK) == 0);
    check(core_export_client(node->engine, pair[1]) == 0);
    read_all(pair[0], greeting, sizeof greeting);
    memcpy(option, "IHAVEOPT\0\0\0\1\0\0\0\0", 16);
    write_all(pair[0], &client_flags, 4);
    write_all(pair[0], option, 16);
    read_all(pair[0], size_and_flags, 10);
    return pair[0];
}

static inline void nbd_request(int fd, uint16_t type, uint16_t flags, uint64_t offset, uint32_t length,
                               const void *payload)
{
    struct nbd_wire_request request = {.magic = htobe32(0x25609513),
                                       .flags = htobe16(flags),
                                       .type = htobe16(type),
                                       .cookie = offset,
                                       .offset = htobe64(offset),
                                       .length = htobe32(length)};
    write_all(fd, &request, sizeof request);
    if (payload != NULL)
        write_all(fd, payload, length);
}

/* The error of the next simple reply. */
static inline uint32_t nbd_reply(int fd)
{
    struct __attribute__((packed)) {
        uint32_t magic, error;
        uint64_t cookie;
    } reply;
    read_all(fd, &reply, sizeof reply);
    check(reply.magic == htobe32(0x67446698));
    return be32toh(reply.error);
}

static inline bool nbd_replied(int fd, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, timeout_ms) == 1;
}

#endif
