/* engine_pair.h - two real engines in one process, joined by socket pairs, over files in memory; and an NBD client for
 * the first.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * No control plane: the test gives the orders that it would give. */
#ifndef TESTS_ENGINE_PAIR_H
#define TESTS_ENGINE_PAIR_H

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "core.h"

#define check(condition) CHECK((condition), "%s", "see the test")

#define PAIR_SECTORS 131072ull /* 64 MiB */
#define PAIR_AL_BLOCKS 8u
#define PAIR_BM_OFFSET ((uint64_t)PAIR_AL_BLOCKS * 4096)
#define PAIR_MD_BYTES (PAIR_BM_OFFSET + 65536)

static uint32_t pair_integrity_alg; /* enum core_digest */
static uint32_t pair_features = 11; /* TRIM, THIN_RESYNC, WZEROES */
static uint32_t pair_rs_discard_sectors;

struct node {
    core_engine *engine;
    int data_fd, md_fd; /* the test's own, to look at the disks */
    struct core_fact facts[256];
    uint32_t count;
    uint64_t token;
};

static inline int memory_file(const char *name, uint64_t bytes)
{
    char path[] = "/dev/shm/pydrbd-test-XXXXXX";
    int fd = mkstemp(path);
    (void)name;
    check(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    unlink(path);
    return fd;
}

static inline void node_drain(struct node *node)
{
    uint32_t room = (uint32_t)(sizeof node->facts / sizeof node->facts[0]) - node->count;
    node->count += core_engine_drain(node->engine, node->facts + node->count, room);
}

/* Takes the first fact of that type (and token, unless 0) out of those that came, within half a minute: a loaded
 * machine is slow, and a fact that never comes is what fails. */
static inline struct core_fact node_await(struct node *node, enum core_fact_type type, uint64_t token)
{
    for (int tries = 0; tries < 3000; tries++) {
        node_drain(node);
        for (uint32_t i = 0; i < node->count; i++) {
            struct core_fact fact = node->facts[i];
            if (fact.type != (uint32_t)type || (token != 0 && fact.token != token))
                continue;
            memmove(&node->facts[i], &node->facts[i + 1], (node->count - i - 1) * sizeof fact);
            node->count--;
            return fact;
        }
        struct pollfd poll_fd = {.fd = core_engine_event_fd(node->engine), .events = POLLIN};
        poll(&poll_fd, 1, 10);
    }
    fprintf(stderr, "fact %d (token %llu) did not come\n", (int)type, (unsigned long long)token);
    exit(1);
}

static inline bool node_has(struct node *node, enum core_fact_type type)
{
    node_drain(node);
    for (uint32_t i = 0; i < node->count; i++)
        if (node->facts[i].type == (uint32_t)type)
            return true;
    return false;
}

static inline int32_t node_done(struct node *node)
{
    return node_await(node, CORE_FACT_DONE, node->token).result;
}

/* Allows the peer this much, and waits until the engine knows. */
static inline void node_accept(struct node *node, uint32_t accept)
{
    check(core_peer_accept(node->engine, accept) == 0);
    check(core_bitmap_set(node->engine, ++node->token, 0, 0) == 0);
    check(node_done(node) == 0);
}

static inline void node_attach(struct node *node, uint32_t al_extents)
{
    struct core_disk disk = {.data_fd = dup(node->data_fd),
                             .md_fd = dup(node->md_fd),
                             .size_sectors = PAIR_SECTORS,
                             .al_offset_bytes = 0,
                             .al_blocks = PAIR_AL_BLOCKS,
                             .al_stripes = 1,
                             .al_stripe_size_4k = PAIR_AL_BLOCKS,
                             .al_extents = al_extents,
                             .al_sequence = 1,
                             .flush = 1,
                             .bm_offset_bytes = PAIR_BM_OFFSET,
                             .bm_bytes = 65536,
                             .rs_discard_sectors = pair_rs_discard_sectors};
    check(core_attach(node->engine, ++node->token, &disk) == 0);
    check(node_done(node) == 0);
}

static inline void node_start(struct node *node, enum core_io io)
{
    struct core_options options = {.io = io, .requests = 256, .pool_bytes = 64u << 20};
    memset(node, 0, sizeof *node);
    node->data_fd = memory_file("data", PAIR_SECTORS * 512);
    node->md_fd = memory_file("md", PAIR_MD_BYTES);
    check(core_engine_new(&options, &node->engine) == 0);
    check(core_engine_start(node->engine) == 0);
}

static inline void node_stop(struct node *node)
{
    check(core_engine_stop(node->engine) == 0);
    core_engine_free(node->engine);
    close(node->data_fd);
    close(node->md_fd);
}

static inline void node_join(struct node *node, int data_fd, int meta_fd)
{
    struct core_peer peer = {.data_fd = data_fd,
                             .meta_fd = meta_fd,
                             .agreed_version = 101,
                             .features = pair_features,
                             .ping_int_ms = 10000,
                             .ping_timeout_ms = 2000,
                             .timeout_ms = 6000,
                             .ko_count = 1,
                             .max_epoch_size = 2048,
                             .max_buffers = 2048,
                             .verify_alg = CORE_DIGEST_CRC32C,
                             .csums_alg = CORE_DIGEST_SHA1,
                             .integrity_alg = pair_integrity_alg};
    check(core_peer_connect(node->engine, ++node->token, &peer) == 0);
    check(node_done(node) == 0);
}

static inline void nodes_join(struct node *primary, struct node *secondary)
{
    int data[2];
    int meta[2];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, data) == 0);
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, meta) == 0);
    node_join(primary, data[0], meta[0]);
    node_join(secondary, data[1], meta[1]);
    node_accept(secondary, CORE_ACCEPT_WRITES);
}

#endif
