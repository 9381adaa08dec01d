/* verify_source.c - we ask for digests in the order of the device and compare them with our own blocks'.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>

#include "checksum.h"
#include "container.h"
#include "engine.h"

/* The target has answered, or never will. */
static void no_longer_asked(struct request *request)
{
    struct verify *verify = &request->engine->verify;
    request->legs = (uint8_t)(request->legs & ~(unsigned)LEG_ACK);
    verify->asked--;
    verify->answered_ns = io_now_ns(request->engine->io);
}

static void ask(struct request *request)
{
    struct core_engine *engine = request->engine;
    struct verify *verify = &engine->verify;
    if ((request->flags & REQUEST_ABANDONED) != 0 || !peer_is_up(&engine->peer)) {
        verify_request_over(request);
        return;
    }
    request->legs = LEG_ACK;
    if (verify->asked++ == 0)
        verify->answered_ns = io_now_ns(engine->io);
    peer_send_block_request(&engine->peer, P_OV_REQUEST, request->sector, PACKET_ID_SYNCER, request->sectors << 9);
}

static void place_free(struct place *place)
{
    ask(CONTAINER_OF(place, struct request, place));
}

static bool ask_next(struct core_engine *engine)
{
    struct verify *verify = &engine->verify;
    uint64_t left = engine->disk.size_sectors - verify->cursor_sector;
    uint32_t sectors = left < VERIFY_BLOCK_SECTORS ? (uint32_t)left : VERIFY_BLOCK_SECTORS;
    struct request *request = resync_request_new(engine, VERIFY_BLOCK, verify->cursor_sector, sectors);
    if (request == NULL)
        return false;
    verify->cursor_sector += sectors;
    verify->in_flight++;
    engine->resync.budget_sectors -= sectors;
    request->flags |= REQUEST_HAS_PLACE;
    request->place.go = place_free;
    if (ordering_enter(&engine->ordering, &request->place, ORDER_RS_FETCH, request->sector, sectors))
        ask(request);
    return true;
}

/* A quarter of the slots at most: applications' requests need them, too. */
static uint32_t blocks_at_once(const struct core_engine *engine)
{
    uint32_t blocks = engine->resync.window_sectors / VERIFY_BLOCK_SECTORS;
    uint32_t most = engine->requests.count / 4;
    if (blocks > most)
        blocks = most;
    return blocks > 0 ? blocks : 1;
}

void verify_ask(struct core_engine *engine)
{
    struct verify *verify = &engine->verify;
    uint32_t most = blocks_at_once(engine);
    resync_pace_refill(engine);
    while (verify->cursor_sector < verify->stop_sector && verify->in_flight < most &&
           outbox_has_room(&engine->peer.data_out)) {
        if (engine->resync.rate_kib_s != 0 && engine->resync.budget_sectors <= 0)
            return;
        if (!ask_next(engine))
            return;
    }
    if (verify->cursor_sector >= verify->stop_sector && verify->in_flight == 0)
        verify_finish(engine);
}

static struct request *next_in_flight(const struct core_engine *engine, uint32_t *index)
{
    while (*index < engine->requests.count) {
        struct request *request = &engine->requests.requests[(*index)++];
        if (request->kind == VERIFY_BLOCK && (request->flags & REQUEST_HAS_PLACE) != 0)
            return request;
    }
    return NULL;
}

uint64_t verify_position(const struct core_engine *engine)
{
    const struct verify *verify = &engine->verify;
    uint64_t position = verify->cursor_sector;
    uint32_t index = 0;
    struct request *request;
    while ((request = next_in_flight(engine, &index)) != NULL)
        position = request->sector < position ? request->sector : position;
    return verify->refused_sector < position ? verify->refused_sector : position;
}

void verify_abandon(struct core_engine *engine)
{
    uint32_t index = 0;
    struct request *request;
    while ((request = next_in_flight(engine, &index)) != NULL) {
        request->flags |= REQUEST_ABANDONED;
        if ((request->legs & LEG_ACK) == 0)
            continue; /* its turn comes, and then it sees; or its read ends */
        no_longer_asked(request);
        verify_request_over(request);
    }
}

static void not_compared(struct request *request)
{
    struct verify *verify = &request->engine->verify;
    if (request->sector < verify->refused_sector)
        verify->refused_sector = request->sector;
}

static void write_place_free(struct place *place)
{
    struct request *request = CONTAINER_OF(place, struct request, write_place);
    if (!disk_is_usable(&request->engine->disk)) {
        not_compared(request);
        verify_request_over(request);
        return;
    }
    request->legs = LEG_LOCAL;
    disk_read(request);
}

void verify_reply_arrived(struct request *request)
{
    no_longer_asked(request);
    request->flags |= REQUEST_HAS_WRITE_PLACE;
    request->write_place.go = write_place_free;
    if (ordering_enter(&request->engine->ordering, &request->write_place, ORDER_RS_WRITE, request->sector,
                       request->sectors))
        write_place_free(&request->write_place);
}

void verify_refused(struct request *request)
{
    not_compared(request);
    no_longer_asked(request);
    verify_request_over(request);
}

void verify_block_read(struct request *request)
{
    struct core_engine *engine = request->engine;
    uint32_t bytes = request->sectors << 9;
    if (request->result < 0) {
        not_compared(request);
        mend_read_failed(engine, request->sector, request->sectors, request->result);
    } else if ((request->flags & REQUEST_ABANDONED) == 0 && engine->disk.bitmap != NULL) {
        bool equal = checksum_matches(engine->checksums, engine->peer.config.verify_alg, request->buffer, bytes,
                                      engine_digest_of(request));
        verify_compared(engine, request->sector, request->sectors, equal);
        request->block_id = htobe64(equal ? PACKET_ID_IN_SYNC : PACKET_ID_OUT_OF_SYNC);
        if (peer_is_up(&engine->peer))
            peer_send_ack(&engine->peer, P_OV_RESULT, request);
    }
    verify_request_over(request);
}
