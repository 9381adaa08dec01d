/* bitmap_pages.c - see bitmap_pages.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "bitmap_pages.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bitmap.h"
#include "container.h"
#include "engine.h"

static void page_written(struct io_op *op, int32_t result);
static void data_flushed(struct io_op *op, int32_t result);
static void metadata_flushed(struct io_op *op, int32_t result);

int bitmap_pages_init(struct core_engine *engine)
{
    struct bitmap_pages *pages = &engine->pages;
    pages->engine = engine;
    for (uint32_t i = 0; i < BITMAP_BATCH; i++)
        pages->ops[i].engine = engine;
    pages->buffer = aligned_alloc(BITMAP_PAGE_BYTES, (size_t)BITMAP_BATCH * BITMAP_PAGE_BYTES);
    if (pages->buffer == NULL)
        return -ENOMEM;
    memset(pages->buffer, 0, (size_t)BITMAP_BATCH * BITMAP_PAGE_BYTES);
    return 0;
}

void bitmap_pages_fini(struct core_engine *engine)
{
    free(engine->pages.buffer);
}

bool bitmap_pages_busy(const struct bitmap_pages *pages)
{
    return pages->done != NULL || pages->load_token != 0;
}

static uint8_t *buffer_of(const struct bitmap_pages *pages, uint32_t index)
{
    return pages->buffer + (size_t)index * BITMAP_PAGE_BYTES;
}

static uint64_t page_offset(const struct core_engine *engine, uint64_t page)
{
    return engine->disk.config.bm_offset_bytes + page * BITMAP_PAGE_BYTES;
}

/* --- loading: one page after another, once in an attach
 * ------------------------------------------------------------------ */

static void load_next(struct core_engine *engine);

static void loaded(struct io_op *op, int32_t result)
{
    struct bitmap_page_op *page_op = CONTAINER_OF(op, struct bitmap_page_op, op);
    struct core_engine *engine = page_op->engine;
    struct bitmap_pages *pages = &engine->pages;
    if (hanging_ended(engine))
        return;
    if (result >= 0)
        bitmap_page_load(engine->disk.bitmap, page_op->page, buffer_of(pages, (uint32_t)(page_op - pages->ops)));
    else
        pages->result = result;
    disk_end(engine);
    if (--pages->left == 0)
        load_next(engine);
}

static void load_over(struct core_engine *engine)
{
    struct bitmap_pages *pages = &engine->pages;
    uint64_t token = pages->load_token;
    pages->load_token = 0;
    if (pages->result < 0)
        disk_free(engine);
    facts_done(engine, token, pages->result);
}

static void load_next(struct core_engine *engine)
{
    struct bitmap_pages *pages = &engine->pages;
    uint64_t all = bitmap_pages(engine->disk.bitmap);
    if (pages->result < 0 || pages->load_page == all) {
        load_over(engine);
        return;
    }
    uint64_t count = all - pages->load_page < BITMAP_BATCH ? all - pages->load_page : BITMAP_BATCH;
    pages->left = (uint32_t)count;
    for (uint32_t i = 0; i < count; i++) {
        struct bitmap_page_op *op = &pages->ops[i];
        op->page = pages->load_page++;
        op->op.done = loaded;
        disk_begin(engine);
        io_read(engine->io, &op->op, engine->disk.config.md_fd, buffer_of(pages, i), BITMAP_PAGE_BYTES,
                page_offset(engine, op->page));
    }
}

void bitmap_pages_load(struct core_engine *engine, uint64_t token)
{
    struct bitmap_pages *pages = &engine->pages;
    if (engine->disk.bitmap == NULL) {
        facts_done(engine, token, 0);
        return;
    }
    pages->load_token = token != 0 ? token : UINT64_MAX;
    pages->load_page = 0;
    pages->result = 0;
    load_next(engine);
}

/* --- one batch: copy, flush the data if a copy tells of blocks in sync, write, flush the metadata
 * ------------------------ */

static void batch_over(struct core_engine *engine, int32_t result)
{
    struct bitmap_pages *pages = &engine->pages;
    bitmap_batch_done over = pages->done;
    pages->done = NULL;
    if (result < 0) {
        for (uint32_t i = 0; i < pages->count && engine->disk.bitmap != NULL; i++)
            bitmap_page_mark(engine->disk.bitmap, pages->ops[i].page, BITMAP_DIRTY_SET | BITMAP_DIRTY_CLEAR);
        disk_failed(engine, CORE_DISK_METADATA, 0, result);
    }
    over(engine, result);
}

static void write_copies(struct core_engine *engine)
{
    struct bitmap_pages *pages = &engine->pages;
    pages->left = pages->count;
    pages->result = 0;
    for (uint32_t i = 0; i < pages->count; i++) {
        struct bitmap_page_op *op = &pages->ops[i];
        op->op.done = page_written;
        disk_begin(engine);
        engine->counters.bm_writes++;
        io_write(engine->io, &op->op, engine->disk.config.md_fd, buffer_of(pages, i), BITMAP_PAGE_BYTES,
                 page_offset(engine, op->page), pages->count == 1);
    }
}

void bitmap_pages_write(struct core_engine *engine, const uint64_t *list, uint32_t count, bitmap_batch_done over)
{
    struct bitmap_pages *pages = &engine->pages;
    assert(!bitmap_pages_busy(pages) && count > 0 && count <= BITMAP_BATCH);
    uint32_t dirty = 0;
    pages->done = over;
    pages->count = count;
    for (uint32_t i = 0; i < count; i++) {
        pages->ops[i].page = list[i];
        dirty |= bitmap_page_dirty(engine->disk.bitmap, list[i]);
        bitmap_page_copy(engine->disk.bitmap, list[i], buffer_of(pages, i));
    }
    if ((dirty & BITMAP_DIRTY_CLEAR) == 0 || engine->disk.config.flush == 0) {
        write_copies(engine);
        return;
    }
    pages->flush.done = data_flushed;
    disk_begin(engine);
    io_flush(engine->io, &pages->flush, engine->disk.config.data_fd);
}

static void data_flushed(struct io_op *op, int32_t result)
{
    struct bitmap_pages *pages = CONTAINER_OF(op, struct bitmap_pages, flush);
    struct core_engine *engine = pages->engine;
    if (hanging_ended(engine))
        return;
    if (result < 0)
        batch_over(engine, result);
    else
        write_copies(engine);
    disk_end(engine);
}

static void page_written(struct io_op *op, int32_t result)
{
    struct bitmap_page_op *page_op = CONTAINER_OF(op, struct bitmap_page_op, op);
    struct core_engine *engine = page_op->engine;
    struct bitmap_pages *pages = &engine->pages;
    if (hanging_ended(engine))
        return;
    if (result < 0)
        pages->result = result;
    if (--pages->left == 0) {
        if (pages->result < 0 || pages->count == 1) {
            batch_over(engine, pages->result);
        } else {
            pages->flush.done = metadata_flushed;
            disk_begin(engine);
            io_flush(engine->io, &pages->flush, engine->disk.config.md_fd);
        }
    }
    disk_end(engine);
}

static void metadata_flushed(struct io_op *op, int32_t result)
{
    struct bitmap_pages *pages = CONTAINER_OF(op, struct bitmap_pages, flush);
    struct core_engine *engine = pages->engine;
    if (hanging_ended(engine))
        return;
    batch_over(engine, result < 0 ? result : 0);
    disk_end(engine);
}

/* --- the sweep: batch after batch, once over the map
 * ---------------------------------------------------------------------- */

static void sweep_over(struct core_engine *engine, int32_t result)
{
    struct bitmap_pages *pages = &engine->pages;
    uint64_t token = pages->sweep_token;
    void (*tell)(struct core_engine *, int32_t) = pages->sweep_done;
    pages->sweeping = false;
    pages->sweep_token = 0;
    pages->sweep_done = NULL;
    facts_done(engine, token, result);
    if (tell != NULL)
        tell(engine, result);
}

static void sweep_flushed(struct io_op *op, int32_t result)
{
    struct bitmap_pages *pages = CONTAINER_OF(op, struct bitmap_pages, flush);
    struct core_engine *engine = pages->engine;
    if (hanging_ended(engine))
        return;
    pages->done = NULL;
    if (result < 0)
        disk_failed(engine, CORE_DISK_FLUSH, 0, result);
    sweep_over(engine, result < 0 ? result : 0);
    disk_end(engine);
}

static void sweep_nothing(struct core_engine *engine, int32_t result)
{
    (void)engine;
    (void)result;
}

void bitmap_pages_give_up(struct core_engine *engine)
{
    struct bitmap_pages *pages = &engine->pages;
    if (pages->load_token != 0) {
        pages->result = -ETIMEDOUT;
        load_over(engine);
    } else if (pages->done == sweep_nothing) {
        pages->done = NULL;
        sweep_over(engine, -ETIMEDOUT);
    } else if (pages->done != NULL) {
        batch_over(engine, -ETIMEDOUT);
    }
}

static void swept(struct core_engine *engine, int32_t result)
{
    if (result < 0)
        sweep_over(engine, result);
}

static void sweep_step(struct core_engine *engine)
{
    struct bitmap_pages *pages = &engine->pages;
    uint64_t list[BITMAP_BATCH];
    uint32_t count = 0;
    uint64_t page = pages->sweep_page;
    while (count < BITMAP_BATCH &&
           (page = bitmap_page_next_dirty(engine->disk.bitmap, page, BITMAP_DIRTY_SET | BITMAP_DIRTY_CLEAR)) !=
               BITMAP_NONE)
        list[count++] = page++;
    pages->sweep_page = page; /* once over the map: writes that go on meanwhile must not keep it here for ever */
    if (count > 0) {
        bitmap_pages_write(engine, list, count, swept);
        return;
    }
    /* The data too: who asked for a sweep relies on both. */
    pages->done = sweep_nothing;
    pages->flush.done = sweep_flushed;
    disk_begin(engine);
    io_flush(engine->io, &pages->flush, engine->disk.config.data_fd);
}

void bitmap_pages_sweep(struct core_engine *engine, uint64_t token,
                        void (*done)(struct core_engine *engine, int32_t result))
{
    struct bitmap_pages *pages = &engine->pages;
    if (engine->disk.bitmap == NULL || !disk_has_metadata(&engine->disk)) {
        facts_done(engine, token, -ENODEV);
        if (done != NULL)
            done(engine, -ENODEV);
        return;
    }
    if (pages->sweeping) {
        /* A sweep under way may have passed the pages that this order means. */
        assert(pages->sweep_again_token == 0 || token == 0);
        pages->sweep_again = true;
        pages->sweep_again_token = token != 0 ? token : pages->sweep_again_token;
        pages->sweep_again_done = done != NULL ? done : pages->sweep_again_done;
        return;
    }
    pages->sweeping = true;
    pages->sweep_page = 0;
    pages->sweep_token = token;
    pages->sweep_done = done;
}

void bitmap_pages_pump(struct core_engine *engine)
{
    struct bitmap_pages *pages = &engine->pages;
    if (!pages->sweeping && pages->sweep_again) {
        uint64_t token = pages->sweep_again_token;
        void (*done)(struct core_engine *, int32_t) = pages->sweep_again_done;
        pages->sweep_again = false;
        pages->sweep_again_token = 0;
        pages->sweep_again_done = NULL;
        bitmap_pages_sweep(engine, token, done);
    }
    if (!pages->sweeping || bitmap_pages_busy(pages) || engine->disk.md_held)
        return;
    if (disk_has_metadata(&engine->disk))
        sweep_step(engine);
    else
        sweep_over(engine, -ENODEV);
}
