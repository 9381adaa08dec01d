/* resync.c - what both ends of a resync share: start, stop, what came in sync, saving progress.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "resync.h"

#include <string.h>

#include "bitmap.h"
#include "engine.h"

#define NS_PER_S 1000000000ull
#define SECTORS_PER_KIB 2ull

void resync_pace_begin(struct core_engine *engine)
{
    struct resync *resync = &engine->resync;
    resync->budget_sectors = 0;
    resync->budget_ns = resync->saved_ns = io_now_ns(engine->io);
    engine->counters.resync_sectors = engine->counters.resync_same_sectors = 0;
    engine->counters.resync_thin_sectors = 0;
}

/* Blocks come at an even pace: no more is saved up than may be in flight, or than a short while brings. */
static int64_t budget_most(const struct resync *resync)
{
    int64_t most = (int64_t)(resync->rate_kib_s * SECTORS_PER_KIB * RESYNC_BURST_NS / NS_PER_S);
    if (most > resync->window_sectors)
        most = resync->window_sectors;
    return most > 0 ? most : 1;
}

void resync_pace_refill(struct core_engine *engine)
{
    struct resync *resync = &engine->resync;
    uint64_t per_s = resync->rate_kib_s * SECTORS_PER_KIB;
    uint64_t now = io_now_ns(engine->io);
    uint64_t elapsed = now - resync->budget_ns;
    if (elapsed > RESYNC_ELAPSED_NS_MAX)
        elapsed = RESYNC_ELAPSED_NS_MAX;
    uint64_t more = per_s * elapsed / NS_PER_S;
    if (more == 0)
        return;
    resync->budget_ns = now - (elapsed - more * NS_PER_S / per_s); /* parts of a sector count later */
    resync->budget_sectors += (int64_t)more;                       /* what was used too much is owed */
    if (resync->budget_sectors > budget_most(resync))
        resync->budget_sectors = budget_most(resync);
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
    if (asks && resync->rate_kib_s != 0 && resync->budget_sectors <= 0) {
        uint64_t owed = (uint64_t)(1 - resync->budget_sectors);
        uint64_t refill = resync->budget_ns + owed * NS_PER_S / (resync->rate_kib_s * SECTORS_PER_KIB) + 1;
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
