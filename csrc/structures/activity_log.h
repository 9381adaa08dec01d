/* activity_log.h - which 4 MiB extents are hot, and the transactions that say so on disk (8.4 format).  Sans-I/O.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Before a write to an extent is submitted, a durable transaction names the extent; before a slot is reused, the bitmap
 * page of the extent it named is durable.  This file answers what must be written and where; the engine writes it, in
 * that order.
 *
 * A write: activity_log_get for its extent.  True: hot and durable, a reference is taken.  False: cold;
 * activity_log_want queues it for the next transaction.  When no transaction is under way and one is wanted:
 * activity_log_prepare (names the evicted extents: their bitmap pages first), write + flush the block,
 * activity_log_commit; then the waiting writes ask again.  activity_log_put when the write is stable everywhere. */
#ifndef CSRC_ACTIVITY_LOG_H
#define CSRC_ACTIVITY_LOG_H

#include <stdbool.h>
#include <stdint.h>

#define ACTIVITY_LOG_BLOCK_BYTES 4096
#define ACTIVITY_LOG_UPDATES 64          /* slots that one transaction may change */
#define ACTIVITY_LOG_EXTENT_SECTORS 8192 /* 4 MiB */

struct activity_log;

struct activity_log_geometry {
    uint32_t extents; /* slots in the set */
    uint32_t blocks;  /* in the ring on disk */
    uint32_t stripes;
    uint32_t stripe_size_4k;
    uint32_t sequence; /* of the first transaction */
};

int activity_log_new(const struct activity_log_geometry *geometry, struct activity_log **log); /* empty set */
void activity_log_free(struct activity_log *log);

bool activity_log_get(struct activity_log *log, uint32_t extent);
/* 0: it is (now) pending; -EBUSY: every slot is in use or pending, ask again after a put or a commit. */
int activity_log_want(struct activity_log *log, uint32_t extent);
void activity_log_put(struct activity_log *log, uint32_t extent);

bool activity_log_wants_transaction(const struct activity_log *log); /* something is pending and none is under way */
/* Builds the next transaction: fills block, *offset_bytes (from the start of the log on disk), evicted[] and
 * *evicted_count. */
void activity_log_prepare(struct activity_log *log, void *block, uint64_t *offset_bytes,
                          uint32_t evicted[ACTIVITY_LOG_UPDATES], uint32_t *evicted_count);
void activity_log_commit(struct activity_log *log); /* durable: the pending extents are hot */

uint32_t activity_log_hot(const struct activity_log *log);    /* extents in the set now */
uint32_t activity_log_in_use(const struct activity_log *log); /* with references */
/* Makes every extent without a reference leave: true while another transaction is wanted for that (prepare/commit as
 * above). */
bool activity_log_retire(struct activity_log *log);

#endif
