/* handshake.c - the frame of the negotiation: greeting, client flags, how an option is answered, and how it ends.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "nbd_internal.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

void nbd_handshake_greet(struct nbd_session *session)
{
    const struct nbd_greeting greeting = {
        .magic = htobe64(NBD_MAGIC),
        .option_magic = htobe64(NBD_OPTION_MAGIC),
        .flags = htobe16(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES),
    };
    nbd_output_put(session, &greeting, sizeof(greeting));
}

bool nbd_handshake_parse_flags(struct nbd_session *session)
{
    uint32_t flags;
    if (nbd_session_staged(session) < sizeof(flags)) {
        return false;
    }
    memcpy(&flags, session->staging + session->staging_start, sizeof(flags));
    session->staging_start += sizeof(flags);
    flags = be32toh(flags);
    if ((flags & ~(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES)) != 0) {
        nbd_session_fail(session, "The client set a handshake flag that was not offered.");
        return false;
    }
    session->fixed_newstyle = (flags & NBD_FIXED_NEWSTYLE) != 0;
    session->no_zeroes = (flags & NBD_NO_ZEROES) != 0;
    session->phase = NBD_PHASE_OPTION;
    return true;
}

uint16_t nbd_handshake_transmission_flags(const struct nbd_session *session)
{
    const struct nbd_export *export = session->export;
    unsigned flags = NBD_HAS_FLAGS | NBD_SEND_FLUSH | NBD_SEND_FUA | NBD_CAN_MULTI_CONN | NBD_SEND_CACHE;
    if (export->read_only) {
        flags |= NBD_READ_ONLY;
    } else {
        flags |= NBD_SEND_TRIM | NBD_SEND_WRITE_ZEROES | NBD_SEND_FAST_ZERO;
    }
    if (export->rotational) {
        flags |= NBD_ROTATIONAL;
    }
    if (session->structured) {
        flags |= NBD_SEND_DF;
    }
    return (uint16_t)flags;
}

void nbd_handshake_begin_transmission(struct nbd_session *session)
{
    session->state = NBD_TRANSMISSION;
    session->phase = NBD_PHASE_REQUEST;
}

void nbd_handshake_reply(struct nbd_session *session, uint32_t option, uint32_t type, const void *data,
                         uint32_t length_bytes)
{
    const struct nbd_option_reply reply = {
        .magic = htobe64(NBD_OPTION_REPLY_MAGIC),
        .option = htobe32(option),
        .type = htobe32(type),
        .length_bytes = htobe32(length_bytes),
    };
    nbd_output_put(session, &reply, sizeof(reply));
    nbd_output_put(session, data, length_bytes);
}

void nbd_handshake_refuse(struct nbd_session *session, uint32_t option, uint32_t type, const char *text)
{
    /* Never anything of the client's in the text: a name of 4096 bytes would make it longer than a string may be. */
    const size_t length_bytes = strlen(text);
    assert(length_bytes <= NBD_STRING_BYTES_MAX);
    nbd_handshake_reply(session, option, type, text, (uint32_t)length_bytes);
}
