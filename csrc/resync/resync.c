/* resync.c - what both ends of a resync share: start, stop, what came in sync, saving progress.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "resync.h"

#include <string.h>

#include "bitmap.h"
#include "engine.h"

void resync_pace_begin(struct core_engine *engine)
{
    struct resync *resync = &engine->resync;
    resync->budget_sectors = 0;
    resync->budget_ns = resync->saved_ns = io_now_ns(engine->io);
    engine->counters.resync_sectors = engine->counters.resync_same_sectors = 0;
    engine->counters.resync_thin_sectors = 0;
}

void resync_pace_refill(struct core_engine *engine)
{
    struct resync *resync = &engine->resync;
    uint64_t now = io_now_ns(engine->io);
    uint64_t elapsed = now - resync->budget_ns;
    if (elapsed < RESYNC_REFILL_NS)
        return;
    if (elapsed > 10 * RESYNC_REFILL_NS)
        elapsed = 10 * RESYNC_REFILL_NS; /* a long pause is not caught up with */
    int64_t more = (int64_t)(resync->rate_kib_s * 2ull * elapsed / 1000000000ull);
    if (more == 0)
        return;
    /* What was not used is lost, what was used too much is owed. */
    resync->budget_sectors = resync->budget_sectors < 0 ? resync->budget_sectors + more : more;
    resync->budget_ns = now;
}

void resync_start(struct core_engine *engine, enum core_resync end)
{
    struct resync *resync = &engine->resync;
    resync->active = true;
    resync->target = end != CORE_RESYNC_SOURCE;
    resync->by_checksums = end == CORE_RESYNC_TARGET_BY_CHECKSUMS && engine->peer.config.csums_alg != CORE_DIGEST_NONE;
    resync->compared_bits = resync->equal_bits = resync->thin_bits = 0;
    resync->finishing = false;
    resync->cursor_bit = 0;
    resync->failed_bits = 0;
    resync->cleared_this_pass = 0;
    resync->draining = resync->in_flight > 0;
    resync_pace_begin(engine);
}

/* Asked for, and no reply yet: it may lie behind the packet for whose sake the resync stops. */
static bool awaits_reply(const struct request *request)
{
    return request->kind == RESYNC_FETCH && (request->flags & REQUEST_HAS_PLACE) != 0 && (request->legs & LEG_ACK) != 0;
}

static void answer_stop(struct core_engine *engine)
{
    struct resync *resync = &engine->resync;
    if (resync->stop_token == 0)
        return;
    uint32_t awaiting = 0;
    for (uint32_t i = 0; resync->in_flight > 0 && i < engine->requests.count; i++)
        awaiting += awaits_reply(&engine->requests.requests[i]);
    if (resync->in_flight > awaiting)
        return;
    facts_done(engine, resync->stop_token, 0);
    resync->stop_token = 0;
}

void resync_stop(struct core_engine *engine, uint64_t token)
{
    engine->resync.active = false;
    engine->resync.finishing = false;
    if (token != 0)
        engine->resync.stop_token = token;
    answer_stop(engine);
}

void resync_in_sync(struct core_engine *engine, uint64_t sector, uint64_t sectors)
{
    if (engine->disk.bitmap == NULL)
        return;
    uint64_t bits = bitmap_clear(engine->disk.bitmap, sector, sectors);
    engine->counters.resync_sectors += bits * 8;
    engine->resync.cleared_this_pass += bits;
}

void resync_request_over(struct request *request)
{
    struct core_engine *engine = request->engine;
    engine->resync.in_flight--;
    engine->resync.in_flight_sectors -= request->sectors;
    request_end(request);
    answer_stop(engine);
}

/* A fetch that waits for its reply never gets one.  Those whose block is being read or written end by themselves,
 * unanswered.
 */
void resync_peer_lost(struct core_engine *engine)
{
    struct resync *resync = &engine->resync;
    resync->active = false;
    resync->finishing = false;
    resync_source_peer_lost(engine);
    for (uint32_t i = 0; i < engine->requests.count; i++) {
        struct request *request = &engine->requests.requests[i];
        if (request->kind != RESYNC_FETCH || (request->flags & REQUEST_HAS_PLACE) == 0)
            continue;
        request->flags |= REQUEST_ABANDONED;
        bool writing = (request->flags & REQUEST_HAS_WRITE_PLACE) != 0;
        bool waiting = request->place.blockers > 0;      /* its turn comes, and then it sees that it is abandoned */
        bool reading = (request->legs & LEG_LOCAL) != 0; /* for its checksum */
        if (writing || waiting || reading)
            continue;
        request->legs = 0;
        resync_request_over(request);
    }
}

static void saved(struct core_engine *engine, int32_t result)
{
    (void)result; /* a failure was told as the disk's */
    engine->resync.saved_ns = io_now_ns(engine->io);
}

void resync_save_progress(struct core_engine *engine)
{
    struct resync *resync = &engine->resync;
    if (io_now_ns(engine->io) - resync->saved_ns < RESYNC_SAVE_NS || resync->finishing)
        return;
    resync->saved_ns = io_now_ns(engine->io);
    bitmap_pages_sweep(engine, 0, saved);
}

void resync_pump(struct core_engine *engine)
{
    struct resync *resync = &engine->resync;
    if (!resync->active || engine->disk.bitmap == NULL || !peer_is_up(&engine->peer))
        return;
    resync_save_progress(engine);
    /* What was asked for before a pause comes first: a block asked for twice would get its second reply while the first
     * is being written. */
    resync->draining = resync->draining && resync->in_flight > 0;
    if (resync->target && !resync->draining)
        resync_target_pump(engine);
}

uint64_t resync_pace_deadline_ns(const struct core_engine *engine, bool asks)
{
    const struct resync *resync = &engine->resync;
    uint64_t deadline = resync->saved_ns + RESYNC_SAVE_NS;
    if (asks && resync->rate_kib_s != 0) {
        uint64_t refill = resync->budget_ns + RESYNC_REFILL_NS;
        deadline = refill < deadline ? refill : deadline;
    }
    return deadline;
}

uint64_t resync_deadline_ns(const struct core_engine *engine)
{
    const struct resync *resync = &engine->resync;
    if (!resync->active)
        return UINT64_MAX;
    return resync_pace_deadline_ns(engine, resync->target && !resync->finishing);
}

struct request *resync_request_new(struct core_engine *engine, enum request_kind kind, uint64_t sector,
                                   uint32_t sectors)
{
    uint32_t bytes = sectors << 9;
    void *buffer = pool_get(engine->pool, bytes);
    struct request *request = buffer != NULL ? request_new(engine, kind, sector, sectors) : NULL;
    if (request == NULL) {
        if (buffer != NULL)
            pool_put(engine->pool, buffer, bytes);
        return NULL;
    }
    request->buffer = buffer;
    request->length_bytes = bytes;
    request->block_id = PACKET_ID_SYNCER;
    engine->peer.pages_held += (bytes + 4095u) / 4096u;
    return request;
}
