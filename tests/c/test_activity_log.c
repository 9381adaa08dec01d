/* test_activity_log.c - the activity log on a simulated disk, read back by a reader that shares no code with it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "allocation.h"
#include "check.h"

#include "../../csrc/structures/activity_log.c" /* its allocations fail on demand */

#define DISK_BLOCKS_MAX 64

/* --- The reader: a ring of blocks -> the extents that a crashed Primary may have been writing to --- */

struct disk {
    uint8_t blocks[DISK_BLOCKS_MAX][ACTIVITY_LOG_BLOCK_BYTES];
    uint32_t count;
};

static uint32_t get16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static uint32_t get32(const uint8_t *at)
{
    return get16(at) << 16 | get16(at + 2);
}

/* The kernel's: from 0, not inverted. */
static uint32_t kernel_crc32c(const uint8_t *block)
{
    static uint32_t by_byte[256];
    uint32_t crc = 0;

    if (by_byte[1] == 0) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            by_byte[byte] = byte;
            for (int bit = 0; bit < 8; bit++)
                by_byte[byte] = by_byte[byte] >> 1 ^ (by_byte[byte] & 1 ? 0x82f63b78u : 0);
        }
    }
    for (int i = 0; i < ACTIVITY_LOG_BLOCK_BYTES; i++)
        crc = crc >> 8 ^ by_byte[(crc ^ (i >= 8 && i < 12 ? 0 : block[i])) & 0xff];
    return crc;
}

static bool is_transaction(const uint8_t *block)
{
    return get32(block) == 0x69cb65a2 && get16(block + 12) == 0 && get32(block + 8) == kernel_crc32c(block);
}

/* Of the valid blocks. */
static const uint8_t *find_transaction(const uint8_t *const *valid, uint32_t count, uint32_t number)
{
    for (uint32_t i = 0; i < count; i++) {
        if (get32(valid[i] + 4) == number)
            return valid[i];
    }
    return NULL;
}

static void apply(const uint8_t *block, uint32_t *slots, uint32_t slot_count)
{
    CHECK_EQUAL(get16(block + 16), slot_count);
    for (uint32_t i = 0; i < 919 && get16(block + 18) + i < slot_count; i++)
        slots[get16(block + 18) + i] = get32(block + 420 + 4 * i);
    for (uint32_t i = 0; i < get16(block + 14); i++) {
        CHECK(get16(block + 36 + 2 * i) < slot_count, "slot %u", get16(block + 36 + 2 * i));
        slots[get16(block + 36 + 2 * i)] = get32(block + 164 + 4 * i);
    }
}

/* Returns how many extents there are. */
static uint32_t replay(const struct disk *disk, bool *extents, uint32_t *slots, uint32_t slot_count)
{
    const uint8_t *valid[DISK_BLOCKS_MAX];
    uint32_t valid_count = 0, newest = 0, number, count = 0;

    memset(slots, 0xff, slot_count * sizeof(*slots));
    for (uint32_t i = 0; i < disk->count; i++) {
        const uint8_t *block = disk->blocks[i];

        if (!is_transaction(block))
            continue;
        if (valid_count == 0 || (int32_t)(get32(block + 4) - newest) > 0)
            newest = get32(block + 4);
        valid[valid_count++] = block;
    }
    if (valid_count == 0)
        return 0;
    number = newest;
    while (find_transaction(valid, valid_count, number - 1))
        number--;
    for (; number != newest + 1; number++)
        apply(find_transaction(valid, valid_count, number), slots, slot_count);
    for (uint32_t i = 0; i < slot_count; i++) {
        if (slots[i] != UINT32_MAX && !extents[slots[i]]) {
            extents[slots[i]] = true;
            count++;
        }
    }
    return count;
}

/* --- A writer that uses the log as the engine does, at random, and crashes at every step --- */

#define EXTENTS_ON_DEVICE 30000

struct run {
    struct activity_log *log;
    uint32_t slot_count;
    struct disk disk;
    uint32_t references[EXTENTS_ON_DEVICE];
    uint32_t used[EXTENTS_ON_DEVICE]; /* extents with references */
    uint32_t used_count;
    bool on_disk[EXTENTS_ON_DEVICE];
    uint32_t slots[EXTENTS_MAX];
    uint64_t state;
};

static void check_crash(struct run *run, const char *when)
{
    memset(run->on_disk, 0, sizeof(run->on_disk));
    (void)replay(&run->disk, run->on_disk, run->slots, run->slot_count);
    for (uint32_t i = 0; i < run->used_count; i++)
        CHECK(run->on_disk[run->used[i]], "%s, extent %u is in use and not in the ring", when, run->used[i]);
}

/* What is durable without being in use is idle: exactly as many as the log thinks. */
static void check_settled(struct run *run)
{
    uint32_t count;

    memset(run->on_disk, 0, sizeof(run->on_disk));
    count = replay(&run->disk, run->on_disk, run->slots, run->slot_count);
    CHECK_EQUAL(count, activity_log_hot(run->log));
    CHECK_EQUAL(activity_log_in_use(run->log), run->used_count);
}

static void use(struct run *run, uint32_t extent)
{
    if (!activity_log_get(run->log, extent))
        return;
    if (run->references[extent]++ == 0)
        run->used[run->used_count++] = extent;
}

static void stop_using_some(struct run *run)
{
    uint32_t i, extent;

    if (run->used_count == 0)
        return;
    i = (uint32_t)draw_below(&run->state, run->used_count);
    extent = run->used[i];
    activity_log_put(run->log, extent);
    if (--run->references[extent] == 0)
        run->used[i] = run->used[--run->used_count];
}

static void write_transaction(struct run *run, bool look)
{
    uint8_t block[ACTIVITY_LOG_BLOCK_BYTES], *place;
    uint32_t evicted[ACTIVITY_LOG_UPDATES], evicted_count;
    uint64_t offset_bytes;

    CHECK(activity_log_wants_transaction(run->log), "no transaction is wanted");
    activity_log_prepare(run->log, block, &offset_bytes, evicted, &evicted_count);
    CHECK(!activity_log_wants_transaction(run->log), "two transactions at once");
    CHECK(offset_bytes % 4096 == 0 && offset_bytes / 4096 < run->disk.count, "outside of the ring");
    place = run->disk.blocks[offset_bytes / 4096];
    for (uint32_t i = 0; i < evicted_count; i++) {
        CHECK_EQUAL(run->references[evicted[i]], 0);
        CHECK(!activity_log_get(run->log, evicted[i]), "an extent that leaves is hot");
    }
    if (look) {
        check_crash(run, "before the block is written");
        memcpy(place, block, 512 * (1 + draw_below(&run->state, 7)));
        check_crash(run, "with the block torn");
    }
    memcpy(place, block, sizeof(block));
    if (look)
        check_crash(run, "before the commit");
    activity_log_commit(run->log);
    if (look)
        check_crash(run, "after the commit");
}

static struct run *run_new(const struct activity_log_geometry *geometry, uint64_t seed)
{
    struct run *run = (calloc)(1, sizeof(*run));

    CHECK_EQUAL(activity_log_new(geometry, &run->log), 0);
    run->slot_count = geometry->extents;
    run->disk.count = geometry->blocks;
    run->state = seed;
    return run;
}

static void run_free(struct run *run)
{
    activity_log_free(run->log);
    free(run);
}

static void what_is_in_use_is_on_disk(const struct activity_log_geometry *geometry, uint32_t steps)
{
    struct run *run = run_new(geometry, 1 + geometry->extents);
    uint32_t span = geometry->extents * 2 < EXTENTS_ON_DEVICE ? geometry->extents * 2 : EXTENTS_ON_DEVICE;
    uint32_t transactions = 0;

    for (uint32_t step = 0; step < steps; step++) {
        for (uint64_t n = draw_below(&run->state, 100); n > 0; n--) {
            uint32_t extent = (uint32_t)draw_below(&run->state, span);

            if (!activity_log_get(run->log, extent))
                (void)activity_log_want(run->log, extent);
            else
                activity_log_put(run->log, extent);
        }
        while (activity_log_wants_transaction(run->log)) {
            write_transaction(run, ++transactions % 8 == 0);
            if (!activity_log_wants_transaction(run->log))
                check_settled(run);
        }
        for (uint64_t n = draw_below(&run->state, 200); n > 0; n--)
            use(run, (uint32_t)draw_below(&run->state, span));
        for (uint64_t n = draw_below(&run->state, 100); n > 0; n--)
            stop_using_some(run);
        if (step % 50 == 49) { /* a tide, so that slots come free */
            while (run->used_count > 0)
                stop_using_some(run);
        }
    }
    CHECK(transactions > 2 * geometry->blocks, "the ring did not wrap: %u transactions", transactions);
    run_free(run);
}

static void geometries_large_small_and_striped_hold(void)
{
    static const struct activity_log_geometry geometries[] = {
        {.extents = 1237, .blocks = 8, .stripes = 1, .stripe_size_4k = 8, .sequence = 0},
        {.extents = 6433, .blocks = 8, .stripes = 1, .stripe_size_4k = 8, .sequence = 0xfffffff0u},
        {.extents = 7, .blocks = 2, .stripes = 1, .stripe_size_4k = 2, .sequence = 0xfffffffcu},
        {.extents = 2000, .blocks = 32, .stripes = 4, .stripe_size_4k = 8, .sequence = 5},
        {.extents = 919, .blocks = 9, .stripes = 3, .stripe_size_4k = 3, .sequence = 8},
    };

    for (size_t i = 0; i < sizeof(geometries) / sizeof(geometries[0]); i++)
        what_is_in_use_is_on_disk(&geometries[i], 100);
}

/* The kernel's own first two transactions, captured from a Primary (drbd 8.4.11) that wrote to extent 0, then to extent
 * 1: the checksums stand for every byte. */
static void the_first_transactions_are_the_kernels(void)
{
    struct activity_log_geometry geometry = {.extents = 1237, .blocks = 8, .stripes = 1, .stripe_size_4k = 8};
    struct run *run = run_new(&geometry, 1);

    CHECK_EQUAL(activity_log_want(run->log, 0), 0);
    write_transaction(run, false);
    CHECK_EQUAL(get32(run->disk.blocks[0] + 8), 0x6bc1e3dc);
    CHECK_EQUAL(activity_log_want(run->log, 1), 0);
    write_transaction(run, false);
    CHECK_EQUAL(get32(run->disk.blocks[1] + 8), 0xf59cfb19);
    run_free(run);
}

static void stripes_are_visited_in_turn(void)
{
    static const uint64_t expected[] = {0, 3, 1, 4, 2, 5, 0};
    struct activity_log_geometry geometry = {.extents = 10, .blocks = 6, .stripes = 2, .stripe_size_4k = 3};
    struct activity_log *log;

    CHECK_EQUAL(activity_log_new(&geometry, &log), 0);
    for (uint32_t i = 0; i < 7; i++)
        CHECK_EQUAL(offset_of(log, i), expected[i] * 4096);
    activity_log_free(log);
}

static void a_cold_extent_is_hot_only_after_its_commit(void)
{
    struct activity_log_geometry geometry = {.extents = 2, .blocks = 8, .stripes = 1, .stripe_size_4k = 8};
    struct run *run = run_new(&geometry, 1);
    uint8_t block[ACTIVITY_LOG_BLOCK_BYTES];
    uint32_t evicted[ACTIVITY_LOG_UPDATES], evicted_count;
    uint64_t offset_bytes;

    CHECK(!activity_log_get(run->log, 10), "hot without a transaction");
    CHECK_EQUAL(activity_log_want(run->log, 10), 0);
    CHECK_EQUAL(activity_log_want(run->log, 10), 0); /* pending already */
    activity_log_prepare(run->log, block, &offset_bytes, evicted, &evicted_count);
    CHECK_EQUAL(evicted_count, 0);
    CHECK(!activity_log_get(run->log, 10), "hot before the commit");
    CHECK_EQUAL(activity_log_want(run->log, 10), 0); /* under way */
    CHECK_EQUAL(activity_log_want(run->log, 11), 0);
    CHECK_EQUAL(activity_log_want(run->log, 12), -EBUSY); /* every slot is pending or under way */
    activity_log_commit(run->log);
    CHECK(activity_log_get(run->log, 10) && !activity_log_get(run->log, 11), "one transaction, one extent");
    write_transaction(run, false);
    CHECK(activity_log_get(run->log, 11), "not hot");
    CHECK_EQUAL(activity_log_want(run->log, 12), -EBUSY); /* every slot is in use */
    activity_log_put(run->log, 11);
    CHECK_EQUAL(activity_log_want(run->log, 12), 0);
    activity_log_prepare(run->log, block, &offset_bytes, evicted, &evicted_count);
    CHECK(evicted_count == 1 && evicted[0] == 11, "the extent that leaves is not named");
    CHECK(!activity_log_get(run->log, 11), "an extent that leaves is hot");
    activity_log_commit(run->log);
    CHECK_EQUAL(activity_log_hot(run->log), 2);
    run_free(run);
}

static void the_least_recently_used_extent_leaves(void)
{
    struct activity_log_geometry geometry = {.extents = 3, .blocks = 8, .stripes = 1, .stripe_size_4k = 8};
    struct run *run = run_new(&geometry, 1);
    uint8_t block[ACTIVITY_LOG_BLOCK_BYTES];
    uint32_t evicted[ACTIVITY_LOG_UPDATES], evicted_count;
    uint64_t offset_bytes;

    for (uint32_t extent = 0; extent < 3; extent++)
        CHECK_EQUAL(activity_log_want(run->log, extent), 0);
    write_transaction(run, false);
    for (uint32_t extent = 0; extent < 3; extent++) {
        CHECK(activity_log_get(run->log, extent), "not hot");
        activity_log_put(run->log, extent);
    }
    CHECK(activity_log_get(run->log, 0), "not hot"); /* used again */
    activity_log_put(run->log, 0);
    CHECK_EQUAL(activity_log_want(run->log, 1), 0); /* wanted by a write that waits for another extent, too */
    CHECK_EQUAL(activity_log_want(run->log, 7), 0);
    activity_log_prepare(run->log, block, &offset_bytes, evicted, &evicted_count);
    CHECK(evicted_count == 1 && evicted[0] == 2, "extent %u left", evicted[0]);
    activity_log_commit(run->log);
    run_free(run);
}

static void more_than_64_changes_take_several_transactions(void)
{
    struct activity_log_geometry geometry = {.extents = 500, .blocks = 8, .stripes = 1, .stripe_size_4k = 8};
    struct run *run = run_new(&geometry, 1);

    for (uint32_t extent = 0; extent < 130; extent++)
        CHECK_EQUAL(activity_log_want(run->log, extent), 0);
    write_transaction(run, true);
    CHECK_EQUAL(activity_log_hot(run->log), 64);
    write_transaction(run, true);
    write_transaction(run, true);
    CHECK_EQUAL(activity_log_hot(run->log), 130);
    CHECK(!activity_log_wants_transaction(run->log), "one too many");
    check_settled(run);
    run_free(run);
}

static void retiring_leaves_what_is_in_use_alone(void)
{
    struct activity_log_geometry geometry = {.extents = 500, .blocks = 8, .stripes = 1, .stripe_size_4k = 8};
    struct run *run = run_new(&geometry, 1);

    CHECK(!activity_log_retire(run->log), "an empty log wants a transaction");
    for (uint32_t extent = 0; extent < 100; extent++)
        CHECK_EQUAL(activity_log_want(run->log, extent), 0);
    while (activity_log_wants_transaction(run->log))
        write_transaction(run, true);
    use(run, 42);
    while (activity_log_retire(run->log))
        write_transaction(run, true);
    CHECK_EQUAL(activity_log_hot(run->log), 1);
    check_settled(run);
    stop_using_some(run);
    while (activity_log_retire(run->log))
        write_transaction(run, true);
    CHECK_EQUAL(activity_log_hot(run->log), 0);
    check_settled(run);
    /* The slots are good for others. */
    for (uint32_t extent = 1000; extent < 1500; extent++)
        CHECK_EQUAL(activity_log_want(run->log, extent), 0);
    CHECK_EQUAL(activity_log_want(run->log, 1500), -EBUSY);
    run_free(run);
}

static void geometries_that_cannot_hold_the_set_are_refused(void)
{
    static const struct activity_log_geometry refused[] = {
        {.extents = 0, .blocks = 8, .stripes = 1, .stripe_size_4k = 8},
        {.extents = 6434, .blocks = 8, .stripes = 1, .stripe_size_4k = 8}, /* a torn block would lose some */
        {.extents = 65535, .blocks = 80, .stripes = 1, .stripe_size_4k = 80},
        {.extents = 10, .blocks = 8, .stripes = 2, .stripe_size_4k = 8},
        {.extents = 10, .blocks = 1, .stripes = 1, .stripe_size_4k = 1},
        {.extents = 10, .blocks = 0, .stripes = 0, .stripe_size_4k = 0},
    };
    struct activity_log *log = NULL;

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        CHECK(activity_log_new(&refused[i], &log) == -EINVAL, "geometry %zu", i);
    CHECK(!log, "the out-parameter is touched");
}

static void a_failed_allocation_leaves_nothing_behind(void)
{
    struct activity_log_geometry geometry = {.extents = 1237, .blocks = 8, .stripes = 1, .stripe_size_4k = 8};
    struct activity_log *log = NULL;

    for (unsigned nth = 1; nth <= 3; nth++) {
        allocations_left_to_fail = nth;
        CHECK(activity_log_new(&geometry, &log) == -ENOMEM, "allocation %u", nth);
    }
    allocations_left_to_fail = 0;
    activity_log_free(NULL);
}

int main(void)
{
    the_first_transactions_are_the_kernels();
    stripes_are_visited_in_turn();
    a_cold_extent_is_hot_only_after_its_commit();
    the_least_recently_used_extent_leaves();
    more_than_64_changes_take_several_transactions();
    retiring_leaves_what_is_in_use_alone();
    geometries_large_small_and_striped_hold();
    geometries_that_cannot_hold_the_set_are_refused();
    a_failed_allocation_leaves_nothing_behind();
    return 0;
}
