/* verify_target.c - we read what the source asks for, answer with its digest, and hear what came out.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>

#include "bitmap.h"
#include "checksum.h"
#include "container.h"
#include "engine.h"

static void place_free(struct place *place)
{
    struct request *request = CONTAINER_OF(place, struct request, place);
    if (!disk_is_usable(&request->engine->disk)) {
        request->result = -EIO;
        verify_read_done(request);
        return;
    }
    request->legs = LEG_LOCAL;
    disk_read(request);
}

void verify_read_begin(struct request *request)
{
    struct core_engine *engine = request->engine;
    struct verify *verify = &engine->verify;
    if (!verify->placed) {
        /* Where it begins is nowhere else said; it goes on to the end of the device, or until a STATE ends it. */
        verify->placed = true;
        verify->left_sectors = engine->disk.size_sectors - request->sector;
    }
    verify->in_flight++;
    request->flags |= REQUEST_HAS_PLACE;
    request->place.go = place_free;
    if (ordering_enter(&engine->ordering, &request->place, ORDER_RS_READ, request->sector, request->sectors))
        place_free(&request->place);
}

void verify_read_done(struct request *request)
{
    struct core_engine *engine = request->engine;
    uint8_t digest[CHECKSUM_BYTES_MAX];
    if ((request->flags & REQUEST_ABANDONED) == 0 && peer_is_up(&engine->peer)) {
        if (request->result < 0) {
            peer_send_ack(&engine->peer, P_NEG_RS_DREPLY, request);
        } else {
            uint32_t algorithm = engine->peer.config.verify_alg;
            checksum_of(engine->checksums, algorithm, request->buffer, request->sectors << 9, digest);
            peer_send_digest(&engine->peer, P_OV_REPLY, request, digest, checksum_bytes(algorithm));
        }
    }
    if (request->result < 0 && disk_is_usable(&engine->disk))
        mend_read_failed(engine, request->sector, request->sectors, request->result);
    verify_request_over(request);
}

void verify_result_received(struct core_engine *engine, uint64_t sector, uint32_t sectors, bool equal)
{
    struct verify *verify = &engine->verify;
    if (engine->disk.bitmap == NULL)
        return;
    if (verify->active && !verify->source) {
        verify_compared(engine, sector, sectors, equal);
        verify->left_sectors -= sectors < verify->left_sectors ? sectors : verify->left_sectors;
    } else if (!equal && !engine->resync.active) {
        /* A STATE that ended the verify has overtaken it on the other socket.  A resync would have it from the source's
         * bitmap, and may have mended it by now. */
        bitmap_set(engine->disk.bitmap, sector, sectors);
    }
}
