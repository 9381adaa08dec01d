/* test_digest.c - CRC-32C against the published values and against the definition, bit by bit.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <string.h>

#include "check.h"

#include "../../csrc/structures/digest.c" /* its table is tried even where the processor has the instruction */

static uint32_t by_definition(const uint8_t *data, uint64_t length_bytes)
{
    uint32_t crc = UINT32_MAX;

    for (uint64_t i = 0; i < length_bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void the_published_values_come_out(void)
{
    uint8_t block[32];

    CHECK_EQUAL(digest_crc32c(0, "", 0), 0);
    CHECK_EQUAL(digest_crc32c(0, "123456789", 9), 0xe3069283);
    memset(block, 0, sizeof(block)); /* RFC 3720, B.4 */
    CHECK_EQUAL(digest_crc32c(0, block, 32), 0x8a9136aa);
    memset(block, 0xff, sizeof(block));
    CHECK_EQUAL(digest_crc32c(0, block, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        block[i] = (uint8_t)i;
    CHECK_EQUAL(digest_crc32c(0, block, 32), 0x46dd794e);
}

static void every_length_and_split_agrees_with_the_definition(void)
{
    enum { BYTES = 10000 };
    uint8_t *data = malloc(BYTES + 8);
    uint64_t state = 17;

    for (int i = 0; i < BYTES + 8; i++)
        data[i] = (uint8_t)(draw(&state) >> 24);
    for (int round = 0; round < 500; round++) {
        uint64_t length = draw_below(&state, round % 2 ? BYTES : 300);
        uint64_t split = draw_below(&state, length + 1);
        const uint8_t *begin = data + draw_below(&state, 8);
        uint32_t expected = by_definition(begin, length);

        CHECK_EQUAL(digest_crc32c(0, begin, length), expected);
        CHECK_EQUAL(digest_crc32c(digest_crc32c(0, begin, split), begin + split, length - split), expected);
        CHECK_EQUAL(~crc_by_table(UINT32_MAX, begin, length), expected);
    }
    free(data);
}

int main(void)
{
    the_published_values_come_out();
    every_length_and_split_agrees_with_the_definition();
    return 0;
}
