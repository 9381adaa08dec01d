/* transfer_log.h - writes that the peer has been sent and is not known to have on stable storage; epochs and barriers.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A write enters when it is sent and leaves with the BARRIER_ACK of its epoch.  Until then it keeps its extents in the
 * activity log: an extent is never retired while the peer could still lose one of its writes to a power cut.  An epoch
 * is closed by a flush, when it is full, when it has been open for a while, or when the activity log needs its extents
 * back. */
#ifndef CSRC_TRANSFER_LOG_H
#define CSRC_TRANSFER_LOG_H

#include <stdbool.h>
#include <stdint.h>

struct core_engine;
struct request;

#define TRANSFER_LOG_ENTRIES 8192u /* a power of two */
#define TRANSFER_LOG_EPOCHS 8192u  /* closed and not acknowledged: as many as entries, for each holds one at least */
#define TRANSFER_LOG_EPOCH_NS 300000000ull

struct transfer_entry {
    struct request *request; /* NULL: the request is over, or acknowledged */
    uint64_t sector;
    uint32_t sectors;
    uint32_t epoch;
    bool acknowledged;
    bool refused; /* NEG_ACK: not on the peer's disk */
    bool hot;     /* holds references in the activity log */
};

struct transfer_epoch {
    uint64_t closed_ns;
    uint32_t number;
    uint32_t size;
};

struct transfer_log {
    struct transfer_entry *entries;
    uint64_t in, out; /* running */
    uint64_t oldest_unacknowledged;
    uint64_t sectors; /* of all entries */
    struct transfer_epoch *epochs;
    uint64_t epochs_in, epochs_out;
    uint64_t epoch_since_ns; /* when the open epoch got its first write */
    uint32_t epoch;          /* number of the open epoch */
    uint32_t epoch_size;
    uint64_t epoch_sectors; /* of the open epoch */
    uint64_t refused;       /* entries refused by the peer, waiting for an order */
};

int transfer_log_init(struct transfer_log *log);
void transfer_log_fini(struct transfer_log *log);
bool transfer_log_has_room(const struct transfer_log *log);
uint64_t transfer_log_count(const struct transfer_log *log); /* not known stable */
void transfer_log_add(struct core_engine *engine, struct request *request);
void transfer_log_acknowledged(struct core_engine *engine, struct request *request);
/* NEG_ACK: not on the peer's disk.  Its bits are set, and it is held until core_release. */
void transfer_log_refused(struct core_engine *engine, struct request *request);
/* Closes the open epoch if it holds a write: BARRIER is queued behind its writes. */
void transfer_log_close_epoch(struct core_engine *engine);
/* 0, or -EPROTO: not the oldest epoch, or not its size. */
int transfer_log_barrier_acknowledged(struct core_engine *engine, uint32_t number, uint32_t size);
/* Everything up to this epoch is stable when its ack is in; 0: nothing is unstable. */
void transfer_log_forget_extents(struct transfer_log *log); /* the disk is gone, and its activity log */
bool transfer_log_is_stable(const struct transfer_log *log, uint32_t epoch);
uint64_t transfer_log_unacknowledged_since_ns(
    struct transfer_log *log); /* when the oldest write without an ack was sent; 0: none */
uint64_t transfer_log_barrier_since_ns(
    const struct transfer_log *log); /* when the oldest BARRIER without an ack was sent; 0: none */
uint64_t transfer_log_held(const struct transfer_log *log); /* writes without an ack */
/* The peer is lost and the new generation is durable: what is unstable is out of sync, and what waited for the peer
 * goes on. */
void transfer_log_release(struct core_engine *engine);
/* Connected: only what the peer refused. */
void transfer_log_release_refused(struct core_engine *engine);

#endif
