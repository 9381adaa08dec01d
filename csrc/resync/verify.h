/* verify.h - online verify: both replicas are read block by block, and their digests compared.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The source (VerifyS) asks for a block's digest (OV_REQUEST), reads its own block, compares, and tells the target what
 * came out (OV_RESULT).  The target (VerifyT) reads and answers (OV_REPLY).  Both set the bits of what differs.
 *
 * A write under way is never taken for a difference.  The source's block stands in its place (RS_FETCH) from before it
 * is asked for until it is compared: its own applications' writes to it wait.  The target's stands (RS_READ) from
 * before it is read until its answer is in the stream; whatever the target sent before the answer has come to the
 * source before it, and the source reads behind that (RS_WRITE, as a resync's reply does). */
#ifndef CSRC_VERIFY_H
#define CSRC_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "request.h"

struct core_engine;
struct peer;

#define VERIFY_BLOCK_SECTORS 8u /* one bit of the bitmap: what a kernel's target counts in */
#define VERIFY_RANGES_TOLD 10000u

struct verify {
    bool active;
    bool source;
    bool finishing; /* all is compared, the bitmap is being written */
    bool seen;      /* on this connection: late packets of a verify that was stopped mean nothing */
    bool placed;    /* target: the first request has said where it begins */
    uint64_t stop_token;
    uint64_t cursor_sector;  /* source: the next to ask for */
    uint64_t stop_sector;    /* source: the first not to ask for */
    uint64_t refused_sector; /* source: the first that one of us could not read; UINT64_MAX: none */
    uint64_t left_sectors;   /* target */
    uint64_t found_bits;
    uint64_t range_sector, range_sectors; /* out of sync, not yet told; 0 sectors: none */
    uint32_t ranges_told;
    uint32_t in_flight;   /* source: from the place on; target: from the request on */
    uint32_t asked;       /* source: not answered yet */
    uint64_t answered_ns; /* the target's last answer, or when it was asked while it owed none */
};

void verify_start(struct core_engine *engine, bool source, uint64_t start_sector, uint64_t stop_sector);
void verify_until(struct core_engine *engine, uint64_t stop_sector); /* source: end there, or at once */
void verify_stop(struct core_engine *engine, uint64_t token);
void verify_pump(struct core_engine *engine);
void verify_peer_lost(struct core_engine *engine);
uint64_t verify_deadline_ns(const struct core_engine *engine);
uint64_t verify_left_sectors(const struct core_engine *engine);
uint64_t verify_waits_since_ns(const struct core_engine *engine); /* for the target; 0: it owes nothing */

/* verify.c, for the two ends */
void verify_compared(struct core_engine *engine, uint64_t sector, uint32_t sectors, bool equal);
void verify_request_over(struct request *request);
void verify_finish(struct core_engine *engine);

/* verify_source.c */
void verify_ask(struct core_engine *engine);
/* Ends those that wait for nothing but the target. */
void verify_abandon(struct core_engine *engine);
uint64_t verify_position(const struct core_engine *engine); /* everything before it is compared */
void verify_reply_arrived(struct request *request);         /* its digest is stored */
void verify_refused(struct request *request);
void verify_block_read(struct request *request);

/* verify_target.c */
void verify_read_begin(struct request *request);
void verify_read_done(struct request *request);
void verify_result_received(struct core_engine *engine, uint64_t sector, uint32_t sectors, bool equal);

#endif
