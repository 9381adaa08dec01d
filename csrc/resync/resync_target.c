/* resync_target.c - we ask for blocks that are out of sync, write what comes, and say so.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A block takes its place (RS_FETCH) before it is asked for and keeps it until it is written: an application's write to
 * it waits.  The reply takes a second place (RS_WRITE) when it arrives, behind whatever the peer wrote to the block
 * before it in the stream.  Its bit is clear in memory when the disk has the block; on disk only after a flush
 * (bitmap_pages.h).
 *
 * By checksums the block is read first, and its digest goes with the question; the answer may be RS_IS_IN_SYNC then.  A
 * write of the peer that comes between reading and answer does no harm: it was sent either before the source looked, so
 * that the source has compared with it, or after, and then it makes both the same again.
 *
 * Thinly (THIN_RESYNC agreed on, rs-discard-granularity set) whole aligned areas of that size are asked for by
 * RS_THIN_REQ; where the source has only zeroes the answer is RS_DEALLOCATED, and the area is discarded here, or zeroes
 * are written where the disk can't: what is read afterwards is the same. */
#include <assert.h>
#include <errno.h>

#include "bitmap.h"
#include "checksum.h"
#include "container.h"
#include "engine.h"

#define SECTORS_PER_BIT 8u

static bool may_ask(const struct request *request)
{
    const struct core_engine *engine = request->engine;
    return (request->flags & REQUEST_ABANDONED) == 0 && engine->resync.active && peer_is_up(&engine->peer);
}

static void ask_for_data(struct request *request)
{
    bool thinly = (request->flags & REQUEST_PUNCH) != 0;
    request->legs = LEG_ACK;
    peer_send_block_request(&request->engine->peer, thinly ? P_RS_THIN_REQ : P_RS_DATA_REQUEST, request->sector,
                            PACKET_ID_SYNCER, request->sectors << 9);
}

static void ask(struct request *request)
{
    struct core_engine *engine = request->engine;
    if (!may_ask(request) || (engine->resync.by_checksums && !disk_is_usable(&engine->disk))) {
        resync_request_over(request);
    } else if (engine->resync.by_checksums) {
        request->legs = LEG_LOCAL;
        disk_read(request);
    } else {
        ask_for_data(request);
    }
}

static uint64_t bits_of(uint32_t sectors)
{
    return (sectors + SECTORS_PER_BIT - 1) / SECTORS_PER_BIT;
}

static void ask_by_checksum(struct request *request)
{
    struct core_engine *engine = request->engine;
    uint32_t algorithm = engine->peer.config.csums_alg;
    uint8_t digest[CHECKSUM_BYTES_MAX];
    if (!may_ask(request) || !disk_is_usable(&engine->disk)) {
        resync_request_over(request);
        return;
    }
    if (request->result < 0) { /* it is going to be written: a disk that takes it can read it again */
        ask_for_data(request);
        return;
    }
    checksum_of(engine->checksums, algorithm, request->buffer, request->sectors << 9, digest);
    engine->resync.compared_bits += bits_of(request->sectors);
    request->legs = LEG_ACK;
    peer_send_digest(&engine->peer, P_CSUM_RS_REQUEST, request, digest, checksum_bytes(algorithm));
}

static void place_free(struct place *place)
{
    ask(CONTAINER_OF(place, struct request, place));
}

/* The size of an area that is asked for thinly; 0: none is. */
static uint64_t area_bits(const struct core_engine *engine)
{
    bool agreed = (engine->peer.config.features & FEATURE_THIN_RESYNC) != 0;
    return agreed && !engine->resync.by_checksums ? engine->disk.config.rs_discard_sectors / SECTORS_PER_BIT : 0;
}

static bool fetch(struct core_engine *engine, uint64_t bit, uint64_t bits)
{
    uint64_t area = area_bits(engine);
    uint64_t sector = bit * SECTORS_PER_BIT;
    uint64_t sectors = bits * SECTORS_PER_BIT;
    if (sectors > engine->disk.size_sectors - sector)
        sectors = engine->disk.size_sectors - sector;
    struct request *request = resync_request_new(engine, RESYNC_FETCH, sector, (uint32_t)sectors);
    if (request == NULL)
        return false;
    engine->resync.in_flight++;
    engine->resync.in_flight_sectors += request->sectors;
    if (area > 0 && bit % area == 0 && sectors == area * SECTORS_PER_BIT)
        request->flags |= REQUEST_PUNCH;
    request->flags |= REQUEST_HAS_PLACE;
    request->place.go = place_free;
    if (ordering_enter(&engine->ordering, &request->place, ORDER_RS_FETCH, sector, sectors))
        ask(request);
    return true;
}

static void finished(struct core_engine *engine, int32_t result)
{
    struct resync *resync = &engine->resync;
    if (!resync->finishing || !resync->active || result < 0)
        return;
    resync->active = false;
    resync->finishing = false;
    bool compared = resync->compared_bits > 0;
    int32_t percent = compared ? (int32_t)(resync->equal_bits * 100 / resync->compared_bits) : -1;
    facts_simple(engine, CORE_FACT_RESYNC_DONE, percent, bitmap_count(engine->disk.bitmap),
                 compared ? resync->equal_bits : resync->thin_bits);
}

/* At the end of the map: around again while that helps, else done. */
static bool pass_over(struct core_engine *engine)
{
    struct resync *resync = &engine->resync;
    uint64_t left = bitmap_count(engine->disk.bitmap);
    if (resync->in_flight > 0)
        return true;
    if (left > 0 && (left > resync->failed_bits || resync->cleared_this_pass > 0)) {
        resync->cursor_bit = 0;
        resync->failed_bits = 0;
        resync->cleared_this_pass = 0;
        return false;
    }
    resync->finishing = true;
    bitmap_pages_sweep(engine, 0, finished); /* flushes the data first */
    return true;
}

/* Small blocks where little may be in flight: an application's request waits behind one at most.  Small ones by
 * checksums, too: one byte that differs costs a whole block. */
static uint32_t block_bits(const struct resync *resync)
{
    uint32_t sectors = resync->window_sectors / 4;
    if (sectors > RESYNC_BLOCK_SECTORS)
        sectors = RESYNC_BLOCK_SECTORS;
    if (resync->by_checksums || sectors < RESYNC_BLOCK_SECTORS_MIN)
        sectors = RESYNC_BLOCK_SECTORS_MIN;
    return sectors / SECTORS_PER_BIT;
}

/* How much is asked for at once from this bit on.  Thinly: a whole area, or no more than is left of this one. */
static uint64_t run_from(const struct core_engine *engine, uint64_t bit)
{
    uint64_t most = block_bits(&engine->resync);
    uint64_t area = area_bits(engine);
    if (area == 0)
        return bitmap_run(engine->disk.bitmap, bit, most);
    uint64_t bits = bitmap_run(engine->disk.bitmap, bit, area - bit % area);
    return bits == area || bits < most ? bits : most;
}

/* Half of the slots at most, where single blocks are scattered: applications' requests need them, too. */
static bool may_ask_more(const struct core_engine *engine)
{
    const struct resync *resync = &engine->resync;
    return resync->in_flight_sectors < resync->window_sectors && resync->in_flight < engine->requests.count / 2 &&
           outbox_has_room(&engine->peer.data_out);
}

void resync_target_pump(struct core_engine *engine)
{
    struct resync *resync = &engine->resync;
    if (resync->finishing)
        return;
    resync_pace_refill(engine);
    while (may_ask_more(engine)) {
        if (resync->rate_kib_s != 0 && resync->budget_sectors <= 0)
            return;
        uint64_t bit = bitmap_next(engine->disk.bitmap, resync->cursor_bit);
        if (bit == BITMAP_NONE) {
            if (pass_over(engine))
                return;
            continue;
        }
        uint64_t bits = run_from(engine, bit);
        if (!fetch(engine, bit, bits))
            return;
        resync->cursor_bit = bit + bits;
        resync->budget_sectors -= (int64_t)(bits * SECTORS_PER_BIT);
    }
}

static void write_place_free(struct place *place)
{
    struct request *request = CONTAINER_OF(place, struct request, write_place);
    struct core_engine *engine = request->engine;
    if (!disk_is_usable(&engine->disk)) {
        request->result = -EIO;
        resync_fetch_done(request);
        return;
    }
    request->legs = LEG_LOCAL;
    if ((request->flags & REQUEST_PUNCH) != 0)
        disk_zero(request);
    else
        disk_write(request);
}

void resync_fetch_arrived(struct request *request)
{
    request->flags |= REQUEST_HAS_WRITE_PLACE;
    request->write_place.go = write_place_free;
    if (ordering_enter(&request->engine->ordering, &request->write_place, ORDER_RS_WRITE, request->sector,
                       request->sectors))
        write_place_free(&request->write_place);
}

void resync_fetch_done(struct request *request)
{
    struct core_engine *engine = request->engine;
    if ((request->flags & REQUEST_HAS_WRITE_PLACE) == 0) {
        ask_by_checksum(request);
        return;
    }
    bool abandoned = (request->flags & REQUEST_ABANDONED) != 0;
    bool answer = !abandoned && peer_is_up(&engine->peer);
    if (request->result < 0) {
        disk_failed(engine, CORE_DISK_WRITE, request->sector, request->result);
        if (answer)
            peer_send_ack(&engine->peer, P_NEG_ACK, request);
    } else if (!abandoned) { /* else core_release may have set its bits: the peer had writes to it, and not stable */
        resync_in_sync(engine, request->sector, request->sectors);
        if ((request->flags & REQUEST_PUNCH) != 0) {
            engine->resync.thin_bits += bits_of(request->sectors);
            engine->counters.resync_thin_sectors += request->sectors;
        }
        if (answer)
            peer_send_ack(&engine->peer, P_RS_WRITE_ACK, request);
    }
    resync_request_over(request);
}

/* The fetch of exactly this range that waits for its answer; NULL: none. */
static struct request *find_asked(const struct core_engine *engine, uint64_t sector, uint32_t sectors)
{
    struct place *place = ordering_find_fetch(&engine->ordering, sector, sectors);
    struct request *request = place != NULL ? CONTAINER_OF(place, struct request, place) : NULL;
    return request != NULL && (request->legs & LEG_ACK) != 0 ? request : NULL;
}

void resync_fetch_refused(struct core_engine *engine, uint64_t sector, uint32_t sectors, bool try_again)
{
    struct request *request = find_asked(engine, sector, sectors);
    if (request == NULL)
        return;
    if (request->kind == VERIFY_BLOCK) {
        verify_refused(request);
        return;
    }
    if (request->kind == MEND_BLOCK) {
        mend_refused(request);
        return;
    }
    request->legs = 0;
    if (!try_again)
        engine->resync.failed_bits += bits_of(sectors);
    resync_request_over(request);
}

void resync_fetch_equal(struct core_engine *engine, uint64_t sector, uint32_t sectors)
{
    struct request *request = find_asked(engine, sector, sectors);
    if (request == NULL || request->kind != RESYNC_FETCH)
        return;
    request->legs = 0;
    resync_in_sync(engine, sector, sectors);
    engine->counters.resync_same_sectors += sectors;
    engine->resync.equal_bits += bits_of(sectors);
    resync_request_over(request);
}
