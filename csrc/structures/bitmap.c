/* bitmap.c - the quick-sync bitmap in memory.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Words are kept as the disk and the wire have them, little-endian, and turned at each access (nothing, on the
 * processors that most people have).  Every page knows how many of its bits are set, so a search passes over clean
 * stretches at 128 MiB a step, and how it differs from the disk.  Invariants: no bit at or past `bits` is ever set;
 * page_counts and count are the bits in `words`; a page with dirty 0 equals the disk's, once the engine has written
 * what it took. */
#include "bitmap.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BIT_SECTORS 8u /* 4 KiB */
#define WORD_BITS 64u
#define PAGE_WORDS (BITMAP_PAGE_BYTES / sizeof(uint64_t))

struct bitmap {
    uint64_t device_sectors;
    uint64_t bits;
    uint64_t pages;
    uint64_t count;
    uint64_t *words;         /* pages * PAGE_WORDS, little-endian */
    uint32_t *page_counts;   /* bits set in the page */
    uint8_t *dirty;          /* BITMAP_DIRTY_* of the page */
    uint64_t dirty_pages[4]; /* how many pages are dirty by exactly this mask: most questions end here */
};

int bitmap_new(uint64_t device_sectors, struct bitmap **bitmap)
{
    struct bitmap *self;

    if (device_sectors == 0 || device_sectors > UINT64_MAX / 2)
        return -EINVAL;
    self = calloc(1, sizeof(*self));
    if (!self)
        return -ENOMEM;
    self->device_sectors = device_sectors;
    self->bits = (device_sectors + BIT_SECTORS - 1) / BIT_SECTORS;
    self->pages = (self->bits + BITMAP_PAGE_BITS - 1) / BITMAP_PAGE_BITS;
    self->dirty_pages[0] = self->pages;
    /* A clean page of a large map stays the kernel's zero page until somebody sets a bit in it. */
    self->words = calloc(self->pages, BITMAP_PAGE_BYTES);
    if (!self->words)
        goto free_self;
    self->page_counts = calloc(self->pages, sizeof(*self->page_counts));
    if (!self->page_counts)
        goto free_words;
    self->dirty = calloc(self->pages, sizeof(*self->dirty));
    if (!self->dirty)
        goto free_counts;
    *bitmap = self;
    return 0;

free_counts:
    free(self->page_counts);
free_words:
    free(self->words);
free_self:
    free(self);
    return -ENOMEM;
}

void bitmap_free(struct bitmap *bitmap)
{
    if (!bitmap)
        return;
    free(bitmap->dirty);
    free(bitmap->page_counts);
    free(bitmap->words);
    free(bitmap);
}

uint64_t bitmap_bits(const struct bitmap *bitmap)
{
    return bitmap->bits;
}

uint64_t bitmap_words(const struct bitmap *bitmap)
{
    return (bitmap->bits + WORD_BITS - 1) / WORD_BITS;
}

uint64_t bitmap_pages(const struct bitmap *bitmap)
{
    return bitmap->pages;
}

uint64_t bitmap_count(const struct bitmap *bitmap)
{
    return bitmap->count;
}

static void page_set_dirty(struct bitmap *bitmap, uint64_t page, uint8_t dirty)
{
    bitmap->dirty_pages[bitmap->dirty[page]]--;
    bitmap->dirty_pages[dirty]++;
    bitmap->dirty[page] = dirty;
}

/* The only way in which bits change: writes one word and keeps every count.  Returns how many bits changed. */
static uint64_t word_write(struct bitmap *bitmap, uint64_t word, uint64_t value)
{
    uint64_t old = le64toh(bitmap->words[word]);
    uint64_t newly_set = value & ~old;
    uint64_t newly_clear = old & ~value;
    uint64_t page = word / PAGE_WORDS;
    uint32_t set = (uint32_t)__builtin_popcountll(newly_set);
    uint32_t cleared = (uint32_t)__builtin_popcountll(newly_clear);
    uint32_t dirty = bitmap->dirty[page];

    if (value == old)
        return 0;
    bitmap->words[word] = htole64(value);
    bitmap->page_counts[page] += set - cleared;
    bitmap->count += (uint64_t)set - cleared;
    dirty |= (newly_set ? (uint32_t)BITMAP_DIRTY_SET : 0) | (newly_clear ? (uint32_t)BITMAP_DIRTY_CLEAR : 0);
    if (dirty != bitmap->dirty[page])
        page_set_dirty(bitmap, page, (uint8_t)dirty);
    return (uint64_t)set + cleared;
}

/* The bits from..end (not included) that lie in `word`. */
static uint64_t mask_in_word(uint64_t word, uint64_t from, uint64_t end)
{
    uint64_t first = word * WORD_BITS;
    uint64_t mask = UINT64_MAX;

    if (from > first)
        mask &= UINT64_MAX << (from - first);
    if (end - first < WORD_BITS)
        mask &= ~(UINT64_MAX << (end - first));
    return mask;
}

static uint64_t range_write(struct bitmap *bitmap, uint64_t from, uint64_t end, bool set)
{
    uint64_t changed = 0;

    if (from >= end)
        return 0;
    for (uint64_t word = from / WORD_BITS; word <= (end - 1) / WORD_BITS; word++) {
        uint64_t mask = mask_in_word(word, from, end);
        uint64_t old = le64toh(bitmap->words[word]);

        changed += word_write(bitmap, word, set ? old | mask : old & ~mask);
    }
    return changed;
}

/* Where a range of sectors ends, kept to the device. */
static uint64_t end_sector(const struct bitmap *bitmap, uint64_t sector, uint64_t sectors)
{
    if (sector >= bitmap->device_sectors)
        return sector;
    return sectors > bitmap->device_sectors - sector ? bitmap->device_sectors : sector + sectors;
}

static void *grown(const void *old, uint64_t old_count, uint64_t count, size_t size)
{
    uint8_t *new = calloc(count, size);

    if (new != NULL)
        memcpy(new, old, (old_count < count ? old_count : count) * size);
    return new;
}

static void replace_arrays(struct bitmap *bitmap, uint64_t *words, uint32_t *page_counts, uint8_t *dirty)
{
    free(bitmap->words);
    free(bitmap->page_counts);
    free(bitmap->dirty);
    bitmap->words = words;
    bitmap->page_counts = page_counts;
    bitmap->dirty = dirty;
}

int bitmap_resize(struct bitmap *bitmap, uint64_t device_sectors)
{
    uint64_t bits = (device_sectors + BIT_SECTORS - 1) / BIT_SECTORS;
    uint64_t pages = (bits + BITMAP_PAGE_BITS - 1) / BITMAP_PAGE_BITS;

    if (device_sectors == 0 || device_sectors > UINT64_MAX / 2)
        return -EINVAL;
    uint64_t *words = grown(bitmap->words, bitmap->pages * PAGE_WORDS, pages * PAGE_WORDS, sizeof *words);
    uint32_t *page_counts = grown(bitmap->page_counts, bitmap->pages, pages, sizeof *page_counts);
    uint8_t *dirty = grown(bitmap->dirty, bitmap->pages, pages, sizeof *dirty);
    if (words == NULL || page_counts == NULL || dirty == NULL) {
        free(words);
        free(page_counts);
        free(dirty);
        return -ENOMEM;
    }
    replace_arrays(bitmap, words, page_counts, dirty);
    uint64_t old_pages = bitmap->pages;
    uint64_t old_bits = bitmap->bits;
    bitmap->device_sectors = device_sectors;
    bitmap->bits = bits;
    bitmap->pages = pages;
    bitmap->count = 0;
    memset(bitmap->dirty_pages, 0, sizeof bitmap->dirty_pages);
    for (uint64_t page = 0; page < pages; page++) {
        bitmap->count += page_counts[page];
        dirty[page] = page < old_pages ? dirty[page] : (uint8_t)BITMAP_DIRTY_SET;
        bitmap->dirty_pages[dirty[page]]++;
    }
    if (bits > old_bits) /* what the disk has behind the old end, in the page that is not full, is anybody's guess */
        bitmap_page_mark(bitmap, old_pages - 1, BITMAP_DIRTY_SET);
    if (bits < old_bits) /* what the last page still has behind the end */
        (void)range_write(bitmap, bits, old_bits < pages * BITMAP_PAGE_BITS ? old_bits : pages * BITMAP_PAGE_BITS,
                          false);
    return 0;
}

uint64_t bitmap_set(struct bitmap *bitmap, uint64_t sector, uint64_t sectors)
{
    uint64_t end = end_sector(bitmap, sector, sectors);

    if (end <= sector)
        return 0;
    return range_write(bitmap, sector / BIT_SECTORS, (end - 1) / BIT_SECTORS + 1, true);
}

uint64_t bitmap_clear(struct bitmap *bitmap, uint64_t sector, uint64_t sectors)
{
    uint64_t end = end_sector(bitmap, sector, sectors);

    if (end <= sector)
        return 0;
    return range_write(bitmap, (sector + BIT_SECTORS - 1) / BIT_SECTORS,
                       end == bitmap->device_sectors ? bitmap->bits : end / BIT_SECTORS, false);
}

/* The first set bit in from_bit..end_bit, or BITMAP_NONE. */
static uint64_t next_set_before(const struct bitmap *bitmap, uint64_t from_bit, uint64_t end_bit)
{
    uint64_t word = from_bit / WORD_BITS;
    uint64_t keep = UINT64_MAX << from_bit % WORD_BITS;

    if (bitmap->count == 0)
        return BITMAP_NONE;
    while (word * WORD_BITS < end_bit) {
        uint64_t value;

        if (bitmap->page_counts[word / PAGE_WORDS] == 0) {
            word = (word / PAGE_WORDS + 1) * PAGE_WORDS;
            keep = UINT64_MAX;
            continue;
        }
        value = le64toh(bitmap->words[word]) & keep;
        if (value) {
            uint64_t bit = word * WORD_BITS + (uint64_t)__builtin_ctzll(value);

            return bit < end_bit ? bit : BITMAP_NONE;
        }
        keep = UINT64_MAX;
        word++;
    }
    return BITMAP_NONE;
}

uint64_t bitmap_next(const struct bitmap *bitmap, uint64_t from_bit)
{
    return next_set_before(bitmap, from_bit, bitmap->bits);
}

bool bitmap_any(const struct bitmap *bitmap, uint64_t sector, uint64_t sectors)
{
    uint64_t end = end_sector(bitmap, sector, sectors);

    if (end <= sector)
        return false;
    return next_set_before(bitmap, sector / BIT_SECTORS, (end - 1) / BIT_SECTORS + 1) != BITMAP_NONE;
}

/* The first clear bit in from_bit..end_bit, or end_bit. */
static uint64_t next_clear_before(const struct bitmap *bitmap, uint64_t from_bit, uint64_t end_bit)
{
    uint64_t word = from_bit / WORD_BITS;
    uint64_t keep = UINT64_MAX << from_bit % WORD_BITS;

    while (word * WORD_BITS < end_bit) {
        uint64_t value;

        if (bitmap->page_counts[word / PAGE_WORDS] == BITMAP_PAGE_BITS) {
            word = (word / PAGE_WORDS + 1) * PAGE_WORDS;
            keep = UINT64_MAX;
            continue;
        }
        value = ~le64toh(bitmap->words[word]) & keep;
        if (value) {
            uint64_t bit = word * WORD_BITS + (uint64_t)__builtin_ctzll(value);

            return bit < end_bit ? bit : end_bit;
        }
        keep = UINT64_MAX;
        word++;
    }
    return end_bit;
}

uint64_t bitmap_next_clear(const struct bitmap *bitmap, uint64_t from_bit)
{
    return from_bit >= bitmap->bits ? bitmap->bits : next_clear_before(bitmap, from_bit, bitmap->bits);
}

uint64_t bitmap_run(const struct bitmap *bitmap, uint64_t bit, uint64_t bits_max)
{
    if (bit >= bitmap->bits)
        return 0;
    if (bits_max > bitmap->bits - bit)
        bits_max = bitmap->bits - bit;
    return next_clear_before(bitmap, bit, bit + bits_max) - bit;
}

uint64_t bitmap_page_of_sector(uint64_t sector)
{
    return sector / (BIT_SECTORS * (uint64_t)BITMAP_PAGE_BITS);
}

uint32_t bitmap_page_dirty(const struct bitmap *bitmap, uint64_t page)
{
    return page < bitmap->pages ? bitmap->dirty[page] : 0;
}

uint64_t bitmap_page_next_dirty(const struct bitmap *bitmap, uint64_t from_page, uint32_t dirty)
{
    bool any = false;

    for (uint32_t mask = 1; mask < 4; mask++)
        any = any || ((mask & dirty) != 0 && bitmap->dirty_pages[mask] > 0);
    if (!any)
        return BITMAP_NONE;
    for (uint64_t page = from_page; page < bitmap->pages; page++) {
        if ((bitmap->dirty[page] & dirty) != 0)
            return page;
    }
    return BITMAP_NONE;
}

/* What of `word` lies on the device. */
static uint64_t word_mask(const struct bitmap *bitmap, uint64_t word)
{
    return word < bitmap_words(bitmap) ? mask_in_word(word, 0, bitmap->bits) : 0;
}

void bitmap_page_load(struct bitmap *bitmap, uint64_t page, const void *block)
{
    uint64_t values[PAGE_WORDS];

    if (page >= bitmap->pages)
        return;
    memcpy(values, block, sizeof(values));
    for (uint64_t i = 0; i < PAGE_WORDS; i++) {
        uint64_t word = page * PAGE_WORDS + i;

        (void)word_write(bitmap, word, le64toh(values[i]) & word_mask(bitmap, word));
    }
    page_set_dirty(bitmap, page, 0);
}

void bitmap_page_copy(struct bitmap *bitmap, uint64_t page, void *block)
{
    if (page >= bitmap->pages) {
        memset(block, 0, BITMAP_PAGE_BYTES);
        return;
    }
    memcpy(block, bitmap->words + page * PAGE_WORDS, BITMAP_PAGE_BYTES);
    page_set_dirty(bitmap, page, 0);
}

void bitmap_page_mark(struct bitmap *bitmap, uint64_t page, uint32_t dirty)
{
    if (page < bitmap->pages)
        page_set_dirty(bitmap, page,
                       (uint8_t)((bitmap->dirty[page] | dirty) & (BITMAP_DIRTY_SET | BITMAP_DIRTY_CLEAR)));
}

void bitmap_words_merge(struct bitmap *bitmap, uint64_t word, const void *words, uint64_t count)
{
    const uint8_t *from = words;
    uint64_t end = bitmap_words(bitmap);

    for (uint64_t i = 0; i < count && word < end; i++, word++) {
        uint64_t value;

        memcpy(&value, from + i * sizeof(value), sizeof(value));
        value = le64toh(value) & word_mask(bitmap, word);
        (void)word_write(bitmap, word, le64toh(bitmap->words[word]) | value);
    }
}

void bitmap_words_copy(const struct bitmap *bitmap, uint64_t word, void *words, uint64_t count)
{
    uint64_t end = bitmap_words(bitmap);
    uint64_t here = word >= end ? 0 : end - word < count ? end - word : count;

    if (here > 0)
        memcpy(words, bitmap->words + word, here * sizeof(uint64_t));
    memset((uint8_t *)words + here * sizeof(uint64_t), 0, (count - here) * sizeof(uint64_t));
}
