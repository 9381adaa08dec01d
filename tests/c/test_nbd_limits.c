/* test_nbd_limits.c - input in pieces, input that ends anywhere, input without end: bounded, resumed, or dropped.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nbd/replies.h"

#include "allocation.h"

#include "../../nbd/session.c" /* its allocations fail on demand */

enum { READ = 0, WRITE = 1, DISC = 2, FLUSH = 3, TRIM = 4 };
enum { SIZE = 1 << 20, EINVAL_ON_THE_WIRE = 22, MIB = 1 << 20 };

/* A whole life: negotiation, all kinds of requests, some refused, DISC. */
static void put_a_life(struct wire *wire)
{
    const uint16_t types[] = {3, 1, 2};
    wire_put_number(wire, 3, 4);
    wire_put_option(wire, 4, NULL, 33);
    wire_put_option(wire, 3, NULL, 0);
    wire_put_option(wire, 8, NULL, 0);
    wire_put_info(wire, 6, "stranger", types, 3);
    wire_put_info(wire, 7, "drbd0", types, 3);
    wire_put_request(wire, WRITE, 1, 512, 100);
    wire_put(wire, NULL, 100);
    wire_put_request(wire, WRITE, 2, 512, 50);
    wire_put(wire, NULL, 50);
    wire_put_request(wire, READ, 4, 500, 120);
    wire_put_request(wire, READ, 4, SIZE, 120);
    wire_put_request(wire, TRIM, 0, 0, 10);
    wire_put_request(wire, FLUSH, 0, 0, 0);
    wire_put_request(wire, WRITE, 0, 0, 7);
    wire_put(wire, NULL, 7);
    wire_put_request(wire, 99, 0, 0, 7);
    wire_put_request(wire, DISC, 0, 0, 0);
}

static void test_whole_or_in_pieces_is_the_same(void)
{
    struct wire whole;
    wire_init(&whole, SIZE);
    put_a_life(&whole);
    wire_run(&whole);
    wire_expect_state(&whole, NBD_CLOSING);
    for (size_t step_bytes = 1; step_bytes < 200; step_bytes++) {
        struct wire pieces;
        wire_init(&pieces, SIZE);
        pieces.step_bytes = step_bytes;
        put_a_life(&pieces);
        wire_run(&pieces);
        wire_expect_state(&pieces, NBD_CLOSING);
        REQUIRE(pieces.output_bytes == whole.output_bytes, "%zu bytes, whole %zu; step %zu", pieces.output_bytes,
                whole.output_bytes, step_bytes);
        REQUIRE(memcmp(pieces.output, whole.output, whole.output_bytes) == 0, "step %zu", step_bytes);
        REQUIRE(memcmp(pieces.memory.bytes, whole.memory.bytes, SIZE) == 0, "step %zu", step_bytes);
        wire_fini(&pieces);
    }
    wire_fini(&whole);
}

/* The client goes away after every single byte, with its requests answered at once or still in flight. */
static void test_every_prefix_may_be_the_end(void)
{
    size_t length_bytes = 1;
    for (size_t prefix = 0; prefix < length_bytes; prefix++) {
        for (uint32_t hold = 0; hold < 2; hold++) {
            struct wire wire;
            wire_init(&wire, SIZE);
            wire.memory.hold = hold != 0;
            put_a_life(&wire);
            length_bytes = wire.input_bytes;
            wire.input_bytes = prefix;
            wire_run(&wire);
            const bool in_handshake = nbd_session_state(wire.session) == NBD_HANDSHAKE;
            REQUIRE(nbd_session_state(wire.session) != NBD_FAILED, "failed before the end");
            nbd_session_received(wire.session, 0);
            REQUIRE(nbd_session_state(wire.session) == NBD_FAILED ||
                        (nbd_session_state(wire.session) == NBD_CLOSING && !in_handshake),
                    "after %zu bytes: %s", prefix, nbd_session_reason(wire.session));
            REQUIRE(wire.memory.payloads <= wire.memory.held_count, "a torn payload is kept after %zu bytes", prefix);
            wire_fini(&wire);
        }
    }
}

static void test_end_of_input_between_requests_still_answers_them(void)
{
    struct wire wire;
    wire_init(&wire, SIZE);
    wire_enter_transmission(&wire, false);
    wire.memory.hold = true;
    wire_put_request(&wire, FLUSH, 0, 0, 0);
    wire_run(&wire);
    nbd_session_received(wire.session, 0);
    wire_expect_state(&wire, NBD_CLOSING);
    memory_export_answer(&wire.memory, wire.session, 0);
    wire_run(&wire);
    expect_simple(&wire, 0);
    wire_fini(&wire);
}

static void test_wrong_request_magic_is_dropped_and_the_rest_still_answered_by_the_server(void)
{
    static const uint32_t magics[] = {0, 0x25609514, 0x12560953, 0x96744668, 0x21e41c71, 0xffffffff};
    for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
        struct wire wire;
        wire_init(&wire, SIZE);
        wire_enter_transmission(&wire, false);
        wire.memory.hold = true;
        wire_put_request(&wire, READ, 0, 0, 4096);
        wire_put_request(&wire, WRITE, 0, 0, 4096);
        wire_put(&wire, NULL, 4096);
        wire_put_number(&wire, magics[i], 4);
        wire_put(&wire, NULL, 24);
        wire_run(&wire);
        wire_expect_state(&wire, NBD_FAILED);
        wire_expect_nothing(&wire);
        REQUIRE(nbd_session_in_flight(wire.session) == 2, "in flight");
        memory_export_answer(&wire.memory, wire.session, 0);
        memory_export_answer(&wire.memory, wire.session, 0);
        REQUIRE(wire.memory.payloads == 0, "a reply to a failed session gives the payload back");
        wire_run(&wire);
        wire_expect_nothing(&wire);
        wire_fini(&wire);
    }
}

static void test_128_requests_in_flight_then_input_stops(void)
{
    struct iovec iov[2];
    struct wire wire;
    wire_init(&wire, SIZE);
    wire_enter_transmission(&wire, false);
    wire.memory.hold = true;
    for (uint32_t i = 0; i < 300; i++) {
        wire_put_request(&wire, i % 3, 0, i * 64, 64);
        if (i % 3 == WRITE) {
            wire_put(&wire, NULL, 64);
        } else if (i % 3 == DISC) {
            memset(wire.input + wire.input_bytes - 22, FLUSH, 2); /* command 0x0303: refused */
        }
    }
    wire_run(&wire);
    wire.memory.hold = false;
    for (uint32_t answered = 0; wire.memory.held_count > 0; answered++) {
        REQUIRE(nbd_session_in_flight(wire.session) <= NBD_REQUESTS_MAX, "in flight");
        if (nbd_session_in_flight(wire.session) == NBD_REQUESTS_MAX) {
            REQUIRE(nbd_session_recv_iov(wire.session, iov) == 0, "input is still wanted");
        }
        memory_export_answer(&wire.memory, wire.session, answered * 7 % wire.memory.held_count);
        wire_run(&wire);
    }
    REQUIRE(wire.input_bytes == 0, "%zu bytes were never taken", wire.input_bytes);
    REQUIRE(wire.output_bytes - wire.output_read_bytes == 300 * 16 + 100 * 64, "%zu bytes of replies",
            wire.output_bytes - wire.output_read_bytes);
    wire_fini(&wire);
}

static void test_a_client_that_does_not_read_stops_being_read(void)
{
    struct iovec iov[2];
    struct wire wire;
    wire_init(&wire, SIZE);
    wire_enter_transmission(&wire, true);
    wire.slow = true;
    for (uint32_t i = 0; i < 10000; i++) {
        wire_put_request(&wire, READ, 0, i % 2 == 0 ? 0 : SIZE, 4096); /* every second one is an error */
    }
    wire_run(&wire);
    REQUIRE(nbd_session_recv_iov(wire.session, iov) == 0, "input is still wanted");
    REQUIRE(wire.memory.payloads == NBD_REQUESTS_MAX / 2, "%u payloads", wire.memory.payloads);
    REQUIRE(nbd_session_in_flight(wire.session) == 0, "in flight");
    wire.slow = false;
    wire_run(&wire);
    REQUIRE(wire.input_bytes == 0, "%zu bytes were never taken", wire.input_bytes);
    for (uint32_t i = 0; i < 5000; i++) {
        wire_take(&wire, expect_chunk(&wire, 1));
        expect_chunk_error(&wire, EINVAL_ON_THE_WIRE);
    }
    wire_expect_nothing(&wire);
    wire_fini(&wire);
}

static void test_a_client_that_does_not_read_its_option_replies_stops_being_read(void)
{
    struct iovec iov[2];
    static char name[4097];
    struct wire wire;
    memset(name, 'n', 4096);
    wire_init(&wire, SIZE);
    wire.memory.export.name = name;
    wire.slow = true;
    wire_put_number(&wire, 3, 4);
    for (uint32_t i = 0; i < 64; i++) {
        wire_put_option(&wire, 3, NULL, 0);
    }
    wire_run(&wire);
    REQUIRE(nbd_session_recv_iov(wire.session, iov) == 0, "input is still wanted");
    wire.slow = false;
    wire_run(&wire);
    wire_take(&wire, WIRE_GREETING_BYTES);
    for (uint32_t i = 0; i < 64; i++) {
        wire_take(&wire, expect_option_reply(&wire, 3, REP_SERVER));
        expect_ack(&wire, 3);
    }
    wire_expect_nothing(&wire);
    wire_fini(&wire);
}

/* ->begin gives out `payloads_max` buffers only, while 40 requests of all kinds come in. */
static void test_begin_without_room_waits_for_retry(void)
{
    for (uint32_t payloads_max = 1; payloads_max < 6; payloads_max++) {
        struct iovec iov[2];
        struct wire wire;
        wire_init(&wire, SIZE);
        wire_enter_transmission(&wire, false);
        wire.memory.hold = true;
        wire.memory.payloads_max = payloads_max;
        for (uint32_t i = 0; i < 40; i++) {
            wire_put_request(&wire, i % 2, 0, i * 512, 512);
            wire_put(&wire, NULL, i % 2 == WRITE ? 512 : 0);
        }
        wire_run(&wire);
        uint32_t answered = 0;
        for (; wire.memory.held_count > 0; answered++) {
            REQUIRE(answered + payloads_max >= 40 || nbd_session_recv_iov(wire.session, iov) == 0, "input is wanted");
            nbd_session_retry(wire.session); /* too early: no harm */
            REQUIRE(wire.memory.held_count <= payloads_max, "held");
            memory_export_answer(&wire.memory, wire.session, 0);
            wire_run(&wire);
            nbd_session_retry(wire.session);
            wire_run(&wire);
        }
        REQUIRE(answered == 40, "%u answered", answered);
        REQUIRE(wire.memory.begins_refused > 0, "begin never refused");
        REQUIRE(wire.output_bytes - wire.output_read_bytes == 40 * 16 + 20 * 512, "replies");
        for (uint32_t i = 0; i < 40; i++) {
            const uint8_t want = i % 2 == WRITE ? 0x5a : 0;
            REQUIRE(wire.memory.bytes[i * 512] == want && wire.memory.bytes[i * 512 + 511] == want, "block %u", i);
        }
        wire_fini(&wire);
    }
}

static void test_a_session_may_die_while_it_waits_for_a_buffer(void)
{
    struct wire wire;
    wire_init(&wire, SIZE);
    wire_enter_transmission(&wire, false);
    wire.memory.payloads_max = 0;
    wire_put_request(&wire, WRITE, 0, 0, 512);
    wire_put(&wire, NULL, 512);
    wire_put_request(&wire, WRITE, 0, 0, 0xffffffff);
    wire_run(&wire);
    wire_expect_state(&wire, NBD_TRANSMISSION);
    wire.memory.payloads_max = 1;
    nbd_session_retry(wire.session);
    wire_expect_state(&wire, NBD_FAILED);
    nbd_session_retry(wire.session);
    REQUIRE(wire.memory.submitted[WRITE] == 1, "the first one was good");
    wire_fini(&wire);
}

/* A WRITE of length_bytes, of which `present_bytes` are sent. */
static void put_write(struct wire *wire, uint32_t length_bytes, uint32_t present_bytes)
{
    wire_put_request(wire, WRITE, 0, 0, length_bytes);
    wire_put(wire, NULL, present_bytes);
}

static void test_long_writes_are_swallowed_then_refused_longer_ones_dropped(void)
{
    static const uint32_t swallowed[] = {32 * MIB + 1, 33 * MIB, 64 * MIB};
    static const uint32_t dropped[] = {64 * MIB + 1, 0x7fffffff, 0x80000000, 0xfffffe00, 0xffffffff};
    for (size_t i = 0; i < sizeof(swallowed) / sizeof(swallowed[0]); i++) {
        struct wire wire;
        wire_init(&wire, 128 * MIB);
        wire_enter_transmission(&wire, false);
        put_write(&wire, swallowed[i], swallowed[i] - 1);
        wire_run(&wire);
        wire_expect_nothing(&wire); /* no answer before the last byte */
        wire_put(&wire, NULL, 1);
        wire_put_request(&wire, FLUSH, 0, 0, 0);
        wire_run(&wire);
        expect_simple(&wire, EINVAL_ON_THE_WIRE);
        expect_simple(&wire, 0);
        wire_expect_nothing(&wire);
        REQUIRE(wire.memory.bytes[0] == 0, "written");
        wire_fini(&wire);
    }
    for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++) {
        struct wire wire;
        wire_init(&wire, SIZE);
        wire_enter_transmission(&wire, false);
        put_write(&wire, dropped[i], 0);
        wire_run(&wire);
        wire_expect_state(&wire, NBD_FAILED);
        wire_expect_nothing(&wire);
        wire_fini(&wire);
    }
}

static void test_the_largest_write_and_read(void)
{
    static const size_t steps[] = {SIZE_MAX, 65536, 100001};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct wire wire;
        wire_init(&wire, 32 * MIB);
        wire_enter_transmission(&wire, false);
        wire.step_bytes = steps[i];
        put_write(&wire, 32 * MIB, 32 * MIB);
        wire_put_request(&wire, READ, 0, 0, 32 * MIB);
        wire_run(&wire);
        expect_simple(&wire, 0);
        expect_simple(&wire, 0);
        REQUIRE(memcmp(wire_take(&wire, 32 * MIB), wire.memory.bytes, 32 * MIB) == 0, "data");
        REQUIRE(wire.memory.bytes[32 * MIB - 1] == 0x5a, "data");
        wire_fini(&wire);
    }
}

static void test_a_large_payload_is_received_where_it_belongs(void)
{
    struct iovec iov[2];
    struct wire wire;
    wire_init(&wire, 4 * MIB);
    wire_enter_transmission(&wire, false);
    put_write(&wire, MIB, 1000);
    wire_run(&wire);
    REQUIRE(nbd_session_recv_iov(wire.session, iov) == 2, "payload and staging");
    REQUIRE((uint8_t *)iov[0].iov_base == (uint8_t *)wire.memory.out[0].bytes + 1000, "where the payload goes on");
    REQUIRE(iov[0].iov_len == MIB - 1000, "all of it");
    REQUIRE(iov[1].iov_len <= 16384, "little is staged behind a large payload: %zu", iov[1].iov_len);
    wire_put(&wire, NULL, MIB - 1000);
    wire_run(&wire);
    expect_simple(&wire, 0);
    put_write(&wire, 4096, 100);
    wire_run(&wire);
    REQUIRE(nbd_session_recv_iov(wire.session, iov) == 2, "payload and staging");
    REQUIRE(iov[0].iov_len == 3996 && iov[1].iov_len >= 65536, "and much behind a small one");
    wire_fini(&wire);
}

/* The server may call from inside its own calls: here every ->release asks all sessions to go on. */
static struct nbd_session *reentered;
static void release_and_retry(void *user, void *payload, uint64_t length_bytes)
{
    memory_release(user, payload, length_bytes);
    nbd_session_retry(reentered);
}

static void test_retry_from_inside_release(void)
{
    struct wire wire;
    wire_init(&wire, SIZE);
    wire_enter_transmission(&wire, false);
    reentered = wire.session;
    wire.memory.export.release = release_and_retry;
    wire.memory.payloads_max = 2;
    for (uint32_t i = 0; i < 200; i++) {
        wire_put_request(&wire, i % 5 < 3 ? READ : WRITE, 0, i * 512, 512);
        wire_put(&wire, NULL, i % 5 < 3 ? 0 : 512);
    }
    wire.step_bytes = 1500;
    wire_run(&wire);
    REQUIRE(wire.input_bytes == 0, "%zu bytes were never taken", wire.input_bytes);
    REQUIRE(wire.output_bytes - wire.output_read_bytes == 200 * 16 + 120 * 512, "replies");
    REQUIRE(wire.memory.begins_refused > 0, "begin never refused");
    wire.memory.export.release = memory_release;
    wire_fini(&wire);
}

static void submit_and_receive(void *user, struct nbd_session *session, struct nbd_request *request)
{
    struct iovec iov[2];
    REQUIRE(nbd_session_recv_iov(session, iov) == 0, "room in an area that is being parsed");
    memory_submit(user, session, request);
}

static void test_no_room_is_given_away_while_staging_is_parsed(void)
{
    struct wire wire;
    wire_init(&wire, SIZE);
    wire_enter_transmission(&wire, false);
    wire.memory.export.submit = submit_and_receive;
    for (size_t step_bytes = 50; step_bytes < 2000; step_bytes += 300) {
        wire.step_bytes = step_bytes;
        for (uint32_t i = 0; i < 20; i++) {
            wire_put_request(&wire, WRITE, 0, i * 512, 300);
            wire_put(&wire, NULL, 300);
        }
        wire_run(&wire);
    }
    REQUIRE(wire.memory.submitted[WRITE] == 20 * 7, "%u writes", wire.memory.submitted[WRITE]);
    wire_fini(&wire);
}

static void test_nothing_is_released_from_under_a_send(void)
{
    struct iovec iov[8];
    struct wire wire;
    wire_init(&wire, SIZE);
    wire_enter_transmission(&wire, false);
    wire.slow = true;
    wire_put_request(&wire, READ, 0, 0, 65536);
    wire_run(&wire);
    REQUIRE(nbd_session_send_iov(wire.session, iov, 8) == 2, "header and data are being sent");
    wire_put(&wire, NULL, 28);
    wire_run(&wire);
    wire_expect_state(&wire, NBD_FAILED);
    REQUIRE(wire.memory.payloads == 1, "released while it is being sent");
    nbd_session_sent(wire.session, 100);
    REQUIRE(wire.memory.payloads == 1, "released half sent");
    REQUIRE(nbd_session_send_iov(wire.session, iov, 8) == 0, "a failed session sends nothing more");
    wire_fini(&wire);
}

static void test_new_fails_without_memory_and_leaves_nothing(void)
{
    struct wire wire;
    struct nbd_session *untouched = NULL;
    wire_init(&wire, SIZE);
    allocations_left_to_fail = 1;
    REQUIRE(nbd_session_new(&wire.memory.export, &untouched) == -ENOMEM, "without memory");
    REQUIRE(untouched == NULL, "the result was touched");
    nbd_session_free(untouched); /* NULL is legal */
    wire_fini(&wire);
}

int main(void)
{
    test_new_fails_without_memory_and_leaves_nothing();
    test_whole_or_in_pieces_is_the_same();
    test_every_prefix_may_be_the_end();
    test_end_of_input_between_requests_still_answers_them();
    test_wrong_request_magic_is_dropped_and_the_rest_still_answered_by_the_server();
    test_128_requests_in_flight_then_input_stops();
    test_a_client_that_does_not_read_stops_being_read();
    test_a_client_that_does_not_read_its_option_replies_stops_being_read();
    test_begin_without_room_waits_for_retry();
    test_a_session_may_die_while_it_waits_for_a_buffer();
    test_long_writes_are_swallowed_then_refused_longer_ones_dropped();
    test_the_largest_write_and_read();
    test_a_large_payload_is_received_where_it_belongs();
    test_retry_from_inside_release();
    test_no_room_is_given_away_while_staging_is_parsed();
    test_nothing_is_released_from_under_a_send();
    return 0;
}
