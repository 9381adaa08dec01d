/* bitmap_code.c - the packed bitmap of the wire: run lengths as variable-length integers.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A length is coded by one of ten levels.  A level has a prefix, which is what the lowest bits are, and counts on from
 * where the level before it ended; the first holds 1 and 2 in two bits, the last anything in 64.  Bits fill each byte
 * from the lowest up.  A run length is never 0, so the value of the first run must be said: bit 7 of the header. */
#include "bitmap_code.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define CODE_RLE_VLI_BITS 2
#define CODE_MASK 0x0f
#define PAD_SHIFT 4
#define PAD_MASK 0x07
#define FIRST_RUN_SET 0x80

struct level {
    uint8_t bits; /* the whole code */
    uint8_t prefix_bits;
    uint8_t prefix;
};

static const struct level levels[] = {
    {2, 1, 0x00},  {3, 2, 0x01},  {5, 3, 0x03},  {7, 4, 0x07},  {10, 5, 0x0f},
    {14, 6, 0x1f}, {21, 8, 0x3f}, {29, 8, 0x7f}, {42, 8, 0xbf}, {64, 8, 0xff},
};
#define LEVELS (sizeof(levels) / sizeof(levels[0]))

/* A position in a little-endian bit stream. */
struct bit_stream {
    uint64_t position;
    uint64_t end;
};

/* How many lengths the level can say. */
static uint64_t capacity(const struct level *level)
{
    return UINT64_C(1) << (level->bits - level->prefix_bits);
}

/* Returns the level that codes `length` and its code; a length that no device has would not fit the last level. */
static const struct level *encode(uint64_t length, uint64_t *code)
{
    uint64_t first = 1;
    size_t i = 0;

    while (i < LEVELS - 1 && length - first >= capacity(&levels[i])) {
        first += capacity(&levels[i]);
        i++;
    }
    *code = (length - first) << levels[i].prefix_bits | levels[i].prefix;
    return &levels[i];
}

static bool put_bits(struct bit_stream *stream, uint8_t *bytes, uint64_t value, uint32_t bits)
{
    if (bits > stream->end - stream->position)
        return false;
    for (uint32_t done = 0; done < bits;) {
        uint32_t shift = (uint32_t)(stream->position & 7);
        uint32_t take = bits - done < 8 - shift ? bits - done : 8 - shift;
        uint32_t part = (uint32_t)(value >> done) & ((1u << take) - 1);

        bytes[stream->position >> 3] |= (uint8_t)(part << shift);
        stream->position += take;
        done += take;
    }
    return true;
}

/* The next up to 64 bits without moving on; past the end there are zeroes. */
static uint64_t look_ahead(const struct bit_stream *stream, const uint8_t *bytes)
{
    uint64_t value = 0;
    uint64_t position = stream->position;

    for (uint32_t done = 0; done < 64 && position < stream->end;) {
        uint32_t shift = (uint32_t)(position & 7);
        uint32_t take = 64 - done < 8 - shift ? 64 - done : 8 - shift;
        uint64_t part = (uint64_t)(bytes[position >> 3] >> shift) & ((1u << take) - 1);

        value |= part << done;
        position += take;
        done += take;
    }
    return value;
}

/* False: the stream ends inside the code. */
static bool get_length(struct bit_stream *stream, const uint8_t *bytes, uint64_t *length)
{
    uint64_t code = look_ahead(stream, bytes);
    uint64_t first = 1;

    for (size_t i = 0; i < LEVELS; i++) {
        const struct level *level = &levels[i];

        if ((code & ((UINT64_C(1) << level->prefix_bits) - 1)) == level->prefix) {
            if (level->bits > stream->end - stream->position)
                return false;
            if (level->bits < 64)
                code &= (UINT64_C(1) << level->bits) - 1;
            *length = (code >> level->prefix_bits) + first;
            stream->position += level->bits;
            return true;
        }
        first += capacity(level);
    }
    return false; /* not reached: the prefixes leave nothing out */
}

/* Where the run at `bit` ends. */
static uint64_t run_end(const struct bitmap *bitmap, uint64_t bit, bool set)
{
    uint64_t end = set ? bitmap_next_clear(bitmap, bit) : bitmap_next(bitmap, bit);

    return end == BITMAP_NONE ? bitmap_bits(bitmap) : end;
}

uint32_t bitmap_code_pack(const struct bitmap *bitmap, uint64_t *bit, uint8_t *payload, uint32_t room)
{
    uint64_t bits = bitmap_bits(bitmap);
    uint64_t at = *bit;
    struct bit_stream stream = {.position = 0};
    uint32_t length_bytes;
    bool set;

    if (at >= bits || room < 2)
        return 0;
    memset(payload, 0, room);
    stream.end = (uint64_t)(room - 1) * 8;
    set = bitmap_next(bitmap, at) == at;
    payload[0] = CODE_RLE_VLI_BITS | (set ? FIRST_RUN_SET : 0);
    for (; at < bits; set = !set) {
        uint64_t end = run_end(bitmap, at, set);
        uint64_t code;
        const struct level *level = encode(end - at, &code);

        if (!put_bits(&stream, payload + 1, code, level->bits))
            break;
        at = end;
    }
    length_bytes = (uint32_t)((stream.position + 7) / 8);
    /* As 8.4 decides: what takes more bits than the runs have is sent plain. */
    if (length_bytes == 0 || at - *bit < (uint64_t)length_bytes * 8)
        return 0;
    payload[0] = (uint8_t)(payload[0] | ((uint64_t)length_bytes * 8 - stream.position) << PAD_SHIFT);
    *bit = at;
    return 1 + length_bytes;
}

int bitmap_code_merge(struct bitmap *bitmap, uint64_t *bit, const uint8_t *payload, uint32_t length)
{
    uint64_t bits = bitmap_bits(bitmap);
    uint64_t at = *bit;
    struct bit_stream stream = {.position = 0};
    bool set;

    if (length < 2 || (payload[0] & CODE_MASK) != CODE_RLE_VLI_BITS || at > bits)
        return -EPROTO;
    stream.end = (uint64_t)(length - 1) * 8 - (payload[0] >> PAD_SHIFT & PAD_MASK);
    set = (payload[0] & FIRST_RUN_SET) != 0;
    for (; stream.position < stream.end; set = !set) {
        uint64_t run;

        if (!get_length(&stream, payload + 1, &run) || run > bits - at)
            return -EPROTO;
        if (set)
            (void)bitmap_set(bitmap, at * 8, run * 8);
        at += run;
    }
    *bit = at;
    return 0;
}
