/* fuzz_nbd_session.c - any bytes from a client.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Invariant.  Whatever a client sends, in whatever pieces, and whenever it reads:
 *   - nothing crashes, and nothing is read or written outside its buffer (the sanitizers' part);
 *   - the server sees only requests that are within the export, and never more than NBD_REQUESTS_MAX at once;
 *   - every payload that was begun is released exactly once;
 *   - the whole input at once and the input byte by byte come to the same end, the same data and the same answers (a
 * session that fails may leave the last of its answers unsent);
 *   - a server that is short of buffers and answers late, and a client that reads late, change none of that;
 *   - nor does a session that is parked wherever it can be, and whose place another one takes.
 *
 * The first two bytes of the input choose the circumstances; the rest is what the client sends. */
#include "../c/nbd/messages.h"

enum { EXPORT_BYTES = 32 * 1024, INPUT_BYTES_MAX = 64 * 1024 };
enum { SKIP_NEGOTIATION = 1, STRUCTURED = 2, READ_ONLY = 4, FAST_ZERO = 8, FAILING = 16, SHUTTING_DOWN = 32 };

struct circumstances {
    uint8_t flags;
    uint8_t rhythm; /* how often the server answers and the client reads, in the adverse run */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes);

static void open_wire(struct wire *wire, const struct circumstances *how)
{
    wire_init(wire, EXPORT_BYTES);
    struct nbd_export *export = &wire->memory.export;
    export->read_only = (how->flags & READ_ONLY) != 0;
    export->fast_zero = (how->flags & FAST_ZERO) != 0;
    export->block_min_bytes = how->flags >= 64 ? 512 : 1;
    export->payload_max_bytes = EXPORT_BYTES / 2;
    wire->memory.error = (how->flags & FAILING) != 0 ? 5 : 0;
    if ((how->flags & SKIP_NEGOTIATION) != 0) {
        wire_put_number(wire, 3, 4);
        if ((how->flags & STRUCTURED) != 0) {
            wire_put_option(wire, 8, NULL, 0);
        }
        wire_put_info(wire, 7, "", NULL, 0);
        wire_run(wire);
        REQUIRE(nbd_session_state(wire->session) == NBD_TRANSMISSION, "not in transmission");
    }
    export->shutting_down = (how->flags & SHUTTING_DOWN) != 0;
}

static void check_same(const struct wire *whole, const struct wire *pieces)
{
    const enum nbd_state state = nbd_session_state(whole->session);
    REQUIRE(state == nbd_session_state(pieces->session), "whole: %s; in pieces: %s", nbd_session_reason(whole->session),
            nbd_session_reason(pieces->session));
    REQUIRE(state == NBD_FAILED ? whole->output_bytes <= pieces->output_bytes
                                : whole->output_bytes == pieces->output_bytes,
            "whole: %zu bytes of answers; in pieces: %zu", whole->output_bytes, pieces->output_bytes);
    REQUIRE(whole->output_bytes == 0 || memcmp(whole->output, pieces->output, whole->output_bytes) == 0, "answers");
    REQUIRE(memcmp(whole->memory.bytes, pieces->memory.bytes, EXPORT_BYTES) == 0, "data");
}

static void run_whole_and_in_pieces(const struct circumstances *how, const uint8_t *data, size_t length_bytes)
{
    struct wire whole;
    struct wire pieces;
    open_wire(&whole, how);
    open_wire(&pieces, how);
    pieces.step_bytes = 1;
    wire_put(&whole, data, length_bytes);
    wire_put(&pieces, data, length_bytes);
    wire_run(&whole);
    wire_run(&pieces);
    check_same(&whole, &pieces);
    nbd_session_received(whole.session, 0);
    nbd_session_received(pieces.session, 0);
    check_same(&whole, &pieces);
    wire_fini(&whole);
    wire_fini(&pieces);
}

/* Another session in the place of this one, if it comes to rest where it is. */
static void park(struct wire *wire)
{
    struct nbd_position position;
    nbd_session_park(wire->session, true);
    if (!nbd_session_is_parked(wire->session, &position)) {
        nbd_session_park(wire->session, false);
        return;
    }
    nbd_session_free(wire->session);
    REQUIRE(nbd_session_new_transmission(&wire->memory.export, &position, &wire->session) == 0, "no session");
}

static void run_parked(const struct circumstances *how, const uint8_t *data, size_t length_bytes)
{
    struct wire whole;
    struct wire parked;
    open_wire(&whole, how);
    open_wire(&parked, how);
    wire_put(&whole, data, length_bytes);
    wire_run(&whole);
    for (size_t at = 0, step = 0; at < length_bytes; at += step) {
        step = 1u + how->rhythm;
        step = step < length_bytes - at ? step : length_bytes - at;
        wire_put(&parked, data + at, step);
        wire_run(&parked);
        park(&parked);
    }
    check_same(&whole, &parked);
    wire_fini(&whole);
    wire_fini(&parked);
}

/* The server answers one request, and the client reads, only now and then; few payloads exist. */
static void run_adverse(const struct circumstances *how, const uint8_t *data, size_t length_bytes)
{
    const uint32_t rhythm = 1 + how->rhythm % 16;
    struct wire wire;
    open_wire(&wire, how);
    wire.memory.hold = true;
    wire.memory.payloads_max = 1 + how->rhythm / 16;
    wire.step_bytes = 1 + how->rhythm;
    wire_put(&wire, data, length_bytes);
    for (uint32_t turn = 0; turn < 4 * NBD_REQUESTS_MAX + length_bytes; turn++) {
        wire.slow = turn % rhythm != 0;
        wire_run(&wire);
        if (wire.memory.held_count > 0 && turn % (rhythm + 1) == 0) {
            memory_export_answer(&wire.memory, wire.session, turn % wire.memory.held_count);
            nbd_session_retry(wire.session);
        }
        REQUIRE(nbd_session_in_flight(wire.session) == wire.memory.held_count, "in flight");
        if (wire.input_bytes == 0 && wire.memory.held_count == 0) {
            break;
        }
    }
    wire_fini(&wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes)
{
    if (length_bytes < 2 || length_bytes > INPUT_BYTES_MAX) {
        return 0;
    }
    const struct circumstances how = {.flags = data[0], .rhythm = data[1]};
    run_whole_and_in_pieces(&how, data + 2, length_bytes - 2);
    run_adverse(&how, data + 2, length_bytes - 2);
    run_parked(&how, data + 2, length_bytes - 2);
    return 0;
}
