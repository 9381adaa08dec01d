/* nbd_session.h - one client's side of the NBD protocol, sans-I/O: bytes in, requests and bytes out.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The session speaks fixed newstyle negotiation and the transmission phase.  It owns no descriptor, no thread and no
 * clock; it has never heard of replication.  What it serves is a table of calls.  One thread drives a session.
 *
 * The driver's loop:
 *   in:   nbd_session_recv_iov   -> where the next bytes belong (a payload's own buffer first, then the staging area)
 *         nbd_session_received   -> parses, calls export->begin / ->submit for each complete request
 *   out:  nbd_session_send_iov   -> what to send next (borrowed until nbd_session_sent)
 *         nbd_session_sent       -> n bytes are gone; payloads fully sent are given back by export->release
 *   nbd_session_reply answers a request, in any order, from the same thread, also from inside ->submit.
 *
 * A session can be parked: brought to a point between two requests, with everything answered, from which another
 * session, in another process, goes on with the same connection. */
#ifndef NBD_SESSION_H
#define NBD_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct nbd_session;

enum nbd_command {
    NBD_READ = 0,
    NBD_WRITE = 1,
    NBD_DISC = 2,
    NBD_FLUSH = 3,
    NBD_TRIM = 4,
    NBD_CACHE = 5,
    NBD_WRITE_ZEROES = 6
};
/* Command flags as on the wire; only those that mean something for the command reach ->submit (so FUA only with WRITE,
 * TRIM and WRITE_ZEROES). */
#define NBD_FLAG_FUA 1U
#define NBD_FLAG_NO_HOLE 2U
#define NBD_FLAG_DF 4U
#define NBD_FLAG_FAST_ZERO 16U

/* A request from the client.  The slot is the server's from ->submit until nbd_session_reply; `user` is always the
 * server's. */
struct nbd_request {
    enum nbd_command command;
    uint32_t flags;
    uint64_t offset_bytes; /* offset + length <= export size: checked */
    uint64_t length_bytes; /* 0 for FLUSH alone; other empty requests are answered by the session */
    void *payload; /* WRITE: length_bytes, from ->begin.  READ: from ->begin too, to be filled before the reply */
    uint64_t cookie;
    void *user;
    struct nbd_request *next; /* the session's, while the slot is free or queued */
};

/* What a session serves.  Filled in by the server; constant during a session, except that `shutting_down` may become
 * true. */
struct nbd_export {
    const char *name; /* the one export; the empty name means it too */
    const char *description;
    uint64_t size_bytes; /* < 2^63 */
    bool read_only;
    bool rotational;
    bool fast_zero;           /* FAST_ZERO really is; else such a request is answered ENOTSUP by the session */
    uint32_t block_min_bytes; /* power of two; unaligned requests get EINVAL */
    uint32_t block_preferred_bytes;
    uint32_t payload_max_bytes; /* advertised maximum; 32 MiB.  Longer WRITE payloads up to 64 MiB are swallowed, then
                                   EINVAL */
    bool shutting_down;         /* answer options with ERR_SHUTDOWN and commands with ESHUTDOWN */
    void *user;                 /* handed to the calls below */

    /* A READ or WRITE of length_bytes > 0 is about to be taken: returns a buffer for the payload, aligned for direct
     * I/O, or NULL: no room now; the session stops taking input (recv_iov returns 0) until nbd_session_retry. */
    void *(*begin)(void *user, struct nbd_request *request);
    /* The request is whole.  The server calls nbd_session_reply exactly once for it, now or later. */
    void (*submit)(void *user, struct nbd_session *session, struct nbd_request *request);
    /* The payload from ->begin is no longer used by the session: after the reply to a WRITE (from inside
     * nbd_session_reply), after the last byte of a READ's reply was sent, or when the session dies with it. */
    void (*release)(void *user, void *payload, uint64_t length_bytes);
};

enum nbd_state {
    NBD_HANDSHAKE, /* the driver enforces its 10 s deadline while the session is here */
    NBD_TRANSMISSION,
    NBD_CLOSING, /* DISC, ABORT or end of input: answer what is in flight, send what is queued, then close */
    NBD_FAILED   /* hard disconnect: close now; `nbd_session_reason` says why */
};

#define NBD_REQUESTS_MAX 128  /* in flight per session; then input stops */
#define NBD_IOV_MAX 256       /* what send_iov fills at most */
#define NBD_REST_BYTES_MAX 27 /* one less than a request's header */

/* Allocates all that a session will ever use.  `export` is borrowed until nbd_session_free.  0 or -ENOMEM. */
int nbd_session_new(const struct nbd_export *export, struct nbd_session **session);

/* What two sessions of one connection have in common, the one that was parked and the one that goes on. */
struct nbd_position {
    bool structured;     /* structured replies were negotiated */
    uint32_t rest_bytes; /* of `rest`: the part of the next request's header that had come already */
    uint8_t rest[NBD_REST_BYTES_MAX];
};
/* As nbd_session_new, but there is no negotiation: it begins in NBD_TRANSMISSION, at that position.  For a client that
 * learns size and flags in another way (the kernel's, by netlink) everything in it is 0: every reply is a simple one.
 */
int nbd_session_new_transmission(const struct nbd_export *export, const struct nbd_position *position,
                                 struct nbd_session **session);
/* Only when nbd_session_in_flight is 0 (the server may reply to a failed session; the reply is dropped) and no receive
 * or send is under way.  Releases the payloads that are still the session's. */
void nbd_session_free(struct nbd_session *session);

/* Fills iov[0..1] with room for the next bytes; returns how many entries, 0 when no input is wanted now.  While 0 was
 * returned ask again after each _sent and each _retry: both may take up what had been left unparsed, and call ->submit.
 */
uint32_t nbd_session_recv_iov(struct nbd_session *session, struct iovec iov[2]);
/* length_bytes arrived in that room; 0: the client closed. */
void nbd_session_received(struct nbd_session *session, size_t length_bytes);
/* ->begin may succeed again: parse on.  Harmless at any time, also from inside ->release. */
void nbd_session_retry(struct nbd_session *session);

/* Fills iov with up to `count` entries of output; returns how many, 0 when there is nothing to send.  Borrowed until
 * _sent. */
uint32_t nbd_session_send_iov(struct nbd_session *session, struct iovec *iov, uint32_t count);
void nbd_session_sent(struct nbd_session *session, size_t length_bytes);

/* error: 0 or a positive errno (mapped to NBD's own values).  The request slot is the session's again afterwards. */
void nbd_session_reply(struct nbd_session *session, struct nbd_request *request, int error);

/* From now on no request begins that is not in staging yet; a negotiation and a payload under way go on to their end.
 * While a receive is under way its bytes are still taken, whatever they are.  park false: as before. */
void nbd_session_park(struct nbd_session *session, bool park);
/* In transmission, everything that came is answered, every answer sent: nothing but what *position gets is lost when
 * the session is freed now.  position may be NULL. */
bool nbd_session_is_parked(const struct nbd_session *session, struct nbd_position *position);
/* The client has to send something before the session can be parked: the rest of a payload, or of the negotiation. */
bool nbd_session_is_owed(const struct nbd_session *session);

enum nbd_state nbd_session_state(const struct nbd_session *session);
uint32_t nbd_session_in_flight(const struct nbd_session *session);
const char *nbd_session_reason(const struct nbd_session *session); /* one sentence, for the log */

#endif
