/* test_bitmap_code.c - the packed bitmap: what the kernel's DRBD sent, round trips, and garbage.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "bitmap_code.h"

#include <errno.h>
#include <string.h>

#include "check.h"

#define CAPTURED_SECTORS 16384 /* 8 MiB: 2048 bits */

struct captured {
    uint8_t payload[8];
    uint32_t length;
    uint64_t set;   /* bits set */
    uint64_t first; /* the first of them */
};

/* Every different COMPRESSED_BITMAP captured from two virtual machines, Debian 12, Linux 6.12, drbd 8.4.11, and what
 * the resync requests that followed asked for. */
static const struct captured captures[] = {
    {{0xb2, 0x3f, 0xcf, 0x06}, 4, 2048, 0},
    {{0x22, 0xdf, 0x4c, 0x7e, 0xd0, 0x0c}, 6, 3, 100},
    {{0x72, 0x3f, 0xcf, 0xe0, 0xfe, 0xf3, 0x4b, 0x00}, 8, 16, 512},
    {{0x72, 0xf0, 0xd3, 0x6c, 0x00}, 5, 1, 1},
    {{0x72, 0xf8, 0xc3, 0x6c, 0x00}, 5, 2, 1},
    {{0x42, 0x3f, 0x27, 0xc1, 0x9f, 0x3a, 0x02}, 7, 2, 600},
};

static void what_the_kernel_sent_is_read_and_written_alike(void)
{
    for (size_t i = 0; i < sizeof(captures) / sizeof(captures[0]); i++) {
        const struct captured *captured = &captures[i];
        uint64_t bit = 0;
        uint8_t payload[64];
        struct bitmap *bitmap;

        CHECK_EQUAL(bitmap_new(CAPTURED_SECTORS, &bitmap), 0);
        CHECK_EQUAL(bitmap_code_merge(bitmap, &bit, captured->payload, captured->length), 0);
        CHECK_EQUAL(bit, 2048);
        CHECK(bitmap_count(bitmap) == captured->set && bitmap_next(bitmap, 0) == captured->first,
              "capture %zu: %llu bits from %llu", i, (unsigned long long)bitmap_count(bitmap),
              (unsigned long long)bitmap_next(bitmap, 0));
        bit = 0;
        CHECK_EQUAL(bitmap_code_pack(bitmap, &bit, payload, sizeof(payload)), captured->length);
        CHECK(memcmp(payload, captured->payload, captured->length) == 0, "capture %zu is packed differently", i);
        CHECK_EQUAL(bit, 2048);
        CHECK_EQUAL(bitmap_code_pack(bitmap, &bit, payload, sizeof(payload)), 0);
        bitmap_free(bitmap);
    }
}

static void fill_randomly(struct bitmap *bitmap, uint64_t *state)
{
    uint64_t sector = 0, sectors = bitmap_bits(bitmap) * 8;

    while (sector < sectors) {
        uint64_t longest = 8ull << draw_below(state, 18);
        uint64_t run = (1 + draw_below(state, longest)) & ~7ull;

        if (draw_below(state, 2) == 0)
            bitmap_set(bitmap, sector, run);
        sector += run + 8;
    }
}

/* As the sender does: packed where that is shorter, else a word's worth plainly. */
static void transfer(const struct bitmap *from, struct bitmap *to, uint32_t room)
{
    uint64_t sent = 0, received = 0;
    uint8_t payload[4096];

    while (sent < bitmap_bits(from)) {
        uint32_t length = bitmap_code_pack(from, &sent, payload, room);

        if (length > 0) {
            CHECK(length <= room, "%u bytes in room for %u", length, room);
            CHECK_EQUAL(bitmap_code_merge(to, &received, payload, length), 0);
        } else {
            bitmap_words_copy(from, sent / 64, payload, 1);
            bitmap_words_merge(to, sent / 64, payload, 1);
            sent = received = (sent / 64 + 1) * 64;
        }
        CHECK_EQUAL(received, sent);
    }
}

static void a_map_arrives_in_as_many_packets_as_it_needs(void)
{
    uint64_t state = 4711;

    for (int round = 0; round < 60; round++) {
        uint64_t sectors = 8 * (1 + draw_below(&state, 400000)) - draw_below(&state, 8);
        struct bitmap *from, *to;

        CHECK_EQUAL(bitmap_new(sectors, &from), 0);
        CHECK_EQUAL(bitmap_new(sectors, &to), 0);
        fill_randomly(from, &state);
        transfer(from, to, round % 3 == 0 ? 24 : 4096);
        CHECK_EQUAL(bitmap_count(to), bitmap_count(from));
        for (uint64_t bit = 0; bit < bitmap_bits(from); bit++) {
            uint64_t next = bitmap_next(from, bit);

            CHECK(bitmap_next(to, bit) == next, "bit %llu", (unsigned long long)bit);
            bit = next == BITMAP_NONE ? bitmap_bits(from) : bitmap_next_clear(from, next);
        }
        bitmap_free(from);
        bitmap_free(to);
    }
}

static void long_runs_take_few_bytes(void)
{
    uint64_t sectors = UINT64_C(1) << 35; /* 16 TiB */
    uint64_t bit = 0;
    uint8_t payload[64];
    struct bitmap *bitmap, *copy;

    CHECK_EQUAL(bitmap_new(sectors, &bitmap), 0);
    CHECK_EQUAL(bitmap_new(sectors, &copy), 0);
    bitmap_set(bitmap, sectors - 8, 8);
    CHECK_EQUAL(bitmap_code_pack(bitmap, &bit, payload, sizeof(payload)), 1 + 6); /* 42 bits and 2 */
    bit = 0;
    CHECK_EQUAL(bitmap_code_merge(copy, &bit, payload, 7), 0);
    CHECK_EQUAL(bitmap_next(copy, 0), sectors / 8 - 1);
    bitmap_free(bitmap);
    bitmap_free(copy);
}

static void plain_words_are_preferred_where_they_are_shorter(void)
{
    uint64_t bit = 0;
    uint8_t payload[4096];
    struct bitmap *bitmap;

    CHECK_EQUAL(bitmap_new(8 * 4096, &bitmap), 0);
    for (uint64_t i = 0; i < 4096; i += 2)
        bitmap_set(bitmap, 8 * i, 8);
    CHECK_EQUAL(bitmap_code_pack(bitmap, &bit, payload, sizeof(payload)), 0);
    CHECK_EQUAL(bit, 0);
    CHECK_EQUAL(bitmap_code_pack(bitmap, &bit, payload, 1), 0);
    bitmap_free(bitmap);
}

static void a_malformed_payload_is_refused(void)
{
    static const uint8_t wrong_code[] = {0x31, 0x3f, 0xcf, 0x06};
    static const uint8_t too_long[] = {0xb2, 0x3f, 0xd0, 0x06};       /* 2049 bits */
    static const uint8_t too_long_clear[] = {0x32, 0x3f, 0xd0, 0x06}; /* the same, of clear bits */
    static const uint8_t cut[] = {0x82, 0x3f, 0xcf};                  /* the code ends in its middle */
    static const uint8_t huge[] = {0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    uint64_t bit = 0;
    struct bitmap *bitmap;

    CHECK_EQUAL(bitmap_new(CAPTURED_SECTORS, &bitmap), 0);
    CHECK_EQUAL(bitmap_code_merge(bitmap, &bit, wrong_code, sizeof(wrong_code)), -EPROTO);
    CHECK_EQUAL(bitmap_code_merge(bitmap, &bit, too_long, sizeof(too_long)), -EPROTO);
    CHECK_EQUAL(bitmap_code_merge(bitmap, &bit, too_long_clear, sizeof(too_long_clear)), -EPROTO);
    CHECK_EQUAL(bitmap_code_merge(bitmap, &bit, cut, sizeof(cut)), -EPROTO);
    CHECK_EQUAL(bitmap_code_merge(bitmap, &bit, huge, sizeof(huge)), -EPROTO);
    CHECK_EQUAL(bitmap_code_merge(bitmap, &bit, huge, 1), -EPROTO);
    CHECK_EQUAL(bitmap_code_merge(bitmap, &bit, huge, 0), -EPROTO);
    CHECK_EQUAL(bit, 0);
    bitmap_free(bitmap);
}

static void garbage_never_sets_a_bit_past_the_end(void)
{
    uint64_t state = 31337;

    for (int round = 0; round < 3000; round++) {
        uint64_t bit = 0;
        uint8_t payload[40];
        struct bitmap *bitmap;

        CHECK_EQUAL(bitmap_new(8 * (1 + draw_below(&state, 5000)), &bitmap), 0);
        for (size_t i = 0; i < sizeof(payload); i++)
            payload[i] = (uint8_t)(draw(&state) >> 16);
        payload[0] = (uint8_t)((payload[0] & 0xf0) | 2);
        (void)bitmap_code_merge(bitmap, &bit, payload, 1 + (uint32_t)draw_below(&state, sizeof(payload)));
        CHECK(bit <= bitmap_bits(bitmap), "bit %llu", (unsigned long long)bit);
        CHECK(bitmap_count(bitmap) <= bitmap_bits(bitmap), "more bits than there are");
        bitmap_free(bitmap);
    }
}

int main(void)
{
    what_the_kernel_sent_is_read_and_written_alike();
    a_map_arrives_in_as_many_packets_as_it_needs();
    long_runs_take_few_bytes();
    plain_words_are_preferred_where_they_are_shorter();
    a_malformed_payload_is_refused();
    garbage_never_sets_a_bit_past_the_end();
    return 0;
}
