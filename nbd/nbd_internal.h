/* nbd_internal.h - the session as the files of this room see it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Input:  staging (linear) -> one parser per phase, run until the input is used up, something is in the way, or it is
 * over. Output: one ring of bytes for everything but READ data; the slots of answered requests stand in line in
 * `replies`, and each knows the ring position where its header ends, so that its data go out right behind.
 *
 * True at any time outside of a call:
 *   - a slot is in exactly one place: the free list, `current`, the server's hands, or the line of replies;
 *   - while `blocked` or over, recv_iov offers no room, so no receive is under way and staging may be parsed at any
 * time;
 *   - in NBD_PHASE_PAYLOAD and NBD_PHASE_SWALLOW staging is empty;
 *   - the ring has room for one reply header per slot that is not yet answered. */
#ifndef NBD_INTERNAL_H
#define NBD_INTERNAL_H

#include "nbd_protocol.h"
#include "nbd_session.h"

enum {
    NBD_STAGING_BYTES = 256 * 1024,
    /* After such a WRITE the next one is likely as large: stage little, copy little.  At 64 KiB copying is still
     * cheaper than the receives that it saves (measured: 16 against 20 us of CPU for each). */
    NBD_PAYLOAD_LARGE_BYTES = 128 * 1024,
    NBD_STAGING_WINDOW_BYTES = 16 * 1024, /* what is offered then */
    NBD_OPTIONS_MAX = 64,                 /* options of one negotiation */
    NBD_OPTION_DATA_MAX = 64 * 1024, /* bytes of one option; a legal GO needs 4096 + 6 + 2 per information request */
    NBD_PAYLOAD_SWALLOW_MAX = 64 * 1024 * 1024,
    NBD_REFUSAL_TEXT_MAX = 64,
    NBD_REPLY_HEADER_MAX = sizeof(struct nbd_chunk_error) + NBD_REFUSAL_TEXT_MAX,
    NBD_OPTION_OUTPUT_MAX = 3 * NBD_STRING_BYTES_MAX, /* INFO with name and description is the longest answer */
    NBD_OUTPUT_BYTES = 64 * 1024                      /* a power of two */
};
_Static_assert(NBD_REST_BYTES_MAX == sizeof(struct nbd_request_header) - 1, "a header that is not whole");
_Static_assert(NBD_OPTION_DATA_MAX + sizeof(struct nbd_option_header) < NBD_STAGING_BYTES,
               "an option fits into staging");
_Static_assert(2 * NBD_OPTION_OUTPUT_MAX + NBD_REQUESTS_MAX * NBD_REPLY_HEADER_MAX <= NBD_OUTPUT_BYTES,
               "all replies fit into the ring behind the last option's");

enum nbd_phase {
    NBD_PHASE_CLIENT_FLAGS,
    NBD_PHASE_OPTION,
    NBD_PHASE_REQUEST,
    NBD_PHASE_PAYLOAD, /* `current` is a WRITE that waits for the rest of its payload */
    NBD_PHASE_SWALLOW  /* `current` is a refused WRITE whose payload is still to be skipped */
};

enum nbd_blocked {
    NBD_BLOCKED_NOT,
    NBD_BLOCKED_OUTPUT, /* until some output is sent: all slots are in use, or the ring is too full for an option's
                           answer */
    NBD_BLOCKED_PAYLOAD /* until nbd_session_retry: ->begin had no room */
};

enum nbd_slot_place { NBD_SLOT_FREE, NBD_SLOT_CURRENT, NBD_SLOT_SERVER, NBD_SLOT_REPLIES };

/* Why a request is refused before the server sees it. */
struct nbd_refusal {
    enum nbd_error error;
    char text[NBD_REFUSAL_TEXT_MAX];
};

struct nbd_slot {
    struct nbd_request request;        /* first: the server's pointer is the slot's */
    uint64_t header_end;               /* in replies: ring position behind its header */
    uint64_t data_bytes;               /* in replies: READ data still to send, the end of the payload */
    const struct nbd_refusal *refusal; /* current, while its payload is swallowed; points to a const table */
    enum nbd_slot_place place;
};

struct nbd_session {
    const struct nbd_export *export; /* borrowed */
    const char *reason;              /* a literal */
    enum nbd_state state;
    enum nbd_phase phase;
    enum nbd_blocked blocked;
    bool parsing; /* staging is being read: no room in it is given away */
    bool fixed_newstyle;
    bool no_zeroes;
    bool structured; /* structured replies were negotiated: every READ is answered with chunks */
    bool park;       /* no room for another request is given away */
    bool large;      /* the last WRITE had at least NBD_PAYLOAD_LARGE_BYTES */
    uint32_t options;
    uint32_t in_flight; /* slots in the server's hands */

    struct nbd_slot *current;
    uint64_t current_left_bytes; /* payload bytes of `current` still to come */
    struct nbd_slot *free;
    struct nbd_slot *replies; /* the next to send */
    struct nbd_slot *replies_last;

    uint64_t output_put; /* ring positions count bytes since the greeting */
    uint64_t output_sent;
    size_t staging_start;
    size_t staging_end;

    struct nbd_slot slots[NBD_REQUESTS_MAX];
    uint8_t output[NBD_OUTPUT_BYTES];
    uint8_t staging[NBD_STAGING_BYTES];
};

/* session.c */
/* Hard disconnect.  `reason` is a literal. */
void nbd_session_fail(struct nbd_session *session, const char *reason);
/* The session answers what is in flight and takes nothing more. */
void nbd_session_close(struct nbd_session *session, const char *reason);
static inline size_t nbd_session_staged(const struct nbd_session *session)
{
    return session->staging_end - session->staging_start;
}

/* The parsers take one thing from staging each.  True: something was taken, call again.  False: not enough input,
 * blocked, or over. */
bool nbd_handshake_parse_flags(struct nbd_session *session); /* handshake.c */
bool nbd_options_parse(struct nbd_session *session);         /* options.c */
bool nbd_transmission_parse(struct nbd_session *session);    /* transmission.c */
bool nbd_transmission_payload(struct nbd_session *session);  /* NBD_PHASE_PAYLOAD */
bool nbd_transmission_swallow(struct nbd_session *session);  /* NBD_PHASE_SWALLOW */

/* handshake.c */
void nbd_handshake_greet(struct nbd_session *session);
/* For the client that this session negotiated with. */
uint16_t nbd_handshake_transmission_flags(const struct nbd_session *session);
void nbd_handshake_begin_transmission(struct nbd_session *session);
/* An option's answer: header and data.  An error's data are its sentence. */
void nbd_handshake_reply(struct nbd_session *session, uint32_t option, uint32_t type, const void *data,
                         uint32_t length_bytes);
void nbd_handshake_refuse(struct nbd_session *session, uint32_t option, uint32_t type, const char *text);

/* meta_context.c: NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
void nbd_option_meta_context(struct nbd_session *session, uint32_t option, const uint8_t *data, uint32_t length_bytes);
/* options.c: is it the export's name, or the empty one?  Not NUL-terminated. */
bool nbd_option_name_is_ours(const struct nbd_session *session, const uint8_t *name, uint32_t length_bytes);

/* reply.c */
static inline size_t nbd_output_room(const struct nbd_session *session)
{
    return NBD_OUTPUT_BYTES - (size_t)(session->output_put - session->output_sent);
}
/* There is room: asserted. */
void nbd_output_put(struct nbd_session *session, const void *bytes, size_t length_bytes);
/* Answers a request that never reached the server.  NULL: success, with no data. */
void nbd_reply_refuse(struct nbd_session *session, struct nbd_slot *slot, const struct nbd_refusal *refusal);
void nbd_reply_sent(struct nbd_session *session, size_t length_bytes);
void nbd_slot_free(struct nbd_session *session, struct nbd_slot *slot);

/* errors.c: a positive errno in the values that may be sent for this request. */
enum nbd_error nbd_error_from_errno(int error, const struct nbd_request *request);
const char *nbd_error_text(enum nbd_error error);

#endif
