/* test_thin_resync.c - holes stay holes: what is zero at the source is not sent, and is discarded at the target.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/stat.h>

#include "one_client.h"

#define BLOCK 4096u
#define AREA_SECTORS 128u /* 64 KiB */
#define AREA_BYTES (AREA_SECTORS * 512u)
#define AREAS (PAIR_SECTORS / AREA_SECTORS)

static void pair_start(struct node *source, struct node *target, uint32_t rs_discard_sectors)
{
    pair_rs_discard_sectors = rs_discard_sectors;
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

static void put(struct node *node, uint64_t sector, char byte, size_t bytes)
{
    static char buffer[PAIR_SECTORS * 512];
    memset(buffer, byte, bytes);
    check(pwrite(node->data_fd, buffer, bytes, (off_t)(sector * 512)) == (ssize_t)bytes);
}

static uint64_t allocated_sectors(const struct node *node)
{
    struct stat about;
    check(fstat(node->data_fd, &about) == 0);
    return (uint64_t)about.st_blocks;
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

static struct core_fact resync(struct node *source, struct node *target, enum core_resync end)
{
    check(core_resync_start(source->engine, CORE_RESYNC_SOURCE) == 0);
    check(core_resync_start(target->engine, end) == 0);
    struct core_fact done = node_await(target, CORE_FACT_RESYNC_DONE, 0);
    check(done.a == 0);
    check(same_disks(source, target));
    check(counters_of(source).out_of_sync_bits == 0 && counters_of(target).out_of_sync_bits == 0);
    return done;
}

static void what_is_zero_is_discarded_and_nothing_else(void)
{
    struct node source, target;
    pair_start(&source, &target, AREA_SECTORS);
    put(&target, 0, 'o', PAIR_SECTORS * 512);
    put(&source, 5 * AREA_SECTORS + 8, 'd', BLOCK);
    put(&source, 77 * AREA_SECTORS, 'd', 1);
    put(&source, (AREAS - 1) * AREA_SECTORS + AREA_SECTORS - 1, 'd', 512);
    put(&source, 9 * AREA_SECTORS, 0, AREA_BYTES); /* allocated, and zero */
    mark(&source, 0, PAIR_SECTORS);
    mark(&target, 0, PAIR_SECTORS);
    struct core_fact done = resync(&source, &target, CORE_RESYNC_TARGET);
    uint64_t zero_sectors = (AREAS - 3) * AREA_SECTORS;
    check(done.result == -1 && done.b == zero_sectors / 8);
    check(allocated_sectors(&target) == 3ull * AREA_SECTORS);
    struct core_counters here = counters_of(&source);
    check(here.sent_sectors == 3ull * AREA_SECTORS && here.resync_thin_sectors == zero_sectors);
    check(counters_of(&target).resync_thin_sectors == zero_sectors);
    node_stop(&source);
    node_stop(&target);
}

/* Of an area whose edge is in sync only what is marked is written: the rest of it is not looked at. */
static void an_area_that_is_marked_in_part_is_sent(void)
{
    struct node source, target;
    pair_start(&source, &target, AREA_SECTORS);
    put(&target, 0, 'o', 4ull * AREA_BYTES);
    put(&source, 0, 'o', BLOCK);
    put(&source, 3 * AREA_SECTORS + 8, 'o', AREA_BYTES - BLOCK);
    mark(&source, 8, 3ull * AREA_SECTORS);
    mark(&target, 8, 3ull * AREA_SECTORS);
    check(resync(&source, &target, CORE_RESYNC_TARGET).b == 2 * AREA_SECTORS / 8);
    check(allocated_sectors(&target) == 2ull * AREA_SECTORS);
    node_stop(&source);
    node_stop(&target);
}

static void nothing_is_discarded(uint32_t features, uint32_t rs_discard_sectors, enum core_resync end)
{
    struct node source, target;
    pair_features = features;
    pair_start(&source, &target, rs_discard_sectors);
    put(&target, 0, 'o', 4ull * AREA_BYTES);
    mark(&source, 0, 4ull * AREA_SECTORS);
    mark(&target, 0, 4ull * AREA_SECTORS);
    resync(&source, &target, end);
    check(allocated_sectors(&target) == 4ull * AREA_SECTORS);
    check(counters_of(&source).resync_thin_sectors == 0);
    pair_features = 11;
    node_stop(&source);
    node_stop(&target);
}

static void the_largest_and_the_smallest_area_work(uint32_t sectors)
{
    struct node source, target;
    pair_start(&source, &target, sectors);
    put(&target, 0, 'o', PAIR_SECTORS * 512);
    put(&source, PAIR_SECTORS / 2, 'd', BLOCK);
    mark(&source, 0, PAIR_SECTORS);
    mark(&target, 0, PAIR_SECTORS);
    check(resync(&source, &target, CORE_RESYNC_TARGET).b == (PAIR_SECTORS - PAIR_SECTORS % sectors - sectors) / 8);
    node_stop(&source);
    node_stop(&target);
}

/* The application discards and writes while the areas below it are fetched. */
static void writes_and_discards_meanwhile_are_on_both(uint32_t protocol)
{
    struct node source, target;
    static char payload[8 * BLOCK];
    uint64_t state = 5;
    uint32_t under_way = 0;
    pair_start(&source, &target, AREA_SECTORS);
    check(core_export_open(source.engine, ++source.token, "r0", 0) == 0);
    check(node_done(&source) == 0);
    put(&target, 0, 'o', PAIR_SECTORS * 512);
    for (uint64_t area = 0; area < AREAS; area += 3)
        put(&source, area * AREA_SECTORS, 'd', BLOCK);
    mark(&source, 0, PAIR_SECTORS);
    mark(&target, 0, PAIR_SECTORS);
    check(core_resync_rate(target.engine, 100 << 10, 256) == 0);
    check(core_replicate(source.engine, CORE_REPLICATE_PEER, protocol) == 0);
    check(core_replicate(target.engine, CORE_REPLICATE_PEER, protocol) == 0);
    int fd = nbd_connect(&source);
    check(core_resync_start(source.engine, CORE_RESYNC_SOURCE) == 0);
    check(core_resync_start(target.engine, CORE_RESYNC_TARGET) == 0);
    while (!node_has(&target, CORE_FACT_RESYNC_DONE)) {
        bool discard = draw_below(&state, 3) == 0;
        memset(payload, (int)draw_below(&state, 3), sizeof payload);
        nbd_request(fd, discard ? 4 : 1, 0, draw_below(&state, 8192) * BLOCK, sizeof payload, discard ? NULL : payload);
        for (under_way++; under_way >= 16; under_way--)
            check(nbd_reply(fd) == 0);
    }
    for (; under_way > 0; under_way--)
        check(nbd_reply(fd) == 0);
    nbd_request(fd, 3, 0, 0, 0, NULL);
    check(nbd_reply(fd) == 0);
    check(node_await(&target, CORE_FACT_RESYNC_DONE, 0).a == 0);
    check(same_disks(&source, &target));
    check(counters_of(&source).out_of_sync_bits == 0);
    check(counters_of(&source).resync_thin_sectors > 0);
    close(fd);
    node_stop(&source);
    node_stop(&target);
}

int main(void)
{
    what_is_zero_is_discarded_and_nothing_else();
    an_area_that_is_marked_in_part_is_sent();
    nothing_is_discarded(9, AREA_SECTORS, CORE_RESYNC_TARGET); /* the peer does not know how */
    nothing_is_discarded(11, 0, CORE_RESYNC_TARGET);           /* not asked for */
    nothing_is_discarded(11, AREA_SECTORS, CORE_RESYNC_TARGET_BY_CHECKSUMS);
    the_largest_and_the_smallest_area_work(2048);
    the_largest_and_the_smallest_area_work(8);
    the_largest_and_the_smallest_area_work(1536); /* 768 KiB: the device does not end with an area */
    for (uint32_t protocol = 1; protocol <= 3; protocol++)
        writes_and_discards_meanwhile_are_on_both(protocol);
    return 0;
}
