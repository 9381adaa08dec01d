/* options.c - option haggling: one function per option.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An option is looked at when all of its data are in staging, and its data are gone before its answer is written: the
 * next option always parses.  What is wrong inside an option gets an error reply; only what would put the stream out of
 * step, or has no error reply (EXPORT_NAME), or exceeds our limits, ends the session. */
#include "nbd_internal.h"

#include <endian.h>
#include <string.h>

struct option {
    uint32_t number;
    uint32_t length_bytes;
    const uint8_t *data; /* in staging: until the next receive */
};

/* What INFO and GO ask for. */
struct info_query {
    const uint8_t *name;
    uint32_t name_bytes;
    bool wants_name;
    bool wants_description;
    bool wants_block_size;
};

static const char *text_or_empty(const char *text)
{
    return text != NULL ? text : "";
}

static void acknowledge(struct nbd_session *session, const struct option *option)
{
    nbd_handshake_reply(session, option->number, NBD_REP_ACK, NULL, 0);
}

static void refuse(struct nbd_session *session, const struct option *option, uint32_t type, const char *text)
{
    nbd_handshake_refuse(session, option->number, type, text);
}

bool nbd_option_name_is_ours(const struct nbd_session *session, const uint8_t *name, uint32_t length_bytes)
{
    const char *ours = text_or_empty(session->export->name);
    return length_bytes == 0 || (length_bytes == strlen(ours) && memcmp(name, ours, length_bytes) == 0);
}

static void option_export_name(struct nbd_session *session, const struct option *option)
{
    static const uint8_t zeroes[NBD_EXPORT_NAME_ZEROES];
    if (session->export->shutting_down) {
        nbd_session_fail(session, "The export is shutting down, and EXPORT_NAME has no error reply.");
        return;
    }
    if (!nbd_option_name_is_ours(session, option->data, option->length_bytes)) {
        nbd_session_fail(session, "The client asked for an unknown export with EXPORT_NAME.");
        return;
    }
    const struct nbd_export_name_reply reply = {
        .size_bytes = htobe64(session->export->size_bytes),
        .flags = htobe16(nbd_handshake_transmission_flags(session)),
    };
    nbd_output_put(session, &reply, sizeof(reply));
    if (!session->no_zeroes) {
        nbd_output_put(session, zeroes, sizeof(zeroes));
    }
    nbd_handshake_begin_transmission(session);
}

static void option_abort(struct nbd_session *session, const struct option *option)
{
    acknowledge(session, option);
    nbd_session_close(session, "The client aborted the negotiation.");
}

static void option_list(struct nbd_session *session, const struct option *option)
{
    if (option->length_bytes != 0) {
        refuse(session, option, NBD_REP_ERR_INVALID, "LIST takes no data");
        return;
    }
    const char *name = text_or_empty(session->export->name);
    const char *description = text_or_empty(session->export->description);
    const uint32_t name_bytes = (uint32_t)strlen(name);
    const uint32_t description_bytes = (uint32_t)strlen(description);
    const uint32_t name_length = htobe32(name_bytes);
    const struct nbd_option_reply reply = {
        .magic = htobe64(NBD_OPTION_REPLY_MAGIC),
        .option = htobe32(option->number),
        .type = htobe32(NBD_REP_SERVER),
        .length_bytes = htobe32((uint32_t)sizeof(name_length) + name_bytes + description_bytes),
    };
    nbd_output_put(session, &reply, sizeof(reply));
    nbd_output_put(session, &name_length, sizeof(name_length));
    nbd_output_put(session, name, name_bytes);
    nbd_output_put(session, description, description_bytes);
    acknowledge(session, option);
}

static void option_starttls(struct nbd_session *session, const struct option *option)
{
    if (option->length_bytes != 0) {
        refuse(session, option, NBD_REP_ERR_INVALID, "STARTTLS takes no data");
    } else {
        refuse(session, option, NBD_REP_ERR_POLICY, "TLS is not available here");
    }
}

static void option_structured_reply(struct nbd_session *session, const struct option *option)
{
    if (option->length_bytes != 0) {
        refuse(session, option, NBD_REP_ERR_INVALID, "STRUCTURED_REPLY takes no data");
        return;
    }
    session->structured = true;
    acknowledge(session, option);
}

/* u32 name length, name, u16 count, count times u16: exactly.  False: it is not. */
static bool info_query_parse(const struct option *option, struct info_query *query)
{
    uint32_t name_bytes;
    uint16_t count;
    if (option->length_bytes < sizeof(name_bytes) + sizeof(count)) {
        return false;
    }
    memcpy(&name_bytes, option->data, sizeof(name_bytes));
    name_bytes = be32toh(name_bytes);
    uint32_t left_bytes = option->length_bytes - (uint32_t)(sizeof(name_bytes) + sizeof(count));
    if (name_bytes > NBD_STRING_BYTES_MAX || name_bytes > left_bytes) {
        return false;
    }
    left_bytes -= name_bytes;
    const uint8_t *at = option->data + sizeof(name_bytes) + name_bytes;
    memcpy(&count, at, sizeof(count));
    count = be16toh(count);
    at += sizeof(count);
    if (left_bytes != count * sizeof(uint16_t)) {
        return false;
    }
    *query = (struct info_query){.name = option->data + sizeof(name_bytes), .name_bytes = name_bytes};
    for (; count > 0; count--, at += sizeof(uint16_t)) {
        uint16_t type;
        memcpy(&type, at, sizeof(type));
        type = be16toh(type);
        query->wants_name = query->wants_name || type == NBD_INFO_NAME;
        query->wants_description = query->wants_description || type == NBD_INFO_DESCRIPTION;
        query->wants_block_size = query->wants_block_size || type == NBD_INFO_BLOCK_SIZE;
    }
    return true;
}

static void reply_info_text(struct nbd_session *session, const struct option *option, uint16_t type, const char *text)
{
    const size_t length_bytes = strlen(text);
    const struct nbd_option_reply reply = {
        .magic = htobe64(NBD_OPTION_REPLY_MAGIC),
        .option = htobe32(option->number),
        .type = htobe32(NBD_REP_INFO),
        .length_bytes = htobe32((uint32_t)(sizeof(type) + length_bytes)),
    };
    type = htobe16(type);
    nbd_output_put(session, &reply, sizeof(reply));
    nbd_output_put(session, &type, sizeof(type));
    nbd_output_put(session, text, length_bytes);
}

static void reply_info(struct nbd_session *session, const struct option *option, const struct info_query *query)
{
    const struct nbd_export *export = session->export;
    const struct nbd_info_export info = {
        .type = htobe16(NBD_INFO_EXPORT),
        .size_bytes = htobe64(export->size_bytes),
        .flags = htobe16(nbd_handshake_transmission_flags(session)),
    };
    nbd_handshake_reply(session, option->number, NBD_REP_INFO, &info, sizeof(info));
    if (query->wants_name) {
        reply_info_text(session, option, NBD_INFO_NAME, text_or_empty(export->name));
    }
    if (query->wants_description && export->description != NULL) {
        reply_info_text(session, option, NBD_INFO_DESCRIPTION, export->description);
    }
    if (query->wants_block_size) {
        const struct nbd_info_block_size block_size = {
            .type = htobe16(NBD_INFO_BLOCK_SIZE),
            .min_bytes = htobe32(export->block_min_bytes),
            .preferred_bytes = htobe32(export->block_preferred_bytes),
            .payload_max_bytes = htobe32(export->payload_max_bytes),
        };
        nbd_handshake_reply(session, option->number, NBD_REP_INFO, &block_size, sizeof(block_size));
    }
    acknowledge(session, option);
}

/* INFO and GO are answered by the same code, because they must be answered with the same words. */
static void option_info_or_go(struct nbd_session *session, const struct option *option)
{
    struct info_query query;
    if (!info_query_parse(option, &query)) {
        refuse(session, option, NBD_REP_ERR_INVALID, "the lengths inside the option do not add up");
    } else if (!nbd_option_name_is_ours(session, query.name, query.name_bytes)) {
        refuse(session, option, NBD_REP_ERR_UNKNOWN, "no such export");
    } else {
        reply_info(session, option, &query);
        if (option->number == NBD_OPT_GO) {
            nbd_handshake_begin_transmission(session);
        }
    }
}

static void take_fixed_newstyle(struct nbd_session *session, const struct option *option)
{
    switch (option->number) {
    case NBD_OPT_LIST:
        option_list(session, option);
        break;
    case NBD_OPT_STARTTLS:
        option_starttls(session, option);
        break;
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        option_info_or_go(session, option);
        break;
    case NBD_OPT_STRUCTURED_REPLY:
        option_structured_reply(session, option);
        break;
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        nbd_option_meta_context(session, option->number, option->data, option->length_bytes);
        break;
    default: /* a number from the wire: PEEK_EXPORT, EXTENDED_HEADERS and whatever the future brings */
        refuse(session, option, NBD_REP_ERR_UNSUP, "this option is not supported");
        break;
    }
}

static void take(struct nbd_session *session, const struct option *option)
{
    if (option->number == NBD_OPT_EXPORT_NAME) {
        option_export_name(session, option);
    } else if (option->number == NBD_OPT_ABORT) {
        option_abort(session, option);
    } else if (!session->fixed_newstyle) {
        refuse(session, option, NBD_REP_ERR_INVALID, "only after the fixed newstyle flag");
    } else if (session->export->shutting_down) {
        refuse(session, option, NBD_REP_ERR_SHUTDOWN, "the server is shutting down");
    } else {
        take_fixed_newstyle(session, option);
    }
}

/* Looks at the header alone, so that nothing is waited for that will never be taken.  NULL: fine. */
static const char *header_fault(const struct nbd_session *session, const struct nbd_option_header *header,
                                uint32_t length_bytes)
{
    if (be64toh(header->magic) != NBD_OPTION_MAGIC) {
        return "The client sent an option without the option magic.";
    }
    if (session->options == NBD_OPTIONS_MAX) {
        return "The client sent more than 64 options.";
    }
    if (length_bytes > NBD_OPTION_DATA_MAX) {
        return "The client announced an option with more than 64 KiB of data.";
    }
    if (be32toh(header->number) == NBD_OPT_EXPORT_NAME && length_bytes > NBD_STRING_BYTES_MAX) {
        return "The client sent EXPORT_NAME with a name longer than 4096 bytes.";
    }
    return NULL;
}

bool nbd_options_parse(struct nbd_session *session)
{
    struct nbd_option_header header;
    if (nbd_session_staged(session) < sizeof(header)) {
        return false;
    }
    const uint8_t *at = session->staging + session->staging_start;
    memcpy(&header, at, sizeof(header));
    const uint32_t length_bytes = be32toh(header.length_bytes);
    const char *fault = header_fault(session, &header, length_bytes);
    if (fault != NULL) {
        nbd_session_fail(session, fault);
        return false;
    }
    if (nbd_session_staged(session) < sizeof(header) + length_bytes) {
        return false;
    }
    if (session->output_put - session->output_sent > NBD_OPTION_OUTPUT_MAX) {
        session->blocked = NBD_BLOCKED_OUTPUT;
        return false;
    }
    const struct option option = {
        .number = be32toh(header.number),
        .length_bytes = length_bytes,
        .data = at + sizeof(header),
    };
    session->options++;
    session->staging_start += sizeof(header) + length_bytes;
    take(session, &option);
    return true;
}
