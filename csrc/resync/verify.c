/* verify.c - what both ends of an online verify share: beginning, end, what was found.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "verify.h"

#include <errno.h>

#include "bitmap.h"
#include "checksum.h"
#include "engine.h"

static void tell_done(struct core_engine *engine, int32_t result)
{
    struct verify *verify = &engine->verify;
    uint64_t position = verify->source ? verify_position(engine) : 0;
    facts_simple(engine, CORE_FACT_VERIFY_DONE, result, verify->found_bits, position);
}

static int32_t refusal(const struct core_engine *engine)
{
    if (engine->disk.bitmap == NULL || !disk_is_usable(&engine->disk))
        return -ENODEV;
    if (!peer_is_up(&engine->peer))
        return -ENOTCONN;
    return engine->peer.config.verify_alg != CORE_DIGEST_NONE ? 0 : -EOPNOTSUPP;
}

void verify_start(struct core_engine *engine, bool source, uint64_t start_sector, uint64_t stop_sector)
{
    struct verify *verify = &engine->verify;
    uint64_t size = engine->disk.size_sectors;
    uint32_t in_flight = verify->in_flight; /* of one that was stopped: still reading */
    uint64_t token = verify->stop_token;
    uint64_t last = size > 0 ? (size - 1) / VERIFY_BLOCK_SECTORS * VERIFY_BLOCK_SECTORS : 0;
    start_sector -= start_sector % VERIFY_BLOCK_SECTORS;
    *verify = (struct verify){.source = source,
                              .seen = true,
                              .stop_token = token,
                              .in_flight = in_flight,
                              .cursor_sector = start_sector < last ? start_sector : last,
                              .stop_sector = stop_sector < size ? stop_sector : size,
                              .refused_sector = UINT64_MAX};
    int32_t rc = refusal(engine);
    if (rc < 0) {
        tell_done(engine, rc);
        return;
    }
    verify->active = true;
    resync_pace_begin(engine);
}

void verify_until(struct core_engine *engine, uint64_t stop_sector)
{
    if (stop_sector < engine->verify.stop_sector)
        engine->verify.stop_sector = stop_sector;
}

static void answer_stop(struct core_engine *engine)
{
    struct verify *verify = &engine->verify;
    if (verify->in_flight > 0 || verify->stop_token == 0)
        return;
    facts_done(engine, verify->stop_token, 0);
    verify->stop_token = 0;
}

static void tell_range(struct core_engine *engine)
{
    struct verify *verify = &engine->verify;
    /* The log is for people, the bitmap is what counts: one that differs everywhere must not drown the control plane.
     */
    if (verify->range_sectors > 0 && verify->ranges_told < VERIFY_RANGES_TOLD && facts_have_room(engine)) {
        facts_simple(engine, CORE_FACT_OUT_OF_SYNC, 0, verify->range_sector, verify->range_sectors);
        verify->ranges_told++;
    }
    verify->range_sectors = 0;
}

static void end_early(struct core_engine *engine)
{
    struct verify *verify = &engine->verify;
    if (!verify->active)
        return;
    tell_range(engine);
    tell_done(engine, -ECANCELED); /* before the blocks in flight are given up: its position counts them */
    verify->active = verify->finishing = false;
}

void verify_stop(struct core_engine *engine, uint64_t token)
{
    end_early(engine);
    verify_abandon(engine);
    if (token != 0)
        engine->verify.stop_token = token;
    answer_stop(engine);
}

void verify_peer_lost(struct core_engine *engine)
{
    verify_stop(engine, 0);
    engine->verify.seen = false;
}

void verify_request_over(struct request *request)
{
    struct core_engine *engine = request->engine;
    engine->verify.in_flight--;
    request_end(request);
    answer_stop(engine);
}

void verify_compared(struct core_engine *engine, uint64_t sector, uint32_t sectors, bool equal)
{
    struct verify *verify = &engine->verify;
    engine->counters.resync_sectors += sectors;
    if (verify->range_sectors > 0 && (equal || verify->range_sector + verify->range_sectors != sector))
        tell_range(engine);
    if (equal)
        return;
    bitmap_set(engine->disk.bitmap, sector, sectors);
    verify->found_bits += (sectors + VERIFY_BLOCK_SECTORS - 1) / VERIFY_BLOCK_SECTORS;
    if (verify->range_sectors == 0)
        verify->range_sector = sector;
    verify->range_sectors += sectors;
}

static void finished(struct core_engine *engine, int32_t result)
{
    struct verify *verify = &engine->verify;
    if (!verify->finishing || !verify->active || result < 0)
        return; /* a failure was told as the disk's */
    verify->active = verify->finishing = false;
    tell_done(engine, verify->refused_sector == UINT64_MAX ? 0 : -EIO);
}

void verify_finish(struct core_engine *engine)
{
    tell_range(engine);
    engine->verify.finishing = true;
    bitmap_pages_sweep(engine, 0, finished); /* what was found must outlive a crash before anybody hears of the end */
}

void verify_pump(struct core_engine *engine)
{
    struct verify *verify = &engine->verify;
    if (!verify->active || verify->finishing || engine->disk.bitmap == NULL || !peer_is_up(&engine->peer))
        return;
    resync_save_progress(engine);
    if (verify->source)
        verify_ask(engine);
    else if (verify->placed && verify->left_sectors == 0)
        verify_finish(engine);
}

uint64_t verify_deadline_ns(const struct core_engine *engine)
{
    const struct verify *verify = &engine->verify;
    if (!verify->active || verify->finishing)
        return UINT64_MAX;
    return resync_pace_deadline_ns(engine, verify->source);
}

uint64_t verify_left_sectors(const struct core_engine *engine)
{
    const struct verify *verify = &engine->verify;
    if (!verify->active)
        return 0;
    if (!verify->source) /* where it begins is not known before the first question */
        return verify->placed ? verify->left_sectors : engine->disk.size_sectors;
    uint64_t ahead = verify->stop_sector > verify->cursor_sector ? verify->stop_sector - verify->cursor_sector : 0;
    return ahead + (uint64_t)verify->in_flight * VERIFY_BLOCK_SECTORS;
}

uint64_t verify_waits_since_ns(const struct core_engine *engine)
{
    return engine->verify.asked > 0 ? engine->verify.answered_ns : 0;
}
