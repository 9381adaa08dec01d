/* request.h - one write or read part: which legs are still out.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Every piece of work on a range of the device is one request, from a pool of fixed size: a part of an application's
 * write or read (at most 1 MiB), a write or read that the peer asks for, a block under resync.  A request ends when no
 * leg is out. */
#ifndef CSRC_REQUEST_H
#define CSRC_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "io.h"
#include "ordering.h"

struct core_engine;
struct upper;
struct epoch;

enum request_kind {
    REQUEST_READ,
    REQUEST_WRITE,
    REQUEST_ZERO, /* TRIM and WRITE_ZEROES: both leave zeroes, so that both replicas hold the same */
    PEER_WRITE,
    PEER_ZERO,
    PEER_READ,    /* DATA_REQUEST */
    RESYNC_READ,  /* source */
    RESYNC_FETCH, /* target */
    VERIFY_BLOCK, /* source: from the question to the comparison */
    VERIFY_READ,  /* target */
    MEND_BLOCK    /* from the question until it is read back */
};

enum request_leg {
    LEG_LOCAL = 1,   /* the backing disk */
    LEG_SENT = 2,    /* the socket still borrows the buffer */
    LEG_ACK = 4,     /* RECV_ACK or WRITE_ACK; DATA_REPLY for a read from the peer */
    LEG_HELD = 8,    /* the disk failed: waits for core_detach */
    LEG_REFUSED = 16 /* the peer said no: waits for core_release */
};

enum request_flag {
    REQUEST_FUA = 1,
    REQUEST_PUNCH = 2,    /* zeroes may give their space back; RESYNC_READ, RESYNC_FETCH: asked for thinly; the latter,
                             from the reply on: it is zeroes */
    REQUEST_BORROWED = 4, /* the buffer is somebody else's */
    REQUEST_HAS_PLACE = 8,
    REQUEST_HAS_WRITE_PLACE = 16,
    REQUEST_HOT = 32,       /* holds references in the activity log */
    REQUEST_IN_SYNC = 64,   /* when it ends well, its blocks are in sync (DP_MAY_SET_IN_SYNC) */
    REQUEST_ANSWERED = 128, /* a read for the peer: its reply is queued */
    REQUEST_LOCAL_FAILED = 256,
    REQUEST_PEER_FAILED = 512,
    REQUEST_ABANDONED = 1024,  /* its connection is gone: no answer */
    REQUEST_UNTOLD = 2048,     /* given up by the peer while the gate was closed: answered when it opens */
    REQUEST_TRACKED = 4096,    /* a peer's write that the peer itself lacks: its bits are set */
    REQUEST_HANGING = 8192,    /* given up, and the disk has it still: hanging.h */
    REQUEST_OVER = 16384,      /* ended but for that */
    REQUEST_HAS_DIGEST = 32768 /* RESYNC_READ: the target has sent the digest of what it has */
};

struct request {
    struct io_op io;
    struct place place;
    struct place write_place; /* RESYNC_FETCH, VERIFY_BLOCK, MEND_BLOCK: from the reply on */
    struct core_engine *engine;
    struct request *next; /* in the free list or in one queue of those that wait */
    uint64_t sector;
    uint32_t sectors;
    uint32_t length_bytes; /* of the buffer; zeroes have none */
    uint8_t *buffer;       /* the pool's, unless REQUEST_BORROWED */
    struct upper *upper;   /* the application's request that this is a part of */
    struct epoch *epoch;   /* PEER_WRITE, PEER_ZERO: the peer's epoch */
    uint64_t block_id;     /* theirs, echoed in our answer */
    uint64_t started_ns;
    uint64_t disk_since_ns; /* under way on the backing disk; 0: not */
    void *payload;          /* REQUEST_HANGING: the whole that `buffer` was a piece of when the disk got it */
    uint32_t payload_bytes;
    bool payload_released; /* nobody but the disk has it */
    uint32_t entry;        /* transfer log entry + 1, or 0 */
    uint32_t generation;   /* of this slot, so that a late answer finds nobody */
    uint32_t index;
    uint32_t sequence;   /* theirs */
    uint32_t wire_flags; /* DP_* */
    int32_t result;
    uint32_t done_sectors; /* zeroes written in steps */
    uint16_t flags;
    uint8_t kind;
    uint8_t legs;
};

/* Requests that wait for the same thing, oldest first. */
struct request_queue {
    struct request *first;
    struct request *last;
    uint32_t count;
};

void request_queue_put(struct request_queue *queue, struct request *request);
struct request *request_queue_take(struct request_queue *queue); /* NULL: empty */

struct request_table {
    struct request *requests;
    uint32_t count;
    uint32_t free_count;
    struct request *free;
};

int request_table_new(struct core_engine *engine, uint32_t count, struct request_table *table);
void request_table_free(struct request_table *table);
struct request *request_new(struct core_engine *engine, enum request_kind kind, uint64_t sector,
                            uint32_t sectors);                                /* NULL: none left */
uint64_t request_id(const struct request *request);                           /* what we put on the wire as block_id */
struct request *request_find(struct request_table *table, uint64_t block_id); /* NULL: not ours, or long over */

/* Leaves its place, gives back its buffer and references, and the slot. */
void request_end(struct request *request);
void request_give_back(struct request *request); /* the slot and its buffer, when nobody has them any more */
/* A leg is in.  result: 0 or a negative errno of that leg.  Ends the request when it was the last. */
void request_leg_done(struct request *request, enum request_leg leg, int32_t result);
/* What it waited for is there: it looks at everything again. */
void request_continue(struct request *request);

#endif
