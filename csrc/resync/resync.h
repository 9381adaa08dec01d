/* resync.h - the window of blocks in flight: as target we ask, write and acknowledge; as source we read and send.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CSRC_RESYNC_H
#define CSRC_RESYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "core.h"
#include "io.h"
#include "request.h"

struct core_engine;

#define RESYNC_BLOCK_SECTORS 2048u /* 1 MiB asked for at once, at most; less where little may be in flight */
#define RESYNC_BLOCK_SECTORS_MIN 128u
#define RESYNC_WINDOW_SECTORS 8192u /* 4 MiB, until an order says otherwise */
#define RESYNC_BURST_NS 20000000ull /* of the rate, what so long a time brings may be saved up */
#define RESYNC_ELAPSED_NS_MAX 1000000000000ull
#define RESYNC_SAVE_NS 10000000000ull /* what came in sync is written to the bitmap on disk this often */

struct resync {
    bool active;
    bool target;
    bool by_checksums;   /* target: asks with the digest of what it has */
    bool finishing;      /* target: flushing, writing the bitmap */
    bool draining;       /* target: begun again while blocks of the last time are in flight */
    uint64_t stop_token; /* answered when all that is in flight waits for the peer's reply */
    uint64_t cursor_bit;
    uint64_t failed_bits; /* the source could not read them: left out of sync */
    uint64_t cleared_this_pass;
    uint64_t compared_bits, equal_bits; /* target, by checksums */
    uint64_t thin_bits;                 /* target: discarded, for the source has zeroes there */
    uint32_t in_flight;                 /* requests */
    uint32_t in_flight_sectors;
    uint32_t window_sectors;
    uint32_t serving;             /* source: requests, the waiting ones too */
    uint32_t serving_sectors;     /* source: being read or sent */
    struct request_queue waiting; /* source: asked for, and not yet begun */
    uint32_t rate_kib_s;          /* 0: no limit */
    int64_t budget_sectors;       /* left of the rate; negative after a block that was larger */
    uint64_t budget_ns;           /* when it was filled up last */
    uint64_t saved_ns;
};

void resync_start(struct core_engine *engine, enum core_resync end);
void resync_stop(struct core_engine *engine, uint64_t token);
void resync_pump(struct core_engine *engine);
uint64_t resync_deadline_ns(const struct core_engine *engine);
void resync_peer_lost(struct core_engine *engine);
void resync_in_sync(struct core_engine *engine, uint64_t sector, uint64_t sectors); /* clears bits, counts */

void resync_request_over(struct request *request); /* leaves the window, and ends */

/* Shared with the verify: its pace and its requests are a resync's. */
void resync_pace_begin(struct core_engine *engine);
void resync_pace_refill(struct core_engine *engine);
uint64_t resync_pace_deadline_ns(const struct core_engine *engine, bool asks); /* asks: keeps to a rate */
void resync_save_progress(struct core_engine *engine);
/* With a buffer: a reply always finds its place.  NULL: no slot or no memory now. */
struct request *resync_request_new(struct core_engine *engine, enum request_kind kind, uint64_t sector,
                                   uint32_t sectors);

/* target */
void resync_target_pump(struct core_engine *engine);
void resync_fetch_arrived(struct request *request); /* its payload is complete */
void resync_fetch_refused(struct core_engine *engine, uint64_t sector, uint32_t sectors, bool try_again);
void resync_fetch_done(struct request *request); /* its block is read or written */
void resync_fetch_equal(struct core_engine *engine, uint64_t sector, uint32_t sectors); /* RS_IS_IN_SYNC */
/* source */
bool resync_may_serve(const struct core_engine *engine); /* applications' requests need slots, too */
void resync_read_begin(struct request *request);
void resync_read_done(struct request *request);
void resync_source_peer_lost(struct core_engine *engine);

/* bitmap_exchange.c: both whole bitmaps cross the wire before a resync */
struct bitmap_exchange {
    bool sending;
    bool packed;
    uint64_t token;
    uint64_t bit, word; /* where the next packet begins */
};
void bitmap_exchange_send(struct core_engine *engine, uint64_t token, bool packed);
void bitmap_exchange_pump(struct core_engine *engine);
void bitmap_exchange_drop(struct core_engine *engine);
/* A bitmap packet came; 0, 1: that was the last one, or -EPROTO. */
int bitmap_exchange_received(struct core_engine *engine, uint16_t command, const uint8_t *payload,
                             uint32_t length_bytes);

#endif
