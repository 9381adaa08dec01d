/* peer.h - the connection: two sockets, their liveness, and what the other side may do.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Life: NONE -> UP (core_peer_connect) -> CLOSING (an error, or an order: no more bytes either way, operations under
 * way come home) -> LOST (facts told; writes that lack an ack are held) -> NONE (core_release). */
#ifndef CSRC_PEER_H
#define CSRC_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "core.h"
#include "inbox.h"
#include "outbox.h"
#include "packet.h"
#include "request.h"
#include "transfer_log.h"

enum peer_state { PEER_NONE, PEER_UP, PEER_CLOSING, PEER_LOST };

/* The peer's epoch, as we receive it: acknowledged when its writes are done and flushed. */
struct epoch {
    uint32_t barrier; /* as it came, opaque */
    uint32_t size;    /* writes received */
    uint32_t active;  /* writes not done yet */
    bool closed;      /* BARRIER received */
};
#define PEER_EPOCHS 1024u

struct peer {
    struct core_engine *engine;
    struct core_peer config;
    enum peer_state state;
    enum core_lost lost;
    uint64_t disconnect_token;
    bool draining;   /* ordered to disconnect: send what is queued first */
    uint32_t accept; /* CORE_ACCEPT_* */

    struct inbox data_in, meta_in;
    struct outbox data_out, meta_out;
    struct request *filling; /* its payload is arriving */
    bool paused;             /* a packet fact is out: core_peer_resume */
    bool stalled;            /* no slot, memory or room for the next packet: tried again every turn */

    uint64_t heard_ns;     /* when anything came */
    uint64_t ping_sent_ns; /* 0: no ping out */

    struct transfer_log log;        /* what we sent */
    struct epoch *epochs;           /* what we received: a ring */
    uint64_t epochs_in, epochs_out; /* the newest, in - 1, is open */
    uint64_t epochs_flushing;       /* how many from `out` on the flush under way covers */
    struct io_op epoch_flush;
    bool epoch_flush_busy;
    uint32_t sequence;           /* of our acks */
    uint32_t write_sequence;     /* of our writes */
    uint32_t unacked;            /* received writes not answered yet */
    uint32_t pages_held;         /* 4 KiB of payload memory that the peer has us hold */
    uint64_t congestion_told_ns; /* 0: not yet */
    bool disk_failure_told;
    bool forgiving;                   /* released while connected: acks for what was released may still come */
    uint64_t bitmap_bit, bitmap_word; /* where the next bitmap packet goes */
};

int peer_init(struct core_engine *engine);
void peer_fini(struct core_engine *engine);
void peer_connect(struct core_engine *engine, uint64_t token, const struct core_peer *config);
void peer_disconnect(struct core_engine *engine, uint64_t token);
void peer_lose(struct peer *peer, enum core_lost reason);
void peer_check_closed(struct peer *peer); /* after every completion on its sockets */
void peer_release(struct core_engine *engine, uint64_t token);
void peer_resume(struct core_engine *engine);
void peer_pump(struct core_engine *engine);
uint64_t peer_deadline_ns(const struct core_engine *engine); /* when peer_tick has something to look at */
void peer_tick(struct core_engine *engine);

/* receive_data.c: parse what is there; completed payloads */
void peer_data_received(struct io_op *op, int32_t result);
void peer_data_parse(struct peer *peer);
/* receive_meta.c */
void peer_meta_received(struct io_op *op, int32_t result);

/* send.c */
void peer_send(struct outbox *outbox, uint16_t command, const void *payload, uint32_t length_bytes);
void peer_send_write(struct peer *peer, struct request *request); /* DATA, TRIM or ZEROES */
void peer_send_read(struct peer *peer, struct request *request);  /* DATA_REQUEST */
void peer_send_block(struct peer *peer, uint16_t command,
                     struct request *request); /* DATA_REPLY, RS_DATA_REPLY with its payload */
void peer_send_block_request(struct peer *peer, uint16_t command, uint64_t sector, uint64_t block_id,
                             uint32_t size_bytes);
/* CSUM_RS_REQUEST, OV_REPLY */
void peer_send_digest(struct peer *peer, uint16_t command, const struct request *request, const uint8_t *digest,
                      uint32_t digest_bytes);
void peer_send_ack(struct peer *peer, uint16_t command, const struct request *request);
void peer_send_barrier(struct peer *peer, uint32_t number);
void peer_send_out_of_sync(struct peer *peer, uint64_t sector, uint64_t sectors);
void peer_send_deallocated(struct peer *peer, const struct request *request); /* in the place of RS_DATA_REPLY */
bool peer_is_up(const struct peer *peer);

/* peer_write.c: what the peer writes here */
void peer_write_begin(struct request *request); /* its payload (if any) is complete */
void peer_write_continue(struct request *request);
void peer_write_done(struct request *request); /* its local leg is in */
void peer_barrier_received(struct peer *peer, uint32_t barrier);
void peer_epochs_advance(struct peer *peer);
void peer_epochs_give_up(struct peer *peer); /* the disk hangs */
void peer_read_begin(struct request *request);
void peer_read_done(struct request *request); /* PEER_READ: the data are there, or not */

#endif
