/* test_verify.c - online verify between two engines: what differs is found, what is being written is not.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "one_client.h"

#define BLOCK 4096u
#define BLOCKS ((uint64_t)PAIR_SECTORS / 8)

static void pair_start(struct node *primary, struct node *secondary, uint32_t protocol)
{
    node_start(primary, CORE_IO_AUTO);
    node_start(secondary, CORE_IO_AUTO);
    node_attach(primary, 128);
    node_attach(secondary, 128);
    nodes_join(primary, secondary);
    check(core_replicate(primary->engine, CORE_REPLICATE_PEER, protocol) == 0);
    check(core_replicate(secondary->engine, CORE_REPLICATE_PEER, protocol) == 0);
    check(core_export_open(primary->engine, ++primary->token, "r0", 0) == 0);
    check(node_done(primary) == 0);
}

static void pair_stop(struct node *primary, struct node *secondary)
{
    node_stop(primary);
    node_stop(secondary);
}

static void verify_begin(struct node *source, struct node *target, uint64_t start_sector, uint64_t stop_sector)
{
    check(core_verify_start(target->engine, 0, 0, 0) == 0);
    node_accept(target, CORE_ACCEPT_WRITES | CORE_ACCEPT_VERIFY);
    check(core_verify_start(source->engine, 1, start_sector, stop_sector) == 0);
}

static void damage(struct node *node, uint64_t block)
{
    char bytes[BLOCK];
    memset(bytes, 'x', sizeof bytes);
    check(pwrite(node->data_fd, bytes, sizeof bytes, (off_t)(block * BLOCK)) == BLOCK);
}

static uint64_t bits_set(struct node *node)
{
    struct core_counters counters;
    check(core_bitmap_set(node->engine, ++node->token, 0, 0) == 0); /* one more turn: counters are published in each */
    check(node_done(node) == 0);
    check(core_bitmap_set(node->engine, ++node->token, 0, 0) == 0);
    check(node_done(node) == 0);
    core_engine_counters(node->engine, &counters);
    return counters.out_of_sync_bits;
}

static bool is_range(struct node *node, uint64_t sector, uint64_t sectors)
{
    struct core_fact fact = node_await(node, CORE_FACT_OUT_OF_SYNC, 0);
    return fact.a == sector && fact.b == sectors;
}

static void what_differs_is_found_on_both_nodes_in_ranges_and_is_in_both_bitmaps(void)
{
    struct node castor, pollux;
    pair_start(&castor, &pollux, 3);
    damage(&pollux, 100);
    damage(&pollux, 101);
    damage(&castor, 5000);
    damage(&pollux, BLOCKS - 1);
    verify_begin(&castor, &pollux, 0, UINT64_MAX);
    struct core_fact source = node_await(&castor, CORE_FACT_VERIFY_DONE, 0);
    struct core_fact target = node_await(&pollux, CORE_FACT_VERIFY_DONE, 0);
    check(source.result == 0 && source.a == 4 && source.b == PAIR_SECTORS);
    check(target.result == 0 && target.a == 4);
    struct node *nodes[] = {&castor, &pollux};
    for (int i = 0; i < 2; i++) {
        check(is_range(nodes[i], 800, 16));
        check(is_range(nodes[i], 40000, 8));
        check(is_range(nodes[i], PAIR_SECTORS - 8, 8));
        check(!node_has(nodes[i], CORE_FACT_OUT_OF_SYNC));
        check(bits_set(nodes[i]) == 4);
        uint8_t page[BLOCK];
        check(pread(nodes[i]->md_fd, page, sizeof page, (off_t)PAIR_BM_OFFSET) == BLOCK);
        check((page[100 / 8] & 0x30) == 0x30); /* on disk before the end was told */
    }
    pair_stop(&castor, &pollux);
}

static void only_what_lies_between_start_and_stop_is_compared(void)
{
    struct node castor, pollux;
    pair_start(&castor, &pollux, 3);
    for (uint64_t block = 10; block < 20; block++)
        damage(&pollux, block);
    verify_begin(&pollux, &castor, 12 * 8 + 3, 15 * 8);
    struct core_fact done = node_await(&pollux, CORE_FACT_VERIFY_DONE, 0);
    check(done.result == 0 && done.a == 3 && done.b == 15 * 8ull);
    check(bits_set(&pollux) == 3 && bits_set(&castor) == 3);
    check(!node_has(&castor, CORE_FACT_VERIFY_DONE)); /* it has not been told where the end is */
    check(core_verify_stop(castor.engine, ++castor.token) == 0);
    check(node_done(&castor) == 0);
    check(node_await(&castor, CORE_FACT_VERIFY_DONE, 0).result == -ECANCELED);
    pair_stop(&castor, &pollux);
}

/* A slow verify, so that it is met in the middle: 4 MiB/s. */
static void begin_slowly(struct node *castor, struct node *pollux)
{
    check(core_resync_rate(castor->engine, 4096, 64) == 0);
    verify_begin(castor, pollux, 0, UINT64_MAX);
    struct core_counters counters = {0};
    while (counters.resync_sectors < 1000) {
        usleep(1000);
        core_engine_counters(castor->engine, &counters);
    }
    check(counters.verify_left_sectors > 0 && counters.verify_left_sectors < PAIR_SECTORS);
}

static void a_verify_that_is_stopped_or_loses_its_peer_says_how_far_it_came(void)
{
    for (int lost = 0; lost < 3; lost++) {
        struct node castor, pollux;
        pair_start(&castor, &pollux, 3);
        damage(&pollux, 0);
        begin_slowly(&castor, &pollux);
        if (lost == 0) {
            check(core_verify_stop(castor.engine, ++castor.token) == 0);
            check(node_done(&castor) == 0);
        } else if (lost == 1) {
            check(core_peer_disconnect(pollux.engine, ++pollux.token) == 0);
        } else {
            check(core_verify_until(castor.engine, 0) == 0);
        }
        struct core_fact done = node_await(&castor, CORE_FACT_VERIFY_DONE, 0);
        check(done.result == (lost == 2 ? 0 : -ECANCELED) && done.a == 1);
        check(done.b >= 1000 && done.b < PAIR_SECTORS / 2);
        if (lost != 1) { /* what is still on its way is no breach of the protocol */
            node_accept(&pollux, CORE_ACCEPT_WRITES);
            int fd = nbd_connect(&castor);
            char block[BLOCK] = {0};
            nbd_request(fd, 1, 0, 0, sizeof block, block);
            check(nbd_reply(fd) == 0);
            check(!node_has(&castor, CORE_FACT_PEER_LOST) && !node_has(&pollux, CORE_FACT_PEER_LOST));
            close(fd);
        }
        pair_stop(&castor, &pollux);
    }
}

/* Writes of all sizes, many at once, over the blocks that are being compared. */
static void write_while(struct node *primary, struct node *source, uint32_t seed)
{
    static char payload[64 * BLOCK];
    uint64_t state = seed;
    uint32_t under_way = 0;
    uint64_t written = 0;
    int fd = nbd_connect(primary);
    while (!node_has(source, CORE_FACT_VERIFY_DONE)) {
        uint64_t block = draw_below(&state, 2048);
        uint32_t blocks = 1 + (uint32_t)draw_below(&state, 8);
        memset(payload, (int)draw_below(&state, 256), sizeof payload);
        nbd_request(fd, 1, 0, block * BLOCK + 512 * draw_below(&state, 8), blocks * BLOCK - 512, payload);
        written++;
        for (under_way++; under_way >= 24; under_way--)
            check(nbd_reply(fd) == 0);
    }
    for (; under_way > 0; under_way--)
        check(nbd_reply(fd) == 0);
    check(written > 24);
    close(fd);
}

static void writes_under_way_are_never_taken_for_a_difference(void)
{
    for (uint32_t protocol = 1; protocol <= 3; protocol++) {
        struct node castor, pollux;
        pair_start(&castor, &pollux, protocol);
        for (int round = 0; round < 6; round++) {
            struct node *source = round % 2 == 0 ? &castor : &pollux;
            struct node *target = round % 2 == 0 ? &pollux : &castor;
            damage(&pollux, 3000 + (uint64_t)round);
            verify_begin(source, target, 0, 4096 * 8);
            write_while(&castor, source, protocol * 100 + (uint32_t)round);
            struct core_fact done = node_await(source, CORE_FACT_VERIFY_DONE, 0);
            check(done.result == 0 && done.a == (uint64_t)round + 1);
            check(core_verify_stop(target->engine, 0) == 0);
            check(node_await(target, CORE_FACT_VERIFY_DONE, 0).a == done.a);
            source->count = target->count = 0;
        }
        pair_stop(&castor, &pollux);
    }
}

int main(void)
{
    what_differs_is_found_on_both_nodes_in_ranges_and_is_in_both_bitmaps();
    only_what_lies_between_start_and_stop_is_compared();
    a_verify_that_is_stopped_or_loses_its_peer_says_how_far_it_came();
    writes_under_way_are_never_taken_for_a_difference();
    return 0;
}
