/* test_resync_pace.c - at which moments a resync with a rate may ask for its blocks, by a clock that the test moves.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>

#include "check.h"
#include "engine.h"
#include "io_implementation.h"

#define MS 1000000ull
#define BLOCK_SECTORS 128
#define check(condition) CHECK((condition), "%s", "see the test")

static struct io clock_io;

static struct core_engine *resyncing(uint32_t rate_kib_s, uint32_t window_sectors)
{
    struct core_engine *engine = calloc(1, sizeof *engine);
    check(engine != NULL);
    engine->io = &clock_io;
    clock_io.now_ns = 1000 * MS;
    resync_pace_begin(engine);
    engine->resync.rate_kib_s = rate_kib_s;
    engine->resync.window_sectors = window_sectors;
    return engine;
}

static uint32_t ask_all(struct core_engine *engine, int64_t block_sectors)
{
    uint32_t asked = 0;
    for (resync_pace_refill(engine); engine->resync.budget_sectors > 0; asked++)
        engine->resync.budget_sectors -= block_sectors;
    return asked;
}

/* Each time that the deadline names; returns how many blocks were asked for. */
static uint32_t go_on_for(struct core_engine *engine, uint64_t ns, int64_t block_sectors)
{
    uint64_t end_ns = clock_io.now_ns + ns;
    uint32_t asked = 0;
    while (clock_io.now_ns < end_ns) {
        asked += ask_all(engine, block_sectors);
        engine->resync.saved_ns = clock_io.now_ns; /* no save is due */
        uint64_t next_ns = resync_pace_deadline_ns(engine, true);
        check(next_ns > clock_io.now_ns);
        clock_io.now_ns = next_ns;
    }
    return asked;
}

static void blocks_come_one_by_one_at_an_even_pace(void)
{
    struct core_engine *engine = resyncing(64 << 10, BLOCK_SECTORS); /* a block of 64 KiB each millisecond */
    go_on_for(engine, 10 * MS, BLOCK_SECTORS);
    engine->resync.saved_ns += 5000 * MS; /* no save is due */
    for (uint32_t i = 0; i < 1000; i++) {
        uint64_t before_ns = clock_io.now_ns;
        check(ask_all(engine, BLOCK_SECTORS) == 1);
        clock_io.now_ns = resync_pace_deadline_ns(engine, true);
        check(clock_io.now_ns - before_ns > 9 * MS / 10 && clock_io.now_ns - before_ns < 11 * MS / 10);
    }
    free(engine);
}

static void the_rate_is_kept_with_blocks_of_any_size(void)
{
    for (int64_t block = 8; block <= 2048; block *= 2) {
        struct core_engine *engine = resyncing(10 << 10, 8192);
        int64_t sectors = go_on_for(engine, 10000 * MS, block) * block;
        check(sectors >= 10 * 20480 - 2048 && sectors <= 10 * 20480 + 2 * 2048);
        free(engine);
    }
}

static void the_slowest_rate_and_the_fastest_are_kept_too(void)
{
    struct core_engine *engine = resyncing(1, 8192);
    uint32_t asked = go_on_for(engine, 3600000 * MS, 2048); /* a block each 1024 s */
    check(asked >= 3 && asked <= 5);
    free(engine);
    engine = resyncing(4194304, 8192);
    asked = go_on_for(engine, 100 * MS, 2048);
    check(asked >= 400 && asked <= 420);
    free(engine);
}

static void a_pause_is_not_caught_up_with(void)
{
    struct core_engine *engine = resyncing(100 << 10, BLOCK_SECTORS);
    go_on_for(engine, 10 * MS, BLOCK_SECTORS);
    clock_io.now_ns += 5000 * MS;
    check(ask_all(engine, BLOCK_SECTORS) == 1);
    engine->resync.window_sectors = 8192;
    clock_io.now_ns += 5000 * MS;
    check(ask_all(engine, BLOCK_SECTORS) == 32); /* what 20 ms bring */
    free(engine);
}

int main(void)
{
    blocks_come_one_by_one_at_an_even_pace();
    the_rate_is_kept_with_blocks_of_any_size();
    the_slowest_rate_and_the_fastest_are_kept_too();
    a_pause_is_not_caught_up_with();
    return 0;
}
