/* flush.c - a flush is durable on both nodes before it is answered.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Two legs.  The disk: a flush that begins now covers every write that was answered, and all flushes that came while
 * one was under way share the next.  The peer: the open epoch is closed, and the BARRIER_ACK of the last epoch says
 * that its disk was flushed past every write of it. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "container.h"
#include "engine.h"

static void flushed(struct io_op *op, int32_t result);

static void answer_if_done(struct upper *upper)
{
    if (!upper->flush_local && !upper->flush_peer)
        upper_reply(upper);
}

static void queue_local(struct upper_queue *queue, struct upper *upper)
{
    upper->next_flush = NULL;
    if (queue->last != NULL)
        queue->last->next_flush = upper;
    else
        queue->first = upper;
    queue->last = upper;
}

void flush_begin(struct upper *upper)
{
    struct core_engine *engine = upper->engine;
    struct transfer_log *log = &engine->peer.log;
    bool written_through = upper->nbd->command == NBD_WRITE; /* FUA */
    upper->flush_local = (engine->disk.attached || engine->disk.detaching) && !written_through;
    upper->flush_peer = transfer_log_count(log) > 0 && engine->replication != CORE_REPLICATE_AHEAD;
    if (!upper->flush_local && !written_through && !engine->disk.attached && !engine_peer_has_all(engine))
        upper->error = -EIO; /* there is no copy of anything in reach */
    if (upper->flush_peer) {
        upper->epoch = log->epoch_size > 0 ? log->epoch : log->epoch - 1;
        transfer_log_close_epoch(engine);
        upper_queue_put(&engine->flushing, upper);
    }
    if (upper->flush_local)
        queue_local(&engine->flush_next, upper);
    answer_if_done(upper);
}

/* Without a disk, or with one whose fate is open: what it would say now is worth nothing. */
static void put_off(struct core_engine *engine)
{
    while (engine->flush_next.first != NULL) {
        struct upper *upper = engine->flush_next.first;
        engine->flush_next.first = upper->next_flush;
        queue_local(&engine->flush_undecided, upper);
    }
    engine->flush_next.last = NULL;
    facts_done(engine, engine->flush_order_next, -EIO);
    engine->flush_order_next = 0;
    if (!engine->disk.attached && !engine->disk.detaching)
        flush_disk_gone(engine);
}

void flush_disk_kept(struct core_engine *engine)
{
    struct upper_queue undecided = engine->flush_undecided;
    engine->flush_undecided = (struct upper_queue){NULL, NULL};
    for (struct upper *upper = undecided.first, *next; upper != NULL; upper = next) {
        next = upper->next_flush;
        queue_local(&engine->flush_next, upper);
    }
}

void flush_pump(struct core_engine *engine)
{
    if (engine->flush_busy || (engine->flush_next.first == NULL && engine->flush_order_next == 0))
        return;
    if (!disk_is_usable(&engine->disk)) {
        put_off(engine);
        return;
    }
    engine->flush_now = engine->flush_next;
    engine->flush_next = (struct upper_queue){NULL, NULL};
    engine->flush_order_token = engine->flush_order_next;
    engine->flush_order_next = 0;
    engine->flush_busy = true;
    engine->flush_op.done = flushed;
    disk_begin(engine);
    if (engine->disk.config.flush != 0)
        io_flush(engine->io, &engine->flush_op, engine->disk.config.data_fd);
    else
        flushed(&engine->flush_op, 0);
}

/* A failed flush is never retried as if nothing had been: what the disk lost is unknown.  The disk is given up, and
 * only then the flush is answered: well if the peer has it all. */
static void flush_over(struct core_engine *engine, int32_t result)
{
    engine->flush_busy = false;
    struct upper *upper = engine->flush_now.first;
    engine->flush_now = (struct upper_queue){NULL, NULL};
    facts_done(engine, engine->flush_order_token, result);
    engine->flush_order_token = 0;
    if (result < 0)
        disk_failed(engine, CORE_DISK_FLUSH, 0, result);
    while (upper != NULL) {
        struct upper *next = upper->next_flush;
        if (result < 0) {
            queue_local(&engine->flush_undecided, upper);
        } else {
            upper->flush_local = false;
            answer_if_done(upper);
        }
        upper = next;
    }
}

static void flushed(struct io_op *op, int32_t result)
{
    struct core_engine *engine = CONTAINER_OF(op, struct core_engine, flush_op);
    if (hanging_ended(engine))
        return;
    flush_over(engine, result);
    disk_end(engine);
}

void flush_give_up(struct core_engine *engine)
{
    if (engine->flush_busy)
        flush_over(engine, -ETIMEDOUT);
}

void flush_disk_gone(struct core_engine *engine)
{
    struct upper *upper = engine->flush_undecided.first;
    engine->flush_undecided = (struct upper_queue){NULL, NULL};
    bool at_peer = engine_peer_has_all(engine);
    while (upper != NULL) {
        struct upper *next = upper->next_flush;
        if (!at_peer)
            upper->error = -EIO;
        upper->flush_local = false;
        answer_if_done(upper);
        upper = next;
    }
}

/* The peer is Outdated, and our identifiers say that it misses writes: a flush is about our disk. */
void flush_peer_behind(struct core_engine *engine)
{
    struct upper_queue waiting = engine->flushing;
    engine->flushing = (struct upper_queue){NULL, NULL};
    struct upper *upper;
    while ((upper = upper_queue_take(&waiting)) != NULL) {
        upper->flush_peer = false;
        answer_if_done(upper);
    }
}

void flush_epochs_stable(struct core_engine *engine)
{
    struct upper_queue waiting = engine->flushing;
    engine->flushing = (struct upper_queue){NULL, NULL};
    struct upper *upper;
    while ((upper = upper_queue_take(&waiting)) != NULL) {
        if (!transfer_log_is_stable(&engine->peer.log, upper->epoch)) {
            upper_queue_put(&engine->flushing, upper);
            continue;
        }
        upper->flush_peer = false;
        answer_if_done(upper);
    }
}
