/* ublk_queue.c - see ublk_queue.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "ublk_queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "container.h"
#include "engine.h"

#define SECTOR_SHIFT 9

enum slot_state {
    SLOT_AWAY,       /* its command is in the kernel */
    SLOT_STARVED,    /* a request, and no memory for its payload yet */
    SLOT_COPYING,    /* the payload, in or out */
    SLOT_SERVED,     /* the request is the engine's */
    SLOT_HELD,       /* a request that may not begin */
    SLOT_UNANSWERED, /* a request that the next daemon will have */
    SLOT_GONE        /* the kernel took no command for it or gave it back for good */
};

struct slot {
    struct io_op command;
    struct io_op copy;
    struct ublk_io_command message;
    struct nbd_request request;
    struct upper upper;
    struct ublk_queue *queue;
    struct slot *next; /* starved */
    enum slot_state state;
};

struct ublk_queue {
    struct core_engine *engine;
    const struct ublk_descriptor *descriptors; /* the kernel's: read once */
    uint64_t mapped_bytes;
    struct slot *starved_first, *starved_last;
    uint64_t token;                   /* of the opening */
    uint32_t opening;                 /* turns until it is known whether the kernel took every command */
    uint32_t in_state[SLOT_GONE + 1]; /* slots, by state */
    uint32_t depth;
    int32_t fd;
    int32_t trouble; /* the kernel's first refusal */
    bool holding;
    bool abandoned;
    struct slot slots[];
};

static void slot_become(struct slot *slot, enum slot_state state)
{
    slot->queue->in_state[slot->state]--;
    slot->queue->in_state[state]++;
    slot->state = state;
}

static bool carries_payload(const struct nbd_request *request)
{
    return request->command == NBD_READ || request->command == NBD_WRITE;
}

int ublk_translate(const struct ublk_descriptor *descriptor, uint64_t size_bytes, struct nbd_request *request)
{
    static const int16_t commands[] = {
        [UBLK_READ] = NBD_READ,
        [UBLK_WRITE] = NBD_WRITE,
        [UBLK_FLUSH] = NBD_FLUSH,
        [UBLK_DISCARD] = NBD_TRIM,
        [4] = -1,
        [UBLK_WRITE_ZEROES] = NBD_WRITE_ZEROES,
    };
    uint32_t operation = descriptor->operation & UBLK_OPERATION_MASK;
    if (operation >= sizeof commands / sizeof commands[0] || commands[operation] < 0)
        return -EOPNOTSUPP;
    *request = (struct nbd_request){.command = (enum nbd_command)commands[operation]};
    if (request->command == NBD_FLUSH)
        return 0;
    uint64_t sectors = size_bytes >> SECTOR_SHIFT;
    if (descriptor->sectors == 0 || descriptor->sectors > sectors || descriptor->sector > sectors - descriptor->sectors)
        return -EINVAL;
    request->offset_bytes = descriptor->sector << SECTOR_SHIFT;
    request->length_bytes = (uint64_t)descriptor->sectors << SECTOR_SHIFT;
    if (carries_payload(request) && request->length_bytes > POOL_BLOCK_MAX)
        return -EINVAL;
    if ((descriptor->operation & UBLK_FUA) != 0 && request->command != NBD_READ)
        request->flags |= NBD_FLAG_FUA;
    if ((descriptor->operation & UBLK_NO_UNMAP) != 0 && request->command == NBD_WRITE_ZEROES)
        request->flags |= NBD_FLAG_NO_HOLE;
    return 0;
}

/* --- a slot's life
 * -------------------------------------------------------------------------------------------------------------- */

static void slot_command(struct slot *slot, uint32_t operation, int32_t result)
{
    slot->message.result = result;
    slot_become(slot, SLOT_AWAY);
    io_command(slot->queue->engine->io, &slot->command, slot->queue->fd, operation, &slot->message);
}

static void slot_answer(struct slot *slot, int32_t error)
{
    struct nbd_request *request = &slot->request;
    int32_t moved = carries_payload(request) ? (int32_t)request->length_bytes : 0;
    if (request->payload != NULL)
        export_payload_over(slot->queue->engine, request->payload, (uint32_t)request->length_bytes);
    request->payload = NULL;
    if (slot->queue->abandoned)
        slot_become(slot, SLOT_UNANSWERED);
    else
        slot_command(slot, UBLK_COMMIT_AND_FETCH, error < 0 ? error : moved);
}

static uint64_t payload_offset(const struct slot *slot)
{
    return UBLK_PAYLOADS + ((uint64_t)slot->message.tag << UBLK_PAYLOAD_SHIFT);
}

/* The engine is done with it. */
static void replied(struct upper *upper)
{
    struct slot *slot = CONTAINER_OF(upper, struct slot, upper);
    struct ublk_queue *queue = slot->queue;
    const struct nbd_request *request = &slot->request;
    if (request->command != NBD_READ || upper->error < 0 || queue->abandoned) {
        slot_answer(slot, upper->error);
        return;
    }
    slot_become(slot, SLOT_COPYING);
    io_write(queue->engine->io, &slot->copy, queue->fd, request->payload, (uint32_t)request->length_bytes,
             payload_offset(slot), false);
}

static void slot_serve(struct slot *slot)
{
    slot_become(slot, SLOT_SERVED);
    slot->upper.nbd = &slot->request;
    slot->upper.engine = slot->queue->engine;
    slot->upper.reply = replied;
    upper_begin(&slot->upper);
}

static void copied(struct io_op *op, int32_t result)
{
    struct slot *slot = CONTAINER_OF(op, struct slot, copy);
    bool whole = result == (int32_t)slot->request.length_bytes;
    if (slot->request.command == NBD_WRITE && whole && !slot->queue->abandoned)
        slot_serve(slot);
    else
        slot_answer(slot, result < 0 ? result : whole ? 0 : -EIO);
}

/* False: no memory now. */
static bool slot_feed(struct slot *slot)
{
    struct ublk_queue *queue = slot->queue;
    struct nbd_request *request = &slot->request;
    request->payload = export_payload(queue->engine, queue, (uint32_t)request->length_bytes);
    if (request->payload == NULL)
        return false;
    if (request->command == NBD_READ) {
        slot_serve(slot);
        return true;
    }
    slot_become(slot, SLOT_COPYING);
    io_read(queue->engine->io, &slot->copy, queue->fd, request->payload, (uint32_t)request->length_bytes,
            payload_offset(slot));
    return true;
}

static void slot_starve(struct slot *slot)
{
    struct ublk_queue *queue = slot->queue;
    slot_become(slot, SLOT_STARVED);
    slot->next = NULL;
    if (queue->starved_last != NULL)
        queue->starved_last->next = slot;
    else
        queue->starved_first = slot;
    queue->starved_last = slot;
}

static void slot_take(struct slot *slot)
{
    struct ublk_queue *queue = slot->queue;
    struct core_engine *engine = queue->engine;
    struct ublk_descriptor descriptor = queue->descriptors[slot->message.tag];
    slot->request = (struct nbd_request){0};
    int rc = ublk_translate(&descriptor, engine->export.table.size_bytes, &slot->request);
    if (rc == 0 && !engine->export.open)
        rc = -EIO;
    if (rc < 0)
        slot_answer(slot, rc);
    else if (!carries_payload(&slot->request))
        slot_serve(slot);
    else if (queue->starved_first != NULL || !slot_feed(slot))
        slot_starve(slot);
}

/* The kernel has a request for the tag, or has no use for the tag any more (-ENODEV: the device is being stopped). */
static void commanded(struct io_op *op, int32_t result)
{
    struct slot *slot = CONTAINER_OF(op, struct slot, command);
    struct ublk_queue *queue = slot->queue;
    if (result == 0) {
        if (queue->abandoned)
            slot_become(slot, SLOT_UNANSWERED);
        else if (queue->holding)
            slot_become(slot, SLOT_HELD);
        else
            slot_take(slot);
        return;
    }
    if (queue->trouble == 0)
        queue->trouble = result;
    slot_become(slot, SLOT_GONE);
}

/* --- the queue
 * -------------------------------------------------------------------------------------------------------------- */

static int queue_new(struct core_engine *engine, int32_t fd, uint32_t depth, struct ublk_queue **out)
{
    struct ublk_queue *queue = calloc(1, sizeof *queue + depth * sizeof queue->slots[0]);
    if (queue == NULL)
        return -ENOMEM;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    queue->mapped_bytes = (depth * sizeof(struct ublk_descriptor) + page - 1) / page * page;
    void *mapped = mmap(NULL, queue->mapped_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) {
        int rc = -errno;
        free(queue);
        return rc;
    }
    queue->descriptors = mapped;
    queue->engine = engine;
    queue->fd = fd;
    queue->depth = depth;
    queue->in_state[SLOT_AWAY] = depth;
    *out = queue;
    return 0;
}

static int queue_open(struct core_engine *engine, uint64_t token, int32_t fd, uint32_t depth)
{
    if (engine->ublk != NULL)
        return -EBUSY;
    if (!engine->export.open)
        return -ESHUTDOWN;
    struct ublk_queue *queue = NULL;
    int rc = queue_new(engine, fd, depth, &queue);
    if (queue == NULL)
        return rc;
    engine->ublk = queue;
    queue->token = token;
    queue->opening = 2; /* this turn hands the commands over and takes the refusals */
    for (uint32_t i = 0; i < depth; i++) {
        struct slot *slot = &queue->slots[i];
        slot->queue = queue;
        slot->message.tag = (uint16_t)i;
        slot->command.done = commanded;
        slot->copy.done = copied;
        slot_command(slot, UBLK_FETCH, 0);
    }
    return 0;
}

void ublk_queue_open(struct core_engine *engine, uint64_t token, int32_t fd, uint32_t depth)
{
    int rc = queue_open(engine, token, fd, depth);
    if (rc == 0)
        return;
    io_close(engine->io, fd);
    facts_done(engine, token, rc);
}

static void queue_free(struct core_engine *engine)
{
    struct ublk_queue *queue = engine->ublk;
    engine->ublk = NULL;
    if (engine->export.want_memory == queue)
        engine->export.want_memory = NULL;
    (void)munmap((void *)(uintptr_t)queue->descriptors, queue->mapped_bytes);
    io_close(engine->io, queue->fd);
    free(queue);
}

static void feed_starved(struct ublk_queue *queue)
{
    while (queue->starved_first != NULL) {
        struct slot *slot = queue->starved_first;
        if (!slot_feed(slot))
            return;
        queue->starved_first = slot->next;
        if (queue->starved_first == NULL)
            queue->starved_last = NULL;
    }
}

static void tell_opened(struct core_engine *engine)
{
    struct ublk_queue *queue = engine->ublk;
    if (queue->opening == 0)
        return;
    queue->opening--;
    if (queue->opening > 0)
        return;
    /* With a command missing the kernel would never start the device: nobody may wait for that. */
    facts_done(engine, queue->token, queue->trouble);
}

void ublk_queue_pump(struct core_engine *engine)
{
    if (engine->ublk == NULL)
        return;
    feed_starved(engine->ublk);
    tell_opened(engine);
    if (engine->ublk->opening == 0 && engine->ublk->in_state[SLOT_GONE] == engine->ublk->depth)
        queue_free(engine);
}

uint64_t ublk_queue_deadline_ns(const struct core_engine *engine)
{
    return engine->ublk != NULL && engine->ublk->opening > 0 ? 0 : UINT64_MAX;
}

bool ublk_queue_is_idle(const struct core_engine *engine)
{
    const struct ublk_queue *queue = engine->ublk;
    if (queue == NULL)
        return true;
    return queue->in_state[SLOT_AWAY] + queue->in_state[SLOT_HELD] + queue->in_state[SLOT_GONE] == queue->depth;
}

void ublk_queue_hold(struct core_engine *engine, bool hold)
{
    struct ublk_queue *queue = engine->ublk;
    queue->holding = hold;
    for (uint32_t i = 0; !hold && i < queue->depth; i++)
        if (queue->slots[i].state == SLOT_HELD)
            slot_take(&queue->slots[i]);
}

void ublk_queue_abandon(struct core_engine *engine)
{
    if (engine->ublk != NULL)
        engine->ublk->abandoned = true;
}

bool ublk_queue_is_quiet(const struct core_engine *engine)
{
    return engine->ublk == NULL || engine->ublk->in_state[SLOT_COPYING] == 0;
}

void ublk_queue_fini(struct core_engine *engine)
{
    if (engine->ublk != NULL)
        queue_free(engine);
}
