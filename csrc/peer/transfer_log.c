/* transfer_log.c - see transfer_log.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "transfer_log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bitmap.h"
#include "engine.h"

static struct transfer_entry *entry_at(const struct transfer_log *log, uint64_t position)
{
    return &log->entries[position & (TRANSFER_LOG_ENTRIES - 1)];
}

int transfer_log_init(struct transfer_log *log)
{
    memset(log, 0, sizeof *log);
    log->entries = calloc(TRANSFER_LOG_ENTRIES, sizeof *log->entries);
    log->epochs = calloc(TRANSFER_LOG_EPOCHS, sizeof *log->epochs);
    log->epoch = 1;
    return log->entries != NULL && log->epochs != NULL ? 0 : -ENOMEM;
}

void transfer_log_fini(struct transfer_log *log)
{
    free(log->entries);
    free(log->epochs);
}

bool transfer_log_has_room(const struct transfer_log *log)
{
    return log->in - log->out < TRANSFER_LOG_ENTRIES;
}

uint64_t transfer_log_count(const struct transfer_log *log)
{
    return log->in - log->out;
}

void transfer_log_add(struct core_engine *engine, struct request *request)
{
    struct transfer_log *log = &engine->peer.log;
    assert(transfer_log_has_room(log));
    struct transfer_entry *entry = entry_at(log, log->in);
    bool hot = (request->flags & REQUEST_HOT) != 0;
    *entry = (struct transfer_entry){.request = request,
                                     .sector = request->sector,
                                     .sectors = request->sectors,
                                     .epoch = log->epoch,
                                     .acknowledged = (request->legs & LEG_ACK) == 0, /* protocol A waits for nobody */
                                     .hot = hot};
    if (hot)
        hot_extents_hold(engine, request->sector, request->sectors);
    request->entry = (uint32_t)(log->in & (TRANSFER_LOG_ENTRIES - 1)) + 1;
    log->in++;
    log->sectors += request->sectors;
    log->epoch_sectors += request->sectors;
    if (log->epoch_size++ == 0)
        log->epoch_since_ns = request->started_ns;
}

void transfer_log_acknowledged(struct core_engine *engine, struct request *request)
{
    assert(request->entry != 0);
    engine->peer.log.entries[request->entry - 1].acknowledged = true;
}

void transfer_log_close_epoch(struct core_engine *engine)
{
    struct transfer_log *log = &engine->peer.log;
    if (log->epoch_size == 0)
        return;
    assert(log->epochs_in - log->epochs_out < TRANSFER_LOG_EPOCHS);
    log->epochs[log->epochs_in++ & (TRANSFER_LOG_EPOCHS - 1)] =
        (struct transfer_epoch){.closed_ns = io_now_ns(engine->io), .number = log->epoch, .size = log->epoch_size};
    if (peer_is_up(&engine->peer))
        peer_send_barrier(&engine->peer, log->epoch);
    log->epoch++;
    log->epoch_size = 0;
    log->epoch_sectors = 0;
}

/* Its request (if it still runs) no longer stands here, and its extents may go. */
static void retire(struct core_engine *engine, struct transfer_entry *entry)
{
    if (entry->request != NULL)
        entry->request->entry = 0;
    entry->request = NULL;
    engine->peer.log.sectors -= entry->sectors;
    if (entry->hot)
        hot_extents_put(engine, entry->sector, entry->sectors);
}

void transfer_log_forget_extents(struct transfer_log *log)
{
    for (uint64_t i = log->out; i != log->in; i++)
        entry_at(log, i)->hot = false;
}

int transfer_log_barrier_acknowledged(struct core_engine *engine, uint32_t number, uint32_t size)
{
    struct transfer_log *log = &engine->peer.log;
    if (log->epochs_in == log->epochs_out)
        return -EPROTO;
    struct transfer_epoch epoch = log->epochs[log->epochs_out & (TRANSFER_LOG_EPOCHS - 1)];
    if (epoch.number != number || epoch.size != size)
        return -EPROTO;
    for (uint64_t i = log->out; i != log->out + size; i++)
        if (!entry_at(log, i)->acknowledged && !entry_at(log, i)->refused)
            return -EPROTO; /* stable, but never written? */
    log->epochs_out++;
    for (uint32_t i = 0; i < size; i++) {
        struct transfer_entry *entry = entry_at(log, log->out);
        assert(entry->epoch == number);
        retire(engine, entry);
        log->out++;
    }
    flush_epochs_stable(engine);
    return 0;
}

bool transfer_log_is_stable(const struct transfer_log *log, uint32_t epoch)
{
    return log->in == log->out || (int32_t)(entry_at(log, log->out)->epoch - epoch) > 0;
}

uint64_t transfer_log_unacknowledged_since_ns(struct transfer_log *log)
{
    if (log->oldest_unacknowledged < log->out)
        log->oldest_unacknowledged = log->out;
    while (log->oldest_unacknowledged < log->in) {
        const struct transfer_entry *entry = entry_at(log, log->oldest_unacknowledged);
        if (!entry->acknowledged && !entry->refused && entry->request != NULL)
            return entry->request->started_ns;
        log->oldest_unacknowledged++;
    }
    return 0;
}

uint64_t transfer_log_barrier_since_ns(const struct transfer_log *log)
{
    return log->epochs_in == log->epochs_out ? 0 : log->epochs[log->epochs_out & (TRANSFER_LOG_EPOCHS - 1)].closed_ns;
}

uint64_t transfer_log_held(const struct transfer_log *log)
{
    uint64_t held = 0;
    for (uint64_t i = log->out; i != log->in; i++)
        held += entry_at(log, i)->acknowledged ? 0 : 1;
    return held;
}

/* The peer's copy of this write is given up; its bits are set already. */
static void answer_without_peer(struct request *request)
{
    request->flags |= REQUEST_PEER_FAILED;
    if (request->engine->gate == CORE_GATE_SUSPENDED)
        request->flags |= REQUEST_UNTOLD;
    if ((request->legs & LEG_REFUSED) != 0)
        request_leg_done(request, LEG_REFUSED, 0);
    else if ((request->legs & LEG_ACK) != 0)
        request_leg_done(request, LEG_ACK, 0);
}

static void mark(struct core_engine *engine, const struct transfer_entry *entry)
{
    if (engine->disk.bitmap != NULL)
        bitmap_set(engine->disk.bitmap, entry->sector, entry->sectors);
}

void transfer_log_release(struct core_engine *engine)
{
    struct transfer_log *log = &engine->peer.log;
    /* First every bit, then every answer: nobody is told of a write that the bitmap does not know. */
    for (uint64_t i = log->out; i != log->in; i++)
        mark(engine, entry_at(log, i));
    while (log->out != log->in) {
        struct transfer_entry *entry = entry_at(log, log->out++);
        struct request *request = entry->request;
        bool answer = !entry->acknowledged && request != NULL;
        retire(engine, entry);
        if (answer)
            answer_without_peer(request);
    }
    log->epochs_out = log->epochs_in;
    log->epoch++;
    log->epoch_size = 0;
    log->epoch_sectors = 0;
    log->refused = 0;
    flush_epochs_stable(engine);
}

void transfer_log_refused(struct core_engine *engine, struct request *request)
{
    struct transfer_log *log = &engine->peer.log;
    struct transfer_entry *entry = &log->entries[request->entry - 1];
    entry->refused = true;
    log->refused++;
    mark(engine, entry);
    request->legs |= LEG_REFUSED;
    request_leg_done(request, LEG_ACK, 0);
}

void transfer_log_release_refused(struct core_engine *engine)
{
    struct request_table *table = &engine->requests;
    for (uint32_t i = 0; i < table->count; i++)
        if ((table->requests[i].legs & LEG_REFUSED) != 0)
            answer_without_peer(&table->requests[i]);
    engine->peer.log.refused = 0;
}
