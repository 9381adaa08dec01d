/* session.c - the session as its driver sees it: where bytes come in, where they go out, when it is over.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Receives go into one linear staging area and are parsed until nothing whole is left; the rest, at most a header or an
 * option, moves to its front before the next receive.  A WRITE whose payload is not all there gets the next receive
 * directly into its own buffer, with staging behind it, so that one receive finishes the payload and reads on. */
#include "nbd_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void assert_export(const struct nbd_export *export)
{
    assert(export->size_bytes <= INT64_MAX);
    assert(export->block_min_bytes != 0 && export->block_min_bytes <= 65536);
    assert((export->block_min_bytes & (export->block_min_bytes - 1)) == 0);
    assert(export->block_preferred_bytes >= export->block_min_bytes);
    assert(export->payload_max_bytes <= NBD_PAYLOAD_SWALLOW_MAX);
    assert(export->name == NULL || strlen(export->name) <= NBD_STRING_BYTES_MAX);
    assert(export->description == NULL || strlen(export->description) <= NBD_STRING_BYTES_MAX);
    (void)export;
}

static struct nbd_session *allocate(const struct nbd_export *export)
{
    assert_export(export);
    struct nbd_session *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return NULL;
    }
    made->export = export;
    made->reason = "The session is open.";
    for (uint32_t i = NBD_REQUESTS_MAX; i > 0; i--) {
        nbd_slot_free(made, &made->slots[i - 1]);
    }
    return made;
}

int nbd_session_new(const struct nbd_export *export, struct nbd_session **session)
{
    struct nbd_session *made = allocate(export);
    if (made == NULL) {
        return -ENOMEM;
    }
    made->state = NBD_HANDSHAKE;
    made->phase = NBD_PHASE_CLIENT_FLAGS;
    nbd_handshake_greet(made);
    *session = made;
    return 0;
}

int nbd_session_new_transmission(const struct nbd_export *export, const struct nbd_position *position,
                                 struct nbd_session **session)
{
    assert(position->rest_bytes <= NBD_REST_BYTES_MAX);
    struct nbd_session *made = allocate(export);
    if (made == NULL) {
        return -ENOMEM;
    }
    made->structured = position->structured;
    memcpy(made->staging, position->rest, position->rest_bytes);
    made->staging_end = position->rest_bytes;
    nbd_handshake_begin_transmission(made);
    *session = made;
    return 0;
}

/* The WRITE whose payload never became whole. */
static void drop_current(struct nbd_session *session)
{
    struct nbd_slot *slot = session->current;
    if (slot == NULL) {
        return;
    }
    void *payload = slot->request.payload;
    const uint64_t length_bytes = slot->request.length_bytes;
    session->current = NULL;
    nbd_slot_free(session, slot);
    if (payload != NULL) {
        session->export->release(session->export->user, payload, length_bytes);
    }
}

void nbd_session_free(struct nbd_session *session)
{
    if (session == NULL) {
        return;
    }
    assert(session->in_flight == 0);
    drop_current(session);
    /* Only now: a send may have been under way from these until the driver was done with the session. */
    for (struct nbd_slot *slot = session->replies; slot != NULL; slot = (struct nbd_slot *)slot->request.next) {
        if (slot->request.payload != NULL) {
            session->export->release(session->export->user, slot->request.payload, slot->request.length_bytes);
        }
    }
    free(session);
}

void nbd_session_fail(struct nbd_session *session, const char *reason)
{
    session->state = NBD_FAILED;
    session->reason = reason;
    session->staging_start = 0;
    session->staging_end = 0;
    /* No receive is under way while we parse, so nobody writes into this payload any more. */
    drop_current(session);
}

void nbd_session_close(struct nbd_session *session, const char *reason)
{
    session->state = NBD_CLOSING;
    session->reason = reason;
    session->staging_start = 0;
    session->staging_end = 0;
}

static bool is_over(const struct nbd_session *session)
{
    return session->state == NBD_CLOSING || session->state == NBD_FAILED;
}

static bool parse_one(struct nbd_session *session)
{
    switch (session->phase) {
    case NBD_PHASE_CLIENT_FLAGS:
        return nbd_handshake_parse_flags(session);
    case NBD_PHASE_OPTION:
        return nbd_options_parse(session);
    case NBD_PHASE_REQUEST:
        return nbd_transmission_parse(session);
    case NBD_PHASE_PAYLOAD:
        return nbd_transmission_payload(session);
    case NBD_PHASE_SWALLOW:
        return nbd_transmission_swallow(session);
    }
    return false;
}

static void parse(struct nbd_session *session)
{
    /* Nothing that the server may call from ->begin, ->submit or ->release comes here: it is not blocked meanwhile. */
    assert(!session->parsing);
    session->parsing = true;
    session->blocked = NBD_BLOCKED_NOT;
    while (!is_over(session) && parse_one(session)) {
    }
    session->parsing = false;
}

/* What may come in while the session is being parked: nothing that begins a request. */
static size_t parking_window(const struct nbd_session *session, size_t window)
{
    if (session->state == NBD_HANDSHAKE) {
        return window;
    }
    if (session->phase != NBD_PHASE_SWALLOW) {
        return 0;
    }
    return session->current_left_bytes < window ? (size_t)session->current_left_bytes : window;
}

/* Moves what is left of staging to its front and offers the room behind it. */
static struct iovec staging_room(struct nbd_session *session)
{
    const size_t staged = nbd_session_staged(session);
    if (session->staging_start > 0) {
        memmove(session->staging, session->staging + session->staging_start, staged);
        session->staging_start = 0;
        session->staging_end = staged;
    }
    /* A small window after a large payload: what is received here has to be copied once more. */
    const size_t window =
        session->large && session->phase != NBD_PHASE_SWALLOW ? NBD_STAGING_WINDOW_BYTES : NBD_STAGING_BYTES - staged;
    return (struct iovec){.iov_base = session->staging + staged,
                          .iov_len = session->park ? parking_window(session, window) : window};
}

uint32_t nbd_session_recv_iov(struct nbd_session *session, struct iovec iov[2])
{
    uint32_t used = 0;
    if (is_over(session) || session->blocked != NBD_BLOCKED_NOT || session->parsing) {
        return 0;
    }
    if (session->phase == NBD_PHASE_PAYLOAD) {
        const struct nbd_request *request = &session->current->request;
        const uint64_t left_bytes = session->current_left_bytes;
        iov[used].iov_base = (uint8_t *)request->payload + (request->length_bytes - left_bytes);
        iov[used].iov_len = (size_t)left_bytes;
        used++;
    }
    iov[used] = staging_room(session);
    return iov[used].iov_len > 0 ? used + 1 : used;
}

static void received_end(struct nbd_session *session)
{
    if (session->state == NBD_HANDSHAKE) {
        nbd_session_fail(session, "The client left during the negotiation.");
    } else if (session->phase == NBD_PHASE_REQUEST && nbd_session_staged(session) == 0) {
        /* It may only have shut down its sending side: what it asked for is still answered. */
        nbd_session_close(session, "The client closed the connection without DISC.");
    } else {
        nbd_session_fail(session, "The client closed the connection in the middle of a request.");
    }
}

void nbd_session_received(struct nbd_session *session, size_t length_bytes)
{
    if (is_over(session)) {
        return;
    }
    if (length_bytes == 0) {
        received_end(session);
        return;
    }
    if (session->phase == NBD_PHASE_PAYLOAD) {
        const uint64_t left_bytes = session->current_left_bytes;
        const size_t take = length_bytes < left_bytes ? length_bytes : (size_t)left_bytes;
        session->current_left_bytes -= take;
        length_bytes -= take;
    }
    assert(length_bytes <= NBD_STAGING_BYTES - session->staging_end);
    session->staging_end += length_bytes;
    parse(session);
}

void nbd_session_retry(struct nbd_session *session)
{
    if (session->blocked == NBD_BLOCKED_PAYLOAD && !is_over(session)) {
        parse(session);
    }
}

void nbd_session_sent(struct nbd_session *session, size_t length_bytes)
{
    nbd_reply_sent(session, length_bytes);
    if (session->blocked == NBD_BLOCKED_OUTPUT && !is_over(session)) {
        parse(session);
    }
}

void nbd_session_park(struct nbd_session *session, bool park)
{
    session->park = park;
}

bool nbd_session_is_parked(const struct nbd_session *session, struct nbd_position *position)
{
    const size_t staged = nbd_session_staged(session);
    const bool between = session->state == NBD_TRANSMISSION && session->phase == NBD_PHASE_REQUEST &&
                         session->blocked == NBD_BLOCKED_NOT && staged <= NBD_REST_BYTES_MAX;
    const bool answered =
        session->in_flight == 0 && session->replies == NULL && session->output_put == session->output_sent;
    if (between && answered && position != NULL) {
        *position = (struct nbd_position){.structured = session->structured, .rest_bytes = (uint32_t)staged};
        memcpy(position->rest, session->staging + session->staging_start, staged);
    }
    return session->park && between && answered;
}

bool nbd_session_is_owed(const struct nbd_session *session)
{
    return session->state == NBD_HANDSHAKE || session->phase == NBD_PHASE_PAYLOAD ||
           session->phase == NBD_PHASE_SWALLOW;
}

enum nbd_state nbd_session_state(const struct nbd_session *session)
{
    return session->state;
}

uint32_t nbd_session_in_flight(const struct nbd_session *session)
{
    return session->in_flight;
}

const char *nbd_session_reason(const struct nbd_session *session)
{
    return session->reason;
}
