/* write.c - the life of an application's write (design: "The life of a write, protocol C").
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A part passes, in this order: the gate (is anybody allowed to write now?), its place (nobody overlapping is under
 * way), room to send it, the activity log (a durable transaction names its extents).  Whatever it waits for calls
 * write_continue, which looks at all of them again: what was true when the wait began may not be when it ends.  Then it
 * goes to the disk and to the peer together, or its bits are set.  The reply goes out when the disk is done and the
 * peer has acknowledged as the wire protocol demands. */
#include <assert.h>
#include <errno.h>

#include "bitmap.h"
#include "container.h"
#include "engine.h"

static void place_free(struct place *place)
{
    write_continue(CONTAINER_OF(place, struct request, place));
}

void write_begin(struct request *request)
{
    write_continue(request);
}

static bool has_room(struct core_engine *engine)
{
    if (!peer_is_up(&engine->peer) || engine->replication == CORE_REPLICATE_NONE ||
        engine->replication == CORE_REPLICATE_AHEAD)
        return true;
    return outbox_has_room(&engine->peer.data_out) && transfer_log_has_room(&engine->peer.log);
}

static bool disk_takes_it(const struct core_engine *engine)
{
    return disk_is_usable(&engine->disk);
}

/* To the peer, or into the bitmap: one of the two before the reply, always. */
static void submit_to_peer(struct request *request)
{
    struct core_engine *engine = request->engine;
    if (engine_replicates(engine)) {
        request->legs = (uint8_t)(request->legs | LEG_SENT | (engine->protocol > 1 ? LEG_ACK : 0));
        /* Under A and B nobody waits for the word that the peer has written it: it could come after the peer was left
         * behind, and clear the bit of a later write.  So its bits stay, and the block is fetched once more. */
        if (engine->protocol == 3 && engine->resync.active && !engine->resync.target)
            request->flags |= REQUEST_IN_SYNC;
        transfer_log_add(engine, request);
        peer_send_write(&engine->peer, request);
        congestion_look(engine);
        return;
    }
    request->flags |= REQUEST_PEER_FAILED;
    if (engine->disk.bitmap == NULL || !disk_takes_it(engine))
        return;
    /* In memory only: after a crash the activity log marks the whole extent, and it names the extent until the page is
     * durable. */
    bitmap_set(engine->disk.bitmap, request->sector, request->sectors);
    if (engine->replication == CORE_REPLICATE_OUT_OF_SYNC && peer_is_up(&engine->peer))
        peer_send_out_of_sync(&engine->peer, request->sector, request->sectors);
}

static void submit(struct request *request)
{
    struct core_engine *engine = request->engine;
    bool local = disk_takes_it(engine);
    request->started_ns = io_now_ns(engine->io);
    if (local)
        request->legs = LEG_LOCAL;
    else
        request->flags |= REQUEST_LOCAL_FAILED;
    submit_to_peer(request);
    if (local && request->kind == REQUEST_ZERO)
        disk_zero(request);
    else if (local)
        disk_write(request);
    if (request->legs == 0)
        write_leg_done(request, LEG_HELD, 0);
}

static void complete(struct request *request);

void write_fail(struct request *request)
{
    struct upper *upper = request->upper;
    request_end(request);
    upper_part_done(upper, -EIO);
}

void write_continue(struct request *request)
{
    struct core_engine *engine = request->engine;
    if (engine->gate == CORE_GATE_FAIL) {
        write_fail(request);
        return;
    }
    if (!engine_admits_writes(engine)) {
        request_queue_put(&engine->held, request);
        return;
    }
    if ((request->flags & REQUEST_UNTOLD) != 0) {
        complete(request);
        return;
    }
    if ((request->flags & REQUEST_HAS_PLACE) == 0) {
        request->flags |= REQUEST_HAS_PLACE;
        request->place.go = place_free;
        if (!ordering_enter(&engine->ordering, &request->place, ORDER_APP_WRITE, request->sector, request->sectors))
            return;
    }
    if (!has_room(engine)) {
        request_queue_put(&engine->crowded, request);
        return;
    }
    if (disk_takes_it(engine) && engine->disk.log != NULL && !hot_extents_get(request))
        return;
    assert(engine->disk.log == NULL || !disk_takes_it(engine) || (request->flags & REQUEST_HOT) != 0);
    submit(request);
}

#define REQUEST_HAD (REQUEST_UNTOLD | REQUEST_LOCAL_FAILED | REQUEST_PEER_FAILED | REQUEST_IN_SYNC)

/* While the gate is closed, a write that found no disk waits as if it were new, and one that the peer was to have waits
 * for its answer. */
static void complete(struct request *request)
{
    struct core_engine *engine = request->engine;
    struct upper *upper = request->upper;
    bool here = (request->flags & REQUEST_LOCAL_FAILED) == 0;
    bool there = (request->flags & REQUEST_PEER_FAILED) == 0;
    if (!here && !there && (engine->gate == CORE_GATE_SUSPENDED || (request->flags & REQUEST_UNTOLD) != 0)) {
        request->flags = (uint16_t)(request->flags & ~(unsigned)REQUEST_HAD);
        write_continue(request);
        return;
    }
    if ((request->flags & REQUEST_UNTOLD) != 0 && !engine_admits_writes(engine)) {
        write_continue(request);
        return;
    }
    int32_t result = here || there ? 0 : -EIO;
    request_end(request);
    upper_part_done(upper, result);
}

void write_leg_done(struct request *request, enum request_leg leg, int32_t result)
{
    struct core_engine *engine = request->engine;
    if (leg == LEG_LOCAL) {
        if (result < 0) {
            /* Whether this write may be told as done is the control plane's to say: see core_detach. */
            request->flags |= REQUEST_LOCAL_FAILED;
            request->legs |= LEG_HELD;
            request_queue_put(&engine->disk.failed_requests, request);
            disk_failed(engine, disk_op_of(request), request->sector, result);
            return;
        }
        if ((request->flags & REQUEST_HOT) != 0) {
            request->flags = (uint16_t)(request->flags & ~(unsigned)REQUEST_HOT);
            hot_extents_put(engine, request->sector, request->sectors);
        }
    }
    if (request->legs == 0)
        complete(request);
}

void write_release_crowded(struct core_engine *engine)
{
    /* Once around: who finds no room again, or the gate closed, stands in a queue again. */
    for (uint32_t left = engine->crowded.count; left > 0 && has_room(engine); left--) {
        struct request *request = request_queue_take(&engine->crowded);
        if (request->kind == REQUEST_READ)
            read_begin(request);
        else
            write_continue(request);
    }
}
