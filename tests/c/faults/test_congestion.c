/* test_congestion.c - protocol A over a link that is slow: what is said, what goes on without the peer, what it is
 * told.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <time.h>

#include "one_client.h"

static void join(struct node *primary, struct node *secondary, uint32_t fill_sectors)
{
    int data[2];
    int meta[2];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, data) == 0);
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, meta) == 0);
    node_join(secondary, data[1], meta[1]);
    struct core_peer peer = {.data_fd = data[0],
                             .meta_fd = meta[0],
                             .agreed_version = 101,
                             .features = 9,
                             .ping_int_ms = 10000,
                             .ping_timeout_ms = 2000,
                             .timeout_ms = 6000,
                             .ko_count = 1,
                             .max_epoch_size = 2048,
                             .max_buffers = 2048,
                             .congestion_fill_sectors = fill_sectors};
    check(core_peer_connect(primary->engine, ++primary->token, &peer) == 0);
    check(node_done(primary) == 0);
    node_accept(secondary, CORE_ACCEPT_WRITES | CORE_ACCEPT_OUT_OF_SYNC);
    check(core_replicate(secondary->engine, CORE_REPLICATE_PEER, 1) == 0);
    check(core_replicate(primary->engine, CORE_REPLICATE_PEER, 1) == 0);
}

static uint64_t bits(struct node *node)
{
    struct core_counters counters;
    check(core_bitmap_set(node->engine, ++node->token, 0, 0) == 0);
    check(node_done(node) == 0);
    usleep(20000);
    core_engine_counters(node->engine, &counters);
    return counters.out_of_sync_bits;
}

static bool disk_has(const struct node *node, uint64_t offset, char value)
{
    char found = 0;
    check(pread(node->data_fd, &found, 1, (off_t)offset) == 1);
    return found == value;
}

static void write_block(int fd, uint64_t offset, char value)
{
    static char block[1 << 20];
    memset(block, value, sizeof block);
    nbd_request(fd, 1, 0, offset, sizeof block, block);
    check(nbd_reply(fd) == 0);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    check(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int main(void)
{
    struct node primary, secondary;
    node_start(&primary, CORE_IO_AUTO);
    node_start(&secondary, CORE_IO_AUTO);
    node_attach(&primary, 128);
    node_attach(&secondary, 128);
    join(&primary, &secondary, 2048);
    check(core_export_open(primary.engine, ++primary.token, "r0", 0) == 0);
    check(node_done(&primary) == 0);
    int fd = nbd_connect(&primary);

    /* It is said with the size of what is on its way, and again each second while it lasts. */
    uint64_t begun_ms = now_ms();
    write_block(fd, 0, 1);
    check(node_await(&primary, CORE_FACT_CONGESTED, 0).a >= 2048);
    while (!node_has(&primary, CORE_FACT_CONGESTED)) {
        check(now_ms() - begun_ms < 30000);
        write_block(fd, 1 << 20, 1);
    }
    check(node_await(&primary, CORE_FACT_CONGESTED, 0).a >= 2048 && now_ms() - begun_ms >= 1000);

    /* Ahead, nothing goes out, and nobody waits for the peer: it does not even read. */
    node_accept(&secondary, 0);
    check(core_replicate(primary.engine, CORE_REPLICATE_AHEAD, 1) == 0);
    for (uint64_t i = 4; i < 12; i++)
        write_block(fd, i << 20, 2);
    nbd_request(fd, 3, 0, 0, 0, NULL);
    check(nbd_reply(fd) == 0);
    check(bits(&primary) == 8 * 256);
    check(disk_has(&primary, 4 << 20, 2) && !disk_has(&secondary, 4 << 20, 2));

    /* Then the peer is told of every bit. */
    node_accept(&secondary, CORE_ACCEPT_OUT_OF_SYNC);
    check(core_bitmap_announce(primary.engine, ++primary.token) == 0);
    check(node_done(&primary) == 0);
    for (int tries = 0; bits(&secondary) != 8 * 256; tries++)
        check(tries < 200);

    close(fd);
    node_stop(&primary);
    node_stop(&secondary);
    return 0;
}
