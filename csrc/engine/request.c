/* request.c - see request.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "request.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

#define GENERATION_SHIFT 32

void request_queue_put(struct request_queue *queue, struct request *request)
{
    request->next = NULL;
    if (queue->last != NULL)
        queue->last->next = request;
    else
        queue->first = request;
    queue->last = request;
    queue->count++;
}

struct request *request_queue_take(struct request_queue *queue)
{
    struct request *request = queue->first;
    if (request == NULL)
        return NULL;
    queue->first = request->next;
    if (queue->first == NULL)
        queue->last = NULL;
    queue->count--;
    request->next = NULL;
    return request;
}

int request_table_new(struct core_engine *engine, uint32_t count, struct request_table *table)
{
    table->requests = calloc(count, sizeof *table->requests);
    if (table->requests == NULL)
        return -ENOMEM;
    table->count = table->free_count = count;
    for (uint32_t i = count; i-- > 0;) {
        struct request *request = &table->requests[i];
        request->engine = engine;
        request->index = i;
        request->generation = 1;
        request->next = table->free;
        table->free = request;
    }
    return 0;
}

void request_table_free(struct request_table *table)
{
    free(table->requests);
    table->requests = NULL;
}

struct request *request_new(struct core_engine *engine, enum request_kind kind, uint64_t sector, uint32_t sectors)
{
    struct request *request = engine->requests.free;
    if (request == NULL)
        return NULL;
    engine->requests.free = request->next;
    engine->requests.free_count--;
    request->next = NULL;
    request->kind = (uint8_t)kind;
    request->sector = sector;
    request->sectors = sectors;
    request->length_bytes = 0;
    request->buffer = NULL;
    request->upper = NULL;
    request->epoch = NULL;
    request->block_id = 0;
    request->entry = 0;
    request->flags = 0;
    request->legs = 0;
    request->result = 0;
    request->done_sectors = 0;
    request->wire_flags = 0;
    request->sequence = 0;
    request->started_ns = io_now_ns(engine->io);
    request->disk_since_ns = 0;
    request->payload = NULL;
    return request;
}

uint64_t request_id(const struct request *request)
{
    return (uint64_t)request->generation << GENERATION_SHIFT | request->index;
}

struct request *request_find(struct request_table *table, uint64_t block_id)
{
    uint32_t index = (uint32_t)block_id;
    if (index >= table->count)
        return NULL;
    struct request *request = &table->requests[index];
    return request->generation == block_id >> GENERATION_SHIFT ? request : NULL;
}

static bool is_peers(const struct request *request)
{
    return request->kind == PEER_WRITE || request->kind == PEER_ZERO || request->kind == PEER_READ ||
           request->kind == RESYNC_READ || request->kind == RESYNC_FETCH || request->kind == VERIFY_BLOCK ||
           request->kind == VERIFY_READ || request->kind == MEND_BLOCK;
}

void request_end(struct request *request)
{
    struct core_engine *engine = request->engine;
    assert(request->legs == 0);
    if ((request->flags & REQUEST_HOT) != 0)
        hot_extents_put(engine, request->sector, request->sectors);
    if (is_peers(request) && request->length_bytes > 0)
        engine->peer.pages_held -= (request->length_bytes + 4095u) / 4096u;
    if (request->entry != 0)
        engine->peer.log.entries[(request->entry - 1) & (TRANSFER_LOG_ENTRIES - 1)].request = NULL;
    uint16_t flags = request->flags;
    /* A free slot has no place: who looks through the table for those that have must pass it over. */
    request->flags = (uint16_t)(flags & (REQUEST_BORROWED | REQUEST_HANGING));
    request->generation =
        request->generation == UINT32_MAX - 1 ? 1 : request->generation + 1; /* never PACKET_ID_SYNCER */
    if ((flags & REQUEST_HAS_WRITE_PLACE) != 0)
        ordering_leave(&engine->ordering, &request->write_place);
    if ((flags & REQUEST_HAS_PLACE) != 0)
        ordering_leave(&engine->ordering, &request->place);
    if ((flags & REQUEST_HANGING) != 0)
        request->flags |= REQUEST_OVER;
    else
        request_give_back(request);
}

void request_give_back(struct request *request)
{
    struct core_engine *engine = request->engine;
    if (request->buffer != NULL && (request->flags & REQUEST_BORROWED) == 0)
        pool_put(engine->pool, request->buffer, request->length_bytes);
    request->buffer = NULL;
    request->flags = 0;
    request->next = engine->requests.free;
    engine->requests.free = request;
    engine->requests.free_count++;
}

void request_continue(struct request *request)
{
    switch ((enum request_kind)request->kind) {
    case REQUEST_READ:
        read_begin(request);
        break;
    case REQUEST_WRITE:
    case REQUEST_ZERO:
        write_continue(request);
        break;
    case PEER_WRITE:
    case PEER_ZERO:
        peer_write_continue(request);
        break;
    case PEER_READ:
    case RESYNC_READ:
    case RESYNC_FETCH:
    case VERIFY_BLOCK:
    case VERIFY_READ:
    case MEND_BLOCK:
        assert(!"these wait for their place alone");
    }
}

void request_leg_done(struct request *request, enum request_leg leg, int32_t result)
{
    assert((request->legs & leg) != 0);
    request->legs = (uint8_t)(request->legs & ~(unsigned)leg);
    switch ((enum request_kind)request->kind) {
    case REQUEST_WRITE:
    case REQUEST_ZERO:
        write_leg_done(request, leg, result);
        break;
    case REQUEST_READ:
        read_leg_done(request, leg, result);
        break;
    case PEER_WRITE:
    case PEER_ZERO:
        request->result = result;
        peer_write_done(request);
        break;
    case PEER_READ:
        request->result = result;
        peer_read_done(request);
        break;
    case RESYNC_READ:
        request->result = result;
        resync_read_done(request);
        break;
    case RESYNC_FETCH:
        request->result = result;
        resync_fetch_done(request);
        break;
    case VERIFY_BLOCK:
        request->result = result;
        verify_block_read(request);
        break;
    case VERIFY_READ:
        request->result = result;
        verify_read_done(request);
        break;
    case MEND_BLOCK:
        request->result = result;
        mend_leg_done(request);
        break;
    }
}
