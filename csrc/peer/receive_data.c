/* receive_data.c - the data socket's packets: refuse, or find memory, then take the payload.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Every packet is checked against what the peer may do, and its range against the device, before memory or state is
 * spent on it.  A packet that can't be taken now (no slot, no memory, no room for the answer) stays in the inbox and
 * stalls the socket; TCP tells the peer.  A control packet is a fact, and reading stops behind it until the control
 * plane has dealt with it. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "bitmap.h"
#include "checksum.h"
#include "container.h"
#include "engine.h"

enum verdict { STALL = 1, WAIT = 2 }; /* beside 0: taken, and a negative errno: lose the peer */

struct arrival {
    struct packet_header header;
    uint16_t command;
    uint32_t length;
};

static bool range_ok(const struct core_engine *engine, uint64_t sector, uint32_t size_bytes)
{
    uint64_t sectors = size_bytes >> 9;
    return sectors > 0 && size_bytes % 512 == 0 && sector < engine->disk.size_sectors &&
           sectors <= engine->disk.size_sectors - sector;
}

/* Room on the meta socket for an answer to everything that is under way, and to this. */
static bool can_answer(const struct peer *peer)
{
    const struct outbox *outbox = &peer->meta_out;
    return (peer->unacked + 16ull) * 40 + outbox->bytes_in - outbox->bytes_out < outbox->bytes_size / 2 &&
           outbox->segments_in - outbox->segments_out < outbox->segments_size / 2;
}

static struct request *take(struct peer *peer, enum request_kind kind, uint64_t sector, uint32_t size_bytes,
                            bool with_buffer)
{
    struct core_engine *engine = peer->engine;
    uint32_t pages = (size_bytes + 4095u) / 4096u;
    if (!can_answer(peer) ||
        (with_buffer && peer->pages_held > 0 && peer->pages_held + pages > peer->config.max_buffers))
        return NULL;
    void *buffer = with_buffer ? pool_get(engine->pool, size_bytes) : NULL;
    if (with_buffer && buffer == NULL)
        return NULL;
    struct request *request = request_new(engine, kind, sector, size_bytes >> 9);
    if (request == NULL) {
        if (buffer != NULL)
            pool_put(engine->pool, buffer, size_bytes);
        return NULL;
    }
    if (with_buffer) {
        request->buffer = buffer;
        request->length_bytes = size_bytes;
        peer->pages_held += pages;
    }
    return request;
}

/* The fixed part of a packet, when all of it is here. */
static bool fixed_part(struct peer *peer, void *fixed, uint32_t length_bytes)
{
    if (inbox_available(&peer->data_in) < sizeof(struct packet_header) + length_bytes)
        return false;
    memcpy(fixed, inbox_peek(&peer->data_in) + sizeof(struct packet_header), length_bytes);
    return true;
}

static void consume(struct peer *peer, uint32_t length_bytes)
{
    inbox_skip(&peer->data_in, (uint32_t)sizeof(struct packet_header) + length_bytes);
}

/* The packet that a payload follows: with data-integrity-alg the digest of the payload stands between. */
struct data_head {
    struct packet_data data;
    uint8_t digest[CHECKSUM_BYTES_MAX];
};

static uint32_t head_bytes(const struct peer *peer)
{
    return (uint32_t)sizeof(struct packet_data) + checksum_bytes(peer->config.integrity_alg);
}

static void keep_digest(const struct peer *peer, const struct request *request, const struct data_head *head)
{
    memcpy(engine_digest_of(request), head->digest, checksum_bytes(peer->config.integrity_alg));
}

static bool is_damaged(const struct peer *peer, const struct request *request)
{
    return peer->config.integrity_alg != CORE_DIGEST_NONE &&
           !checksum_matches(peer->engine->checksums, peer->config.integrity_alg, request->buffer,
                             request->sectors << 9, engine_digest_of(request));
}

static void payload_complete(struct peer *peer, struct request *request)
{
    peer->engine->counters.received_sectors += request->sectors;
    if (is_damaged(peer, request)) {
        facts_simple(peer->engine, CORE_FACT_DIGEST_FAILED, 0, request->sector, request->sectors);
        peer->filling = request; /* as one whose rest never came: not written, not answered */
        peer_lose(peer, CORE_LOST_PROTOCOL);
        return;
    }
    switch ((enum request_kind)request->kind) {
    case PEER_WRITE:
        peer_write_begin(request);
        break;
    case RESYNC_FETCH:
        resync_fetch_arrived(request);
        break;
    case MEND_BLOCK:
        mend_arrived(request);
        break;
    case REQUEST_READ:
        request_leg_done(request, LEG_ACK, 0);
        break;
    case REQUEST_WRITE:
    case REQUEST_ZERO:
    case PEER_ZERO:
    case PEER_READ:
    case RESYNC_READ:
    case VERIFY_BLOCK:
    case VERIFY_READ:
        assert(!"no payload arrives for these");
    }
}

static void fill(struct peer *peer, struct request *request)
{
    if (inbox_fill(&peer->data_in, request->buffer, request->sectors << 9))
        payload_complete(peer, request);
    else
        peer->filling = request;
}

static void note_write(struct peer *peer, struct request *request, const struct packet_data *data)
{
    request->block_id = data->block_id;
    request->wire_flags = be32toh(data->dp_flags);
    request->sequence = be32toh(data->sequence);
    request->epoch = &peer->epochs[(peer->epochs_in - 1) % PEER_EPOCHS];
    request->epoch->size++;
    request->epoch->active++;
    peer->unacked++;
    peer->engine->counters.application_requests++;
}

static int on_data(struct peer *peer, const struct arrival *arrival)
{
    struct data_head head;
    uint32_t fixed_bytes = head_bytes(peer);
    if (arrival->length <= fixed_bytes || arrival->length - fixed_bytes > PACKET_BIO_BYTES_MAX)
        return -EPROTO;
    if (!fixed_part(peer, &head, fixed_bytes))
        return WAIT;
    uint32_t size_bytes = arrival->length - fixed_bytes;
    uint64_t sector = be64toh(head.data.sector);
    if ((peer->accept & CORE_ACCEPT_WRITES) == 0 || !range_ok(peer->engine, sector, size_bytes))
        return -EPROTO;
    struct request *request = take(peer, PEER_WRITE, sector, size_bytes, true);
    if (request == NULL)
        return STALL;
    note_write(peer, request, &head.data);
    keep_digest(peer, request, &head);
    consume(peer, fixed_bytes);
    fill(peer, request);
    return 0;
}

static int on_zeroes(struct peer *peer, const struct arrival *arrival)
{
    struct packet_trim trim;
    if (arrival->length != sizeof trim)
        return -EPROTO;
    if (!fixed_part(peer, &trim, sizeof trim))
        return WAIT;
    uint64_t sector = be64toh(trim.data.sector);
    uint32_t size_bytes = be32toh(trim.size_bytes);
    if ((peer->accept & CORE_ACCEPT_WRITES) == 0 || !range_ok(peer->engine, sector, size_bytes))
        return -EPROTO;
    struct request *request = take(peer, PEER_ZERO, sector, size_bytes, false);
    if (request == NULL)
        return STALL;
    note_write(peer, request, &trim.data);
    if (arrival->command == P_TRIM || (request->wire_flags & DP_DISCARD) != 0)
        request->flags |= REQUEST_PUNCH;
    consume(peer, sizeof trim);
    peer_write_begin(request);
    return 0;
}

/* A reply to our DATA_REQUEST: into the buffer of the read that waits for it. */
static int on_data_reply(struct peer *peer, const struct arrival *arrival)
{
    struct data_head head;
    uint32_t fixed_bytes = head_bytes(peer);
    if (arrival->length <= fixed_bytes)
        return -EPROTO;
    if (!fixed_part(peer, &head, fixed_bytes))
        return WAIT;
    struct request *request = request_find(&peer->engine->requests, head.data.block_id);
    if (request == NULL || request->kind != REQUEST_READ || (request->legs & LEG_ACK) == 0 ||
        request->sector != be64toh(head.data.sector) ||
        arrival->length - fixed_bytes != (uint64_t)request->sectors << 9)
        return -EPROTO;
    keep_digest(peer, request, &head);
    consume(peer, fixed_bytes);
    fill(peer, request);
    return 0;
}

/* The block of exactly this range that we have asked for; NULL: not asked for yet, or answered already. */
static struct request *find_fetched(const struct core_engine *engine, uint64_t sector, uint64_t size_bytes)
{
    struct place *place =
        size_bytes % 512 == 0 ? ordering_find_fetch(&engine->ordering, sector, size_bytes >> 9) : NULL;
    struct request *request = place != NULL ? CONTAINER_OF(place, struct request, place) : NULL;
    return request != NULL && request->kind != VERIFY_BLOCK && (request->legs & LEG_ACK) != 0 ? request : NULL;
}

static int on_rs_data_reply(struct peer *peer, const struct arrival *arrival)
{
    struct data_head head;
    uint32_t fixed_bytes = head_bytes(peer);
    if (arrival->length <= fixed_bytes)
        return -EPROTO;
    if (!fixed_part(peer, &head, fixed_bytes))
        return WAIT;
    struct request *request = find_fetched(peer->engine, be64toh(head.data.sector), arrival->length - fixed_bytes);
    if (request == NULL)
        return -EPROTO;
    if (!can_answer(peer))
        return STALL;
    if (request->kind == MEND_BLOCK)
        read_not_at_peer(peer->engine);
    request->legs = (uint8_t)(request->legs & ~(unsigned)LEG_ACK);
    request->flags = (uint16_t)(request->flags & ~(unsigned)REQUEST_PUNCH);
    keep_digest(peer, request, &head);
    consume(peer, fixed_bytes);
    fill(peer, request);
    return 0;
}

/* The reply of a source that has nothing but zeroes there.  Only where we have asked so. */
static int on_rs_deallocated(struct peer *peer, const struct arrival *arrival)
{
    struct packet_block_desc desc;
    if (arrival->length != sizeof desc || (peer->config.features & FEATURE_THIN_RESYNC) == 0)
        return -EPROTO;
    if (!fixed_part(peer, &desc, sizeof desc))
        return WAIT;
    struct request *request = find_fetched(peer->engine, be64toh(desc.sector), be32toh(desc.size_bytes));
    if (request == NULL || (request->flags & REQUEST_PUNCH) == 0)
        return -EPROTO;
    if (!can_answer(peer))
        return STALL;
    request->legs = (uint8_t)(request->legs & ~(unsigned)LEG_ACK);
    consume(peer, sizeof desc);
    resync_fetch_arrived(request);
    return 0;
}

static void refuse(struct peer *peer, const struct packet_block_request *wanted)
{
    struct packet_block_ack ack = {.sector = wanted->sector,
                                   .block_id = wanted->block_id,
                                   .size_bytes = wanted->size_bytes,
                                   .sequence = htobe32(++peer->sequence)};
    peer_send(&peer->meta_out, P_NEG_RS_DREPLY, &ack, sizeof ack);
}

static int on_block_request(struct peer *peer, const struct arrival *arrival)
{
    bool thin = arrival->command == P_RS_THIN_REQ;
    bool resync = thin || arrival->command == P_RS_DATA_REQUEST;
    struct packet_block_request wanted;
    if (arrival->length != sizeof wanted || (thin && (peer->config.features & FEATURE_THIN_RESYNC) == 0))
        return -EPROTO;
    if (!fixed_part(peer, &wanted, sizeof wanted))
        return WAIT;
    uint64_t sector = be64toh(wanted.sector);
    uint32_t size_bytes = be32toh(wanted.size_bytes);
    if ((resync && peer->accept == 0) || size_bytes > PACKET_BIO_BYTES_MAX ||
        !range_ok(peer->engine, sector, size_bytes))
        return -EPROTO;
    if (!outbox_has_room(&peer->data_out) || !can_answer(peer) || (resync && !resync_may_serve(peer->engine)))
        return STALL;
    if (resync && (peer->accept & (CORE_ACCEPT_RESYNC | CORE_ACCEPT_READS)) == 0) {
        refuse(peer, &wanted); /* it mends a block, and does not know yet that our disk is no longer good */
        consume(peer, sizeof wanted);
        return 0;
    }
    struct request *request = take(peer, resync ? RESYNC_READ : PEER_READ, sector, size_bytes, true);
    if (request == NULL)
        return STALL;
    request->block_id = wanted.block_id;
    consume(peer, sizeof wanted);
    if (resync) {
        request->flags = (uint16_t)(request->flags | (thin ? REQUEST_PUNCH : 0u));
        resync_read_begin(request);
    } else {
        peer->engine->counters.application_requests++;
        peer_read_begin(request);
    }
    return 0;
}

static int on_csum_request(struct peer *peer, const struct arrival *arrival)
{
    uint8_t packet[sizeof(struct packet_block_request) + CHECKSUM_BYTES_MAX];
    struct packet_block_request wanted;
    uint32_t digest_bytes = checksum_bytes(peer->config.csums_alg);
    if (digest_bytes == 0 || arrival->length != sizeof wanted + digest_bytes)
        return -EPROTO;
    if (!fixed_part(peer, packet, arrival->length))
        return WAIT;
    memcpy(&wanted, packet, sizeof wanted);
    uint64_t sector = be64toh(wanted.sector);
    uint32_t size_bytes = be32toh(wanted.size_bytes);
    if ((peer->accept & CORE_ACCEPT_RESYNC) == 0 || size_bytes > PACKET_BIO_BYTES_MAX ||
        !range_ok(peer->engine, sector, size_bytes))
        return -EPROTO;
    struct request *request = outbox_has_room(&peer->data_out) && resync_may_serve(peer->engine)
                                  ? take(peer, RESYNC_READ, sector, size_bytes, true)
                                  : NULL;
    if (request == NULL)
        return STALL;
    request->block_id = wanted.block_id;
    request->flags |= REQUEST_HAS_DIGEST;
    memcpy(engine_digest_of(request), packet + sizeof wanted, digest_bytes);
    consume(peer, arrival->length);
    resync_read_begin(request);
    return 0;
}

/* Is this the answer that a block under verify waits for?  NULL: not any more, or it never was. */
static struct request *find_verified(const struct core_engine *engine, const struct packet_block_request *answer)
{
    struct place *place =
        ordering_find_fetch(&engine->ordering, be64toh(answer->sector), be32toh(answer->size_bytes) >> 9);
    struct request *request = place != NULL ? CONTAINER_OF(place, struct request, place) : NULL;
    return request != NULL && request->kind == VERIFY_BLOCK && (request->legs & LEG_ACK) != 0 ? request : NULL;
}

static int on_ov_reply(struct peer *peer, const struct arrival *arrival)
{
    struct core_engine *engine = peer->engine;
    uint8_t packet[sizeof(struct packet_block_request) + CHECKSUM_BYTES_MAX];
    struct packet_block_request answer;
    uint32_t digest_bytes = checksum_bytes(peer->config.verify_alg);
    if (!engine->verify.seen || digest_bytes == 0 || arrival->length != sizeof answer + digest_bytes)
        return -EPROTO;
    if (!fixed_part(peer, packet, arrival->length))
        return WAIT;
    if (!can_answer(peer))
        return STALL;
    memcpy(&answer, packet, sizeof answer);
    consume(peer, arrival->length);
    struct request *request = find_verified(engine, &answer);
    if (request == NULL)
        return 0; /* the verify was stopped meanwhile */
    memcpy(engine_digest_of(request), packet + sizeof answer, digest_bytes);
    verify_reply_arrived(request);
    return 0;
}

static int on_ov_request(struct peer *peer, const struct arrival *arrival)
{
    struct core_engine *engine = peer->engine;
    struct packet_block_request wanted;
    if (arrival->length != sizeof wanted || !engine->verify.seen)
        return -EPROTO;
    if (!fixed_part(peer, &wanted, sizeof wanted))
        return WAIT;
    uint64_t sector = be64toh(wanted.sector);
    uint32_t size_bytes = be32toh(wanted.size_bytes);
    if (size_bytes > PACKET_BIO_BYTES_MAX || !range_ok(engine, sector, size_bytes))
        return -EPROTO;
    if (!outbox_has_room(&peer->data_out) || !can_answer(peer))
        return STALL;
    if ((peer->accept & CORE_ACCEPT_VERIFY) == 0 || !engine->verify.active) {
        refuse(peer, &wanted); /* stopped on our side, and the source does not know yet */
        consume(peer, sizeof wanted);
        return 0;
    }
    /* Half of the slots at most: applications' requests need them, too. */
    struct request *request = engine->verify.in_flight < engine->requests.count / 2
                                  ? take(peer, VERIFY_READ, sector, size_bytes, true)
                                  : NULL;
    if (request == NULL)
        return STALL;
    request->block_id = wanted.block_id;
    consume(peer, sizeof wanted);
    verify_read_begin(request);
    return 0;
}

static int on_barrier(struct peer *peer, const struct arrival *arrival)
{
    struct packet_barrier barrier;
    if (arrival->length != sizeof barrier)
        return -EPROTO;
    if (!fixed_part(peer, &barrier, sizeof barrier))
        return WAIT;
    if (!can_answer(peer) || peer->epochs_in - peer->epochs_out >= PEER_EPOCHS)
        return STALL;
    consume(peer, sizeof barrier);
    peer_barrier_received(peer, barrier.barrier);
    return 0;
}

static int on_out_of_sync(struct peer *peer, const struct arrival *arrival)
{
    struct packet_block_desc desc;
    if (arrival->length != sizeof desc || (peer->accept & CORE_ACCEPT_OUT_OF_SYNC) == 0)
        return -EPROTO;
    if (!fixed_part(peer, &desc, sizeof desc))
        return WAIT;
    if (!range_ok(peer->engine, be64toh(desc.sector), be32toh(desc.size_bytes)) || peer->engine->disk.bitmap == NULL)
        return -EPROTO;
    bitmap_set(peer->engine->disk.bitmap, be64toh(desc.sector), be32toh(desc.size_bytes) >> 9);
    consume(peer, sizeof desc);
    return 0;
}

static int on_bitmap(struct peer *peer, const struct arrival *arrival)
{
    if ((peer->accept & CORE_ACCEPT_BITMAP) == 0 || arrival->length > PACKET_BITMAP_BYTES_MAX)
        return -EPROTO;
    if (inbox_available(&peer->data_in) < sizeof(struct packet_header) + arrival->length)
        return WAIT;
    int rc = bitmap_exchange_received(peer->engine, arrival->command,
                                      inbox_peek(&peer->data_in) + sizeof(struct packet_header), arrival->length);
    if (rc < 0)
        return rc;
    consume(peer, arrival->length);
    peer->paused = rc == 1; /* the fact is out */
    return 0;
}

static int on_control(struct peer *peer, const struct arrival *arrival)
{
    if (arrival->length > CORE_PAYLOAD_MAX)
        return -EPROTO;
    if (inbox_available(&peer->data_in) < sizeof(struct packet_header) + arrival->length)
        return WAIT;
    peer->paused = true;
    facts_packet(peer->engine, CORE_SOCKET_DATA, &arrival->header,
                 inbox_peek(&peer->data_in) + sizeof(struct packet_header));
    consume(peer, arrival->length);
    return 0;
}

static int on_packet(struct peer *peer, const struct arrival *arrival)
{
    switch (arrival->command) {
    case P_DATA:
        return on_data(peer, arrival);
    case P_TRIM:
    case P_ZEROES:
        return on_zeroes(peer, arrival);
    case P_DATA_REPLY:
        return on_data_reply(peer, arrival);
    case P_RS_DATA_REPLY:
        return on_rs_data_reply(peer, arrival);
    case P_RS_DEALLOCATED:
        return on_rs_deallocated(peer, arrival);
    case P_DATA_REQUEST:
    case P_RS_DATA_REQUEST:
    case P_RS_THIN_REQ:
        return on_block_request(peer, arrival);
    case P_CSUM_RS_REQUEST:
        return on_csum_request(peer, arrival);
    case P_OV_REQUEST:
        return on_ov_request(peer, arrival);
    case P_OV_REPLY:
        return on_ov_reply(peer, arrival);
    case P_BARRIER:
        return on_barrier(peer, arrival);
    case P_OUT_OF_SYNC:
        return on_out_of_sync(peer, arrival);
    case P_BITMAP:
    case P_COMPRESSED_BITMAP:
        return on_bitmap(peer, arrival);
    case P_UNPLUG_REMOTE:
        if (arrival->length != 0)
            return -EPROTO;
        consume(peer, 0); /* there is no plug to pull: what has come is on its way already */
        return 0;
    default:
        return on_control(peer, arrival);
    }
}

void peer_data_parse(struct peer *peer)
{
    struct inbox *inbox = &peer->data_in;
    assert(!inbox->receiving);
    peer->stalled = false;
    while (peer->state == PEER_UP && !peer->paused && peer->filling == NULL &&
           inbox_available(inbox) >= sizeof(struct packet_header)) {
        struct arrival arrival;
        memcpy(&arrival.header, inbox_peek(inbox), sizeof arrival.header);
        arrival.command = be16toh(arrival.header.command);
        arrival.length = be32toh(arrival.header.length);
        int rc = arrival.header.magic == htobe32(PACKET_MAGIC_100) && arrival.header.volume == 0
                     ? on_packet(peer, &arrival)
                     : -EPROTO;
        if (rc < 0) {
            peer_lose(peer, CORE_LOST_PROTOCOL);
            return;
        }
        peer->stalled = rc == STALL;
        if (rc != 0)
            return;
    }
}

void peer_data_received(struct io_op *op, int32_t result)
{
    struct inbox *inbox = CONTAINER_OF(op, struct inbox, op);
    struct peer *peer = &inbox->engine->peer;
    inbox->receiving = false;
    if (peer->state == PEER_UP && result > 0) {
        peer->heard_ns = io_now_ns(peer->engine->io);
        struct request *whole = inbox_take(inbox, (uint32_t)result) ? peer->filling : NULL;
        if (whole != NULL) {
            peer->filling = NULL;
            payload_complete(peer, whole);
        }
        peer_data_parse(peer);
    } else if (result <= 0) {
        peer_lose(peer, result == 0 ? CORE_LOST_CLOSED : CORE_LOST_BROKEN);
    }
    peer_check_closed(peer);
}
