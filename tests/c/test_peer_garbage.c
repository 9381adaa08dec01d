/* test_peer_garbage.c - whatever comes over the wire, the engine refuses it or does what it says; it never dies of it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Invariant: any bytes on either socket, whole packets or torn ones, with lengths and ranges that lie, end in
 * CORE_FACT_PEER_LOST at the latest when the sockets close, and the engine carries out orders afterwards.  What it may
 * do to the disk is what the peer may do: the peer is allowed everything here.  Run under ASAN and UBSAN by `make
 * asan`. */
#include "engine_pair.h"
#include "packet.h"

#define ROUNDS 3000u

static const uint16_t commands[] = {
    P_DATA,          P_DATA_REPLY,      P_RS_DATA_REPLY, P_BARRIER,        P_BITMAP,
    P_UNPLUG_REMOTE, P_DATA_REQUEST,    P_PING,          P_PING_ACK,       P_RECV_ACK,
    P_WRITE_ACK,     P_RS_WRITE_ACK,    P_NEG_ACK,       P_NEG_DREPLY,     P_BARRIER_ACK,
    P_OUT_OF_SYNC,   P_RS_CANCEL,       P_TRIM,          P_ZEROES,         P_COMPRESSED_BITMAP,
    P_NEG_RS_DREPLY, P_RS_DATA_REQUEST, P_RS_THIN_REQ,   P_RS_DEALLOCATED, 0x0e,
    0x7777};

static uint64_t random_number(uint64_t *state)
{
    uint64_t few[] = {0,    1,      8, PAIR_SECTORS, PAIR_SECTORS - 8, PAIR_SECTORS - 1, UINT64_MAX, UINT64_MAX - 7,
                      4096, 1 << 20};
    return draw_below(state, 3) == 0 ? few[draw_below(state, sizeof few / sizeof few[0])]
                                     : draw_below(state, 2 * PAIR_SECTORS);
}

/* One packet, of a length that fits its command more often than not; returns its length. */
static size_t make_packet(uint64_t *state, uint8_t *bytes)
{
    static const uint32_t lengths[] = {0, 4, 8, 16, 24, 28, 24 + 512, 24 + 4096, 4080, 512, 513, 1 << 21, UINT32_MAX};
    uint32_t length = lengths[draw_below(state, sizeof lengths / sizeof lengths[0])];
    uint32_t carried = length < 8192 ? length : 64;
    struct packet_header header = {
        .magic = htobe32(draw_below(state, 40) == 0 ? (uint32_t)draw(state) : PACKET_MAGIC_100),
        .volume = htobe16(draw_below(state, 40) == 0),
        .command = htobe16(commands[draw_below(state, sizeof commands / sizeof commands[0])]),
        .length = htobe32(length)};
    struct packet_trim body = {.data = {.sector = htobe64(random_number(state)),
                                        .block_id = draw_below(state, 2) == 0 ? UINT64_MAX : random_number(state),
                                        .sequence = htobe32((uint32_t)draw(state) % 65536 * 512),
                                        .dp_flags = htobe32((uint32_t)draw(state))},
                               .size_bytes = htobe32((uint32_t)random_number(state) * 512)};
    memcpy(bytes, &header, sizeof header);
    for (uint32_t i = 0; i < carried; i++)
        bytes[sizeof header + i] = (uint8_t)draw(state);
    memcpy(bytes + sizeof header, &body, carried < sizeof body ? carried : sizeof body);
    return sizeof header + carried;
}

/* As much as it takes: a peer that has been lost takes nothing. */
static void say(int fd, const uint8_t *bytes, size_t length)
{
    ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)n;
}

static void talk(struct node *node, uint64_t *state)
{
    static uint8_t bytes[16384];
    int data[2];
    int meta[2];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, data) == 0);
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, meta) == 0);
    node_join(node, data[0], meta[0]);
    node_accept(node, UINT32_MAX);
    for (uint64_t packets = 1 + draw_below(state, 12); packets > 0; packets--) {
        size_t length = make_packet(state, bytes);
        if (draw_below(state, 10) == 0)
            length = draw_below(state, length) + 1;
        say(draw_below(state, 4) == 0 ? meta[1] : data[1], bytes, length);
        check(core_peer_resume(node->engine) == 0);
    }
    close(data[1]);
    close(meta[1]);
    while (!node_has(node, CORE_FACT_PEER_LOST)) {
        check(core_peer_resume(node->engine) == 0);
        struct pollfd poll_fd = {.fd = core_engine_event_fd(node->engine), .events = POLLIN};
        poll(&poll_fd, 1, 2);
    }
    node->count = 0;
    check(core_release(node->engine, ++node->token) == 0);
    check(node_done(node) == 0);
    node->count = 0;
}

int main(void)
{
    uint64_t state = 20261123;
    struct node node;
    pair_rs_discard_sectors = 128;
    node_start(&node, CORE_IO_AUTO);
    node_attach(&node, 128);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        if (draw_below(&state, 2) == 0)
            check(core_resync_start(node.engine, (uint32_t)draw_below(&state, 2)) == 0);
        talk(&node, &state);
    }
    node_stop(&node);
    return 0;
}
