/* test_pool.c - the pool: alignment, splitting, merging, exhaustion.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "allocation.h"
#include "check.h"

#include "../../csrc/structures/pool.c" /* its allocations fail on demand */

struct block {
    uint8_t *memory;
    uint32_t length_bytes;
    uint8_t filling;
};

static void check_filling(const struct block *block)
{
    for (uint32_t i = 0; i < block->length_bytes; i += i + 1 < block->length_bytes ? 509 : 1)
        CHECK(block->memory[i] == block->filling, "a block of %u bytes was written by another", block->length_bytes);
}

static void blocks_never_overlap_and_everything_merges_again(void)
{
    enum { BLOCKS = 256 };
    struct block blocks[BLOCKS] = {{0}};
    struct pool *pool;
    uint64_t state = 99;

    CHECK_EQUAL(pool_new(2 * POOL_BLOCK_MAX, false, &pool), 0);
    for (uint32_t round = 0; round < 20000; round++) {
        struct block *block = &blocks[draw_below(&state, BLOCKS)];

        if (block->memory) {
            check_filling(block);
            pool_put(pool, block->memory, block->length_bytes);
            block->memory = NULL;
            continue;
        }
        block->length_bytes = 1 + (uint32_t)draw_below(&state, draw_below(&state, 3) == 0 ? 1u << 20 : 8192);
        block->filling = (uint8_t)round;
        block->memory = pool_get(pool, block->length_bytes);
        if (!block->memory)
            continue;
        CHECK((uintptr_t)block->memory % 4096 == 0, "not aligned");
        memset(block->memory, block->filling, block->length_bytes);
    }
    for (int i = 0; i < BLOCKS; i++) {
        if (blocks[i].memory)
            pool_put(pool, blocks[i].memory, blocks[i].length_bytes);
    }
    CHECK_EQUAL(pool_free_bytes(pool), 2 * POOL_BLOCK_MAX);
    CHECK(pool_get(pool, POOL_BLOCK_MAX) && pool_get(pool, POOL_BLOCK_MAX), "fragments are left");
    CHECK_EQUAL(pool_free_bytes(pool), 0);
    pool_free(pool);
}

static void every_page_can_be_had_and_then_none(void)
{
    enum { PAGES = POOL_BLOCK_MAX / 4096 };
    static void *pages[PAGES];
    struct pool *pool;

    CHECK_EQUAL(pool_new(POOL_BLOCK_MAX, false, &pool), 0);
    for (int i = 0; i < PAGES; i++) {
        pages[i] = pool_get(pool, 4096);
        CHECK(pages[i], "page %d of %d", i, PAGES);
    }
    CHECK(!pool_get(pool, 1), "a page too many");
    CHECK_EQUAL(pool_free_bytes(pool), 0);
    for (int i = 0; i < PAGES; i += 2)
        pool_put(pool, pages[i], 4096);
    CHECK_EQUAL(pool_free_bytes(pool), POOL_BLOCK_MAX / 2);
    CHECK(!pool_get(pool, 8192), "two pages that are not neighbours are no block");
    pool_put(pool, pages[1], 4096);
    CHECK(pool_get(pool, 8192) == pages[0], "two free buddies make a block");
    pool_free(pool);
}

static void lengths_out_of_range_get_nothing(void)
{
    struct pool *pool = NULL;

    CHECK_EQUAL(pool_new(0, false, &pool), -EINVAL);
    CHECK_EQUAL(pool_new(POOL_BLOCK_MAX + 4096, false, &pool), -EINVAL);
    CHECK_EQUAL(pool_new(POOL_BLOCK_MAX, true, &pool), 0); /* locked or refused: both are fine */
    (void)pool_locked(pool);
    CHECK(!pool_get(pool, 0) && !pool_get(pool, POOL_BLOCK_MAX + 1), "out of range");
    pool_free(pool);
    pool_free(NULL);
}

static void a_failed_allocation_leaves_nothing_behind(void)
{
    struct pool *pool = NULL;

    for (unsigned nth = 1; nth <= 4; nth++) {
        allocations_left_to_fail = nth;
        CHECK(pool_new(POOL_BLOCK_MAX, false, &pool) == -ENOMEM, "allocation %u", nth);
    }
    allocations_left_to_fail = 0;
    CHECK(!pool, "the out-parameter is touched");
}

int main(void)
{
    blocks_never_overlap_and_everything_merges_again();
    every_page_can_be_had_and_then_none();
    lengths_out_of_range_get_nothing();
    a_failed_allocation_leaves_nothing_behind();
    return 0;
}
