/* disk.c - see disk.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "disk.h"

#include <assert.h>
#include <errno.h>

#include "activity_log.h"
#include "bitmap.h"
#include "container.h"
#include "engine.h"

static uint64_t offset_bytes(const struct request *request)
{
    return request->sector << 9;
}

bool disk_is_usable(const struct disk *disk)
{
    return disk->attached && !disk->failed && !disk->detaching;
}

bool disk_has_metadata(const struct disk *disk)
{
    return disk->attached && !disk->grave && !disk->detaching;
}

static int build(struct core_engine *engine, const struct core_disk *config)
{
    struct disk *disk = &engine->disk;
    if (config->md_fd < 0)
        return 0;
    int rc = bitmap_new(config->size_sectors, &disk->bitmap);
    if (rc == 0 && bitmap_pages(disk->bitmap) * BITMAP_PAGE_BYTES > config->bm_bytes)
        rc = -ENOSPC;
    if (rc == 0 && config->al_extents > 0) {
        struct activity_log_geometry geometry = {.extents = config->al_extents,
                                                 .blocks = config->al_blocks,
                                                 .stripes = config->al_stripes,
                                                 .stripe_size_4k = config->al_stripe_size_4k,
                                                 .sequence = config->al_sequence};
        rc = activity_log_new(&geometry, &disk->log);
    }
    if (rc == 0)
        rc = io_disk_add(engine->io, config->md_fd);
    return rc;
}

int disk_attach(struct core_engine *engine, const struct core_disk *config)
{
    struct disk *disk = &engine->disk;
    int rc = disk->attached || disk->detaching || disk->hanging > 0 ? -EBUSY : 0;
    if (rc == 0)
        rc = build(engine, config);
    if (rc == 0)
        rc = io_disk_add(engine->io, config->data_fd);
    if (rc < 0) {
        if (!disk->attached && !disk->detaching && disk->hanging == 0)
            disk_free(engine);
        io_close(engine->io, config->data_fd);
        if (config->md_fd >= 0)
            io_close(engine->io, config->md_fd);
        return rc;
    }
    disk->config = *config;
    io_disks_may_hang(engine->io, config->timeout_ms != 0);
    disk->size_sectors = config->size_sectors;
    disk->attached = true;
    disk->failed = disk->grave = false;
    disk->looked_ns = io_now_ns(engine->io);
    return 0;
}

void disk_close(struct core_engine *engine)
{
    struct disk *disk = &engine->disk;
    io_disk_remove(engine->io, disk->config.data_fd);
    io_close(engine->io, disk->config.data_fd);
    if (disk->config.md_fd >= 0) {
        io_disk_remove(engine->io, disk->config.md_fd);
        io_close(engine->io, disk->config.md_fd);
    }
}

void disk_free(struct core_engine *engine)
{
    struct disk *disk = &engine->disk;
    if ((disk->attached || disk->detaching) && disk->hanging == 0)
        disk_close(engine);
    bitmap_free(disk->bitmap);
    activity_log_free(disk->log);
    disk->bitmap = NULL;
    disk->log = NULL;
    disk->attached = disk->detaching = disk->failed = disk->grave = false;
    disk->md_held = false;
}

/* Writes that met the failure: they live on their other leg, or fail. */
static void settle_failed(struct core_engine *engine)
{
    struct request *request;
    while ((request = request_queue_take(&engine->disk.failed_requests)) != NULL)
        request_leg_done(request, LEG_HELD, 0);
}

void disk_finish_detach(struct core_engine *engine)
{
    struct disk *disk = &engine->disk;
    if (!disk->detaching || disk->in_flight > 0)
        return;
    uint64_t token = disk->detach_token;
    disk->detach_token = 0;
    hot_extents_forget(engine);
    metadata_hold_forget(engine);
    disk_free(engine);
    settle_failed(engine);
    flush_disk_gone(engine);
    engine_release_held(engine);
    facts_done(engine, token, 0);
}

void disk_detach(struct core_engine *engine, uint64_t token)
{
    struct disk *disk = &engine->disk;
    if (!disk->attached) {
        facts_done(engine, token, -ENODEV);
        return;
    }
    disk->detaching = true;
    disk->attached = false;
    disk->detach_token = token;
    resync_stop(engine, 0);
    verify_stop(engine, 0);
    mend_forget(engine);
    disk_finish_detach(engine);
}

void disk_keep(struct core_engine *engine)
{
    struct disk *disk = &engine->disk;
    if (!disk->attached || !disk->failed || disk->grave)
        return;
    disk->failed = false;
    for (struct request *request = disk->failed_requests.first; request != NULL; request = request->next)
        if (disk->bitmap != NULL)
            bitmap_set(disk->bitmap, request->sector, request->sectors);
    settle_failed(engine);
    flush_disk_kept(engine);
    engine_release_held(engine);
}

void disk_begin(struct core_engine *engine)
{
    struct disk *disk = &engine->disk;
    disk->in_flight++;
    if (disk->others++ == 0)
        disk->others_since_ns = io_now_ns(engine->io);
}

void disk_end(struct core_engine *engine)
{
    struct disk *disk = &engine->disk;
    assert(disk->in_flight > 0 && disk->others > 0);
    disk->in_flight--;
    disk->others--;
    disk->others_since_ns = io_now_ns(engine->io);
    disk_finish_detach(engine);
}

static void begin(struct request *request)
{
    request->engine->disk.in_flight++;
    request->disk_since_ns = io_now_ns(request->engine->io);
}

/* The leg is done before the operation is counted out: a detach that waits for the last one finds it dealt with. */
void disk_request_end(struct core_engine *engine)
{
    assert(engine->disk.in_flight > 0);
    engine->disk.in_flight--;
    disk_finish_detach(engine);
}

bool disk_request_over(struct request *request)
{
    if (hanging_request_ended(request))
        return false;
    request->disk_since_ns = 0;
    return true;
}

void disk_failed(struct core_engine *engine, enum core_disk_op op, uint64_t sector, int32_t result)
{
    struct disk *disk = &engine->disk;
    bool grave = op != CORE_DISK_READ && op != CORE_DISK_WRITE;
    if (!disk->attached || disk->grave || (disk->failed && !grave))
        return;
    disk->failed = true;
    disk->grave = grave;
    facts_simple(engine, CORE_FACT_DISK_FAILED, result, sector, op);
}

enum core_disk_op disk_op_of(const struct request *request)
{
    return (request->flags & REQUEST_FUA) != 0 ? CORE_DISK_FLUSH : CORE_DISK_WRITE;
}

static void done(struct io_op *op, int32_t result)
{
    struct request *request = CONTAINER_OF(op, struct request, io);
    struct core_engine *engine = request->engine;
    if (!disk_request_over(request))
        return;
    request_leg_done(request, LEG_LOCAL, result < 0 ? result : 0);
    disk_request_end(engine);
}

void disk_read(struct request *request)
{
    struct core_engine *engine = request->engine;
    request->io.done = done;
    begin(request);
    engine->counters.read_sectors += request->sectors;
    io_read(engine->io, &request->io, engine->disk.config.data_fd, request->buffer, request->sectors << 9,
            offset_bytes(request));
}

void disk_write(struct request *request)
{
    struct core_engine *engine = request->engine;
    request->io.done = done;
    begin(request);
    engine->counters.written_sectors += request->sectors;
    io_write(engine->io, &request->io, engine->disk.config.data_fd, request->buffer, request->sectors << 9,
             offset_bytes(request), (request->flags & REQUEST_FUA) != 0);
}

/* The file or device can't be told to: zeroes are written, a buffer of them at a time. */
static void write_zeroes(struct io_op *op, int32_t result)
{
    struct request *request = CONTAINER_OF(op, struct request, io);
    struct core_engine *engine = request->engine;
    uint32_t left = request->sectors - request->done_sectors;
    if (result < 0 || left == 0 || (request->flags & REQUEST_HANGING) != 0) {
        done(op, result);
        return;
    }
    uint64_t sector = request->sector + request->done_sectors;
    uint32_t sectors = left < ENGINE_ZEROES_BYTES >> 9 ? left : ENGINE_ZEROES_BYTES >> 9;
    request->done_sectors += sectors;
    request->io.done = write_zeroes;
    io_write(engine->io, &request->io, engine->disk.config.data_fd, engine->zeroes, sectors << 9, sector << 9,
             (request->flags & REQUEST_FUA) != 0);
}

static void zeroed(struct io_op *op, int32_t result)
{
    if (result == -EOPNOTSUPP || result == -ENOSYS || result == -EINVAL)
        write_zeroes(op, 0);
    else
        done(op, result);
}

void disk_flush_for(struct request *request, io_done over)
{
    request->io.done = over;
    begin(request);
    io_flush(request->engine->io, &request->io, request->engine->disk.config.data_fd);
}

void disk_zero(struct request *request)
{
    struct core_engine *engine = request->engine;
    request->io.done = zeroed;
    request->done_sectors = 0;
    begin(request);
    engine->counters.written_sectors += request->sectors;
    io_zero(engine->io, &request->io, engine->disk.config.data_fd, offset_bytes(request),
            (uint64_t)request->sectors << 9, (request->flags & REQUEST_PUNCH) != 0);
}
