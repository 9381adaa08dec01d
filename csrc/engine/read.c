/* read.c - an application's read: from the disk, or from the peer where our disk is missing, failing or behind.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <errno.h>

#include "bitmap.h"
#include "engine.h"

static bool is_local(const struct core_engine *engine, const struct request *request)
{
    if (!disk_is_usable(&engine->disk) || (request->flags & REQUEST_LOCAL_FAILED) != 0)
        return false;
    switch (engine->reads) {
    case CORE_READS_LOCAL:
        return true;
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
    peer_send_read(&engine->peer, request);
}

void read_leg_done(struct request *request, enum request_leg leg, int32_t result)
{
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
        if (request->engine->disk.bitmap != NULL && engine_peer_has_all(request->engine))
            bitmap_set(request->engine->disk.bitmap, request->sector, request->sectors);
        disk_failed(request->engine, CORE_DISK_READ, request->sector, result);
    } else {
        request->flags |= REQUEST_PEER_FAILED;
    }
    read_begin(request);
}
