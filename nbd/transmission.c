/* transmission.c - requests: validate, then handle; the reply is reply.c's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A request is validated from its header alone, before ->begin is called and before a byte of payload is kept.  A
 * refused WRITE is answered only when its payload has been skipped, so that the next request parses.  When no slot or
 * no buffer is free the header stays in staging, and parsing resumes at that header. */
#include "nbd_internal.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

/* Validate: NULL, or why not.  The order is that of nbdkit: first what nobody may do, then whether it is well formed.
 */

static const struct nbd_refusal refused_shutdown = {NBD_ESHUTDOWN, "the server is shutting down"};
static const struct nbd_refusal refused_read_only = {NBD_EPERM, "the export is read-only"};
static const struct nbd_refusal refused_command = {NBD_EINVAL, "unknown command"};
static const struct nbd_refusal refused_flag = {NBD_EINVAL, "a flag that this command does not have"};
static const struct nbd_refusal refused_long = {NBD_EINVAL, "longer than the maximum payload"};
static const struct nbd_refusal refused_unaligned = {NBD_EINVAL, "not aligned to the minimum block"};
static const struct nbd_refusal refused_end = {NBD_EINVAL, "beyond the end of the export"};
static const struct nbd_refusal refused_end_space = {NBD_ENOSPC, "beyond the end of the export"};
static const struct nbd_refusal refused_fast = {NBD_ENOTSUP, "zeroing is not faster than writing"};

static bool is_beyond_end(const struct nbd_export *export, const struct nbd_request *request)
{
    return request->offset_bytes > export->size_bytes ||
           request->length_bytes > export->size_bytes - request->offset_bytes;
}

static bool is_unaligned(const struct nbd_export *export, const struct nbd_request *request)
{
    return ((request->offset_bytes | request->length_bytes) & (export->block_min_bytes - 1)) != 0;
}

static bool has_flag_beyond(const struct nbd_request *request, uint32_t allowed)
{
    /* FUA is legal everywhere, since SEND_FUA is always set. */
    return (request->flags & ~(allowed | NBD_FLAG_FUA)) != 0;
}

static const struct nbd_refusal *validate_read(const struct nbd_session *session, const struct nbd_request *request)
{
    if (has_flag_beyond(request, session->structured ? NBD_FLAG_DF : 0)) {
        return &refused_flag;
    }
    if (request->length_bytes > session->export->payload_max_bytes) {
        return &refused_long;
    }
    if (is_beyond_end(session->export, request)) {
        return &refused_end;
    }
    return is_unaligned(session->export, request) ? &refused_unaligned : NULL;
}

static const struct nbd_refusal *validate_write(const struct nbd_session *session, const struct nbd_request *request)
{
    if (session->export->read_only) {
        return &refused_read_only;
    }
    if (has_flag_beyond(request, 0)) {
        return &refused_flag;
    }
    if (request->length_bytes > session->export->payload_max_bytes) {
        return &refused_long;
    }
    if (is_beyond_end(session->export, request)) {
        return &refused_end_space;
    }
    return is_unaligned(session->export, request) ? &refused_unaligned : NULL;
}

static const struct nbd_refusal *validate_flush(const struct nbd_request *request)
{
    /* Offset and length should be zero; nothing depends on them. */
    return has_flag_beyond(request, 0) ? &refused_flag : NULL;
}

static const struct nbd_refusal *validate_trim(const struct nbd_session *session, const struct nbd_request *request)
{
    if (session->export->read_only) {
        return &refused_read_only;
    }
    if (has_flag_beyond(request, 0)) {
        return &refused_flag;
    }
    if (is_beyond_end(session->export, request)) {
        return &refused_end;
    }
    return is_unaligned(session->export, request) ? &refused_unaligned : NULL;
}

static const struct nbd_refusal *validate_cache(const struct nbd_session *session, const struct nbd_request *request)
{
    if (has_flag_beyond(request, 0)) {
        return &refused_flag;
    }
    if (is_beyond_end(session->export, request)) {
        return &refused_end;
    }
    return is_unaligned(session->export, request) ? &refused_unaligned : NULL;
}

static const struct nbd_refusal *validate_write_zeroes(const struct nbd_session *session,
                                                       const struct nbd_request *request)
{
    if (session->export->read_only) {
        return &refused_read_only;
    }
    if (has_flag_beyond(request, NBD_FLAG_NO_HOLE | NBD_FLAG_FAST_ZERO)) {
        return &refused_flag;
    }
    if (is_beyond_end(session->export, request)) {
        return &refused_end_space;
    }
    if (is_unaligned(session->export, request)) {
        return &refused_unaligned;
    }
    const bool fast_wanted = (request->flags & NBD_FLAG_FAST_ZERO) != 0;
    return fast_wanted && !session->export->fast_zero ? &refused_fast : NULL;
}

static const struct nbd_refusal *validate(const struct nbd_session *session, const struct nbd_request *request)
{
    if (session->export->shutting_down) {
        return &refused_shutdown;
    }
    switch ((unsigned)request->command) {
    case NBD_READ:
        return validate_read(session, request);
    case NBD_WRITE:
        return validate_write(session, request);
    case NBD_FLUSH:
        return validate_flush(request);
    case NBD_TRIM:
        return validate_trim(session, request);
    case NBD_CACHE:
        return validate_cache(session, request);
    case NBD_WRITE_ZEROES:
        return validate_write_zeroes(session, request);
    default: /* a number from the wire */
        return &refused_command;
    }
}

/* Handle. */

static void consume_header(struct nbd_session *session, struct nbd_slot *slot)
{
    session->staging_start += sizeof(struct nbd_request_header);
    session->free = (struct nbd_slot *)slot->request.next;
    slot->request.next = NULL;
    slot->place = NBD_SLOT_CURRENT;
}

static void submit(struct nbd_session *session, struct nbd_slot *slot)
{
    slot->place = NBD_SLOT_SERVER;
    session->in_flight++;
    session->export->submit(session->export->user, session, &slot->request);
}

/* A buffer for the payload, or the session waits at this header for nbd_session_retry. */
static bool begin(struct nbd_session *session, struct nbd_slot *slot)
{
    slot->request.payload = session->export->begin(session->export->user, &slot->request);
    if (slot->request.payload == NULL) {
        session->blocked = NBD_BLOCKED_PAYLOAD;
    }
    return slot->request.payload != NULL;
}

static bool handle_read(struct nbd_session *session, struct nbd_slot *slot)
{
    slot->request.flags &= ~NBD_FLAG_FUA;
    if (!begin(session, slot)) {
        return false;
    }
    consume_header(session, slot);
    submit(session, slot);
    return true;
}

static bool handle_write(struct nbd_session *session, struct nbd_slot *slot)
{
    if (!begin(session, slot)) {
        return false;
    }
    consume_header(session, slot);
    session->current = slot;
    session->current_left_bytes = slot->request.length_bytes;
    session->large = slot->request.length_bytes >= NBD_PAYLOAD_LARGE_BYTES;
    session->phase = NBD_PHASE_PAYLOAD;
    return true;
}

static bool handle_flush(struct nbd_session *session, struct nbd_slot *slot)
{
    slot->request.flags = 0;
    slot->request.offset_bytes = 0;
    slot->request.length_bytes = 0;
    consume_header(session, slot);
    submit(session, slot);
    return true;
}

static bool handle_cache(struct nbd_session *session, struct nbd_slot *slot)
{
    slot->request.flags = 0;
    consume_header(session, slot);
    submit(session, slot);
    return true;
}

static bool handle_trim_or_zeroes(struct nbd_session *session, struct nbd_slot *slot)
{
    consume_header(session, slot);
    submit(session, slot);
    return true;
}

/* Nothing to read, write or zero: done.  The protocol leaves it open, and success is what clients expect. */
static bool handle_empty(struct nbd_session *session, struct nbd_slot *slot)
{
    consume_header(session, slot);
    nbd_reply_refuse(session, slot, NULL);
    return true;
}

static bool handle(struct nbd_session *session, struct nbd_slot *slot)
{
    if (slot->request.length_bytes == 0 && slot->request.command != NBD_FLUSH) {
        return handle_empty(session, slot);
    }
    switch (slot->request.command) {
    case NBD_READ:
        return handle_read(session, slot);
    case NBD_WRITE:
        return handle_write(session, slot);
    case NBD_FLUSH:
        return handle_flush(session, slot);
    case NBD_CACHE:
        return handle_cache(session, slot);
    case NBD_TRIM:
    case NBD_WRITE_ZEROES:
        return handle_trim_or_zeroes(session, slot);
    case NBD_DISC:
        break;
    }
    assert(false);
    return false;
}

static bool handle_refused(struct nbd_session *session, struct nbd_slot *slot, const struct nbd_refusal *refusal)
{
    const bool has_payload = slot->request.command == NBD_WRITE && slot->request.length_bytes != 0;
    if (has_payload && slot->request.length_bytes > NBD_PAYLOAD_SWALLOW_MAX) {
        nbd_session_fail(session, "The client announced a WRITE of more than 64 MiB.");
        return false;
    }
    consume_header(session, slot);
    if (!has_payload) {
        nbd_reply_refuse(session, slot, refusal);
        return true;
    }
    slot->refusal = refusal;
    session->current = slot;
    session->current_left_bytes = slot->request.length_bytes;
    session->phase = NBD_PHASE_SWALLOW;
    return true;
}

/* Parse. */

static void decode(struct nbd_slot *slot, const struct nbd_request_header *header)
{
    struct nbd_request *request = &slot->request;
    request->command = (enum nbd_command)be16toh(header->command);
    request->flags = be16toh(header->flags);
    request->offset_bytes = be64toh(header->offset_bytes);
    request->length_bytes = be32toh(header->length_bytes);
    request->payload = NULL;
    request->cookie = header->cookie; /* as it came: it is only ever sent back */
    request->user = NULL;
    slot->data_bytes = 0;
}

bool nbd_transmission_parse(struct nbd_session *session)
{
    struct nbd_request_header header;
    if (nbd_session_staged(session) < sizeof(header)) {
        return false;
    }
    memcpy(&header, session->staging + session->staging_start, sizeof(header));
    if (be32toh(header.magic) != NBD_REQUEST_MAGIC) {
        nbd_session_fail(session, "The client sent a request without the request magic.");
        return false;
    }
    if (be16toh(header.command) == NBD_DISC) {
        nbd_session_close(session, "The client disconnected.");
        return false;
    }
    struct nbd_slot *slot = session->free;
    if (slot == NULL) {
        session->blocked = NBD_BLOCKED_OUTPUT;
        return false;
    }
    decode(slot, &header);
    const struct nbd_refusal *refusal = validate(session, &slot->request);
    return refusal == NULL ? handle(session, slot) : handle_refused(session, slot, refusal);
}

bool nbd_transmission_payload(struct nbd_session *session)
{
    struct nbd_slot *slot = session->current;
    const size_t staged = nbd_session_staged(session);
    const uint64_t left_bytes = session->current_left_bytes;
    const size_t take = staged < left_bytes ? staged : (size_t)left_bytes;
    memcpy((uint8_t *)slot->request.payload + (slot->request.length_bytes - left_bytes),
           session->staging + session->staging_start, take);
    session->staging_start += take;
    session->current_left_bytes -= take;
    if (session->current_left_bytes > 0) {
        return false;
    }
    session->current = NULL;
    session->phase = NBD_PHASE_REQUEST;
    submit(session, slot);
    return true;
}

bool nbd_transmission_swallow(struct nbd_session *session)
{
    const size_t staged = nbd_session_staged(session);
    const uint64_t left_bytes = session->current_left_bytes;
    const size_t take = staged < left_bytes ? staged : (size_t)left_bytes;
    if (take == 0) {
        return false;
    }
    session->staging_start += take;
    session->current_left_bytes -= take;
    if (session->current_left_bytes == 0) {
        struct nbd_slot *slot = session->current;
        session->current = NULL;
        session->phase = NBD_PHASE_REQUEST;
        nbd_reply_refuse(session, slot, slot->refusal);
    }
    return true;
}
