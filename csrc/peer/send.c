/* send.c - hot packets into the outboxes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <string.h>

#include "checksum.h"
#include "engine.h"

static struct packet_header header_for(uint16_t command, uint32_t length_bytes)
{
    return (struct packet_header){
        .magic = htobe32(PACKET_MAGIC_100), .volume = 0, .command = htobe16(command), .length = htobe32(length_bytes)};
}

bool peer_is_up(const struct peer *peer)
{
    return peer->state == PEER_UP && !peer->draining;
}

void peer_send(struct outbox *outbox, uint16_t command, const void *payload, uint32_t length_bytes)
{
    uint8_t packet[sizeof(struct packet_header) + CORE_PAYLOAD_MAX];
    assert(length_bytes <= CORE_PAYLOAD_MAX);
    struct packet_header header = header_for(command, length_bytes);
    memcpy(packet, &header, sizeof header);
    if (length_bytes > 0)
        memcpy(packet + sizeof header, payload, length_bytes);
    outbox_put(outbox, packet, (uint32_t)sizeof header + length_bytes);
}

static struct packet_data data_for(const struct request *request, uint64_t block_id, uint32_t sequence, uint32_t flags)
{
    return (struct packet_data){.sector = htobe64(request->sector),
                                .block_id = block_id,
                                .sequence = htobe32(sequence),
                                .dp_flags = htobe32(flags)};
}

static uint32_t write_flags(const struct core_engine *engine, const struct request *request)
{
    uint32_t flags = DP_RW_SYNC;
    if (engine->protocol == 3)
        flags |= DP_SEND_WRITE_ACK;
    if (engine->protocol == 2)
        flags |= DP_SEND_RECEIVE_ACK;
    if ((request->flags & REQUEST_IN_SYNC) != 0)
        flags |= DP_MAY_SET_IN_SYNC;
    return flags;
}

_Static_assert((uint64_t)UPPER_PART_SECTORS << 9 <= ENGINE_ZEROES_BYTES, "one buffer of zeroes serves any part");

/* The header, the fixed part and, with data-integrity-alg, the digest of the payload; the payload stays where it is. */
static void put_payload(struct peer *peer, uint16_t command, struct request *request, struct packet_data data,
                        void *payload, uint32_t length_bytes)
{
    uint32_t algorithm = peer->config.integrity_alg;
    uint32_t digest_bytes = checksum_bytes(algorithm);
    struct {
        struct packet_header header;
        struct packet_data data;
        uint8_t digest[CHECKSUM_BYTES_MAX];
    } __attribute__((packed)) packet;
    packet.header = header_for(command, (uint32_t)sizeof data + digest_bytes + length_bytes);
    packet.data = data;
    if (digest_bytes > 0)
        checksum_of(peer->engine->checksums, algorithm, payload, length_bytes, packet.digest);
    outbox_put(&peer->data_out, &packet, (uint32_t)(sizeof packet.header + sizeof packet.data) + digest_bytes);
    outbox_put_payload(&peer->data_out, request, payload, length_bytes);
}

/* Zeroes travel as TRIM or ZEROES; a peer that knows neither gets them as data. */
static void put_zeroes(struct peer *peer, struct request *request, struct packet_data data)
{
    bool punch = (request->flags & REQUEST_PUNCH) != 0;
    bool as_zeroes = (peer->config.features & FEATURE_WZEROES) != 0;
    uint32_t flags = be32toh(data.dp_flags) | (as_zeroes ? DP_ZEROES : 0u) | (punch || !as_zeroes ? DP_DISCARD : 0u);
    data.dp_flags = htobe32(flags);
    struct packet_trim trim = {.data = data, .size_bytes = htobe32(request->sectors << 9)};
    peer_send(&peer->data_out, as_zeroes ? P_ZEROES : P_TRIM, &trim, sizeof trim);
    request_leg_done(request, LEG_SENT, 0); /* nothing is borrowed */
}

void peer_send_write(struct peer *peer, struct request *request)
{
    struct core_engine *engine = peer->engine;
    struct packet_data data =
        data_for(request, request_id(request), ++peer->write_sequence, write_flags(engine, request));
    engine->counters.sent_sectors += request->sectors;
    if (request->kind == REQUEST_WRITE)
        put_payload(peer, P_DATA, request, data, request->buffer, request->sectors << 9);
    else if ((peer->config.features & (FEATURE_WZEROES | FEATURE_TRIM)) != 0)
        put_zeroes(peer, request, data);
    else
        put_payload(peer, P_DATA, request, data, engine->zeroes, request->sectors << 9);
}

void peer_send_block_request(struct peer *peer, uint16_t command, uint64_t sector, uint64_t block_id,
                             uint32_t size_bytes)
{
    struct packet_block_request packet = {
        .sector = htobe64(sector), .block_id = block_id, .size_bytes = htobe32(size_bytes)};
    peer_send(&peer->data_out, command, &packet, sizeof packet);
}

void peer_send_digest(struct peer *peer, uint16_t command, const struct request *request, const uint8_t *digest,
                      uint32_t digest_bytes)
{
    uint8_t packet[sizeof(struct packet_block_request) + CHECKSUM_BYTES_MAX];
    struct packet_block_request fixed = {.sector = htobe64(request->sector),
                                         .block_id = request->block_id,
                                         .size_bytes = htobe32(request->sectors << 9)};
    memcpy(packet, &fixed, sizeof fixed);
    memcpy(packet + sizeof fixed, digest, digest_bytes);
    peer_send(&peer->data_out, command, packet, (uint32_t)sizeof fixed + digest_bytes);
}

void peer_send_read(struct peer *peer, struct request *request)
{
    peer_send_block_request(peer, P_DATA_REQUEST, request->sector, request_id(request), request->sectors << 9);
}

void peer_send_block(struct peer *peer, uint16_t command, struct request *request)
{
    put_payload(peer, command, request, data_for(request, request->block_id, 0, 0), request->buffer,
                request->length_bytes);
    peer->engine->counters.sent_sectors += request->sectors;
}

void peer_send_ack(struct peer *peer, uint16_t command, const struct request *request)
{
    struct packet_block_ack ack = {.sector = htobe64(request->sector),
                                   .block_id = request->block_id,
                                   .size_bytes = htobe32(request->sectors << 9),
                                   .sequence = htobe32(++peer->sequence)};
    peer_send(&peer->meta_out, command, &ack, sizeof ack);
}

void peer_send_barrier(struct peer *peer, uint32_t number)
{
    struct packet_barrier barrier = {.barrier = htole32(number)};
    peer_send(&peer->data_out, P_BARRIER, &barrier, sizeof barrier);
}

static void put_range(struct peer *peer, uint16_t command, uint64_t sector, uint64_t sectors)
{
    struct packet_block_desc desc = {.sector = htobe64(sector), .size_bytes = htobe32((uint32_t)sectors << 9)};
    peer_send(&peer->data_out, command, &desc, sizeof desc);
}

void peer_send_out_of_sync(struct peer *peer, uint64_t sector, uint64_t sectors)
{
    put_range(peer, P_OUT_OF_SYNC, sector, sectors);
}

void peer_send_deallocated(struct peer *peer, const struct request *request)
{
    put_range(peer, P_RS_DEALLOCATED, request->sector, request->sectors);
}
