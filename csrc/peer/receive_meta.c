/* receive_meta.c - acknowledgements, barrier acknowledgements and pings.  No packet here waits for the control plane.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>

#include "container.h"
#include "engine.h"

/* The request that an ack answers.  NULL: not ours, not this write, or not waiting. */
static struct request *find_acknowledged(struct peer *peer, const struct packet_block_ack *ack)
{
    struct request *request = request_find(&peer->engine->requests, ack->block_id);
    if (request == NULL || (request->kind != REQUEST_WRITE && request->kind != REQUEST_ZERO))
        return NULL;
    if (request->sector != be64toh(ack->sector) || request->sectors << 9 != be32toh(ack->size_bytes))
        return NULL;
    return (request->legs & LEG_ACK) != 0 && request->entry != 0 ? request : NULL;
}

static bool is_whole_range(const struct core_engine *engine, uint64_t sector, uint32_t size_bytes)
{
    uint64_t sectors = size_bytes >> 9;
    return sectors > 0 && sector < engine->disk.size_sectors && sectors <= engine->disk.size_sectors - sector;
}

static int on_write_ack(struct peer *peer, uint16_t command, const struct packet_block_ack *ack)
{
    struct core_engine *engine = peer->engine;
    uint64_t sector = be64toh(ack->sector);
    uint32_t size_bytes = be32toh(ack->size_bytes);
    if (ack->block_id == PACKET_ID_SYNCER) {
        if (command != P_RS_WRITE_ACK || !is_whole_range(engine, sector, size_bytes))
            return -EPROTO;
        resync_in_sync(engine, sector, size_bytes >> 9);
        return 0;
    }
    struct request *request = find_acknowledged(peer, ack);
    if (request == NULL)
        return peer->forgiving ? 0 : -EPROTO;
    if (command == P_RS_WRITE_ACK)
        resync_in_sync(engine, request->sector, request->sectors);
    transfer_log_acknowledged(engine, request);
    request_leg_done(request, LEG_ACK, 0);
    return 0;
}

static int on_neg_ack(struct peer *peer, const struct packet_block_ack *ack)
{
    if (!peer->disk_failure_told)
        facts_simple(peer->engine, CORE_FACT_PEER_DISK_FAILED, 0, be64toh(ack->sector), 0);
    peer->disk_failure_told = true;
    mend_call_off(peer->engine);
    if (ack->block_id == PACKET_ID_SYNCER)
        return 0; /* a resync block that the target could not write: its bit stays */
    struct request *request = find_acknowledged(peer, ack);
    if (request == NULL)
        return peer->forgiving ? 0 : -EPROTO;
    transfer_log_refused(peer->engine, request);
    return 0;
}

static int on_neg_dreply(struct peer *peer, const struct packet_block_ack *ack)
{
    struct request *request = request_find(&peer->engine->requests, ack->block_id);
    if (request == NULL || request->kind != REQUEST_READ || (request->legs & LEG_ACK) == 0)
        return -EPROTO;
    request_leg_done(request, LEG_ACK, -EIO);
    return 0;
}

static int on_ov_result(struct peer *peer, const struct packet_block_ack *ack)
{
    struct core_engine *engine = peer->engine;
    uint64_t sector = be64toh(ack->sector);
    uint32_t size_bytes = be32toh(ack->size_bytes);
    if (!engine->verify.seen || !is_whole_range(engine, sector, size_bytes))
        return -EPROTO;
    verify_result_received(engine, sector, size_bytes >> 9, be64toh(ack->block_id) != PACKET_ID_OUT_OF_SYNC);
    return 0;
}

/* An ack of the right size arrived; 0 or -EPROTO. */
static int on_block_ack(struct peer *peer, uint16_t command, const uint8_t *payload)
{
    struct packet_block_ack ack;
    memcpy(&ack, payload, sizeof ack);
    switch (command) {
    case P_RECV_ACK:
    case P_WRITE_ACK:
    case P_RS_WRITE_ACK:
        return on_write_ack(peer, command, &ack);
    case P_NEG_ACK:
        return on_neg_ack(peer, &ack);
    case P_NEG_DREPLY:
        return on_neg_dreply(peer, &ack);
    case P_NEG_RS_DREPLY:
    case P_RS_CANCEL:
        resync_fetch_refused(peer->engine, be64toh(ack.sector), be32toh(ack.size_bytes) >> 9, command == P_RS_CANCEL);
        return 0;
    case P_RS_IS_IN_SYNC:
        resync_fetch_equal(peer->engine, be64toh(ack.sector), be32toh(ack.size_bytes) >> 9);
        return 0;
    case P_OV_RESULT:
        return on_ov_result(peer, &ack);
    default:
        return -EPROTO;
    }
}

static bool is_block_ack(uint16_t command)
{
    return (command >= P_RECV_ACK && command <= P_RS_WRITE_ACK) ||
           (command >= P_NEG_ACK && command <= P_NEG_RS_DREPLY) || command == P_RS_CANCEL || command == P_OV_RESULT ||
           command == P_RS_IS_IN_SYNC;
}

static int on_packet(struct peer *peer, const struct packet_header *header, const uint8_t *payload)
{
    uint16_t command = be16toh(header->command);
    uint32_t length = be32toh(header->length);
    if (is_block_ack(command))
        return length == sizeof(struct packet_block_ack) ? on_block_ack(peer, command, payload) : -EPROTO;
    switch (command) {
    case P_PING:
        peer_send(&peer->meta_out, P_PING_ACK, NULL, 0);
        return length == 0 ? 0 : -EPROTO;
    case P_PING_ACK:
        peer->ping_sent_ns = 0;
        return length == 0 ? 0 : -EPROTO;
    case P_BARRIER_ACK: {
        struct packet_barrier_ack ack;
        if (length != sizeof ack)
            return -EPROTO;
        memcpy(&ack, payload, sizeof ack);
        int rc = transfer_log_barrier_acknowledged(peer->engine, le32toh(ack.barrier), be32toh(ack.set_size));
        return peer->forgiving ? 0 : rc;
    }
    default:
        if (!facts_have_room(peer->engine))
            return -EPROTO;
        facts_packet(peer->engine, CORE_SOCKET_META, header, payload);
        return 0;
    }
}

static int parse(struct peer *peer)
{
    struct inbox *inbox = &peer->meta_in;
    while (inbox_available(inbox) >= sizeof(struct packet_header)) {
        struct packet_header header;
        memcpy(&header, inbox_peek(inbox), sizeof header);
        if (header.magic != htobe32(PACKET_MAGIC_100) || be32toh(header.length) > CORE_PAYLOAD_MAX ||
            header.volume != 0)
            return -EPROTO;
        uint32_t whole = (uint32_t)sizeof header + be32toh(header.length);
        if (inbox_available(inbox) < whole)
            return 0;
        int rc = on_packet(peer, &header, inbox_peek(inbox) + sizeof header);
        if (rc < 0)
            return rc;
        inbox_skip(inbox, whole);
    }
    return 0;
}

void peer_meta_received(struct io_op *op, int32_t result)
{
    struct inbox *inbox = CONTAINER_OF(op, struct inbox, op);
    struct peer *peer = &inbox->engine->peer;
    inbox->receiving = false;
    if (peer->state == PEER_UP && result > 0) {
        peer->heard_ns = io_now_ns(peer->engine->io);
        inbox_take(inbox, (uint32_t)result);
        if (parse(peer) < 0)
            peer_lose(peer, CORE_LOST_PROTOCOL);
    } else if (result <= 0) {
        peer_lose(peer, result == 0 ? CORE_LOST_CLOSED : CORE_LOST_BROKEN);
    }
    peer_check_closed(peer);
}
