/* packet.h - the hot packets of DRBD's wire, protocol 100-101 (8.4 drbd_protocol.h).  All numbers are big endian.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CSRC_PACKET_H
#define CSRC_PACKET_H

#include <endian.h>
#include <stdint.h>

#define PACKET_MAGIC_100 0x8620ec20u
#define PACKET_BIO_BYTES_MAX (1u << 20)       /* DRBD_MAX_BIO_SIZE */
#define PACKET_BITMAP_BYTES_MAX (4096u - 16u) /* DRBD_SOCKET_BUFFER_SIZE less the header */
#define PACKET_ID_SYNCER UINT64_MAX           /* block_id of everything that resync sends */
#define PACKET_ID_IN_SYNC 4711u               /* block_id of OV_RESULT */
#define PACKET_ID_OUT_OF_SYNC 4712u

enum packet_command {
    P_DATA = 0x00,
    P_DATA_REPLY = 0x01,
    P_RS_DATA_REPLY = 0x02,
    P_BARRIER = 0x03,
    P_BITMAP = 0x04,
    P_UNPLUG_REMOTE = 0x07,
    P_DATA_REQUEST = 0x08,
    P_RS_DATA_REQUEST = 0x09,
    P_PING = 0x13,
    P_PING_ACK = 0x14,
    P_RECV_ACK = 0x15,
    P_WRITE_ACK = 0x16,
    P_RS_WRITE_ACK = 0x17,
    P_NEG_ACK = 0x19,
    P_NEG_DREPLY = 0x1a,
    P_NEG_RS_DREPLY = 0x1b,
    P_BARRIER_ACK = 0x1c,
    P_OV_REQUEST = 0x1e,
    P_OV_REPLY = 0x1f,
    P_OV_RESULT = 0x20,
    P_CSUM_RS_REQUEST = 0x21,
    P_RS_IS_IN_SYNC = 0x22,
    P_COMPRESSED_BITMAP = 0x24,
    P_OUT_OF_SYNC = 0x28,
    P_RS_CANCEL = 0x29,
    P_TRIM = 0x31,
    P_RS_THIN_REQ = 0x32,
    P_RS_DEALLOCATED = 0x33,
    P_ZEROES = 0x36
};

/* dp_flags of p_data */
enum {
    DP_HARDBARRIER = 1,
    DP_RW_SYNC = 2,
    DP_MAY_SET_IN_SYNC = 4,
    DP_UNPLUG = 8,
    DP_FUA = 16,
    DP_FLUSH = 32,
    DP_DISCARD = 64,
    DP_SEND_RECEIVE_ACK = 128,
    DP_SEND_WRITE_ACK = 256,
    DP_WSAME = 512,
    DP_ZEROES = 1024
};

enum { FEATURE_TRIM = 1, FEATURE_THIN_RESYNC = 2, FEATURE_WSAME = 4, FEATURE_WZEROES = 8 };

struct packet_header {
    uint32_t magic; /* PACKET_MAGIC_100 */
    uint16_t volume;
    uint16_t command;
    uint32_t length; /* of what follows */
    uint32_t pad;    /* 0 */
} __attribute__((packed));

/* P_DATA, P_DATA_REPLY, P_RS_DATA_REPLY: with data-integrity-alg the digest of the payload follows; the payload. */
struct packet_data {
    uint64_t sector;
    uint64_t block_id;
    uint32_t sequence;
    uint32_t dp_flags;
} __attribute__((packed));

/* P_TRIM, P_ZEROES */
struct packet_trim {
    struct packet_data data;
    uint32_t size_bytes;
} __attribute__((packed));

/* All acks, and P_NEG_* */
struct packet_block_ack {
    uint64_t sector;
    uint64_t block_id;
    uint32_t size_bytes;
    uint32_t sequence;
} __attribute__((packed));

/* P_DATA_REQUEST, P_RS_DATA_REQUEST, P_RS_THIN_REQ, P_OV_REQUEST; in P_CSUM_RS_REQUEST, P_OV_REPLY a digest follows. */
struct packet_block_request {
    uint64_t sector;
    uint64_t block_id;
    uint32_t size_bytes;
    uint32_t pad;
} __attribute__((packed));

/* P_BARRIER: the number is opaque to who answers, so it travels in the sender's byte order (golden captures show little
 * endian). */
struct packet_barrier {
    uint32_t barrier;
    uint32_t pad;
} __attribute__((packed));

struct packet_barrier_ack {
    uint32_t barrier;
    uint32_t set_size; /* writes in the epoch */
} __attribute__((packed));

/* P_OUT_OF_SYNC, P_RS_DEALLOCATED */
struct packet_block_desc {
    uint64_t sector;
    uint32_t size_bytes;
    uint32_t pad;
} __attribute__((packed));

_Static_assert(sizeof(struct packet_header) == 16, "h100");
_Static_assert(sizeof(struct packet_data) == 24, "p_data");
_Static_assert(sizeof(struct packet_trim) == 28, "p_trim");
_Static_assert(sizeof(struct packet_block_ack) == 24, "p_block_ack");
_Static_assert(sizeof(struct packet_block_request) == 24, "p_block_req");
_Static_assert(sizeof(struct packet_barrier) == 8 && sizeof(struct packet_barrier_ack) == 8, "p_barrier");
_Static_assert(sizeof(struct packet_block_desc) == 16, "p_block_desc");

#endif
