/* resync_source.c - we read blocks that the target asks for, and send them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The block keeps its place (RS_READ) from before it is read until its reply stands in the stream: a write that comes
 * meanwhile waits, so whatever follows the reply in the stream is newer than the reply.  No more blocks than ordered
 * are under way at once; the others have no place yet, so they are in nobody's way.
 *
 * Asked for thinly, a block of nothing but zeroes is not sent: RS_DEALLOCATED stands in the stream where its data would
 * (8.4 looks at the data, too, not at what is allocated). */
#include <errno.h>
#include <string.h>

#include "checksum.h"
#include "container.h"
#include "engine.h"

static void place_free(struct place *place)
{
    struct request *request = CONTAINER_OF(place, struct request, place);
    struct core_engine *engine = request->engine;
    if (!disk_is_usable(&engine->disk) || (request->flags & REQUEST_ABANDONED) != 0) {
        request->result = -EIO;
        resync_read_done(request);
        return;
    }
    request->legs = LEG_LOCAL;
    disk_read(request);
}

static void begin(struct request *request)
{
    request->engine->resync.serving_sectors += request->sectors;
    request->flags |= REQUEST_HAS_PLACE;
    request->place.go = place_free;
    if (ordering_enter(&request->engine->ordering, &request->place, ORDER_RS_READ, request->sector, request->sectors))
        place_free(&request->place);
}

bool resync_may_serve(const struct core_engine *engine)
{
    return engine->resync.serving < engine->requests.count / 2;
}

void resync_read_begin(struct request *request)
{
    struct resync *resync = &request->engine->resync;
    resync->serving++;
    if (resync->waiting.first != NULL || resync->serving_sectors >= resync->window_sectors)
        request_queue_put(&resync->waiting, request);
    else
        begin(request);
}

static void over(struct request *request)
{
    struct resync *resync = &request->engine->resync;
    resync->serving_sectors -= request->sectors;
    resync->serving--;
    request_end(request);
    while (resync->waiting.first != NULL && resync->serving_sectors < resync->window_sectors)
        begin(request_queue_take(&resync->waiting));
}

void resync_source_peer_lost(struct core_engine *engine)
{
    struct request *request;
    while ((request = request_queue_take(&engine->resync.waiting)) != NULL) {
        engine->resync.serving--;
        request_end(request);
    }
}

/* Has the target what we have?  It has sent the digest of it. */
static bool is_equal(const struct request *request)
{
    const struct core_engine *engine = request->engine;
    return checksum_matches(engine->checksums, engine->peer.config.csums_alg, request->buffer, request->sectors << 9,
                            engine_digest_of(request));
}

static bool is_zero(const struct request *request)
{
    const uint8_t *bytes = request->buffer;
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, ((size_t)request->sectors << 9) - 1) == 0;
}

/* Called twice: when the disk has delivered, and when the reply is sent (REQUEST_ANSWERED). */
void resync_read_done(struct request *request)
{
    struct core_engine *engine = request->engine;
    if ((request->flags & (REQUEST_ANSWERED | REQUEST_ABANDONED)) != 0) {
        over(request);
        return;
    }
    if (request->result < 0) {
        mend_read_failed(engine, request->sector, request->sectors, request->result);
        peer_send_ack(&engine->peer, P_NEG_RS_DREPLY, request);
        over(request);
        return;
    }
    if ((request->flags & REQUEST_HAS_DIGEST) != 0 && is_equal(request)) {
        resync_in_sync(engine, request->sector, request->sectors);
        engine->counters.resync_same_sectors += request->sectors;
        peer_send_ack(&engine->peer, P_RS_IS_IN_SYNC, request);
        over(request);
        return;
    }
    if ((request->flags & REQUEST_PUNCH) != 0 && is_zero(request)) {
        engine->counters.resync_thin_sectors += request->sectors;
        peer_send_deallocated(&engine->peer, request);
        over(request);
        return;
    }
    request->flags |= REQUEST_ANSWERED;
    request->legs = LEG_SENT;
    peer_send_block(&engine->peer, P_RS_DATA_REPLY, request);
    request->flags = (uint16_t)(request->flags & ~(unsigned)REQUEST_HAS_PLACE);
    ordering_leave(&engine->ordering, &request->place);
}
