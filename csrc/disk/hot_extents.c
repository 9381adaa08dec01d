/* hot_extents.c - see hot_extents.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "hot_extents.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bitmap.h"
#include "container.h"
#include "engine.h"

static uint32_t extent_of(uint64_t sector)
{
    return (uint32_t)(sector / ACTIVITY_LOG_EXTENT_SECTORS);
}

int hot_extents_init(struct core_engine *engine)
{
    engine->hot.engine = engine;
    engine->hot.block = aligned_alloc(ACTIVITY_LOG_BLOCK_BYTES, ACTIVITY_LOG_BLOCK_BYTES);
    return engine->hot.block != NULL ? 0 : -ENOMEM;
}

void hot_extents_fini(struct core_engine *engine)
{
    free(engine->hot.block);
}

/* All or none: a write that held one extent while it waited for another could starve a third. */
bool hot_extents_get(struct request *request)
{
    struct core_engine *engine = request->engine;
    struct activity_log *log = engine->disk.log;
    uint32_t first = extent_of(request->sector);
    uint32_t last = extent_of(request->sector + request->sectors - 1);
    uint32_t extent = first;
    while (extent <= last && activity_log_get(log, extent))
        extent++;
    if (extent > last) {
        request->flags |= REQUEST_HOT;
        return true;
    }
    for (uint32_t taken = first; taken < extent; taken++)
        activity_log_put(log, taken);
    for (; extent <= last; extent++)
        if (activity_log_want(log, extent) < 0)
            engine->hot.starved = true;
    request_queue_put(&engine->hot.waiting, request);
    return false;
}

void hot_extents_hold(struct core_engine *engine, uint64_t sector, uint64_t sectors)
{
    for (uint32_t extent = extent_of(sector); extent <= extent_of(sector + sectors - 1); extent++) {
        bool hot = activity_log_get(engine->disk.log, extent);
        assert(hot);
        (void)hot;
    }
}

void hot_extents_put(struct core_engine *engine, uint64_t sector, uint64_t sectors)
{
    if (engine->disk.log == NULL)
        return; /* the disk is gone, and its log with it */
    for (uint32_t extent = extent_of(sector); extent <= extent_of(sector + sectors - 1); extent++)
        activity_log_put(engine->disk.log, extent);
}

/* All ask again: some are hot now, others want a place in the next transaction. */
static void wake_waiting(struct core_engine *engine)
{
    struct request_queue waiting = engine->hot.waiting;
    engine->hot.waiting = (struct request_queue){NULL, NULL, 0};
    engine->hot.starved = false;
    struct request *request;
    while ((request = request_queue_take(&waiting)) != NULL)
        request_continue(request);
}

static void committed(struct io_op *op, int32_t result)
{
    struct hot_extents *hot = CONTAINER_OF(op, struct hot_extents, op);
    struct core_engine *engine = hot->engine;
    if (hanging_ended(engine))
        return;
    hot->busy = false;
    if (result < 0) {
        disk_failed(engine, CORE_DISK_METADATA, 0, result); /* those who wait go on when the disk is gone */
    } else {
        activity_log_commit(engine->disk.log);
        wake_waiting(engine);
    }
    disk_end(engine);
}

static void write_transaction(struct core_engine *engine)
{
    struct hot_extents *hot = &engine->hot;
    hot->prepared = false;
    hot->op.done = committed;
    disk_begin(engine);
    engine->counters.al_writes++;
    io_write(engine->io, &hot->op, engine->disk.config.md_fd, hot->block, ACTIVITY_LOG_BLOCK_BYTES,
             engine->disk.config.al_offset_bytes + hot->offset_bytes, true);
}

static void pages_durable(struct core_engine *engine, int32_t result)
{
    if (result < 0)
        engine->hot.busy = false; /* told as the disk's failure; the transaction must not be written */
    else
        write_transaction(engine);
}

/* The pages of the extents that leave, if the disk does not know all their bits.  Returns how many. */
static uint32_t pages_to_write(struct core_engine *engine, uint64_t pages[ACTIVITY_LOG_UPDATES])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < engine->hot.evicted_count; i++) {
        uint64_t page = bitmap_page_of_sector((uint64_t)engine->hot.evicted[i] * ACTIVITY_LOG_EXTENT_SECTORS);
        bool listed = (bitmap_page_dirty(engine->disk.bitmap, page) & BITMAP_DIRTY_SET) == 0;
        for (uint32_t j = 0; j < count; j++)
            listed |= pages[j] == page;
        if (!listed)
            pages[count++] = page;
    }
    return count;
}

static void go_on(struct core_engine *engine);

static void data_flushed(struct io_op *op, int32_t result)
{
    struct hot_extents *hot = CONTAINER_OF(op, struct hot_extents, op);
    struct core_engine *engine = hot->engine;
    if (hanging_ended(engine))
        return;
    if (result < 0) {
        hot->busy = false;
        disk_failed(engine, CORE_DISK_FLUSH, 0, result);
    } else {
        hot->prepared = true;
        go_on(engine);
    }
    disk_end(engine);
}

/* The peer's writes of an extent that leaves are durable, or the transfer log would hold it.  Ours may lie in the
 * disk's cache: were they lost, nothing would say any more that the replicas may differ there. */
static bool flush_data_first(struct core_engine *engine)
{
    struct hot_extents *hot = &engine->hot;
    if (hot->flushed || hot->evicted_count == 0 || engine->disk.config.flush == 0)
        return false;
    hot->flushed = true;
    hot->prepared = false;
    hot->op.done = data_flushed;
    disk_begin(engine);
    io_flush(engine->io, &hot->op, engine->disk.config.data_fd);
    return true;
}

static void go_on(struct core_engine *engine)
{
    struct hot_extents *hot = &engine->hot;
    uint64_t pages[ACTIVITY_LOG_UPDATES];
    if (flush_data_first(engine))
        return;
    if (bitmap_pages_busy(&engine->pages))
        return; /* a batch under way may hold an older copy of a page: wait for its end */
    uint32_t count = pages_to_write(engine, pages);
    hot->prepared = false;
    if (count == 0)
        write_transaction(engine);
    else
        bitmap_pages_write(engine, pages, count, pages_durable);
}

void hot_extents_retire(struct core_engine *engine, uint64_t token)
{
    engine->hot.retire_token = token;
    if (engine->disk.log == NULL || !disk_is_usable(&engine->disk)) {
        engine->hot.retire_token = 0;
        facts_done(engine, token, engine->disk.log == NULL ? 0 : -ENODEV);
    }
}

static void retire_pump(struct core_engine *engine)
{
    struct hot_extents *hot = &engine->hot;
    if (hot->retire_token == 0 || hot->busy || activity_log_retire(engine->disk.log))
        return;
    facts_done(engine, hot->retire_token, activity_log_in_use(engine->disk.log) == 0 ? 0 : -EBUSY);
    hot->retire_token = 0;
}

void hot_extents_pump(struct core_engine *engine)
{
    struct hot_extents *hot = &engine->hot;
    if (engine->disk.log == NULL || !disk_is_usable(&engine->disk))
        return;
    if (hot->starved && !hot->busy)
        wake_waiting(engine); /* slots may have come free since */
    retire_pump(engine);
    if (hot->busy) {
        if (hot->prepared)
            go_on(engine);
        return;
    }
    if (engine->disk.md_held || !activity_log_wants_transaction(engine->disk.log))
        return;
    hot->busy = hot->prepared = true;
    hot->flushed = false;
    activity_log_prepare(engine->disk.log, hot->block, &hot->offset_bytes, hot->evicted, &hot->evicted_count);
    go_on(engine);
}

/* Those who wait go on when the disk is gone: hot_extents_forget. */
void hot_extents_give_up(struct core_engine *engine)
{
    struct hot_extents *hot = &engine->hot;
    hot->busy = hot->prepared = false;
    facts_done(engine, hot->retire_token, -ETIMEDOUT);
    hot->retire_token = 0;
}

void hot_extents_forget(struct core_engine *engine)
{
    struct hot_extents *hot = &engine->hot;
    hot->busy = hot->prepared = hot->starved = false;
    if (hot->retire_token != 0)
        facts_done(engine, hot->retire_token, -ENODEV);
    hot->retire_token = 0;
    /* The next disk has a log of its own: nobody holds a reference in it. */
    for (uint32_t i = 0; i < engine->requests.count; i++)
        engine->requests.requests[i].flags = (uint16_t)(engine->requests.requests[i].flags & ~(unsigned)REQUEST_HOT);
    transfer_log_forget_extents(&engine->peer.log);
    struct request *request;
    while ((request = request_queue_take(&hot->waiting)) != NULL)
        request_queue_put(&engine->held, request); /* engine_release_held follows */
}
