/* bitmap_pages.h - bitmap pages from and to the disk, in an order that a crash at any point survives.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A page goes to disk as it was when it was copied.  If it tells of blocks that came in sync, the data of those blocks
 * are flushed between the copy and the write; so a bit is never clear on disk while the block could still lose its
 * data.  One batch is under way at a time: two could write the same page in the wrong order. */
#ifndef CSRC_BITMAP_PAGES_H
#define CSRC_BITMAP_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "io.h"

struct core_engine;

#define BITMAP_BATCH 64u

typedef void (*bitmap_batch_done)(struct core_engine *engine, int32_t result);

struct bitmap_page_op {
    struct io_op op;
    struct core_engine *engine;
    uint64_t page;
};

struct bitmap_pages {
    struct bitmap_page_op ops[BITMAP_BATCH];
    struct io_op flush;
    struct core_engine *engine;
    uint8_t *buffer; /* BITMAP_BATCH pages */
    uint32_t count;
    uint32_t left;
    int32_t result;
    bitmap_batch_done done; /* NULL: no batch under way */
    uint64_t load_token;    /* loading: the attach that waits */
    uint64_t load_page;
    /* The sweep over all changed pages; orders that came while one ran wait for the next. */
    bool sweeping, sweep_again;
    uint64_t sweep_page;
    uint64_t sweep_token, sweep_again_token;
    void (*sweep_done)(struct core_engine *engine, int32_t result); /* the engine's own wish, beside the token */
    void (*sweep_again_done)(struct core_engine *engine, int32_t result);
};

int bitmap_pages_init(struct core_engine *engine);
void bitmap_pages_fini(struct core_engine *engine);
/* Reads the whole bitmap, then answers the attach. */
void bitmap_pages_load(struct core_engine *engine, uint64_t token);
void bitmap_pages_give_up(struct core_engine *engine); /* the disk hangs: what is under way has failed */
bool bitmap_pages_busy(const struct bitmap_pages *pages);
/* Writes these pages (at most BITMAP_BATCH) durably, then calls done.  Not while busy. */
void bitmap_pages_write(struct core_engine *engine, const uint64_t *pages, uint32_t count, bitmap_batch_done done);
/* Flushes the data, then writes every changed page; answers the token (if not 0) and calls done (if not NULL). */
void bitmap_pages_sweep(struct core_engine *engine, uint64_t token,
                        void (*done)(struct core_engine *engine, int32_t result));
void bitmap_pages_pump(struct core_engine *engine);

#endif
