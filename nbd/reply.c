/* reply.c - answers to requests, and the output that is under way.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Headers are copied into the output ring back to back, so one iov entry carries many.  READ data are never copied:
 * they are sent from the buffer that ->begin gave.  With structured replies a READ is one OFFSET_DATA chunk with DONE,
 * or one ERROR chunk; all other commands get simple replies, which the protocol allows and which are smaller.
 *
 * A slot waits in line until its answer is sent.  A client that does not read its replies therefore runs out of slots,
 * and the session stops taking input: that bounds the output. */
#include "nbd_internal.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

/* The ring. */

void nbd_output_put(struct nbd_session *session, const void *bytes, size_t length_bytes)
{
    assert(length_bytes <= nbd_output_room(session));
    if (length_bytes == 0) {
        return;
    }
    const size_t at = (size_t)(session->output_put % NBD_OUTPUT_BYTES);
    const size_t to_end = NBD_OUTPUT_BYTES - at;
    const size_t first = length_bytes < to_end ? length_bytes : to_end;
    memcpy(session->output + at, bytes, first);
    if (first < length_bytes) {
        memcpy(session->output, (const uint8_t *)bytes + first, length_bytes - first);
    }
    session->output_put += length_bytes;
}

/* The slots. */

void nbd_slot_free(struct nbd_session *session, struct nbd_slot *slot)
{
    slot->place = NBD_SLOT_FREE;
    slot->request.payload = NULL;
    slot->request.next = (struct nbd_request *)session->free;
    session->free = slot;
}

static void release_payload(struct nbd_session *session, struct nbd_slot *slot)
{
    void *payload = slot->request.payload;
    if (payload != NULL) {
        slot->request.payload = NULL;
        session->export->release(session->export->user, payload, slot->request.length_bytes);
    }
}

static void stand_in_line(struct nbd_session *session, struct nbd_slot *slot)
{
    slot->place = NBD_SLOT_REPLIES;
    slot->header_end = session->output_put;
    slot->request.next = NULL;
    if (session->replies == NULL) {
        session->replies = slot;
    } else {
        session->replies_last->request.next = &slot->request;
    }
    session->replies_last = slot;
}

/* The answers. */

static void put_simple(struct nbd_session *session, const struct nbd_slot *slot, uint32_t error)
{
    const struct nbd_simple_reply reply = {
        .magic = htobe32(NBD_SIMPLE_REPLY_MAGIC),
        .error = htobe32(error),
        .cookie = slot->request.cookie,
    };
    nbd_output_put(session, &reply, sizeof(reply));
}

static struct nbd_chunk_header chunk_header(const struct nbd_slot *slot, uint16_t type, uint32_t length_bytes)
{
    return (struct nbd_chunk_header){
        .magic = htobe32(NBD_STRUCTURED_REPLY_MAGIC),
        .flags = htobe16(NBD_CHUNK_DONE),
        .type = htobe16(type),
        .cookie = slot->request.cookie,
        .length_bytes = htobe32(length_bytes),
    };
}

static void put_chunk_data(struct nbd_session *session, const struct nbd_slot *slot)
{
    struct nbd_chunk_offset_data chunk = {.offset_bytes = htobe64(slot->request.offset_bytes)};
    chunk.header = chunk_header(slot, NBD_CHUNK_OFFSET_DATA, (uint32_t)(sizeof(chunk.offset_bytes) + slot->data_bytes));
    nbd_output_put(session, &chunk, sizeof(chunk));
}

static void put_chunk_none(struct nbd_session *session, const struct nbd_slot *slot)
{
    const struct nbd_chunk_header chunk = chunk_header(slot, NBD_CHUNK_NONE, 0);
    nbd_output_put(session, &chunk, sizeof(chunk));
}

static void put_chunk_error(struct nbd_session *session, const struct nbd_slot *slot, uint32_t error, const char *text)
{
    const size_t text_bytes = strnlen(text, NBD_REFUSAL_TEXT_MAX);
    struct nbd_chunk_error chunk = {
        .error = htobe32(error),
        .text_bytes = htobe16((uint16_t)text_bytes),
    };
    chunk.header = chunk_header(slot, NBD_CHUNK_ERROR, (uint32_t)(sizeof(chunk) - sizeof(chunk.header) + text_bytes));
    nbd_output_put(session, &chunk, sizeof(chunk));
    nbd_output_put(session, text, text_bytes);
}

static bool is_structured(const struct nbd_session *session, const struct nbd_slot *slot)
{
    return session->structured && slot->request.command == NBD_READ;
}

static void answer_error(struct nbd_session *session, struct nbd_slot *slot, enum nbd_error error, const char *text)
{
    if (is_structured(session, slot)) {
        put_chunk_error(session, slot, error, text);
    } else {
        put_simple(session, slot, error);
    }
    stand_in_line(session, slot);
}

static void answer_success(struct nbd_session *session, struct nbd_slot *slot)
{
    if (!is_structured(session, slot)) {
        put_simple(session, slot, 0);
    } else if (slot->data_bytes != 0) {
        put_chunk_data(session, slot);
    } else {
        put_chunk_none(session, slot);
    }
    stand_in_line(session, slot);
}

void nbd_reply_refuse(struct nbd_session *session, struct nbd_slot *slot, const struct nbd_refusal *refusal)
{
    if (refusal == NULL) {
        answer_success(session, slot);
    } else {
        answer_error(session, slot, refusal->error, refusal->text);
    }
}

void nbd_session_reply(struct nbd_session *session, struct nbd_request *request, int error)
{
    struct nbd_slot *slot = (struct nbd_slot *)request;
    assert(error >= 0);
    assert(slot->place == NBD_SLOT_SERVER && session->in_flight > 0);
    session->in_flight--;
    if (session->state == NBD_FAILED) {
        release_payload(session, slot);
        nbd_slot_free(session, slot);
    } else if (error != 0) {
        const enum nbd_error wire = nbd_error_from_errno(error, request);
        release_payload(session, slot);
        answer_error(session, slot, wire, nbd_error_text(wire));
    } else if (request->command == NBD_READ) {
        slot->data_bytes = request->length_bytes;
        answer_success(session, slot);
    } else {
        release_payload(session, slot);
        answer_success(session, slot);
    }
}

/* Sending. */

/* The bytes of the ring between two positions, in one or two pieces. */
static uint32_t iov_of_ring(struct nbd_session *session, struct iovec *iov, uint32_t count, uint64_t start,
                            uint64_t end)
{
    uint32_t used = 0;
    while (start < end && used < count) {
        const size_t at = (size_t)(start % NBD_OUTPUT_BYTES);
        const size_t to_end = NBD_OUTPUT_BYTES - at;
        const size_t length_bytes = end - start < to_end ? (size_t)(end - start) : to_end;
        iov[used].iov_base = session->output + at;
        iov[used].iov_len = length_bytes;
        start += length_bytes;
        used++;
    }
    return used;
}

static const struct nbd_slot *first_with_data(const struct nbd_slot *slot)
{
    while (slot != NULL && slot->data_bytes == 0) {
        slot = (const struct nbd_slot *)slot->request.next;
    }
    return slot;
}

uint32_t nbd_session_send_iov(struct nbd_session *session, struct iovec *iov, uint32_t count)
{
    uint32_t used = 0;
    uint64_t at = session->output_sent;
    const struct nbd_slot *slot = first_with_data(session->replies);
    if (session->state == NBD_FAILED) {
        return 0;
    }
    while (used < count) {
        const uint64_t end = slot != NULL ? slot->header_end : session->output_put;
        used += iov_of_ring(session, iov + used, count - used, at, end);
        if (slot == NULL || used == count) {
            break;
        }
        at = end;
        iov[used].iov_base = (uint8_t *)slot->request.payload + (slot->request.length_bytes - slot->data_bytes);
        iov[used].iov_len = (size_t)slot->data_bytes;
        used++;
        slot = first_with_data((const struct nbd_slot *)slot->request.next);
    }
    return used;
}

/* The first in line is fully sent. */
static void leave_line(struct nbd_session *session)
{
    struct nbd_slot *slot = session->replies;
    void *payload = slot->request.payload;
    const uint64_t length_bytes = slot->request.length_bytes;
    session->replies = (struct nbd_slot *)slot->request.next;
    if (session->replies == NULL) {
        session->replies_last = NULL;
    }
    nbd_slot_free(session, slot);
    if (payload != NULL) {
        /* Last, because the server may call us from here. */
        session->export->release(session->export->user, payload, length_bytes);
    }
}

void nbd_reply_sent(struct nbd_session *session, size_t length_bytes)
{
    while (length_bytes > 0) {
        struct nbd_slot *slot = session->replies;
        const uint64_t end = slot != NULL ? slot->header_end : session->output_put;
        const uint64_t header_bytes = end - session->output_sent;
        const size_t header_take = header_bytes < length_bytes ? (size_t)header_bytes : length_bytes;
        session->output_sent += header_take;
        length_bytes -= header_take;
        assert(slot != NULL || length_bytes == 0);
        if (slot == NULL || session->output_sent < end) {
            continue;
        }
        const size_t data_take = slot->data_bytes < length_bytes ? (size_t)slot->data_bytes : length_bytes;
        slot->data_bytes -= data_take;
        length_bytes -= data_take;
        if (slot->data_bytes == 0) {
            leave_line(session);
        }
    }
}
