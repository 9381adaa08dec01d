/* hot_extents.h - drives the activity log: writes to cold extents wait here until a durable transaction names them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Order of one transaction: the data of the evicted extents, durable, and their bitmap pages; then the transaction,
 * durable; then the writes that wait.  Power lost before the transaction: the old set is in force and no waiting write
 * has begun.  After it: the new set is. */
#ifndef CSRC_HOT_EXTENTS_H
#define CSRC_HOT_EXTENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "activity_log.h"
#include "io.h"
#include "request.h"

struct core_engine;

struct hot_extents {
    struct request_queue waiting;
    struct io_op op;
    struct core_engine *engine;
    uint8_t *block; /* the transaction being written */
    uint64_t offset_bytes;
    uint32_t evicted[ACTIVITY_LOG_UPDATES];
    uint32_t evicted_count;
    uint64_t retire_token;
    bool busy;     /* a transaction is under way */
    bool prepared; /* ... and waits for the bitmap to be free */
    bool flushed;  /* ... behind the data of the extents that leave */
    bool starved;  /* every slot is in use: the transfer log was asked to close its epoch */
};

int hot_extents_init(struct core_engine *engine);
void hot_extents_fini(struct core_engine *engine);
/* True: all extents of the request are hot and it holds references.  False: it waits, and request_continue is called
 * when they may be. */
bool hot_extents_get(struct request *request);
/* One more reference for the range, which is hot already / one less. */
void hot_extents_hold(struct core_engine *engine, uint64_t sector, uint64_t sectors);
void hot_extents_put(struct core_engine *engine, uint64_t sector, uint64_t sectors);
void hot_extents_retire(struct core_engine *engine, uint64_t token);
void hot_extents_pump(struct core_engine *engine);
void hot_extents_give_up(struct core_engine *engine); /* the disk hangs */
void hot_extents_forget(struct core_engine *engine);  /* the disk goes: those who wait for it need it no more */

#endif
