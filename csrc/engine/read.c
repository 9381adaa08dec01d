/* read.c - an application's read: from the disk, or from the peer where our disk is missing, failing or behind.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <errno.h>

#include "bitmap.h"
#include "engine.h"
#include "interval.h"

#define CONGESTED_OPERATIONS 113u /* 7/8 of the 128 that Linux gives a disk's queue; 8.4 asks the kernel the same */

static bool is_the_peers_turn(struct core_engine *engine, const struct request *request)
{
    switch (engine->read_balancing) {
    case CORE_BALANCE_PREFER_LOCAL:
        return false;
    case CORE_BALANCE_PREFER_REMOTE:
        return true;
    case CORE_BALANCE_ROUND_ROBIN:
        engine->read_here_next = !engine->read_here_next;
        return engine->read_here_next;
    case CORE_BALANCE_LEAST_PENDING: /* writes are under way on both */
        return engine->disk.in_flight > engine->reads_at_peer + transfer_log_count(&engine->peer.log);
    case CORE_BALANCE_WHEN_CONGESTED_REMOTE:
        return engine->disk.in_flight > CONGESTED_OPERATIONS;
    case CORE_BALANCE_STRIPING_32K:
    case CORE_BALANCE_STRIPING_64K:
    case CORE_BALANCE_STRIPING_128K:
    case CORE_BALANCE_STRIPING_256K:
    case CORE_BALANCE_STRIPING_512K:
    case CORE_BALANCE_STRIPING_1M:
        break;
    }
    uint32_t stripe_shift = 6 + (uint32_t)engine->read_balancing - CORE_BALANCE_STRIPING_32K; /* 32 KiB: 64 sectors */
    return (request->sector >> stripe_shift & 1) != 0;
}

/* Both disks are good.  What was acknowledged is on the peer's disk, or before our question in its stream, and the peer
 * reads behind what it was sent before (ORDER_RS_READ): so it answers with nothing older.  A block that is being
 * written is read here, where the write is already: the peer may be behind, and whoever has read the new block must not
 * read the old one afterwards.  What the peer could not answer is read here, and nobody is told. */
static bool is_balanced_to_peer(struct core_engine *engine, const struct request *request)
{
    return (request->flags & REQUEST_PEER_FAILED) == 0 && engine_peer_has_all(engine) &&
           outbox_has_room(&engine->peer.data_out) &&
           interval_overlap(&engine->ordering.set, request->sector, request->sectors, ORDER_APP_WRITE) == NULL &&
           is_the_peers_turn(engine, request);
}

static bool is_local(struct core_engine *engine, const struct request *request)
{
    if (!disk_is_usable(&engine->disk) || (request->flags & REQUEST_LOCAL_FAILED) != 0)
        return false;
    if (mend_covers(engine, request->sector, request->sectors) && engine_peer_has_all(engine))
        return false;
    switch (engine->reads) {
    case CORE_READS_LOCAL:
        return true;
    case CORE_READS_BALANCED:
        return !is_balanced_to_peer(engine, request);
    case CORE_READS_IN_SYNC:
        return engine->disk.bitmap != NULL && !bitmap_any(engine->disk.bitmap, request->sector, request->sectors);
    case CORE_READS_PEER:
    case CORE_READS_NONE:
        break;
    }
    return false;
}

void read_begin(struct request *request)
{
    struct core_engine *engine = request->engine;
    if (engine->gate == CORE_GATE_FAIL) {
        write_fail(request);
        return;
    }
    if (!engine_admits_reads(engine)) {
        request_queue_put(&engine->held, request);
        return;
    }
    if (is_local(engine, request)) {
        request->legs = LEG_LOCAL;
        disk_read(request);
        return;
    }
    /* A peer that goes through its last moments: wait for what the control plane makes of it. */
    if ((request->flags & REQUEST_PEER_FAILED) != 0) {
        write_fail(request);
        return;
    }
    if (engine->peer.state == PEER_CLOSING || engine->peer.state == PEER_LOST) {
        request_queue_put(&engine->held, request);
        return;
    }
    if (!engine_peer_has_all(engine)) {
        if (engine->disk.failed)
            request_queue_put(&engine->held, request); /* nowhere, until it is decided what becomes of our disk */
        else
            write_fail(request);
        return;
    }
    if (!outbox_has_room(&engine->peer.data_out)) {
        request_queue_put(&engine->crowded, request);
        return;
    }
    request->legs = LEG_ACK;
    if (engine->reads_at_peer++ == 0)
        engine->reads_at_peer_since_ns = io_now_ns(engine->io);
    peer_send_read(&engine->peer, request);
}

void read_not_at_peer(struct core_engine *engine)
{
    assert(engine->reads_at_peer > 0);
    engine->reads_at_peer--;
    engine->reads_at_peer_since_ns = io_now_ns(engine->io);
}

void read_leg_done(struct request *request, enum request_leg leg, int32_t result)
{
    if (leg == LEG_ACK)
        read_not_at_peer(request->engine);
    if (result == 0) {
        struct upper *upper = request->upper;
        assert(request->legs == 0);
        hanging_read_done(request);
        request_end(request);
        upper_part_done(upper, 0);
        return;
    }
    if (leg == LEG_LOCAL) {
        request->flags |= REQUEST_LOCAL_FAILED;
        mend_read_failed(request->engine, request->sector, request->sectors, result);
    } else {
        request->flags |= REQUEST_PEER_FAILED;
    }
    read_begin(request);
}
