/* meta_context.c - the options that ask for metadata contexts.  We have none to offer.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The protocol wants unknown contexts ignored, not refused, so a well-formed query is answered with an empty selection
 * (ACK alone), and BLOCK_STATUS stays a command that we do not have.  Data that do not parse get ERR_INVALID. */
#include "nbd_internal.h"

#include <endian.h>
#include <string.h>

struct reader {
    const uint8_t *data;
    uint32_t left_bytes;
};

static bool read_u32(struct reader *reader, uint32_t *value)
{
    if (reader->left_bytes < sizeof(*value)) {
        return false;
    }
    memcpy(value, reader->data, sizeof(*value));
    *value = be32toh(*value);
    reader->data += sizeof(*value);
    reader->left_bytes -= (uint32_t)sizeof(*value);
    return true;
}

static bool read_string(struct reader *reader, const uint8_t **text, uint32_t *length_bytes)
{
    if (!read_u32(reader, length_bytes) || *length_bytes > NBD_STRING_BYTES_MAX || *length_bytes > reader->left_bytes) {
        return false;
    }
    *text = reader->data;
    reader->data += *length_bytes;
    reader->left_bytes -= *length_bytes;
    return true;
}

/* The queries have no effect, but what is behind a malformed one would be misread by a server that did look. */
static bool queries_are_whole(struct reader *reader)
{
    uint32_t queries;
    if (!read_u32(reader, &queries)) {
        return false;
    }
    for (; queries > 0; queries--) {
        const uint8_t *text;
        uint32_t length_bytes;
        if (!read_string(reader, &text, &length_bytes)) {
            return false;
        }
    }
    return reader->left_bytes == 0;
}

void nbd_option_meta_context(struct nbd_session *session, uint32_t option, const uint8_t *data, uint32_t length_bytes)
{
    struct reader reader = {.data = data, .left_bytes = length_bytes};
    const uint8_t *name;
    uint32_t name_bytes;
    if (!session->structured) {
        nbd_handshake_refuse(session, option, NBD_REP_ERR_INVALID, "structured replies must be negotiated first");
    } else if (!read_string(&reader, &name, &name_bytes) || !queries_are_whole(&reader)) {
        nbd_handshake_refuse(session, option, NBD_REP_ERR_INVALID, "the lengths inside the option do not add up");
    } else if (!nbd_option_name_is_ours(session, name, name_bytes)) {
        nbd_handshake_refuse(session, option, NBD_REP_ERR_UNKNOWN, "no such export");
    } else {
        nbd_handshake_reply(session, option, NBD_REP_ACK, NULL, 0);
    }
}
