/* hanging.c - see hanging.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "hanging.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "engine.h"

#define MS 1000000ull
#define LOOKS_PER_TIMEOUT 8u

/* --- when
 * ------------------------------------------------------------------------------------------------------------------ */

static uint64_t look_every_ns(const struct disk *disk)
{
    return disk->config.timeout_ms * MS / LOOKS_PER_TIMEOUT;
}

static bool is_watched(const struct disk *disk)
{
    return (disk->attached || disk->detaching) && disk->config.timeout_ms != 0 && disk->in_flight > 0;
}

uint64_t hanging_deadline_ns(const struct core_engine *engine)
{
    const struct disk *disk = &engine->disk;
    return is_watched(disk) ? disk->looked_ns + look_every_ns(disk) : UINT64_MAX;
}

void hanging_tick(struct core_engine *engine)
{
    struct disk *disk = &engine->disk;
    uint64_t now = io_now_ns(engine->io);
    if (!is_watched(disk) || now - disk->looked_ns < look_every_ns(disk))
        return;
    disk->looked_ns = now;
    uint64_t since = disk->others > 0 ? disk->others_since_ns : now;
    for (uint32_t i = 0; i < engine->requests.count; i++) {
        const struct request *request = &engine->requests.requests[i];
        if (request->disk_since_ns != 0 && request->disk_since_ns < since)
            since = request->disk_since_ns;
    }
    if (now - since >= disk->config.timeout_ms * MS)
        hanging_give_up(engine);
}

/* --- giving up
 * ------------------------------------------------------------------------------------------------------------- */

/* The peer's data must not go where the disk may still write: the whole read moves to other memory.  What other parts
 * have read is copied; what is read later comes by hanging_read_done. */
static bool move_read(struct request *request)
{
    struct upper *upper = request->upper;
    struct nbd_request *nbd = upper->nbd;
    if (upper->fresh == NULL) {
        upper->fresh = pool_get(request->engine->pool, (uint32_t)nbd->length_bytes);
        if (upper->fresh == NULL)
            return false;
        memcpy(upper->fresh, nbd->payload, nbd->length_bytes);
    }
    request->buffer = upper->fresh + (request->buffer - (uint8_t *)nbd->payload);
    return true;
}

static void give_up(struct request *request)
{
    request->disk_since_ns = 0;
    request->flags |= REQUEST_HANGING;
    if ((request->flags & REQUEST_BORROWED) != 0 && request->buffer != NULL) {
        request->payload = request->upper->nbd->payload;
        request->payload_bytes = (uint32_t)request->upper->nbd->length_bytes;
        request->payload_released = false;
        if (request->kind == REQUEST_READ && !move_read(request))
            request->flags |= REQUEST_PEER_FAILED; /* no memory for another try: it fails */
    }
    request_leg_done(request, LEG_LOCAL, -ETIMEDOUT);
}

void hanging_give_up(struct core_engine *engine)
{
    struct disk *disk = &engine->disk;
    if (disk->hanging > 0 || disk->in_flight == 0)
        return;
    disk->hanging = disk->in_flight;
    disk->in_flight = disk->others = 0;
    disk_failed(engine, CORE_DISK_TIMEOUT, 0, -ETIMEDOUT); /* first: nothing begins on it any more */
    hot_extents_give_up(engine);
    bitmap_pages_give_up(engine);
    flush_give_up(engine);
    peer_epochs_give_up(&engine->peer);
    for (uint32_t i = 0; i < engine->requests.count; i++)
        if (engine->requests.requests[i].disk_since_ns != 0)
            give_up(&engine->requests.requests[i]);
    disk_finish_detach(engine);
}

/* --- the end, however late
 * ------------------------------------------------------------------------------------------------- */

static void one_less(struct core_engine *engine)
{
    struct disk *disk = &engine->disk;
    assert(disk->hanging > 0);
    if (--disk->hanging == 0 && !disk->attached && !disk->detaching)
        disk_close(engine);
}

bool hanging_ended(struct core_engine *engine)
{
    if (engine->disk.hanging == 0)
        return false;
    one_less(engine);
    return true;
}

static bool is_last_of(const struct core_engine *engine, const void *payload)
{
    for (uint32_t i = 0; i < engine->requests.count; i++)
        if (engine->requests.requests[i].payload == payload)
            return false;
    return true;
}

bool hanging_request_ended(struct request *request)
{
    struct core_engine *engine = request->engine;
    if ((request->flags & REQUEST_HANGING) == 0)
        return false;
    request->flags = (uint16_t)(request->flags & ~(unsigned)REQUEST_HANGING);
    void *payload = request->payload;
    request->payload = NULL;
    if (payload != NULL && request->payload_released && is_last_of(engine, payload))
        pool_put(engine->pool, payload, request->payload_bytes);
    if ((request->flags & REQUEST_OVER) != 0)
        request_give_back(request);
    one_less(engine);
    return true;
}

/* --- payloads of applications
 * ---------------------------------------------------------------------------------------------- */

bool hanging_keeps(struct core_engine *engine, const void *payload)
{
    bool kept = false;
    if (engine->disk.hanging == 0)
        return false;
    for (uint32_t i = 0; i < engine->requests.count; i++) {
        struct request *request = &engine->requests.requests[i];
        if (request->payload != payload)
            continue;
        request->payload_released = kept = true;
    }
    return kept;
}

void hanging_read_done(struct request *request)
{
    struct upper *upper = request->upper;
    if (upper->fresh == NULL)
        return;
    uint8_t *there = upper->fresh + ((request->sector << 9) - upper->nbd->offset_bytes);
    if (there != request->buffer)
        memcpy(there, request->buffer, (size_t)request->sectors << 9);
}

void hanging_before_reply(struct upper *upper)
{
    struct core_engine *engine = upper->engine;
    struct nbd_request *nbd = upper->nbd;
    if (upper->fresh == NULL)
        return;
    void *old = nbd->payload;
    nbd->payload = upper->fresh;
    upper->fresh = NULL;
    if (!hanging_keeps(engine, old))
        pool_put(engine->pool, old, (uint32_t)nbd->length_bytes);
}
