/* test_csums.c - a resync by checksums: what is equal is not sent, what differs is, writes go on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "one_client.h"

#define BLOCK 4096u

static void pair_start(struct node *source, struct node *target)
{
    node_start(source, CORE_IO_AUTO);
    node_start(target, CORE_IO_AUTO);
    node_attach(source, 128);
    node_attach(target, 128);
    nodes_join(source, target);
    check(core_replicate(source->engine, CORE_REPLICATE_PEER, 3) == 0);
    check(core_replicate(target->engine, CORE_REPLICATE_PEER, 3) == 0);
    node_accept(source, CORE_ACCEPT_RESYNC);
    node_accept(target, CORE_ACCEPT_WRITES);
}

static void put(struct node *node, uint64_t block, char byte)
{
    char bytes[BLOCK];
    memset(bytes, byte, sizeof bytes);
    check(pwrite(node->data_fd, bytes, sizeof bytes, (off_t)(block * BLOCK)) == BLOCK);
}

static void mark(struct node *node, uint64_t sector, uint64_t sectors)
{
    check(core_bitmap_set(node->engine, ++node->token, sector, sectors) == 0);
    check(node_done(node) == 0);
}

static struct core_counters counters_of(struct node *node)
{
    struct core_counters counters;
    for (int turns = 0; turns < 2; turns++) /* they are published in each turn */
        mark(node, 0, 0);
    core_engine_counters(node->engine, &counters);
    return counters;
}

static bool same_disks(struct node *one, struct node *two)
{
    static char here[PAIR_SECTORS * 512];
    static char there[PAIR_SECTORS * 512];
    check(pread(one->data_fd, here, sizeof here, 0) == (ssize_t)sizeof here);
    check(pread(two->data_fd, there, sizeof there, 0) == (ssize_t)sizeof there);
    return memcmp(here, there, sizeof here) == 0;
}

static void only_what_differs_is_sent(void)
{
    struct node source, target;
    pair_start(&source, &target);
    put(&source, 7, 'a');
    put(&target, 16000, 'b');
    mark(&source, 0, PAIR_SECTORS);
    mark(&target, 0, PAIR_SECTORS);
    check(core_resync_start(source.engine, CORE_RESYNC_SOURCE) == 0);
    check(core_resync_start(target.engine, CORE_RESYNC_TARGET_BY_CHECKSUMS) == 0);
    struct core_fact done = node_await(&target, CORE_FACT_RESYNC_DONE, 0);
    uint64_t sent_blocks = 2 * 16; /* two blocks of 64 KiB */
    check(done.a == 0 && done.b == PAIR_SECTORS / 8 - sent_blocks && done.result == 99);
    check(same_disks(&source, &target));
    struct core_counters at_source = counters_of(&source);
    check(at_source.out_of_sync_bits == 0);
    check(at_source.resync_same_sectors == done.b * 8);
    check(at_source.sent_sectors == sent_blocks * 8);
    check(counters_of(&target).out_of_sync_bits == 0);
    node_stop(&source);
    node_stop(&target);
}

static void without_checksums_nothing_is_compared(void)
{
    struct node source, target;
    pair_start(&source, &target);
    mark(&source, 0, 1024);
    mark(&target, 0, 1024);
    check(core_resync_start(source.engine, CORE_RESYNC_SOURCE) == 0);
    check(core_resync_start(target.engine, CORE_RESYNC_TARGET) == 0);
    struct core_fact done = node_await(&target, CORE_FACT_RESYNC_DONE, 0);
    check(done.result == -1 && done.b == 0);
    check(counters_of(&source).sent_sectors == 1024);
    node_stop(&source);
    node_stop(&target);
}

/* The target may be told that a resync has begun before our own control plane has come to tell us. */
static void a_source_serves_what_is_asked_before_its_own_order_comes(void)
{
    struct node source, target;
    pair_start(&source, &target);
    mark(&target, 0, 1024);
    check(core_resync_start(target.engine, CORE_RESYNC_TARGET) == 0);
    check(node_await(&target, CORE_FACT_RESYNC_DONE, 0).a == 0);
    node_stop(&source);
    node_stop(&target);
}

static void writes_meanwhile_are_on_both(void)
{
    struct node source, target;
    static char payload[8 * BLOCK];
    uint64_t state = 5;
    uint32_t under_way = 0;
    pair_start(&source, &target);
    check(core_export_open(source.engine, ++source.token, "r0", 0) == 0);
    check(node_done(&source) == 0);
    for (uint64_t block = 0; block < 4096; block += 37)
        put(&target, block, 'c');
    mark(&source, 0, PAIR_SECTORS);
    mark(&target, 0, PAIR_SECTORS);
    int fd = nbd_connect(&source);
    check(core_resync_start(source.engine, CORE_RESYNC_SOURCE) == 0);
    check(core_resync_start(target.engine, CORE_RESYNC_TARGET_BY_CHECKSUMS) == 0);
    while (!node_has(&target, CORE_FACT_RESYNC_DONE)) {
        memset(payload, (int)draw_below(&state, 3), sizeof payload);
        nbd_request(fd, 1, 0, draw_below(&state, 8192) * BLOCK, sizeof payload, payload);
        for (under_way++; under_way >= 16; under_way--)
            check(nbd_reply(fd) == 0);
    }
    for (; under_way > 0; under_way--)
        check(nbd_reply(fd) == 0);
    check(node_await(&target, CORE_FACT_RESYNC_DONE, 0).a == 0);
    check(same_disks(&source, &target));
    check(counters_of(&source).out_of_sync_bits == 0);
    close(fd);
    node_stop(&source);
    node_stop(&target);
}

int main(void)
{
    only_what_differs_is_sent();
    without_checksums_nothing_is_compared();
    a_source_serves_what_is_asked_before_its_own_order_comes();
    writes_meanwhile_are_on_both();
    return 0;
}
