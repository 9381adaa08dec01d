/* upper.c - see upper.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "upper.h"

#include <assert.h>

#include "engine.h"

#define SECTOR_SHIFT 9

void upper_queue_put(struct upper_queue *queue, struct upper *upper)
{
    upper->next = NULL;
    if (queue->last != NULL)
        queue->last->next = upper;
    else
        queue->first = upper;
    queue->last = upper;
}

struct upper *upper_queue_take(struct upper_queue *queue)
{
    struct upper *upper = queue->first;
    if (upper == NULL)
        return NULL;
    queue->first = upper->next;
    if (queue->first == NULL)
        queue->last = NULL;
    upper->next = NULL;
    return upper;
}

void upper_reply(struct upper *upper)
{
    hanging_before_reply(upper);
    upper->engine->upper_pending--;
    upper->reply(upper);
}

static bool is_zero(const struct upper *upper)
{
    return upper->nbd->command == NBD_TRIM || upper->nbd->command == NBD_WRITE_ZEROES;
}

void upper_begin(struct upper *upper)
{
    struct nbd_request *nbd = upper->nbd;
    upper->cursor_bytes = nbd->offset_bytes;
    upper->end_bytes = nbd->offset_bytes + nbd->length_bytes;
    upper->parts = 0;
    upper->error = 0;
    upper->fresh = NULL;
    upper->starved = upper->flush_local = upper->flush_peer = false;
    upper->engine->upper_pending++;
    upper->engine->counters.application_requests++;
    if (nbd->command == NBD_FLUSH)
        flush_begin(upper);
    else if (nbd->command == NBD_CACHE || nbd->length_bytes == 0)
        upper_reply(upper);
    else
        upper_issue(upper);
}

/* Zeroes end at a multiple of the part's size, so that a part never spans two extents of the activity log. */
static uint64_t part_bytes(const struct upper *upper)
{
    uint64_t left = upper->end_bytes - upper->cursor_bytes;
    uint64_t most = (uint64_t)UPPER_PART_SECTORS << SECTOR_SHIFT;
    if (is_zero(upper))
        most -= upper->cursor_bytes % most;
    return left < most ? left : most;
}

static uint16_t part_flags(const struct upper *upper)
{
    uint16_t flags = REQUEST_BORROWED;
    if ((upper->nbd->flags & NBD_FLAG_FUA) != 0)
        flags |= REQUEST_FUA;
    if (upper->nbd->command == NBD_TRIM || (upper->nbd->flags & NBD_FLAG_NO_HOLE) == 0)
        flags |= REQUEST_PUNCH;
    return flags;
}

static enum request_kind part_kind(const struct upper *upper)
{
    if (is_zero(upper))
        return REQUEST_ZERO;
    return upper->nbd->command == NBD_WRITE ? REQUEST_WRITE : REQUEST_READ;
}

void upper_issue(struct upper *upper)
{
    struct core_engine *engine = upper->engine;
    enum request_kind kind = part_kind(upper);
    /* One more than there are, while the loop runs: a part that fails at once must not answer the whole. */
    upper->parts++;
    while (upper->cursor_bytes < upper->end_bytes) {
        uint64_t bytes = part_bytes(upper);
        struct request *part =
            request_new(engine, kind, upper->cursor_bytes >> SECTOR_SHIFT, (uint32_t)(bytes >> SECTOR_SHIFT));
        if (part == NULL) {
            upper->starved = true;
            upper_queue_put(&engine->starved, upper);
            break;
        }
        part->upper = upper;
        part->flags = part_flags(upper);
        if (kind != REQUEST_ZERO) {
            part->buffer = (uint8_t *)upper->nbd->payload + (upper->cursor_bytes - upper->nbd->offset_bytes);
            part->length_bytes = (uint32_t)bytes;
        }
        upper->cursor_bytes += bytes;
        upper->parts++;
        if (kind == REQUEST_READ)
            read_begin(part);
        else
            write_begin(part);
    }
    upper_part_done(upper, 0);
}

/* FUA: each part was written through locally; what is missing is the peer's promise (and the disk's, for zeroes). */
static bool needs_flush(const struct upper *upper)
{
    return upper->error == 0 && (upper->nbd->flags & NBD_FLAG_FUA) != 0 &&
           (upper->nbd->command == NBD_WRITE || is_zero(upper));
}

void upper_part_done(struct upper *upper, int32_t result)
{
    assert(upper->parts > 0);
    if (result < 0 && upper->error == 0)
        upper->error = result;
    if (--upper->parts > 0 || upper->starved)
        return;
    if (needs_flush(upper))
        flush_begin(upper);
    else
        upper_reply(upper);
}
