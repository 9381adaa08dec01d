/* wire.h - the client's end for the tests of the NBD room: bytes for the session, and what it answered.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef NBD_WIRE_H
#define NBD_WIRE_H

#include "memory_export.h"

enum { WIRE_GREETING_BYTES = 18, WIRE_IOV_MAX = 7 };

struct wire {
    struct memory_export memory;
    struct nbd_session *session;
    uint8_t *input; /* composed, not yet taken by the session */
    size_t input_bytes;
    size_t input_capacity_bytes;
    uint8_t *output; /* everything that the session sent */
    size_t output_bytes;
    size_t output_capacity_bytes;
    size_t output_read_bytes; /* so much of it was checked */
    size_t step_bytes;        /* how much one receive or send moves at most */
    bool slow;                /* the client does not read */
};

static inline void wire_init(struct wire *wire, uint64_t size_bytes)
{
    *wire = (struct wire){.step_bytes = SIZE_MAX};
    memory_export_init(&wire->memory, size_bytes);
    REQUIRE(nbd_session_new(&wire->memory.export, &wire->session) == 0, "no session");
}

static inline void wire_fini(struct wire *wire)
{
    while (wire->memory.held_count > 0) {
        memory_export_answer(&wire->memory, wire->session, 0);
    }
    nbd_session_free(wire->session);
    memory_export_fini(&wire->memory);
    free(wire->input);
    free(wire->output);
}

static inline void wire_reserve(uint8_t **bytes, size_t *capacity_bytes, size_t length_bytes)
{
    if (length_bytes > *capacity_bytes) {
        *capacity_bytes = 2 * length_bytes;
        *bytes = realloc(*bytes, *capacity_bytes);
        REQUIRE(*bytes != NULL, "no memory for the test");
    }
}

/* Composing. */

static inline void wire_put(struct wire *wire, const void *bytes, size_t length_bytes)
{
    wire_reserve(&wire->input, &wire->input_capacity_bytes, wire->input_bytes + length_bytes);
    if (length_bytes == 0) {
        return;
    }
    if (bytes != NULL) {
        memcpy(wire->input + wire->input_bytes, bytes, length_bytes);
    } else {
        memset(wire->input + wire->input_bytes, 0x5a, length_bytes);
    }
    wire->input_bytes += length_bytes;
}

/* The `size_bytes` low bytes of value, big-endian. */
static inline void wire_put_number(struct wire *wire, uint64_t value, uint32_t size_bytes)
{
    uint8_t bytes[8];
    for (uint32_t i = 0; i < size_bytes; i++) {
        bytes[i] = (uint8_t)(value >> (8 * (size_bytes - 1 - i)));
    }
    wire_put(wire, bytes, size_bytes);
}

/* Running. */

static inline void wire_send(struct wire *wire)
{
    struct iovec iov[WIRE_IOV_MAX];
    uint32_t count;
    while (!wire->slow && (count = nbd_session_send_iov(wire->session, iov, WIRE_IOV_MAX)) > 0) {
        size_t moved = 0;
        for (uint32_t i = 0; i < count && moved < wire->step_bytes; i++) {
            REQUIRE(iov[i].iov_len > 0, "an empty entry");
            const size_t left = wire->step_bytes - moved;
            const size_t take = iov[i].iov_len < left ? iov[i].iov_len : left;
            wire_reserve(&wire->output, &wire->output_capacity_bytes, wire->output_bytes + take);
            memcpy(wire->output + wire->output_bytes, iov[i].iov_base, take);
            wire->output_bytes += take;
            moved += take;
        }
        nbd_session_sent(wire->session, moved);
    }
}

/* One receive: at most `limit_bytes` of `bytes`.  Returns how many the session took, 0 when it wants none. */
static inline size_t wire_receive(struct nbd_session *session, const uint8_t *bytes, size_t limit_bytes)
{
    struct iovec iov[2];
    const uint32_t count = nbd_session_recv_iov(session, iov);
    size_t moved = 0;
    REQUIRE(count <= 2, "%u entries", count);
    for (uint32_t i = 0; i < count; i++) {
        REQUIRE(iov[i].iov_len > 0, "an empty entry");
        const size_t left = limit_bytes - moved;
        const size_t take = iov[i].iov_len < left ? iov[i].iov_len : left;
        memcpy(iov[i].iov_base, bytes + moved, take);
        moved += take;
    }
    if (moved > 0) {
        nbd_session_received(session, moved);
    }
    return moved;
}

/* Until all that was composed is taken, or the session takes no more and has nothing to send. */
static inline void wire_run(struct wire *wire)
{
    size_t taken = 0;
    wire_send(wire);
    while (taken < wire->input_bytes) {
        const size_t left = wire->input_bytes - taken;
        const size_t moved =
            wire_receive(wire->session, wire->input + taken, left < wire->step_bytes ? left : wire->step_bytes);
        wire_send(wire);
        if (moved == 0) {
            break;
        }
        taken += moved;
    }
    wire->input_bytes -= taken;
    if (wire->input_bytes > 0) {
        memmove(wire->input, wire->input + taken, wire->input_bytes);
    }
}

/* Checking. */

static inline const uint8_t *wire_take(struct wire *wire, size_t length_bytes)
{
    REQUIRE(wire->output_bytes - wire->output_read_bytes >= length_bytes, "%zu bytes of answer, wanted %zu (%s)",
            wire->output_bytes - wire->output_read_bytes, length_bytes, nbd_session_reason(wire->session));
    const uint8_t *at = wire->output + wire->output_read_bytes;
    wire->output_read_bytes += length_bytes;
    return at;
}

static inline uint64_t wire_take_number(struct wire *wire, uint32_t size_bytes)
{
    const uint8_t *at = wire_take(wire, size_bytes);
    uint64_t value = 0;
    for (uint32_t i = 0; i < size_bytes; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

static inline void wire_expect_nothing(const struct wire *wire)
{
    REQUIRE(wire->output_bytes == wire->output_read_bytes, "%zu bytes of answer too many",
            wire->output_bytes - wire->output_read_bytes);
}

static inline void wire_expect_state(const struct wire *wire, enum nbd_state state)
{
    REQUIRE(nbd_session_state(wire->session) == state, "state %d: %s", (int)nbd_session_state(wire->session),
            nbd_session_reason(wire->session));
}

#endif
