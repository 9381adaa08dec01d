/* engine.h - the engine as its own files see it: everything hangs off struct core_engine, and one thread owns all of
 * it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The thread's turn: carry out orders, pump what can move, hand all of it to the kernel in one call, wait, take
 * completions.  It takes no lock.  It meets the control plane at two rings. */
#ifndef CSRC_ENGINE_H
#define CSRC_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bitmap_pages.h"
#include "congestion.h"
#include "core.h"
#include "disk.h"
#include "export.h"
#include "hanging.h"
#include "hot_extents.h"
#include "io.h"
#include "mend.h"
#include "ordering.h"
#include "parking.h"
#include "peer.h"
#include "pool.h"
#include "request.h"
#include "resync.h"
#include "ring.h"
#include "ublk_queue.h"
#include "upper.h"
#include "verify.h"

#define ENGINE_ZEROES_BYTES (1u << 20)

struct checksum_set;

struct core_engine {
    struct core_options options;
    struct io *io;
    struct pool *pool;
    struct ring *orders;
    struct ring *facts;
    struct io_op order_op;
    int32_t order_fd; /* eventfd: orders came */
    int32_t fact_fd;  /* eventfd: facts came */
    pthread_t thread;
    bool started;
    bool stopping;
    bool died;               /* by an error of io: the kernel may still have our memory */
    bool waiting_for_orders; /* order_op is under way */
    uint32_t facts_unread;   /* pushed since the ring was last seen empty */
    bool facts_posted;       /* since the last wake-up of the reader */
    uint8_t *zeroes;         /* ENGINE_ZEROES_BYTES of them */

    struct checksum_set *checksums;
    uint8_t *digests; /* one for each request: what the peer sent with it */

    struct request_table requests;
    struct ordering ordering;
    struct disk disk;
    struct bitmap_pages pages;
    struct hot_extents hot;
    struct peer peer;
    struct resync resync;
    struct verify verify;
    struct mend mend;
    struct bitmap_exchange exchange;
    struct announcement announcement;
    struct export export;
    struct ublk_queue *ublk; /* NULL: no such device */

    /* What the control plane ordered. */
    enum core_replication replication;
    uint32_t protocol; /* 1 A, 2 B, 3 C */
    enum core_reads reads;
    enum core_read_balancing read_balancing;
    bool read_here_next;             /* round-robin */
    uint32_t reads_at_peer;          /* asked for, not answered */
    uint64_t reads_at_peer_since_ns; /* since then none was answered */
    enum core_gate gate;
    bool first_write_told;

    struct request_queue held;    /* by the gate, a lost peer or an undecided disk */
    struct request_queue crowded; /* no room in the outbox or the transfer log */
    struct upper_queue starved;   /* no request slot */
    struct upper_queue flushing;  /* a flush with a leg out */
    struct io_op flush_op;
    struct upper_queue flush_next;      /* waits for the flush under way to end */
    struct upper_queue flush_now;       /* covered by the flush under way */
    struct upper_queue flush_undecided; /* our disk could not: answered when it is gone */
    bool flush_busy;
    uint64_t flush_order_token; /* core_flush, covered by the flush under way */
    uint64_t flush_order_next;
    uint32_t upper_pending;

    struct core_counters counters;
    atomic_uint_fast64_t published_version; /* a sequence lock around `published`: odd while it is being written */
    struct core_counters published;
};

/* As core_engine_new, over a way to the world that the caller has made; it is the engine's, also when this fails. */
int engine_new_over(const struct core_options *options, struct io *io, struct core_engine **engine);
/* One turn of the thread; 0 or more, or what it can't go on from. */
int engine_turn(struct core_engine *engine);
int engine_order_stop(struct core_engine *engine); /* the thread winds up and ends */
/* Does a write go to the peer now? */
bool engine_replicates(const struct core_engine *engine);
/* Has the peer good data of every block, as far as we know? */
bool engine_peer_has_all(const struct core_engine *engine);
/* May requests of the application begin? */
bool engine_admits_writes(struct core_engine *engine);
void read_not_at_peer(struct core_engine *engine); /* answered, or given back */
bool engine_admits_reads(const struct core_engine *engine);
void engine_release_held(struct core_engine *engine);
/* The digest that came with a request: CHECKSUM_BYTES_MAX bytes of room. */
uint8_t *engine_digest_of(const struct request *request);

/* facts.c */
void facts_done(struct core_engine *engine, uint64_t token, int32_t result); /* token 0: nothing */
void facts_post(struct core_engine *engine, const struct core_fact *fact);
void facts_simple(struct core_engine *engine, enum core_fact_type type, int32_t result, uint64_t a, uint64_t b);
bool facts_have_room(const struct core_engine *engine); /* for what the peer may send at will */
void facts_packet(struct core_engine *engine, enum core_socket socket, const struct packet_header *header,
                  const uint8_t *payload);

/* orders.c */
void orders_run(struct core_engine *engine);

/* write.c, read.c */
void write_begin(struct request *request);    /* REQUEST_WRITE, REQUEST_ZERO: a new part */
void write_continue(struct request *request); /* what it waited for is there: look again from the start */
void write_leg_done(struct request *request, enum request_leg leg, int32_t result);
void write_release_crowded(struct core_engine *engine);
void write_fail(struct request *request); /* answers a read or write with -EIO */
void read_begin(struct request *request); /* REQUEST_READ */
void read_leg_done(struct request *request, enum request_leg leg, int32_t result);

#endif
