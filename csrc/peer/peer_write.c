/* peer_write.c - Secondary: what the peer writes and reads here.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A write goes to disk in stream order where it overlaps; WRITE_ACK when the disk has it.  BARRIER is answered when all
 * writes of its epoch, and of those before, are done and a flush that began after that has ended: then the peer may
 * forget them. */
#include <assert.h>
#include <errno.h>

#include "bitmap.h"
#include "container.h"
#include "engine.h"

static void epochs_flushed(struct io_op *op, int32_t result);

static struct epoch *epoch_at(const struct peer *peer, uint64_t position)
{
    return &peer->epochs[position % PEER_EPOCHS];
}

static void start(struct request *request)
{
    request->legs |= LEG_LOCAL;
    if (request->kind == PEER_ZERO)
        disk_zero(request);
    else
        disk_write(request);
}

/* DP_FLUSH: what was acknowledged before must be stable before this is written. */
static void preflushed(struct io_op *op, int32_t result)
{
    struct request *request = CONTAINER_OF(op, struct request, io);
    struct core_engine *engine = request->engine;
    if (!disk_request_over(request))
        return;
    request->legs = (uint8_t)(request->legs & ~(unsigned)LEG_LOCAL);
    if (result < 0)
        disk_failed(engine, CORE_DISK_FLUSH, request->sector, result);
    if (disk_is_usable(&engine->disk)) {
        start(request);
    } else {
        request->result = result < 0 ? result : -EIO;
        peer_write_done(request);
    }
    disk_request_end(engine);
}

static void place_free(struct place *place)
{
    peer_write_continue(CONTAINER_OF(place, struct request, place));
}

void peer_write_continue(struct request *request)
{
    struct core_engine *engine = request->engine;
    if (!disk_is_usable(&engine->disk)) {
        request->result = -1;
        peer_write_done(request);
        return;
    }
    bool logged = (request->flags & REQUEST_TRACKED) != 0 && engine->disk.log != NULL;
    if (logged && (request->flags & REQUEST_HOT) == 0 && !hot_extents_get(request))
        return;
    if ((request->wire_flags & DP_FUA) != 0)
        request->flags |= REQUEST_FUA;
    if ((request->wire_flags & DP_FLUSH) == 0) {
        start(request);
        return;
    }
    request->legs |= LEG_LOCAL;
    disk_flush_for(request, preflushed);
}

void peer_write_begin(struct request *request)
{
    struct core_engine *engine = request->engine;
    if ((request->wire_flags & DP_SEND_RECEIVE_ACK) != 0)
        peer_send_ack(&engine->peer, P_RECV_ACK, request);
    if (engine->replication == CORE_REPLICATE_NONE && engine->disk.bitmap != NULL) {
        /* Its writer has no disk to write it to.  Marked as it comes: what the control plane decides next may be to
         * send our bitmap. */
        bitmap_set(engine->disk.bitmap, request->sector, request->sectors);
        request->flags |= REQUEST_TRACKED;
    }
    request->flags |= REQUEST_HAS_PLACE;
    request->place.go = place_free;
    if (ordering_enter(&engine->ordering, &request->place, ORDER_PEER_WRITE, request->sector, request->sectors))
        place_free(&request->place);
}

static void acknowledge(struct request *request)
{
    struct core_engine *engine = request->engine;
    /* Only together with the answer that lets the source clear its bit, too (8.4 e_end_block). */
    uint32_t both = DP_MAY_SET_IN_SYNC | DP_SEND_WRITE_ACK;
    bool in_sync = engine->resync.active && engine->resync.target && (request->wire_flags & both) == both;
    if (request->result < 0) {
        peer_send_ack(&engine->peer, P_NEG_ACK, request);
        return;
    }
    if (in_sync)
        resync_in_sync(engine, request->sector, request->sectors);
    if ((request->wire_flags & DP_SEND_WRITE_ACK) != 0)
        peer_send_ack(&engine->peer, in_sync ? P_RS_WRITE_ACK : P_WRITE_ACK, request);
}

void peer_write_done(struct request *request)
{
    struct core_engine *engine = request->engine;
    struct peer *peer = &engine->peer;
    if (request->result < 0 && disk_is_usable(&engine->disk))
        disk_failed(engine, disk_op_of(request), request->sector, request->result);
    if ((request->flags & REQUEST_ABANDONED) == 0) {
        acknowledge(request);
        assert(peer->unacked > 0 && request->epoch->active > 0);
        peer->unacked--;
        request->epoch->active--;
    }
    request_end(request);
    peer_epochs_advance(peer);
}

void peer_barrier_received(struct peer *peer, uint32_t barrier)
{
    struct epoch *open = epoch_at(peer, peer->epochs_in - 1);
    open->barrier = barrier;
    open->closed = true;
    *epoch_at(peer, peer->epochs_in++) = (struct epoch){.closed = false};
    peer_epochs_advance(peer);
}

/* One flush for all epochs whose writes are done: the flush begins after them, so it covers them. */
void peer_epochs_advance(struct peer *peer)
{
    struct core_engine *engine = peer->engine;
    if (peer->epoch_flush_busy || peer->state != PEER_UP)
        return;
    uint64_t ready = 0;
    while (peer->epochs_out + ready < peer->epochs_in && epoch_at(peer, peer->epochs_out + ready)->closed &&
           epoch_at(peer, peer->epochs_out + ready)->active == 0)
        ready++;
    if (ready == 0 || !disk_is_usable(&engine->disk))
        return; /* without a disk nothing is ever stable here: the peer keeps its log until we tell it of our state */
    peer->epochs_flushing = ready;
    peer->epoch_flush_busy = true;
    peer->epoch_flush.done = epochs_flushed;
    disk_begin(engine);
    if (engine->disk.config.flush != 0)
        io_flush(engine->io, &peer->epoch_flush, engine->disk.config.data_fd);
    else
        epochs_flushed(&peer->epoch_flush, 0);
}

static void epochs_flushed(struct io_op *op, int32_t result)
{
    struct peer *peer = CONTAINER_OF(op, struct peer, epoch_flush);
    struct core_engine *engine = peer->engine;
    if (hanging_ended(engine))
        return;
    peer->epoch_flush_busy = false;
    disk_end(engine);
    if (result < 0)
        disk_failed(engine, CORE_DISK_FLUSH, 0, result); /* no answer: it would be a lie */
    for (uint64_t i = 0; result == 0 && peer->state == PEER_UP && i < peer->epochs_flushing; i++) {
        struct epoch *epoch = epoch_at(peer, peer->epochs_out++);
        struct packet_barrier_ack ack = {.barrier = epoch->barrier, .set_size = htobe32(epoch->size)};
        peer_send(&peer->meta_out, P_BARRIER_ACK, &ack, sizeof ack);
    }
    peer->epochs_flushing = 0;
    if (result == 0)
        peer_epochs_advance(peer);
}

/* No answer: the epochs stay open, as with a flush that failed. */
void peer_epochs_give_up(struct peer *peer)
{
    peer->epoch_flush_busy = false;
    peer->epochs_flushing = 0;
}

/* What our disk has is not good any more, or gone, since the peer asked: it hears so, and reads its own (8.4). */
static bool may_answer(const struct core_engine *engine)
{
    return (engine->peer.accept & CORE_ACCEPT_READS) != 0 && disk_is_usable(&engine->disk);
}

static void read_place_free(struct place *place)
{
    struct request *request = CONTAINER_OF(place, struct request, place);
    request->legs = LEG_LOCAL;
    if (may_answer(request->engine) && (request->flags & REQUEST_ABANDONED) == 0)
        disk_read(request);
    else
        request_leg_done(request, LEG_LOCAL, -ENODATA);
}

/* Behind the writes that it was sent after: protocols A and B have acknowledged them, be they on disk or not. */
void peer_read_begin(struct request *request)
{
    request->flags |= REQUEST_HAS_PLACE;
    request->place.go = read_place_free;
    if (ordering_enter(&request->engine->ordering, &request->place, ORDER_RS_READ, request->sector, request->sectors))
        read_place_free(&request->place);
}

/* Called twice: when the disk has delivered, and when the reply is sent (REQUEST_ANSWERED). */
void peer_read_done(struct request *request)
{
    struct core_engine *engine = request->engine;
    if ((request->flags & (REQUEST_ANSWERED | REQUEST_ABANDONED)) != 0) {
        request_end(request);
        return;
    }
    if (request->result < 0) {
        if (request->result != -ENODATA)
            mend_read_failed(engine, request->sector, request->sectors, request->result);
        peer_send_ack(&engine->peer, P_NEG_DREPLY, request);
        request_end(request);
        return;
    }
    request->flags |= REQUEST_ANSWERED;
    request->legs = LEG_SENT;
    peer_send_block(&engine->peer, P_DATA_REPLY, request);
    request->flags = (uint16_t)(request->flags & ~(unsigned)REQUEST_HAS_PLACE);
    ordering_leave(&engine->ordering, &request->place);
}
