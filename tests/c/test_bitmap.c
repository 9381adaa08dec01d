/* test_bitmap.c - the bitmap against an array of bytes, one per bit.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "allocation.h"
#include "check.h"

#include "../../csrc/structures/bitmap.c" /* its allocations fail on demand */

#define MODEL_PAGES 3
#define MODEL_SECTORS (uint64_t)(8 * (2 * BITMAP_PAGE_BITS + 12345) + 5)

struct model {
    uint8_t bits[MODEL_PAGES * BITMAP_PAGE_BITS];
    uint32_t dirty[MODEL_PAGES];
    uint64_t count;
};

static uint64_t model_bits(void)
{
    return (MODEL_SECTORS + 7) / 8;
}

static uint64_t model_write(struct model *model, uint64_t bit, uint8_t value)
{
    if (model->bits[bit] == value)
        return 0;
    model->bits[bit] = value;
    model->count += value ? 1 : UINT64_MAX;
    model->dirty[bit / BITMAP_PAGE_BITS] |= value ? BITMAP_DIRTY_SET : BITMAP_DIRTY_CLEAR;
    return 1;
}

static uint64_t model_range(struct model *model, uint64_t sector, uint64_t sectors, uint8_t value)
{
    uint64_t changed = 0;

    for (uint64_t bit = 0; bit < model_bits(); bit++) {
        uint64_t begin = bit * 8;
        uint64_t end = begin + 8 < MODEL_SECTORS ? begin + 8 : MODEL_SECTORS;
        bool touched = begin < sector + sectors && sector < end;
        bool covered = sector <= begin && end <= sector + sectors;

        if (value ? touched : covered)
            changed += model_write(model, bit, value);
    }
    return changed;
}

static void compare(const struct bitmap *bitmap, const struct model *model)
{
    uint64_t set = BITMAP_NONE;
    uint64_t clear = model_bits();

    CHECK_EQUAL(bitmap_count(bitmap), model->count);
    for (uint64_t page = 0; page < MODEL_PAGES; page++)
        CHECK_EQUAL(bitmap_page_dirty(bitmap, page), model->dirty[page]);
    for (uint64_t bit = model_bits(); bit-- > 0;) {
        if (model->bits[bit])
            set = bit;
        else
            clear = bit;
        CHECK(bitmap_next(bitmap, bit) == set, "bit %llu", (unsigned long long)bit);
        CHECK(bitmap_next_clear(bitmap, bit) == clear, "bit %llu", (unsigned long long)bit);
        CHECK(bitmap_run(bitmap, bit, 100) == (clear - bit < 100 ? clear - bit : 100), "bit %llu",
              (unsigned long long)bit);
    }
}

static void random_range(uint64_t *state, uint64_t *sector, uint64_t *sectors)
{
    *sector = draw_below(state, MODEL_SECTORS);
    *sectors = 1 + draw_below(state, draw_below(state, 4) == 0 ? MODEL_SECTORS : 2048);
    if (draw_below(state, 2) == 0) { /* aligned, as most are */
        *sector &= ~7ull;
        *sectors = (*sectors + 7) & ~7ull;
    }
}

static void random_operation(struct bitmap *bitmap, struct model *model, uint64_t *state)
{
    uint64_t sector, sectors, page = draw_below(state, MODEL_PAGES);
    uint8_t block[BITMAP_PAGE_BYTES];
    bool any = false;

    random_range(state, &sector, &sectors);
    switch (draw_below(state, 6)) {
    case 0:
    case 1:
        CHECK_EQUAL(bitmap_set(bitmap, sector, sectors), model_range(model, sector, sectors, 1));
        break;
    case 2:
    case 3:
        CHECK_EQUAL(bitmap_clear(bitmap, sector, sectors), model_range(model, sector, sectors, 0));
        break;
    case 4:
        bitmap_page_copy(bitmap, page, block);
        for (uint64_t i = 0; i < BITMAP_PAGE_BITS; i++)
            CHECK_EQUAL(block[i / 8] >> i % 8 & 1, model->bits[page * BITMAP_PAGE_BITS + i]);
        model->dirty[page] = 0;
        break;
    case 5:
        for (uint64_t bit = sector / 8; bit < model_bits() && bit * 8 < sector + sectors; bit++)
            any = any || model->bits[bit];
        CHECK_EQUAL(bitmap_any(bitmap, sector, sectors), any);
        break;
    }
}

static void agrees_with_the_model_under_random_operations(void)
{
    struct model *model = (calloc)(1, sizeof(*model));
    struct bitmap *bitmap;
    uint64_t state = 20260101;

    CHECK_EQUAL(bitmap_new(MODEL_SECTORS, &bitmap), 0);
    CHECK_EQUAL(bitmap_bits(bitmap), model_bits());
    CHECK_EQUAL(bitmap_pages(bitmap), MODEL_PAGES);
    for (int round = 0; round < 200; round++) {
        random_operation(bitmap, model, &state);
        if (round % 10 == 0)
            compare(bitmap, model);
    }
    bitmap_free(bitmap);
    free(model);
}

static void sets_outwards_and_clears_inwards(void)
{
    struct bitmap *bitmap;

    CHECK_EQUAL(bitmap_new(100, &bitmap), 0);
    CHECK_EQUAL(bitmap_bits(bitmap), 13);
    CHECK_EQUAL(bitmap_set(bitmap, 7, 2), 2);
    CHECK_EQUAL(bitmap_clear(bitmap, 1, 14), 0);
    CHECK_EQUAL(bitmap_clear(bitmap, 0, 15), 1);
    CHECK_EQUAL(bitmap_next(bitmap, 0), 1);
    /* The last block is 4 sectors short; what reaches the end of the device covers it. */
    CHECK_EQUAL(bitmap_set(bitmap, 99, 1), 1);
    CHECK_EQUAL(bitmap_clear(bitmap, 96, 3), 0);
    CHECK_EQUAL(bitmap_clear(bitmap, 96, 4), 1);
    CHECK_EQUAL(bitmap_set(bitmap, 96, UINT64_MAX), 1);
    CHECK_EQUAL(bitmap_set(bitmap, 100, 8), 0);
    CHECK_EQUAL(bitmap_clear(bitmap, 0, UINT64_MAX), 2);
    CHECK_EQUAL(bitmap_count(bitmap), 0);
    bitmap_free(bitmap);
}

static void a_page_from_disk_replaces_and_is_clean(void)
{
    uint8_t block[BITMAP_PAGE_BYTES];
    struct bitmap *bitmap;

    memset(block, 0xff, sizeof(block));
    CHECK_EQUAL(bitmap_new(8 * 100, &bitmap), 0);
    bitmap_page_load(bitmap, 0, block);
    CHECK_EQUAL(bitmap_count(bitmap), 100);
    CHECK_EQUAL(bitmap_page_dirty(bitmap, 0), 0);
    CHECK_EQUAL(bitmap_page_next_dirty(bitmap, 0, BITMAP_DIRTY_SET | BITMAP_DIRTY_CLEAR), BITMAP_NONE);
    memset(block, 0, sizeof(block));
    block[12] = 0x18; /* bits 99 and 100; the device has 100 */
    bitmap_page_load(bitmap, 0, block);
    CHECK_EQUAL(bitmap_count(bitmap), 1);
    CHECK_EQUAL(bitmap_next(bitmap, 0), 99);
    bitmap_page_load(bitmap, 1, block); /* no such page: nothing happens */
    bitmap_page_copy(bitmap, 0, block);
    CHECK_EQUAL(block[12], 0x08);
    bitmap_free(bitmap);
}

static void dirty_pages_are_found_by_their_reason(void)
{
    uint8_t block[BITMAP_PAGE_BYTES];
    struct bitmap *bitmap;
    uint64_t page_sectors = 8ull * BITMAP_PAGE_BITS;

    CHECK_EQUAL(bitmap_new(4 * page_sectors, &bitmap), 0);
    CHECK_EQUAL(bitmap_page_of_sector(page_sectors - 1), 0);
    CHECK_EQUAL(bitmap_page_of_sector(page_sectors), 1);
    bitmap_set(bitmap, 2 * page_sectors - 8, 16); /* the last bit of page 1 and the first of page 2 */
    CHECK_EQUAL(bitmap_page_next_dirty(bitmap, 0, BITMAP_DIRTY_SET), 1);
    CHECK_EQUAL(bitmap_page_next_dirty(bitmap, 2, BITMAP_DIRTY_SET), 2);
    CHECK_EQUAL(bitmap_page_next_dirty(bitmap, 3, BITMAP_DIRTY_SET), BITMAP_NONE);
    CHECK_EQUAL(bitmap_page_next_dirty(bitmap, 0, BITMAP_DIRTY_CLEAR), BITMAP_NONE);
    bitmap_page_copy(bitmap, 1, block);
    CHECK_EQUAL(block[BITMAP_PAGE_BYTES - 1], 0x80);
    CHECK_EQUAL(bitmap_page_next_dirty(bitmap, 0, BITMAP_DIRTY_SET), 2);
    bitmap_clear(bitmap, page_sectors, page_sectors);
    CHECK_EQUAL(bitmap_page_next_dirty(bitmap, 0, BITMAP_DIRTY_CLEAR), 1);
    bitmap_page_copy(bitmap, 1, block);
    bitmap_page_mark(bitmap, 1, BITMAP_DIRTY_CLEAR);
    CHECK_EQUAL(bitmap_page_dirty(bitmap, 1), BITMAP_DIRTY_CLEAR);
    bitmap_free(bitmap);
}

static void a_search_passes_over_whole_pages(void)
{
    struct bitmap *bitmap;
    uint64_t bits = 4ull * BITMAP_PAGE_BITS;

    CHECK_EQUAL(bitmap_new(8 * bits, &bitmap), 0);
    bitmap_set(bitmap, 8 * (bits - BITMAP_PAGE_BITS), 8); /* the first bit of the last page */
    CHECK_EQUAL(bitmap_next(bitmap, 5), bits - BITMAP_PAGE_BITS);
    CHECK(!bitmap_any(bitmap, 8 * 5, 8 * (bits - BITMAP_PAGE_BITS - 5)), "a bit behind the range counts");
    CHECK(bitmap_any(bitmap, 8 * 5, 8 * (bits - BITMAP_PAGE_BITS - 5) + 1), "the last bit of the range does not count");
    bitmap_set(bitmap, 0, 8 * bits);
    bitmap_clear(bitmap, 8 * (bits - BITMAP_PAGE_BITS), 8);
    CHECK_EQUAL(bitmap_next_clear(bitmap, 5), bits - BITMAP_PAGE_BITS);
    CHECK_EQUAL(bitmap_run(bitmap, 5, UINT64_MAX), bits - BITMAP_PAGE_BITS - 5);
    CHECK_EQUAL(bitmap_run(bitmap, bits - BITMAP_PAGE_BITS, 9), 0);
    CHECK_EQUAL(bitmap_run(bitmap, bits, 9), 0);
    bitmap_free(bitmap);
}

static void words_of_the_wire_are_merged_and_copied(void)
{
    uint8_t words[5 * 8] = {0x01, 0, 0, 0, 0, 0, 0, 0x80};
    struct bitmap *bitmap;

    CHECK_EQUAL(bitmap_new(8 * 130, &bitmap), 0);
    CHECK_EQUAL(bitmap_words(bitmap), 3);
    bitmap_set(bitmap, 8, 8);
    bitmap_words_merge(bitmap, 0, words, 1);
    CHECK_EQUAL(bitmap_count(bitmap), 3);
    CHECK_EQUAL(bitmap_next(bitmap, 2), 63);
    memset(words, 0xff, sizeof(words));
    bitmap_words_merge(bitmap, 2, words, 5); /* bits 128 and 129 are there, the rest is past the end */
    CHECK_EQUAL(bitmap_count(bitmap), 5);
    bitmap_words_merge(bitmap, UINT64_MAX, words, 1);
    bitmap_words_copy(bitmap, 1, words, 5);
    CHECK_EQUAL(words[8], 0x03);
    CHECK_EQUAL(words[16], 0);
    CHECK_EQUAL(words[39], 0);
    CHECK_EQUAL(bitmap_page_dirty(bitmap, 0), BITMAP_DIRTY_SET);
    bitmap_free(bitmap);
}

static void a_failed_allocation_leaves_nothing_behind(void)
{
    struct bitmap *bitmap = NULL;

    for (unsigned nth = 1; nth <= 4; nth++) {
        allocations_left_to_fail = nth;
        CHECK(bitmap_new(MODEL_SECTORS, &bitmap) == -ENOMEM, "allocation %u", nth);
        CHECK(bitmap == NULL, "the out-parameter is touched");
    }
    allocations_left_to_fail = 0;
    CHECK_EQUAL(bitmap_new(0, &bitmap), -EINVAL);
    bitmap_free(NULL);
}

static void a_size_that_changes_keeps_the_bits(void)
{
    struct bitmap *bitmap;
    uint8_t page[BITMAP_PAGE_BYTES];
    CHECK(bitmap_new(100 * 8, &bitmap) == 0, "100 bits");
    bitmap_set(bitmap, 0, 1);
    bitmap_set(bitmap, 99 * 8, 8);
    bitmap_page_copy(bitmap, 0, page);
    CHECK(bitmap_page_dirty(bitmap, 0) == 0, "written");
    CHECK(bitmap_resize(bitmap, 100000 * 8) == 0, "it grows");
    CHECK(bitmap_bits(bitmap) == 100000 && bitmap_pages(bitmap) == 4 && bitmap_count(bitmap) == 2, "all is there");
    CHECK(bitmap_next(bitmap, 0) == 0 && bitmap_next(bitmap, 1) == 99, "in its place");
    CHECK(bitmap_next(bitmap, 100) == BITMAP_NONE, "what is new is clear");
    for (uint64_t i = 0; i < 4; i++)
        CHECK((bitmap_page_dirty(bitmap, i) & BITMAP_DIRTY_SET) != 0, "nobody knows what the disk has there: page %u",
              (unsigned)i);
    CHECK(bitmap_set(bitmap, 99999 * 8, 8) == 1, "the last block is one");
    CHECK(bitmap_resize(bitmap, 50 * 8) == 0, "it shrinks");
    CHECK(bitmap_bits(bitmap) == 50 && bitmap_pages(bitmap) == 1 && bitmap_count(bitmap) == 1, "what is left");
    CHECK(bitmap_resize(bitmap, 100 * 8) == 0, "it grows again");
    CHECK(bitmap_count(bitmap) == 1 && bitmap_next(bitmap, 1) == BITMAP_NONE, "what was cut off stays away");
    CHECK(bitmap_resize(bitmap, 0) < 0 && bitmap_bits(bitmap) == 100, "nothing is no size");
    bitmap_free(bitmap);
}

int main(void)
{
    a_size_that_changes_keeps_the_bits();
    agrees_with_the_model_under_random_operations();
    sets_outwards_and_clears_inwards();
    a_page_from_disk_replaces_and_is_clean();
    dirty_pages_are_found_by_their_reason();
    a_search_passes_over_whole_pages();
    words_of_the_wire_are_merged_and_copied();
    a_failed_allocation_leaves_nothing_behind();
    return 0;
}
