/* replies.h - what a client expects to be answered, for the tests of the NBD room.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NBD_REPLIES_H
#define NBD_REPLIES_H

#include "messages.h"

/* Option reply types. */
#define REP_ACK 1U
#define REP_SERVER 2U
#define REP_INFO 3U
#define REP_UNSUP 0x80000001U
#define REP_POLICY 0x80000002U
#define REP_INVALID 0x80000003U
#define REP_UNKNOWN 0x80000006U
#define REP_SHUTDOWN 0x80000007U

/* Returns the length of the data, which are next. */
static inline uint32_t expect_option_reply(struct wire *wire, uint32_t option, uint32_t type)
{
    REQUIRE(wire_take_number(wire, 8) == UINT64_C(0x0003e889045565a9), "option reply magic");
    const uint32_t echoed = (uint32_t)wire_take_number(wire, 4);
    REQUIRE(echoed == option, "option %u echoed as %u", option, echoed);
    const uint32_t got = (uint32_t)wire_take_number(wire, 4);
    REQUIRE(got == type, "reply type %#x, wanted %#x", got, type);
    return (uint32_t)wire_take_number(wire, 4);
}

static inline void expect_ack(struct wire *wire, uint32_t option)
{
    REQUIRE(expect_option_reply(wire, option, REP_ACK) == 0, "an ACK with data");
}

static inline void expect_refusal(struct wire *wire, uint32_t option, uint32_t type)
{
    const uint32_t text_bytes = expect_option_reply(wire, option, type);
    REQUIRE(text_bytes <= 4096, "%u bytes of text", text_bytes);
    wire_take(wire, text_bytes);
}

static inline void expect_info_export(struct wire *wire, uint32_t option, uint64_t size_bytes, uint32_t flags)
{
    REQUIRE(expect_option_reply(wire, option, REP_INFO) == 12, "length of INFO_EXPORT");
    REQUIRE(wire_take_number(wire, 2) == 0, "type of INFO_EXPORT");
    REQUIRE(wire_take_number(wire, 8) == size_bytes, "size");
    const uint32_t got = (uint32_t)wire_take_number(wire, 2);
    REQUIRE(got == flags, "transmission flags %#x, wanted %#x", got, flags);
}

static inline void expect_simple_with(struct wire *wire, uint32_t error, uint64_t cookie)
{
    REQUIRE(wire_take_number(wire, 4) == 0x67446698, "simple reply magic");
    const uint32_t got = (uint32_t)wire_take_number(wire, 4);
    REQUIRE(got == error, "error %u, wanted %u", got, error);
    const uint64_t echoed = wire_take_number(wire, 8);
    REQUIRE(echoed == cookie, "cookie %#llx", (unsigned long long)echoed);
}

static inline void expect_simple(struct wire *wire, uint32_t error)
{
    expect_simple_with(wire, error, COOKIE);
}

/* Returns the chunk's length; its payload is next.  Every chunk of ours is the last of its reply. */
static inline uint32_t expect_chunk(struct wire *wire, uint32_t type)
{
    REQUIRE(wire_take_number(wire, 4) == 0x668e33ef, "structured reply magic");
    REQUIRE(wire_take_number(wire, 2) == 1, "DONE");
    const uint32_t got = (uint32_t)wire_take_number(wire, 2);
    REQUIRE(got == type, "chunk type %#x, wanted %#x", got, type);
    REQUIRE(wire_take_number(wire, 8) == COOKIE, "cookie");
    return (uint32_t)wire_take_number(wire, 4);
}

static inline void expect_chunk_error(struct wire *wire, uint32_t error)
{
    const uint32_t length_bytes = expect_chunk(wire, 0x8001);
    REQUIRE(length_bytes >= 6, "length %u", length_bytes);
    const uint32_t got = (uint32_t)wire_take_number(wire, 4);
    REQUIRE(got == error, "error %u, wanted %u", got, error);
    const uint32_t text_bytes = (uint32_t)wire_take_number(wire, 2);
    REQUIRE(length_bytes == 6 + text_bytes, "length %u, text %u", length_bytes, text_bytes);
    wire_take(wire, text_bytes);
}

/* Through the negotiation, so that the test starts in transmission with nothing unread. */
static inline void wire_enter_transmission(struct wire *wire, bool structured)
{
    wire_put_number(wire, 3, 4);
    if (structured) {
        wire_put_option(wire, 8, NULL, 0);
    }
    wire_put_info(wire, 7, "", NULL, 0);
    wire_run(wire);
    wire_expect_state(wire, NBD_TRANSMISSION);
    wire->output_read_bytes = wire->output_bytes;
}

#endif
