/* bitmap_exchange.c - both whole bitmaps cross the wire before a resync; each side ends with the union.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Packed runs (COMPRESSED_BITMAP) or plain words (BITMAP); a packet is made only when there is room for it, so a large
 * map never fills the outbox.  The plain form ends with an empty packet, the packed form with the run that reaches the
 * end (8.4 drbd_send_bitmap, receive_bitmap). */
#include <errno.h>

#include "bitmap.h"
#include "bitmap_code.h"
#include "engine.h"

#define WORDS_MAX (PACKET_BITMAP_BYTES_MAX / 8)

void bitmap_exchange_send(struct core_engine *engine, uint64_t token, bool packed)
{
    engine->exchange = (struct bitmap_exchange){.sending = true, .packed = packed, .token = token};
    if (engine->disk.bitmap == NULL || !peer_is_up(&engine->peer))
        bitmap_exchange_drop(engine);
}

void bitmap_exchange_drop(struct core_engine *engine)
{
    engine->peer.bitmap_bit = engine->peer.bitmap_word = 0;
    if (!engine->exchange.sending)
        return;
    engine->exchange.sending = false;
    facts_done(engine, engine->exchange.token, -ENOTCONN);
}

static void put(struct core_engine *engine, uint16_t command, uint8_t *packet, uint32_t length_bytes)
{
    struct packet_header *header = (struct packet_header *)(void *)packet;
    *header = (struct packet_header){
        .magic = htobe32(PACKET_MAGIC_100), .command = htobe16(command), .length = htobe32(length_bytes)};
    outbox_put(&engine->peer.data_out, packet, (uint32_t)sizeof *header + length_bytes);
}

/* True: that was the last. */
static bool send_plain(struct core_engine *engine, uint8_t *packet)
{
    struct bitmap_exchange *exchange = &engine->exchange;
    const struct bitmap *bitmap = engine->disk.bitmap;
    uint64_t words = bitmap_words(bitmap) - exchange->word;
    if (words > WORDS_MAX)
        words = WORDS_MAX;
    bitmap_words_copy(bitmap, exchange->word, packet + sizeof(struct packet_header), words);
    put(engine, P_BITMAP, packet, (uint32_t)words * 8);
    exchange->word += words;
    exchange->bit = exchange->word * 64;
    return words == 0;
}

static bool send_one(struct core_engine *engine)
{
    struct bitmap_exchange *exchange = &engine->exchange;
    uint8_t packet[sizeof(struct packet_header) + PACKET_BITMAP_BYTES_MAX];
    if (exchange->packed) {
        uint32_t length = bitmap_code_pack(engine->disk.bitmap, &exchange->bit, packet + sizeof(struct packet_header),
                                           PACKET_BITMAP_BYTES_MAX);
        if (length > 0) {
            put(engine, P_COMPRESSED_BITMAP, packet, length);
            exchange->word = exchange->bit / 64;
            return exchange->bit >= bitmap_bits(engine->disk.bitmap);
        }
    }
    return send_plain(engine, packet);
}

void bitmap_exchange_pump(struct core_engine *engine)
{
    struct bitmap_exchange *exchange = &engine->exchange;
    while (exchange->sending && outbox_has_room(&engine->peer.data_out)) {
        if (!send_one(engine))
            continue;
        exchange->sending = false;
        facts_done(engine, exchange->token, 0);
    }
}

/* 0, 1 when the peer's map is whole, or -EPROTO. */
static int merge_plain(struct core_engine *engine, const uint8_t *payload, uint32_t length_bytes)
{
    struct peer *peer = &engine->peer;
    uint64_t words = bitmap_words(engine->disk.bitmap) - peer->bitmap_word;
    if (words > WORDS_MAX)
        words = WORDS_MAX;
    if (length_bytes != words * 8)
        return -EPROTO;
    bitmap_words_merge(engine->disk.bitmap, peer->bitmap_word, payload, words);
    peer->bitmap_word += words;
    peer->bitmap_bit = peer->bitmap_word * 64;
    return words == 0 ? 1 : 0;
}

int bitmap_exchange_received(struct core_engine *engine, uint16_t command, const uint8_t *payload,
                             uint32_t length_bytes)
{
    struct peer *peer = &engine->peer;
    if (engine->disk.bitmap == NULL)
        return -EPROTO;
    int rc;
    if (command == P_BITMAP) {
        rc = merge_plain(engine, payload, length_bytes);
    } else {
        rc = bitmap_code_merge(engine->disk.bitmap, &peer->bitmap_bit, payload, length_bytes);
        peer->bitmap_word = peer->bitmap_bit / 64;
        if (rc == 0 && peer->bitmap_bit >= bitmap_bits(engine->disk.bitmap))
            rc = 1;
    }
    if (rc == 1) {
        peer->bitmap_bit = peer->bitmap_word = 0;
        facts_simple(engine, CORE_FACT_BITMAP_RECEIVED, 0, bitmap_count(engine->disk.bitmap), 0);
    }
    return rc;
}
