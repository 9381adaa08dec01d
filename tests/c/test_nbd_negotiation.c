/* test_nbd_negotiation.c - every option, right and wrong, answered as the protocol says.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "nbd/replies.h"

enum {
    OPT_EXPORT_NAME = 1,
    OPT_ABORT = 2,
    OPT_LIST = 3,
    OPT_PEEK_EXPORT = 4,
    OPT_STARTTLS = 5,
    OPT_INFO = 6,
    OPT_GO = 7,
    OPT_STRUCTURED_REPLY = 8,
    OPT_LIST_META_CONTEXT = 9,
    OPT_SET_META_CONTEXT = 10,
    OPT_EXTENDED_HEADERS = 11
};
enum { SIZE = 1 << 20, FLAGS = 0xd6d, FLAGS_STRUCTURED = 0xded };

static void open_with_flags(struct wire *wire, uint32_t flags)
{
    wire_init(wire, SIZE);
    wire_put_number(wire, flags, 4);
    wire_run(wire);
    const uint8_t *greeting = wire_take(wire, WIRE_GREETING_BYTES);
    REQUIRE(memcmp(greeting, "NBDMAGICIHAVEOPT\0\3", WIRE_GREETING_BYTES) == 0, "greeting");
}

static void open_wire(struct wire *wire)
{
    open_with_flags(wire, 3);
}

/* The stream is in step: a LIST is answered as ever. */
static void expect_in_step(struct wire *wire)
{
    wire_put_option(wire, OPT_LIST, NULL, 0);
    wire_run(wire);
    const uint32_t length_bytes = expect_option_reply(wire, OPT_LIST, REP_SERVER);
    REQUIRE(length_bytes == 4 + 5 + 16, "length %u", length_bytes);
    REQUIRE(wire_take_number(wire, 4) == 5, "name length");
    REQUIRE(memcmp(wire_take(wire, 21), "drbd0a disk in memory", 21) == 0, "name and description");
    expect_ack(wire, OPT_LIST);
    wire_expect_nothing(wire);
    wire_expect_state(wire, NBD_HANDSHAKE);
}

static void expect_failed(struct wire *wire)
{
    wire_run(wire);
    wire_expect_nothing(wire);
    wire_expect_state(wire, NBD_FAILED);
    wire_fini(wire);
}

static void expect_refused_in_step(struct wire *wire, uint32_t option, uint32_t type)
{
    wire_run(wire);
    expect_refusal(wire, option, type);
    wire_expect_nothing(wire);
    expect_in_step(wire);
    wire_fini(wire);
}

static void test_unknown_client_flag_is_dropped(void)
{
    for (uint32_t bit = 2; bit < 32; bit++) {
        struct wire wire;
        wire_init(&wire, SIZE);
        wire_put_number(&wire, UINT64_C(1) << bit | 3, 4);
        wire_run(&wire);
        wire_expect_state(&wire, NBD_FAILED);
        wire_fini(&wire);
    }
}

static void test_plain_newstyle_client_gets_export_name_alone(void)
{
    struct wire wire;
    open_with_flags(&wire, 0);
    wire_put_option(&wire, OPT_LIST, NULL, 0);
    wire_put_info(&wire, OPT_GO, "", NULL, 0);
    wire_run(&wire);
    expect_refusal(&wire, OPT_LIST, REP_INVALID);
    expect_refusal(&wire, OPT_GO, REP_INVALID);
    wire_put_option(&wire, OPT_EXPORT_NAME, "drbd0", 5);
    wire_run(&wire);
    wire_take(&wire, 134);
    wire_expect_nothing(&wire);
    wire_expect_state(&wire, NBD_TRANSMISSION);
    wire_fini(&wire);
}

static void test_export_name_sends_exactly_its_bytes(void)
{
    for (uint32_t flags = 0; flags < 4; flags++) {
        struct wire wire;
        open_with_flags(&wire, flags);
        wire_put_option(&wire, OPT_EXPORT_NAME, "drbd0", flags % 2 == 0 ? 5 : 0);
        wire_run(&wire);
        REQUIRE(wire_take_number(&wire, 8) == SIZE, "size");
        REQUIRE(wire_take_number(&wire, 2) == FLAGS, "transmission flags");
        for (uint32_t i = 0; (flags & 2) == 0 && i < 124; i++) {
            REQUIRE(wire_take_number(&wire, 1) == 0, "zero %u", i);
        }
        wire_expect_nothing(&wire);
        wire_expect_state(&wire, NBD_TRANSMISSION);
        wire_fini(&wire);
    }
}

static void test_export_name_of_a_stranger_is_dropped(void)
{
    struct wire wire;
    open_wire(&wire);
    wire_put_option(&wire, OPT_EXPORT_NAME, "drbd00", 6);
    expect_failed(&wire);
    open_wire(&wire);
    wire_put_option(&wire, OPT_EXPORT_NAME, "drbd", 4);
    expect_failed(&wire);
    open_wire(&wire);
    wire_put_option(&wire, OPT_EXPORT_NAME, "drbd0\0", 6);
    expect_failed(&wire);
}

static void test_export_name_after_structured_reply_offers_df(void)
{
    struct wire wire;
    open_wire(&wire);
    wire_put_option(&wire, OPT_STRUCTURED_REPLY, NULL, 0);
    wire_put_option(&wire, OPT_EXPORT_NAME, "", 0);
    wire_run(&wire);
    expect_ack(&wire, OPT_STRUCTURED_REPLY);
    wire_take(&wire, 8);
    REQUIRE(wire_take_number(&wire, 2) == FLAGS_STRUCTURED, "DF");
    wire_expect_nothing(&wire);
    wire_fini(&wire);
}

static void test_abort_is_acknowledged_then_closed(void)
{
    struct wire wire;
    open_wire(&wire);
    wire_put_option(&wire, OPT_ABORT, NULL, 0);
    wire_put_option(&wire, OPT_LIST, NULL, 0);
    wire_run(&wire);
    expect_ack(&wire, OPT_ABORT);
    wire_expect_nothing(&wire);
    wire_expect_state(&wire, NBD_CLOSING);
    wire_fini(&wire);
}

static void test_options_that_we_do_not_have_are_swallowed(void)
{
    const uint32_t options[] = {OPT_PEEK_EXPORT, OPT_EXTENDED_HEADERS, 0, 12, 0x7fffffff, 0xffffffff};
    const uint32_t lengths[] = {0, 1, 1000, 65536};
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        for (size_t j = 0; j < sizeof(lengths) / sizeof(lengths[0]); j++) {
            struct wire wire;
            open_wire(&wire);
            wire_put_option(&wire, options[i], NULL, lengths[j]);
            expect_refused_in_step(&wire, options[i], REP_UNSUP);
        }
    }
}

static void test_starttls(void)
{
    struct wire wire;
    open_wire(&wire);
    wire_put_option(&wire, OPT_STARTTLS, NULL, 0);
    expect_refused_in_step(&wire, OPT_STARTTLS, REP_POLICY);
    open_wire(&wire);
    wire_put_option(&wire, OPT_STARTTLS, NULL, 4);
    expect_refused_in_step(&wire, OPT_STARTTLS, REP_INVALID);
}

static void test_options_without_data_refuse_data(void)
{
    struct wire wire;
    open_wire(&wire);
    wire_put_option(&wire, OPT_LIST, NULL, 1);
    expect_refused_in_step(&wire, OPT_LIST, REP_INVALID);
    open_wire(&wire);
    wire_put_option(&wire, OPT_STRUCTURED_REPLY, NULL, 1);
    expect_refused_in_step(&wire, OPT_STRUCTURED_REPLY, REP_INVALID);
}

static void test_info_and_go_answer_the_same(void)
{
    const uint16_t types[] = {3, 1, 2, 3, 77, 0};
    struct wire wire;
    open_wire(&wire);
    wire_put_option(&wire, OPT_STRUCTURED_REPLY, NULL, 0);
    wire_put_option(&wire, OPT_STRUCTURED_REPLY, NULL, 0);
    wire_put_info(&wire, OPT_INFO, "stranger", types, 6);
    wire_put_info(&wire, OPT_INFO, "drbd0", types, 6);
    wire_put_info(&wire, OPT_GO, "drbd0", types, 6);
    wire_run(&wire);
    expect_ack(&wire, OPT_STRUCTURED_REPLY);
    expect_ack(&wire, OPT_STRUCTURED_REPLY);
    expect_refusal(&wire, OPT_INFO, REP_UNKNOWN);
    for (uint32_t option = OPT_INFO; option <= OPT_GO; option++) {
        expect_info_export(&wire, option, SIZE, FLAGS_STRUCTURED);
        REQUIRE(expect_option_reply(&wire, option, REP_INFO) == 7, "length of INFO_NAME");
        REQUIRE(memcmp(wire_take(&wire, 7), "\0\1drbd0", 7) == 0, "INFO_NAME");
        REQUIRE(expect_option_reply(&wire, option, REP_INFO) == 18, "length of INFO_DESCRIPTION");
        REQUIRE(memcmp(wire_take(&wire, 18), "\0\2a disk in memory", 18) == 0, "INFO_DESCRIPTION");
        REQUIRE(expect_option_reply(&wire, option, REP_INFO) == 14, "length of INFO_BLOCK_SIZE");
        REQUIRE(wire_take_number(&wire, 2) == 3, "INFO_BLOCK_SIZE");
        REQUIRE(wire_take_number(&wire, 4) == 1, "minimum");
        REQUIRE(wire_take_number(&wire, 4) == 4096, "preferred");
        REQUIRE(wire_take_number(&wire, 4) == 32 * 1024 * 1024, "maximum");
        expect_ack(&wire, option);
    }
    wire_expect_nothing(&wire);
    wire_expect_state(&wire, NBD_TRANSMISSION);
    wire_fini(&wire);
}

static void test_go_never_sends_the_zeroes(void)
{
    struct wire wire;
    open_with_flags(&wire, 1);
    wire_put_info(&wire, OPT_GO, "", NULL, 0);
    wire_run(&wire);
    expect_info_export(&wire, OPT_GO, SIZE, FLAGS);
    expect_ack(&wire, OPT_GO);
    wire_expect_nothing(&wire);
    wire_fini(&wire);
}

static void test_flags_of_a_read_only_rotational_export(void)
{
    struct wire wire;
    open_wire(&wire);
    wire.memory.export.read_only = true;
    wire.memory.export.rotational = true;
    wire_put_info(&wire, OPT_GO, "", NULL, 0);
    wire_run(&wire);
    expect_info_export(&wire, OPT_GO, SIZE, 0x51f);
    expect_ack(&wire, OPT_GO);
    wire_fini(&wire);
}

/* Data of an INFO or GO in which the lengths do not add up. */
static void test_malformed_info_is_invalid_and_in_step(void)
{
    static const struct {
        const char *data;
        uint32_t length_bytes;
    } cases[] = {
        {"", 0},
        {"\0\0\0", 3},
        {"\0\0\0\0", 4},
        {"\0\0\0\0\0", 5},
        {"\0\0\0\0\0\1", 6},              /* one type announced, none there */
        {"\0\0\0\0\0\1\0", 7},            /* half a type */
        {"\0\0\0\0\377\377\0\3", 8},      /* 65535 types */
        {"\0\0\0\0\0\0x", 7},             /* trailing garbage */
        {"\0\0\0\5drbd\0\0", 10},         /* the name is one short */
        {"\0\0\0\6drbd0\0\0", 11},        /* it reaches into the count */
        {"\377\377\377\377\0\0", 6},      /* + 1 wraps to nothing */
        {"\377\377\377\376\0\0", 6},      /* + 2 too */
        {"\377\377\377\360\0\0", 6},      /**/
        {"\377\377\377\372drbd0\0\0", 11} /* 4 + length + 2 wraps to zero */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (uint32_t option = OPT_INFO; option <= OPT_GO; option++) {
            struct wire wire;
            open_wire(&wire);
            wire_put_option(&wire, option, cases[i].data, cases[i].length_bytes);
            expect_refused_in_step(&wire, option, REP_INVALID);
        }
    }
}

static void test_names_up_to_4096_bytes(void)
{
    static const uint32_t lengths[] = {255, 256, 257, 4095, 4096, 4097, 5000};
    char name[5001];
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        const uint32_t length_bytes = lengths[i];
        struct wire wire;
        memset(name, 'n', length_bytes);
        name[length_bytes] = '\0';
        open_wire(&wire);
        wire_put_info(&wire, OPT_INFO, name, NULL, 0);
        expect_refused_in_step(&wire, OPT_INFO, length_bytes <= 4096 ? REP_UNKNOWN : REP_INVALID);
        open_wire(&wire);
        wire_put_option(&wire, OPT_EXPORT_NAME, name, length_bytes);
        expect_failed(&wire);
    }
}

static void test_an_export_with_the_longest_strings_is_served(void)
{
    const uint16_t types[] = {1, 2, 3};
    static char name[4097];
    static char description[4097];
    struct wire wire;
    memset(name, 'n', 4096);
    memset(description, 'd', 4096);
    open_wire(&wire);
    wire.memory.export.name = name;
    wire.memory.export.description = description;
    for (uint32_t i = 0; i < 30; i++) {
        wire_put_info(&wire, OPT_INFO, name, types, 3);
        wire_put_option(&wire, OPT_LIST, NULL, 0);
    }
    wire_put_option(&wire, OPT_EXPORT_NAME, name, 4096);
    wire_run(&wire);
    for (uint32_t i = 0; i < 30; i++) {
        expect_info_export(&wire, OPT_INFO, SIZE, FLAGS);
        wire_take(&wire, expect_option_reply(&wire, OPT_INFO, REP_INFO));
        wire_take(&wire, expect_option_reply(&wire, OPT_INFO, REP_INFO));
        wire_take(&wire, expect_option_reply(&wire, OPT_INFO, REP_INFO));
        expect_ack(&wire, OPT_INFO);
        REQUIRE(expect_option_reply(&wire, OPT_LIST, REP_SERVER) == 4 + 2 * 4096, "length of SERVER");
        wire_take(&wire, 4 + 2 * 4096);
        expect_ack(&wire, OPT_LIST);
    }
    wire_take(&wire, 10);
    wire_expect_nothing(&wire);
    wire_expect_state(&wire, NBD_TRANSMISSION);
    wire_fini(&wire);
}

/* A query: u32 name length, name, u32 count, strings. */
static void put_meta_context(struct wire *wire, uint32_t option, const char *name, uint32_t count, const char *query)
{
    const uint32_t name_bytes = (uint32_t)strlen(name);
    const uint32_t query_bytes = (uint32_t)strlen(query);
    wire_put_option_header(wire, option, 4 + name_bytes + 4 + (query_bytes != 0 ? 4 + query_bytes : 0));
    wire_put_number(wire, name_bytes, 4);
    wire_put(wire, name, name_bytes);
    wire_put_number(wire, count, 4);
    if (query_bytes != 0) {
        wire_put_number(wire, query_bytes, 4);
        wire_put(wire, query, query_bytes);
    }
}

static void test_meta_context_selects_nothing(void)
{
    for (uint32_t option = OPT_LIST_META_CONTEXT; option <= OPT_SET_META_CONTEXT; option++) {
        struct wire wire;
        open_wire(&wire);
        put_meta_context(&wire, option, "", 1, "base:allocation");
        expect_refused_in_step(&wire, option, REP_INVALID); /* before STRUCTURED_REPLY */
        open_wire(&wire);
        wire_put_option(&wire, OPT_STRUCTURED_REPLY, NULL, 0);
        put_meta_context(&wire, option, "", 1, "base:allocation");
        put_meta_context(&wire, option, "drbd0", 1, "x-unknown:anything");
        put_meta_context(&wire, option, "drbd0", 0, "");
        put_meta_context(&wire, option, "stranger", 0, "");
        put_meta_context(&wire, option, "", 2, "base:"); /* more queries than data */
        put_meta_context(&wire, option, "", 0, "base:"); /* more data than queries */
        wire_put_option(&wire, option, "\0\0\0\0\0\0\0\1\377\377\377\377", 12);
        wire_put_option(&wire, option, "\377\377\377\377\0\0\0\0", 8);
        wire_put_option(&wire, option, "\0\0\0\0\377\377\377\377", 8);
        wire_put_option(&wire, option, "\0\0", 2);
        wire_put_option(&wire, option, "", 0);
        wire_run(&wire);
        expect_ack(&wire, OPT_STRUCTURED_REPLY);
        expect_ack(&wire, option);
        expect_ack(&wire, option);
        expect_ack(&wire, option);
        expect_refusal(&wire, option, REP_UNKNOWN);
        for (uint32_t i = 0; i < 7; i++) {
            expect_refusal(&wire, option, REP_INVALID);
        }
        expect_in_step(&wire);
        wire_fini(&wire);
    }
}

static void test_wrong_option_magic_is_dropped(void)
{
    struct wire wire;
    open_wire(&wire);
    wire_put(&wire, "IHAVEOPU\0\0\0\3\0\0\0\0", 16);
    expect_failed(&wire);
}

static void test_an_option_that_is_too_long_is_dropped_at_its_header(void)
{
    static const uint32_t lengths[] = {65537, 1 << 20, 64 << 20, (64 << 20) + 1, 0x7fffffff, 0xfffffff0, 0xffffffff};
    static const uint32_t options[] = {OPT_EXPORT_NAME, OPT_LIST, OPT_INFO, OPT_GO, OPT_SET_META_CONTEXT, 99};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (size_t j = 0; j < sizeof(options) / sizeof(options[0]); j++) {
            struct wire wire;
            open_wire(&wire);
            wire_put_option_header(&wire, options[j], lengths[i]);
            expect_failed(&wire);
        }
    }
}

static void test_the_65th_option_is_dropped(void)
{
    struct wire wire;
    open_wire(&wire);
    for (uint32_t i = 0; i < 64; i++) {
        wire_put_option(&wire, OPT_PEEK_EXPORT, NULL, i);
    }
    wire_run(&wire);
    for (uint32_t i = 0; i < 64; i++) {
        expect_refusal(&wire, OPT_PEEK_EXPORT, REP_UNSUP);
    }
    wire_expect_state(&wire, NBD_HANDSHAKE);
    wire_put_option(&wire, OPT_PEEK_EXPORT, NULL, 0);
    expect_failed(&wire);
}

static void test_shutting_down(void)
{
    struct wire wire;
    open_wire(&wire);
    wire.memory.export.shutting_down = true;
    wire_put_option(&wire, OPT_LIST, NULL, 0);
    wire_put_info(&wire, OPT_GO, "", NULL, 0);
    wire_put_option(&wire, OPT_ABORT, NULL, 0);
    wire_run(&wire);
    expect_refusal(&wire, OPT_LIST, REP_SHUTDOWN);
    expect_refusal(&wire, OPT_GO, REP_SHUTDOWN);
    expect_ack(&wire, OPT_ABORT);
    wire_expect_state(&wire, NBD_CLOSING);
    wire_fini(&wire);
    open_wire(&wire);
    wire.memory.export.shutting_down = true;
    wire_put_option(&wire, OPT_EXPORT_NAME, NULL, 0);
    expect_failed(&wire);
}

int main(void)
{
    test_unknown_client_flag_is_dropped();
    test_plain_newstyle_client_gets_export_name_alone();
    test_export_name_sends_exactly_its_bytes();
    test_export_name_of_a_stranger_is_dropped();
    test_export_name_after_structured_reply_offers_df();
    test_abort_is_acknowledged_then_closed();
    test_options_that_we_do_not_have_are_swallowed();
    test_starttls();
    test_options_without_data_refuse_data();
    test_info_and_go_answer_the_same();
    test_go_never_sends_the_zeroes();
    test_flags_of_a_read_only_rotational_export();
    test_malformed_info_is_invalid_and_in_step();
    test_names_up_to_4096_bytes();
    test_an_export_with_the_longest_strings_is_served();
    test_meta_context_selects_nothing();
    test_wrong_option_magic_is_dropped();
    test_an_option_that_is_too_long_is_dropped_at_its_header();
    test_the_65th_option_is_dropped();
    test_shutting_down();
    return 0;
}
