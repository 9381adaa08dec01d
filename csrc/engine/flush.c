/* flush.c - a flush is durable on both nodes before it is answered.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Two legs.  The disk: a flush that begins now covers every write that was answered, and all flushes that came while
 * one was under way share the next.  The peer: the open epoch is closed, and the BARRIER_ACK of the last epoch says
 * that its disk was flushed past every write of it. */
#include <assert.h>
#include <stdlib.h>

#include "container.h"
#include "engine.h"

static void flushed(struct io_op *op, int32_t result);

static void answer_if_done(struct upper *upper)
{
    if (!upper->flush_local && !upper->flush_peer)
        export_reply(upper);
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
    upper->flush_local = disk_is_usable(&engine->disk) && !written_through;
    upper->flush_peer = transfer_log_count(log) > 0;
    if (upper->flush_peer) {
        upper->epoch = log->epoch_size > 0 ? log->epoch : log->epoch - 1;
        transfer_log_close_epoch(engine);
        upper_queue_put(&engine->flushing, upper);
    }
    if (upper->flush_local)
        queue_local(&engine->flush_next, upper);
    answer_if_done(upper);
}

void flush_pump(struct core_engine *engine)
{
    if (engine->flush_busy || (engine->flush_next.first == NULL && engine->flush_order_next == 0))
        return;
    engine->flush_now = engine->flush_next;
    engine->flush_next = (struct upper_queue){NULL, NULL};
    engine->flush_order_token = engine->flush_order_next;
    engine->flush_order_next = 0;
    engine->flush_busy = true;
    engine->flush_op.done = flushed;
    disk_begin(engine);
    if (engine->disk.attached && engine->disk.config.flush != 0)
        io_flush(engine->io, &engine->flush_op, engine->disk.config.data_fd);
    else
        flushed(&engine->flush_op, 0);
}

/* A failed flush is never retried as if nothing had been: what the disk lost is unknown.  The disk is given up; the
 * peer has the data. */
static void flushed(struct io_op *op, int32_t result)
{
    struct core_engine *engine = CONTAINER_OF(op, struct core_engine, flush_op);
    engine->flush_busy = false;
    struct upper *upper = engine->flush_now.first;
    engine->flush_now = (struct upper_queue){NULL, NULL};
    facts_done(engine, engine->flush_order_token, result);
    engine->flush_order_token = 0;
    while (upper != NULL) {
        struct upper *next = upper->next_flush;
        if (result < 0)
            upper->error = result;
        upper->flush_local = false;
        answer_if_done(upper);
        upper = next;
    }
    if (result < 0)
        disk_failed(engine, CORE_DISK_FLUSH, 0, result);
    disk_end(engine);
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
