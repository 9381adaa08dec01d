/* test_nbd_transmission.c - every command, right and wrong, with simple and with structured replies.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "nbd/replies.h"

#include <errno.h>

enum { READ = 0, WRITE = 1, DISC = 2, FLUSH = 3, TRIM = 4, CACHE = 5, WRITE_ZEROES = 6, BLOCK_STATUS = 7 };
enum { FUA = 1, NO_HOLE = 2, DF = 4, REQ_ONE = 8, FAST_ZERO = 16, PAYLOAD_LEN = 32 };
enum { WIRE_EPERM = 1, WIRE_EIO = 5, WIRE_ENOMEM = 12, WIRE_EINVAL = 22, WIRE_ENOSPC = 28 };
enum { WIRE_EOVERFLOW = 75, WIRE_ENOTSUP = 95, WIRE_ESHUTDOWN = 108 };
enum { SIZE = 1 << 20 };

static void open_wire(struct wire *wire, bool structured)
{
    wire_init(wire, SIZE);
    wire_enter_transmission(wire, structured);
}

/* The stream is in step: a FLUSH is answered, and with nothing before it. */
static void close_in_step(struct wire *wire)
{
    wire_put_request(wire, FLUSH, 0, 0, 0);
    wire_run(wire);
    expect_simple(wire, 0);
    wire_expect_nothing(wire);
    wire_expect_state(wire, NBD_TRANSMISSION);
    wire_fini(wire);
}

static void test_write_then_read(void)
{
    struct wire wire;
    open_wire(&wire, false);
    wire_put_request(&wire, WRITE, 0, 4096, 8);
    wire_put(&wire, "abcdefgh", 8);
    wire_put_request(&wire, READ, 0, 4095, 10);
    wire_run(&wire);
    expect_simple(&wire, 0);
    expect_simple(&wire, 0);
    REQUIRE(memcmp(wire_take(&wire, 10), "\0abcdefgh\0", 10) == 0, "what was written");
    close_in_step(&wire);
}

static void test_structured_read_is_one_chunk(void)
{
    for (uint32_t flags = 0; flags <= DF; flags += DF) {
        struct wire wire;
        open_wire(&wire, true);
        memset(wire.memory.bytes + 512, 0x77, 512);
        wire_put_request(&wire, READ, flags, 512, 512);
        wire_run(&wire);
        REQUIRE(expect_chunk(&wire, 1) == 8 + 512, "length of OFFSET_DATA");
        REQUIRE(wire_take_number(&wire, 8) == 512, "offset");
        REQUIRE(memcmp(wire_take(&wire, 512), wire.memory.bytes + 512, 512) == 0, "data");
        REQUIRE(wire.memory.last_flags == flags, "flags %#x", wire.memory.last_flags);
        close_in_step(&wire);
    }
}

static void test_structured_read_errors_are_chunks_others_simple(void)
{
    struct wire wire;
    open_wire(&wire, true);
    wire_put_request(&wire, READ, 0, SIZE, 512);
    wire_put_request(&wire, READ, NO_HOLE, 0, 512);
    wire_put_request(&wire, READ, DF, 0, 32 * 1024 * 1024 + 512);
    wire_put_request(&wire, READ, 0, 0, 0xffffffff);
    wire_put_request(&wire, WRITE_ZEROES, 0, SIZE, 512);
    wire_put_request(&wire, READ, 0, 0, 0);
    wire_run(&wire);
    for (uint32_t i = 0; i < 4; i++) {
        expect_chunk_error(&wire, WIRE_EINVAL);
    }
    expect_simple(&wire, WIRE_ENOSPC);
    REQUIRE(expect_chunk(&wire, 0) == 0, "an empty READ is answered with NONE");
    wire.memory.error = EIO;
    wire_put_request(&wire, READ, 0, 0, 4096);
    wire_run(&wire);
    expect_chunk_error(&wire, WIRE_EIO);
    wire.memory.error = 0;
    close_in_step(&wire);
}

struct command_case {
    const char *what;
    uint32_t command;
    uint32_t flags;
    uint64_t offset_bytes;
    uint32_t length_bytes;
    uint32_t error;
};

static void check_cases(const struct command_case *cases, size_t count, struct wire *wire)
{
    for (size_t i = 0; i < count; i++) {
        const struct command_case *c = &cases[i];
        wire_put_request(wire, c->command, c->flags, c->offset_bytes, c->length_bytes);
        if (c->command == WRITE) {
            wire_put(wire, NULL, c->length_bytes);
        }
        wire_run(wire);
        REQUIRE(wire->output_bytes - wire->output_read_bytes >= 16, "no answer to: %s", c->what);
        const uint8_t *reply = wire->output + wire->output_read_bytes;
        const uint32_t error = (uint32_t)reply[6] << 8 | reply[7];
        REQUIRE(error == c->error, "%s: error %u, wanted %u", c->what, error, c->error);
        expect_simple(wire, c->error);
        if (c->command == READ && c->error == 0) {
            wire_take(wire, c->length_bytes);
        }
        wire_expect_nothing(wire);
    }
}

static void test_what_is_allowed_and_what_is_not(void)
{
    static const struct command_case cases[] = {
        {"read at the end", READ, 0, SIZE - 512, 512, 0},
        {"read past the end", READ, 0, SIZE - 511, 512, WIRE_EINVAL},
        {"read at the end's offset", READ, 0, SIZE, 1, WIRE_EINVAL},
        {"read that wraps", READ, 0, UINT64_MAX - 511, 1024, WIRE_EINVAL},
        {"read with DF but without structured replies", READ, DF, 0, 512, WIRE_EINVAL},
        {"read with FUA", READ, FUA, 0, 512, 0},
        {"empty read", READ, 0, 0, 0, 0},
        {"empty read at the end", READ, 0, SIZE, 0, 0},
        {"empty read past the end", READ, 0, SIZE + 1, 0, WIRE_EINVAL},
        {"write at the end", WRITE, 0, SIZE - 512, 512, 0},
        {"write past the end", WRITE, 0, SIZE - 511, 512, WIRE_ENOSPC},
        {"write that wraps", WRITE, 0, UINT64_MAX - 511, 1024, WIRE_ENOSPC},
        {"write with FUA", WRITE, FUA, 0, 512, 0},
        {"write with NO_HOLE", WRITE, NO_HOLE, 0, 512, WIRE_EINVAL},
        {"write with DF", WRITE, DF, 0, 512, WIRE_EINVAL},
        {"write with FAST_ZERO", WRITE, FAST_ZERO, 0, 512, WIRE_EINVAL},
        {"write with PAYLOAD_LEN", WRITE, PAYLOAD_LEN, 0, 512, WIRE_EINVAL},
        {"write with a flag of the future", WRITE, 0x8000, 0, 512, WIRE_EINVAL},
        {"empty write", WRITE, 0, 0, 0, 0},
        {"empty write past the end", WRITE, 0, SIZE + 1, 0, WIRE_ENOSPC},
        {"flush", FLUSH, 0, 0, 0, 0},
        {"flush with FUA", FLUSH, FUA, 0, 0, 0},
        {"flush with an offset and a length", FLUSH, 0, 4096, 512, 0},
        {"flush with fields beyond the end", FLUSH, 0, UINT64_MAX, 0xffffffff, 0},
        {"flush with NO_HOLE", FLUSH, NO_HOLE, 0, 0, WIRE_EINVAL},
        {"trim", TRIM, 0, 0, SIZE, 0},
        {"trim with FUA", TRIM, FUA, 0, 512, 0},
        {"trim with NO_HOLE", TRIM, NO_HOLE, 0, 512, WIRE_EINVAL},
        {"trim of nearly 4 GiB", TRIM, 0, 0, 0xfffffe00, WIRE_EINVAL},
        {"empty trim", TRIM, 0, 0, 0, 0},
        {"write zeroes", WRITE_ZEROES, 0, 0, SIZE, 0},
        {"write zeroes with FUA and NO_HOLE", WRITE_ZEROES, FUA | NO_HOLE, 0, 512, 0},
        {"write zeroes fast", WRITE_ZEROES, FAST_ZERO, 0, 512, WIRE_ENOTSUP},
        {"write zeroes past the end", WRITE_ZEROES, 0, 512, SIZE, WIRE_ENOSPC},
        {"write zeroes fast past the end", WRITE_ZEROES, FAST_ZERO, SIZE, 1, WIRE_ENOSPC},
        {"write zeroes with DF", WRITE_ZEROES, DF, 0, 512, WIRE_EINVAL},
        {"empty write zeroes", WRITE_ZEROES, 0, SIZE, 0, 0},
        {"cache", CACHE, 0, 0, SIZE, 0},
        {"cache past the end", CACHE, 0, 1, SIZE, WIRE_EINVAL},
        {"cache with REQ_ONE", CACHE, REQ_ONE, 0, 512, WIRE_EINVAL},
        {"block status without a context", BLOCK_STATUS, 0, 0, 512, WIRE_EINVAL},
        {"block status of everything", BLOCK_STATUS, REQ_ONE, 0, 0xffffffff, WIRE_EINVAL},
        {"resize", 8, 0, 512, 0, WIRE_EINVAL},
        {"a command of the future", 0xffff, 0, 0, 0xffffffff, WIRE_EINVAL},
    };
    struct wire wire;
    open_wire(&wire, false);
    check_cases(cases, sizeof(cases) / sizeof(cases[0]), &wire);
    close_in_step(&wire);
}

static void test_read_only_export_refuses_changes(void)
{
    static const struct command_case cases[] = {
        {"read", READ, 0, 0, 512, 0},
        {"write", WRITE, 0, 0, 512, WIRE_EPERM},
        {"empty write", WRITE, 0, 0, 0, WIRE_EPERM},
        {"write past the end", WRITE, 0, SIZE, 512, WIRE_EPERM},
        {"trim", TRIM, 0, 0, 512, WIRE_EPERM},
        {"write zeroes", WRITE_ZEROES, 0, 0, 512, WIRE_EPERM},
        {"flush", FLUSH, 0, 0, 0, 0},
        {"cache", CACHE, 0, 0, 512, 0},
    };
    struct wire wire;
    open_wire(&wire, false);
    wire.memory.export.read_only = true;
    check_cases(cases, sizeof(cases) / sizeof(cases[0]), &wire);
    REQUIRE(wire.memory.submitted[WRITE] == 0, "a write reached a read-only export");
    close_in_step(&wire);
}

static void test_requests_must_be_aligned_to_the_minimum_block(void)
{
    static const struct command_case cases[] = {
        {"aligned read", READ, 0, 512, 512, 0},
        {"read at an odd offset", READ, 0, 1, 512, WIRE_EINVAL},
        {"read of an odd length", READ, 0, 0, 511, WIRE_EINVAL},
        {"write at an odd offset", WRITE, 0, 256, 512, WIRE_EINVAL},
        {"write of an odd length", WRITE, 0, 0, 513, WIRE_EINVAL},
        {"odd trim", TRIM, 0, 0, 100, WIRE_EINVAL},
        {"odd write zeroes", WRITE_ZEROES, 0, 100, 512, WIRE_EINVAL},
        {"odd cache", CACHE, 0, 100, 412, WIRE_EINVAL},
    };
    struct wire wire;
    open_wire(&wire, false);
    wire.memory.export.block_min_bytes = 512;
    check_cases(cases, sizeof(cases) / sizeof(cases[0]), &wire);
    close_in_step(&wire);
}

static void test_fast_zero_reaches_an_export_that_is_fast(void)
{
    static const struct command_case cases[] = {{"fast", WRITE_ZEROES, FAST_ZERO | FUA, 0, 512, 0}};
    struct wire wire;
    open_wire(&wire, false);
    wire.memory.export.fast_zero = true;
    check_cases(cases, 1, &wire);
    REQUIRE(wire.memory.last_flags == (FAST_ZERO | FUA), "flags %#x", wire.memory.last_flags);
    close_in_step(&wire);
}

static void test_only_meaningful_flags_reach_the_export(void)
{
    for (uint32_t command = READ; command <= WRITE_ZEROES; command++) {
        const bool changes = command == WRITE || command == TRIM || command == WRITE_ZEROES;
        struct wire wire;
        if (command == DISC) {
            continue;
        }
        open_wire(&wire, false);
        wire_put_request(&wire, command, FUA, 0, 512);
        wire_put(&wire, NULL, command == WRITE ? 512 : 0);
        wire_run(&wire);
        REQUIRE(wire.memory.submitted[command] == 1, "command %u", command);
        REQUIRE(wire.memory.last_flags == (changes ? FUA : 0), "command %u, flags %#x", command,
                wire.memory.last_flags);
        wire_fini(&wire);
    }
}

/* errno of the export, what a WRITE says, what WRITE_ZEROES with FAST_ZERO says, what a structured READ with DF says.
 */
static void test_errnos_become_the_protocols_own(void)
{
    static const uint32_t cases[][4] = {
        {EPERM, WIRE_EPERM, WIRE_EPERM, WIRE_EPERM},
        {EROFS, WIRE_EPERM, WIRE_EPERM, WIRE_EPERM},
        {EACCES, WIRE_EPERM, WIRE_EPERM, WIRE_EPERM},
        {EIO, WIRE_EIO, WIRE_EIO, WIRE_EIO},
        {EBADF, WIRE_EIO, WIRE_EIO, WIRE_EIO},
        {ETIMEDOUT, WIRE_EIO, WIRE_EIO, WIRE_EIO},
        {ENOMEM, WIRE_ENOMEM, WIRE_ENOMEM, WIRE_ENOMEM},
        {EINVAL, WIRE_EINVAL, WIRE_EINVAL, WIRE_EINVAL},
        {ENOSPC, WIRE_ENOSPC, WIRE_ENOSPC, WIRE_ENOSPC},
        {EDQUOT, WIRE_ENOSPC, WIRE_ENOSPC, WIRE_ENOSPC},
        {EFBIG, WIRE_ENOSPC, WIRE_ENOSPC, WIRE_ENOSPC},
        {EOVERFLOW, WIRE_EINVAL, WIRE_EINVAL, WIRE_EOVERFLOW},
        {EOPNOTSUPP, WIRE_EINVAL, WIRE_ENOTSUP, WIRE_EINVAL},
        {ESHUTDOWN, WIRE_ESHUTDOWN, WIRE_ESHUTDOWN, WIRE_ESHUTDOWN},
        {100000, WIRE_EIO, WIRE_EIO, WIRE_EIO},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct wire wire;
        open_wire(&wire, true);
        wire.memory.export.fast_zero = true;
        wire.memory.error = (int)cases[i][0];
        wire_put_request(&wire, WRITE, 0, 0, 512);
        wire_put(&wire, NULL, 512);
        wire_put_request(&wire, WRITE_ZEROES, FAST_ZERO, 0, 512);
        wire_put_request(&wire, READ, DF, 0, 512);
        wire_run(&wire);
        expect_simple(&wire, cases[i][1]);
        expect_simple(&wire, cases[i][2]);
        expect_chunk_error(&wire, cases[i][3]);
        wire_expect_nothing(&wire);
        wire_fini(&wire);
    }
}

static void test_disc_has_no_reply_but_what_came_before_has(void)
{
    struct wire wire;
    open_wire(&wire, false);
    wire.memory.hold = true;
    wire_put_request(&wire, WRITE, 0, 0, 512);
    wire_put(&wire, NULL, 512);
    wire_put_request(&wire, DISC, 0xff, 77, 0xffffffff);
    wire_put_request(&wire, WRITE, 0, 0, 512); /* after DISC: ignored */
    wire_run(&wire);
    wire_expect_state(&wire, NBD_CLOSING);
    wire_expect_nothing(&wire);
    REQUIRE(nbd_session_in_flight(wire.session) == 1, "in flight");
    memory_export_answer(&wire.memory, wire.session, 0);
    wire_run(&wire);
    expect_simple(&wire, 0);
    wire_expect_nothing(&wire);
    REQUIRE(nbd_session_in_flight(wire.session) == 0, "in flight");
    wire_fini(&wire);
}

static void test_replies_in_any_order(void)
{
    struct wire wire;
    open_wire(&wire, false);
    wire.memory.hold = true;
    for (uint64_t i = 0; i < 100; i++) {
        wire_put_number(&wire, 0x25609513, 4);
        wire_put_number(&wire, 0, 2);
        wire_put_number(&wire, i % 2 == 0 ? READ : CACHE, 2);
        wire_put_number(&wire, i, 8);
        wire_put_number(&wire, i * 1000, 8);
        wire_put_number(&wire, 1 + i, 4);
    }
    for (uint32_t i = 0; i < SIZE; i++) {
        wire.memory.bytes[i] = (uint8_t)(i * 7 / 1000);
    }
    wire_run(&wire);
    REQUIRE(nbd_session_in_flight(wire.session) == 100, "in flight");
    wire.memory.hold = false;
    for (uint32_t i = 0; i < 100; i++) {
        const uint32_t index = i * 37 % wire.memory.held_count;
        const uint64_t number = wire.memory.held[index]->offset_bytes / 1000;
        memory_export_answer(&wire.memory, wire.session, index);
        wire.step_bytes = 1 + i;
        wire_run(&wire);
        expect_simple_with(&wire, 0, number);
        if (number % 2 == 0) {
            REQUIRE(memcmp(wire_take(&wire, 1 + number), wire.memory.bytes + number * 1000, 1 + number) == 0, "data");
        }
    }
    close_in_step(&wire);
}

static void test_many_simple_replies_are_one_entry(void)
{
    struct iovec iov[NBD_IOV_MAX];
    struct wire wire;
    open_wire(&wire, false);
    wire.slow = true;
    for (uint32_t i = 0; i < 64; i++) {
        wire_put_request(&wire, WRITE, 0, i * 4096, 4096);
        wire_put(&wire, NULL, 4096);
    }
    wire_run(&wire);
    REQUIRE(nbd_session_send_iov(wire.session, iov, NBD_IOV_MAX) == 1, "entries");
    REQUIRE(iov[0].iov_len == 64 * 16, "%zu bytes", iov[0].iov_len);
    REQUIRE(wire.memory.payloads == 0, "a WRITE's payload is given back with its reply");
    wire.slow = false;
    wire_run(&wire);
    wire_take(&wire, 64 * 16);
    close_in_step(&wire);
}

static void test_read_data_are_sent_from_their_own_buffer(void)
{
    struct iovec iov[NBD_IOV_MAX];
    struct wire wire;
    open_wire(&wire, false);
    wire.slow = true;
    wire_put_request(&wire, READ, 0, 0, 65536);
    wire_put_request(&wire, FLUSH, 0, 0, 0);
    wire_put_request(&wire, READ, 0, 0, 4096);
    wire_run(&wire);
    REQUIRE(nbd_session_send_iov(wire.session, iov, NBD_IOV_MAX) == 4, "header, data, two headers, data");
    REQUIRE(iov[0].iov_len == 16 && iov[1].iov_len == 65536, "first reply");
    REQUIRE(iov[2].iov_len == 32 && iov[3].iov_len == 4096, "second and third reply");
    REQUIRE(iov[1].iov_base == wire.memory.out[0].bytes, "copied");
    nbd_session_sent(wire.session, 16 + 65535);
    REQUIRE(wire.memory.payloads == 2, "released too early");
    nbd_session_sent(wire.session, 1);
    REQUIRE(wire.memory.payloads == 1, "released too late");
    nbd_session_sent(wire.session, 32 + 4096);
    REQUIRE(wire.memory.payloads == 0, "released too late");
    wire.slow = false;
    close_in_step(&wire);
}

static void test_shutting_down_answers_commands_with_eshutdown(void)
{
    struct wire wire;
    open_wire(&wire, true);
    wire.memory.hold = true;
    wire_put_request(&wire, WRITE, 0, 0, 4096);
    wire_put(&wire, NULL, 4096);
    wire_run(&wire);
    wire.memory.export.shutting_down = true;
    wire_put_request(&wire, WRITE, 0, 0, 4096);
    wire_put(&wire, NULL, 4096);
    wire_put_request(&wire, READ, 0, 0, 4096);
    wire_put_request(&wire, FLUSH, 0, 0, 0);
    wire_run(&wire);
    expect_simple(&wire, WIRE_ESHUTDOWN);
    expect_chunk_error(&wire, WIRE_ESHUTDOWN);
    expect_simple(&wire, WIRE_ESHUTDOWN);
    memory_export_answer(&wire.memory, wire.session, 0);
    wire_run(&wire);
    expect_simple(&wire, 0);
    wire_put_request(&wire, DISC, 0, 0, 0);
    wire_run(&wire);
    wire_expect_state(&wire, NBD_CLOSING);
    wire_fini(&wire);
}

static void test_a_session_without_negotiation_answers_the_first_byte(void)
{
    struct wire wire;
    wire_init(&wire, SIZE);
    nbd_session_free(wire.session);
    REQUIRE(nbd_session_new_transmission(&wire.memory.export, &(struct nbd_position){0}, &wire.session) == 0,
            "no session");
    wire_expect_state(&wire, NBD_TRANSMISSION);
    wire_run(&wire);
    wire_expect_nothing(&wire); /* no greeting */
    wire_put_request(&wire, WRITE, FUA, 4096, 8);
    wire_put(&wire, "abcdefgh", 8);
    wire_put_request(&wire, READ, 0, 4096, 8);
    wire_put_request(&wire, READ, DF, 4096, 8);
    wire_run(&wire);
    expect_simple(&wire, 0);
    expect_simple(&wire, 0);
    REQUIRE(memcmp(wire_take(&wire, 8), "abcdefgh", 8) == 0, "what was written");
    expect_simple(&wire, WIRE_EINVAL); /* DF is of structured replies */
    close_in_step(&wire);
}

/* Puts another session in the place of one that is parked. */
static void succeed(struct wire *wire)
{
    struct nbd_position position;
    REQUIRE(nbd_session_is_parked(wire->session, &position), "it is parked");
    nbd_session_free(wire->session);
    REQUIRE(nbd_session_new_transmission(&wire->memory.export, &position, &wire->session) == 0, "no session");
}

static void test_a_parked_session_ends_between_two_requests_and_another_goes_on(void)
{
    for (size_t cut = 1; cut < 28 + 8 + 28; cut++) {
        struct wire wire;
        open_wire(&wire, true);
        wire.memory.hold = true;
        wire_put_request(&wire, WRITE, 0, 4096, 8);
        wire_put(&wire, "abcdefgh", 8);
        wire_put_request(&wire, READ, 0, 4096, 8);
        const size_t all = wire.input_bytes;
        REQUIRE(wire_receive(wire.session, wire.input, cut) == cut, "it takes what comes");
        nbd_session_park(wire.session, true);
        /* What it still takes ends with the WRITE, if that has begun; never with a part of the READ. */
        size_t taken = cut;
        size_t more = 0;
        while ((more = wire_receive(wire.session, wire.input + taken, all - taken)) > 0)
            taken += more;
        const bool write_began = cut >= 28;
        REQUIRE(taken == (write_began && cut < 36 ? 36 : cut), "%zu of %zu bytes after %zu", taken, all, cut);
        REQUIRE(nbd_session_is_parked(wire.session, NULL) == !write_began, "in flight: not parked");
        while (wire.memory.held_count > 0)
            memory_export_answer(&wire.memory, wire.session, 0);
        REQUIRE(nbd_session_is_parked(wire.session, NULL) == !write_began, "not sent: not parked");
        wire_send(&wire);
        wire.memory.hold = false;
        succeed(&wire);
        memmove(wire.input, wire.input + taken, all - taken);
        wire.input_bytes = all - taken;
        wire_run(&wire);
        expect_simple(&wire, 0);
        REQUIRE(expect_chunk(&wire, 1) == 8 + 8, "structured replies go on");
        wire_take(&wire, 8);
        REQUIRE(memcmp(wire_take(&wire, 8), "abcdefgh", 8) == 0, "what was written");
        close_in_step(&wire);
    }
}

static void test_a_session_that_is_parked_no_more_takes_requests_again(void)
{
    struct wire wire;
    open_wire(&wire, false);
    nbd_session_park(wire.session, true);
    wire_put_request(&wire, READ, 0, 0, 512);
    wire_run(&wire);
    wire_expect_nothing(&wire);
    REQUIRE(wire.input_bytes == 28, "nothing was taken");
    nbd_session_park(wire.session, false);
    wire_run(&wire);
    expect_simple(&wire, 0);
    wire_take(&wire, 512);
    close_in_step(&wire);
}

static void test_a_refused_payload_is_skipped_before_a_session_is_parked(void)
{
    struct wire wire;
    open_wire(&wire, false);
    wire_put_request(&wire, WRITE, 0, SIZE, 8);
    wire_put(&wire, "12345678", 8);
    const size_t all = wire.input_bytes;
    REQUIRE(wire_receive(wire.session, wire.input, all - 5) == all - 5, "it takes what comes");
    nbd_session_park(wire.session, true);
    REQUIRE(nbd_session_is_owed(wire.session), "five bytes");
    REQUIRE(wire_receive(wire.session, wire.input + all - 5, 5) == 5, "it takes the rest");
    REQUIRE(!nbd_session_is_owed(wire.session), "and no more");
    wire.input_bytes = 0;
    wire_send(&wire);
    succeed(&wire);
    expect_simple(&wire, WIRE_ENOSPC);
    close_in_step(&wire);
}

int main(void)
{
    test_write_then_read();
    test_a_parked_session_ends_between_two_requests_and_another_goes_on();
    test_a_session_that_is_parked_no_more_takes_requests_again();
    test_a_refused_payload_is_skipped_before_a_session_is_parked();
    test_a_session_without_negotiation_answers_the_first_byte();
    test_structured_read_is_one_chunk();
    test_structured_read_errors_are_chunks_others_simple();
    test_what_is_allowed_and_what_is_not();
    test_read_only_export_refuses_changes();
    test_requests_must_be_aligned_to_the_minimum_block();
    test_fast_zero_reaches_an_export_that_is_fast();
    test_only_meaningful_flags_reach_the_export();
    test_errnos_become_the_protocols_own();
    test_disc_has_no_reply_but_what_came_before_has();
    test_replies_in_any_order();
    test_many_simple_replies_are_one_entry();
    test_read_data_are_sent_from_their_own_buffer();
    test_shutting_down_answers_commands_with_eshutdown();
    return 0;
}
