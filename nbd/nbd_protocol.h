/* nbd_protocol.h - what NBD puts on the wire: fixed newstyle negotiation and the transmission phase.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Every integer is big-endian.  A struct is only ever copied from and to bytes (memcpy), because the stream aligns
 * nothing. Commands and command flags are in nbd_session.h: there the wire's values are also what the server sees. */
#ifndef NBD_PROTOCOL_H
#define NBD_PROTOCOL_H

#include <stddef.h>
#include <stdint.h>

#define NBD_PACKED __attribute__((packed))

#define NBD_MAGIC UINT64_C(0x4e42444d41474943)        /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC UINT64_C(0x0003e889045565a9)
#define NBD_REQUEST_MAGIC UINT32_C(0x25609513)
#define NBD_SIMPLE_REPLY_MAGIC UINT32_C(0x67446698)
#define NBD_STRUCTURED_REPLY_MAGIC UINT32_C(0x668e33ef)

enum { NBD_STRING_BYTES_MAX = 4096, NBD_EXPORT_NAME_ZEROES = 124 };

/* Handshake flags and client flags have the same two bits. */
#define NBD_FIXED_NEWSTYLE 1U
#define NBD_NO_ZEROES 2U

struct nbd_greeting {
    uint64_t magic;        /* NBD_MAGIC */
    uint64_t option_magic; /* NBD_OPTION_MAGIC */
    uint16_t flags;        /* NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES */
} NBD_PACKED;

enum nbd_option_number {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10
};

struct nbd_option_header {
    uint64_t magic;        /* NBD_OPTION_MAGIC */
    uint32_t number;       /* enum nbd_option_number, or one that we do not have */
    uint32_t length_bytes; /* of the data that follow */
} NBD_PACKED;

#define NBD_REP_ACK UINT32_C(1)
#define NBD_REP_SERVER UINT32_C(2)
#define NBD_REP_INFO UINT32_C(3)
#define NBD_REP_ERR_UNSUP UINT32_C(0x80000001)
#define NBD_REP_ERR_POLICY UINT32_C(0x80000002)
#define NBD_REP_ERR_INVALID UINT32_C(0x80000003)
#define NBD_REP_ERR_UNKNOWN UINT32_C(0x80000006)
#define NBD_REP_ERR_SHUTDOWN UINT32_C(0x80000007)

struct nbd_option_reply {
    uint64_t magic;        /* NBD_OPTION_REPLY_MAGIC */
    uint32_t option;       /* the option's number, echoed */
    uint32_t type;         /* NBD_REP_* */
    uint32_t length_bytes; /* of the data that follow; for an error they are a sentence */
} NBD_PACKED;

enum { NBD_INFO_EXPORT = 0, NBD_INFO_NAME = 1, NBD_INFO_DESCRIPTION = 2, NBD_INFO_BLOCK_SIZE = 3 };

struct nbd_info_export {
    uint16_t type;       /* NBD_INFO_EXPORT */
    uint64_t size_bytes; /* < 2^63 */
    uint16_t flags;      /* transmission flags */
} NBD_PACKED;

struct nbd_info_block_size {
    uint16_t type; /* NBD_INFO_BLOCK_SIZE */
    uint32_t min_bytes;
    uint32_t preferred_bytes;
    uint32_t payload_max_bytes;
} NBD_PACKED;

/* The answer to NBD_OPT_EXPORT_NAME; NBD_EXPORT_NAME_ZEROES follow unless NBD_NO_ZEROES was agreed. */
struct nbd_export_name_reply {
    uint64_t size_bytes;
    uint16_t flags; /* transmission flags */
} NBD_PACKED;

/* Transmission flags. */
#define NBD_HAS_FLAGS 0x001U
#define NBD_READ_ONLY 0x002U
#define NBD_SEND_FLUSH 0x004U
#define NBD_SEND_FUA 0x008U
#define NBD_ROTATIONAL 0x010U
#define NBD_SEND_TRIM 0x020U
#define NBD_SEND_WRITE_ZEROES 0x040U
#define NBD_SEND_DF 0x080U /* only when structured replies were negotiated */
#define NBD_CAN_MULTI_CONN 0x100U
#define NBD_SEND_CACHE 0x400U
#define NBD_SEND_FAST_ZERO 0x800U

struct nbd_request_header {
    uint32_t magic;   /* NBD_REQUEST_MAGIC */
    uint16_t flags;   /* NBD_FLAG_* */
    uint16_t command; /* enum nbd_command, or one that we do not have */
    uint64_t cookie;  /* echoed bit for bit: never swapped */
    uint64_t offset_bytes;
    uint32_t length_bytes; /* WRITE: so many payload bytes follow */
} NBD_PACKED;

struct nbd_simple_reply {
    uint32_t magic; /* NBD_SIMPLE_REPLY_MAGIC */
    uint32_t error; /* 0 or NBD_E*; READ data follow when 0 */
    uint64_t cookie;
} NBD_PACKED;

#define NBD_CHUNK_DONE 1U
enum { NBD_CHUNK_NONE = 0, NBD_CHUNK_OFFSET_DATA = 1, NBD_CHUNK_ERROR = 0x8001 };

struct nbd_chunk_header {
    uint32_t magic; /* NBD_STRUCTURED_REPLY_MAGIC */
    uint16_t flags; /* NBD_CHUNK_DONE: the last one of this reply */
    uint16_t type;  /* NBD_CHUNK_* */
    uint64_t cookie;
    uint32_t length_bytes; /* of the chunk's payload */
} NBD_PACKED;

struct nbd_chunk_offset_data {
    struct nbd_chunk_header header; /* NBD_CHUNK_OFFSET_DATA; length = 8 + data, data not empty */
    uint64_t offset_bytes;
} NBD_PACKED;

struct nbd_chunk_error {
    struct nbd_chunk_header header; /* NBD_CHUNK_ERROR; length = 6 + text */
    uint32_t error;                 /* NBD_E*, never 0 */
    uint16_t text_bytes;            /* of the sentence that follows */
} NBD_PACKED;

/* Errors on the wire; nothing else may be sent. */
enum nbd_error {
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_EOVERFLOW = 75,
    NBD_ENOTSUP = 95,
    NBD_ESHUTDOWN = 108
};

_Static_assert(sizeof(struct nbd_greeting) == 18, "greeting");
_Static_assert(sizeof(struct nbd_option_header) == 16, "option header");
_Static_assert(sizeof(struct nbd_option_reply) == 20, "option reply");
_Static_assert(sizeof(struct nbd_info_export) == 12, "NBD_INFO_EXPORT");
_Static_assert(sizeof(struct nbd_info_block_size) == 14, "NBD_INFO_BLOCK_SIZE");
_Static_assert(sizeof(struct nbd_export_name_reply) == 10, "answer to NBD_OPT_EXPORT_NAME");
_Static_assert(sizeof(struct nbd_request_header) == 28, "request");
_Static_assert(offsetof(struct nbd_request_header, offset_bytes) == 16, "request offset");
_Static_assert(sizeof(struct nbd_simple_reply) == 16, "simple reply");
_Static_assert(sizeof(struct nbd_chunk_header) == 20, "structured reply chunk");
_Static_assert(sizeof(struct nbd_chunk_offset_data) == 28, "OFFSET_DATA chunk");
_Static_assert(sizeof(struct nbd_chunk_error) == 26, "ERROR chunk");

#endif
