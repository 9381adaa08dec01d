/* bitmap.h - the quick-sync bitmap in memory: one bit per 4 KiB, set = out of sync with the peer.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Setting rounds outwards (a block touched is a block out of sync), clearing rounds inwards (only a block covered whole
 * is in sync; the device's last, short block counts as whole when the range reaches the device's end).  A page is 4096
 * bytes of it on disk (8.4: little-endian words), 32768 bits, 128 MiB of the device.  The map knows which pages differ
 * from the disk and why: a page with bits newly set must be durable before an activity log slot is reused; a page with
 * bits newly cleared only after the data of those blocks are. */
#ifndef CSRC_BITMAP_H
#define CSRC_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

#define BITMAP_PAGE_BYTES 4096
#define BITMAP_PAGE_BITS 32768
#define BITMAP_NONE UINT64_MAX
enum { BITMAP_DIRTY_SET = 1, BITMAP_DIRTY_CLEAR = 2 };

struct bitmap;

int bitmap_new(uint64_t device_sectors, struct bitmap **bitmap); /* all clear, no page dirty */
void bitmap_free(struct bitmap *bitmap);
/* The device has another size: bits keep their places, those behind the new end are gone, new ones are clear.  A page
 * that is new is dirty, whatever it holds: nobody knows what the disk has there.  Nothing changes if memory is short.
 */
int bitmap_resize(struct bitmap *bitmap, uint64_t device_sectors);
uint64_t bitmap_bits(const struct bitmap *bitmap);
uint64_t bitmap_words(const struct bitmap *bitmap); /* 64-bit words on disk and wire */
uint64_t bitmap_pages(const struct bitmap *bitmap);
uint64_t bitmap_count(const struct bitmap *bitmap); /* bits set; O(1) */
/* Both return how many bits changed. */
uint64_t bitmap_set(struct bitmap *bitmap, uint64_t sector, uint64_t sectors);
uint64_t bitmap_clear(struct bitmap *bitmap, uint64_t sector, uint64_t sectors);
bool bitmap_any(const struct bitmap *bitmap, uint64_t sector, uint64_t sectors);
uint64_t bitmap_next(const struct bitmap *bitmap, uint64_t from_bit); /* first set bit >= from_bit, or BITMAP_NONE */
uint64_t bitmap_next_clear(const struct bitmap *bitmap,
                           uint64_t from_bit); /* first clear bit >= from_bit; bits() at the end */
uint64_t bitmap_run(const struct bitmap *bitmap, uint64_t bit, uint64_t bits_max); /* set bits in a row from `bit` */

uint64_t bitmap_page_of_sector(uint64_t sector);
uint32_t bitmap_page_dirty(const struct bitmap *bitmap, uint64_t page);                           /* BITMAP_DIRTY_* */
uint64_t bitmap_page_next_dirty(const struct bitmap *bitmap, uint64_t from_page, uint32_t dirty); /* or BITMAP_NONE */
void bitmap_page_load(struct bitmap *bitmap, uint64_t page,
                      const void *block); /* from disk: replaces, not dirty; bits past the end ignored */
void bitmap_page_copy(struct bitmap *bitmap, uint64_t page,
                      void *block); /* for the disk; the page is clean from here on */
void bitmap_page_mark(struct bitmap *bitmap, uint64_t page, uint32_t dirty); /* the write failed: dirty again */

/* The wire's plain form (P_BITMAP): little-endian words, merged by or.  Bits past the end are ignored. */
void bitmap_words_merge(struct bitmap *bitmap, uint64_t word, const void *words, uint64_t count);
void bitmap_words_copy(const struct bitmap *bitmap, uint64_t word, void *words, uint64_t count);

#endif
