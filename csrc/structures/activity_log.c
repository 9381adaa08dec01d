/* activity_log.c - the set of hot extents, and the ring of transactions on disk that can rebuild it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The set has numbered slots.  A transaction names up to 64 slots that change, with what they hold from now on, and a
 * window of 919 slots as they were before it, the context.  The window moves on by its own size with every transaction,
 * so that ceil(extents / 919) transactions in a row contain the whole set; that is why the ring must hold at least one
 * block more than that: the newest block may be torn by a power cut, the others must still do.  A reader takes the
 * ring's transactions in order of their numbers, each first its context, then its updates.
 *
 * A slot's life:
 *
 *   FREE -> PENDING      [activity_log_want]     a free slot is preferred
 *   IDLE -> PENDING      [activity_log_want]     no free one: the least recently used extent leaves
 *   IDLE -> PENDING      [activity_log_retire]   the extent leaves, nothing comes
 *   PENDING -> WRITING   [activity_log_prepare]
 *   WRITING -> IDLE      [activity_log_commit]   or -> FREE, if nothing came
 *   IDLE <-> IN_USE      [activity_log_get, activity_log_put]
 *
 * From PENDING on the leaving extent counts as cold: whoever wants it must name it in a transaction of its own again.
 * What is durable can only be more than what is hot, never less. */
#include "activity_log.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"

#define MAGIC 0x69cb65a2u
#define TYPE_UPDATE 0
#define CONTEXT_SLOTS 919u
#define EXTENTS_MAX 65534u /* slot numbers have 16 bits, and one means none */
#define NO_EXTENT UINT32_MAX
#define NO_SLOT UINT32_MAX
#define NO_SLOT_ON_DISK UINT16_MAX

/* On disk, big-endian. */
struct transaction {
    uint32_t magic;
    uint32_t number;
    uint32_t crc32c; /* of the block, with this field 0 */
    uint16_t type;
    uint16_t updates;
    uint16_t context_size; /* slots in the whole set */
    uint16_t context_start_slot;
    uint32_t reserved[4];
    uint16_t update_slot[ACTIVITY_LOG_UPDATES];
    uint32_t update_extent[ACTIVITY_LOG_UPDATES];
    uint32_t context[CONTEXT_SLOTS];
};

_Static_assert(sizeof(struct transaction) == ACTIVITY_LOG_BLOCK_BYTES, "a transaction is one block");
_Static_assert(offsetof(struct transaction, update_slot) == 36, "after the reserved words");
_Static_assert(offsetof(struct transaction, update_extent) == 164, "after the slots");
_Static_assert(offsetof(struct transaction, context) == 420, "after the extents");

enum slot_state { FREE, IDLE, IN_USE, PENDING, WRITING };

struct slot {
    uint32_t extent;         /* what the newest durable transaction says of it, or NO_EXTENT */
    uint32_t next_extent;    /* PENDING, WRITING: what it will hold, or NO_EXTENT */
    uint32_t references;     /* IN_USE: more than 0 */
    uint32_t chain;          /* the next slot with the same hash */
    uint32_t next, previous; /* in the list of its state; IN_USE is in none */
    enum slot_state state;
};

/* Slots by number, doubly linked. */
struct list {
    uint32_t first, last, count;
};

struct activity_log {
    struct activity_log_geometry geometry;
    uint32_t sequence;      /* of the next transaction */
    uint32_t context_start; /* of the next transaction */
    struct slot *slots;
    uint32_t *buckets; /* first slot of each chain; key: the extent that the slot holds or will hold */
    uint32_t bucket_mask;
    struct list free, idle, pending, writing; /* idle: the least recently used first */
    uint32_t in_use;
};

/* --- Lists --- */

static void list_append(struct activity_log *log, struct list *list, uint32_t index)
{
    struct slot *slot = &log->slots[index];

    slot->next = NO_SLOT;
    slot->previous = list->last;
    if (list->last != NO_SLOT)
        log->slots[list->last].next = index;
    else
        list->first = index;
    list->last = index;
    list->count++;
}

static void list_remove(struct activity_log *log, struct list *list, uint32_t index)
{
    struct slot *slot = &log->slots[index];

    if (slot->previous != NO_SLOT)
        log->slots[slot->previous].next = slot->next;
    else
        list->first = slot->next;
    if (slot->next != NO_SLOT)
        log->slots[slot->next].previous = slot->previous;
    else
        list->last = slot->previous;
    list->count--;
}

/* --- Finding a slot by the extent that it holds or will hold --- */

static uint32_t *bucket_of(const struct activity_log *log, uint32_t extent)
{
    /* Neighbouring extents are used together; a multiplication spreads them. */
    return &log->buckets[(extent * 0x9e3779b1u >> 7) & log->bucket_mask];
}

static uint32_t find(const struct activity_log *log, uint32_t extent)
{
    uint32_t index = *bucket_of(log, extent);

    while (index != NO_SLOT) {
        const struct slot *slot = &log->slots[index];

        if ((slot->state >= PENDING ? slot->next_extent : slot->extent) == extent)
            break;
        index = slot->chain;
    }
    return index;
}

static void table_insert(struct activity_log *log, uint32_t extent, uint32_t index)
{
    uint32_t *bucket = bucket_of(log, extent);

    log->slots[index].chain = *bucket;
    *bucket = index;
}

static void table_remove(struct activity_log *log, uint32_t extent, uint32_t index)
{
    uint32_t *link = bucket_of(log, extent);

    while (*link != index)
        link = &log->slots[*link].chain;
    *link = log->slots[index].chain;
}

/* --- New and free --- */

static bool is_valid(const struct activity_log_geometry *geometry)
{
    uint64_t blocks = (uint64_t)geometry->stripes * geometry->stripe_size_4k;

    return geometry->extents > 0 && geometry->extents <= EXTENTS_MAX && geometry->blocks > 1 &&
           blocks == geometry->blocks && geometry->extents <= (uint64_t)(geometry->blocks - 1) * CONTEXT_SLOTS;
}

int activity_log_new(const struct activity_log_geometry *geometry, struct activity_log **log)
{
    static const struct list empty = {.first = NO_SLOT, .last = NO_SLOT, .count = 0};
    struct activity_log *self;
    uint32_t buckets = 64;

    if (!is_valid(geometry))
        return -EINVAL;
    while (buckets < 2 * geometry->extents)
        buckets *= 2;
    self = calloc(1, sizeof(*self));
    if (!self)
        return -ENOMEM;
    self->slots = calloc(geometry->extents, sizeof(*self->slots));
    if (!self->slots)
        goto free_self;
    self->buckets = malloc(buckets * sizeof(*self->buckets));
    if (!self->buckets)
        goto free_slots;
    memset(self->buckets, 0xff, buckets * sizeof(*self->buckets)); /* NO_SLOT */
    self->bucket_mask = buckets - 1;
    self->geometry = *geometry;
    self->sequence = geometry->sequence;
    self->free = self->idle = self->pending = self->writing = empty;
    /* The kernel hands its slots out from the last to the first; so do we, and the transactions are the same. */
    for (uint32_t index = geometry->extents; index-- > 0;) {
        self->slots[index] = (struct slot){.extent = NO_EXTENT, .next_extent = NO_EXTENT, .chain = NO_SLOT};
        list_append(self, &self->free, index);
    }
    *log = self;
    return 0;

free_slots:
    free(self->slots);
free_self:
    free(self);
    return -ENOMEM;
}

void activity_log_free(struct activity_log *log)
{
    if (!log)
        return;
    free(log->buckets);
    free(log->slots);
    free(log);
}

/* --- References --- */

bool activity_log_get(struct activity_log *log, uint32_t extent)
{
    uint32_t index = find(log, extent);
    struct slot *slot;

    if (index == NO_SLOT || log->slots[index].state >= PENDING)
        return false;
    slot = &log->slots[index];
    if (slot->references++ == 0) {
        list_remove(log, &log->idle, index);
        slot->state = IN_USE;
        log->in_use++;
    }
    return true;
}

void activity_log_put(struct activity_log *log, uint32_t extent)
{
    uint32_t index = find(log, extent);
    struct slot *slot = &log->slots[index];

    assert(index != NO_SLOT && slot->state == IN_USE);
    if (--slot->references == 0) {
        slot->state = IDLE;
        list_append(log, &log->idle, index);
        log->in_use--;
    }
}

/* The slot, FREE or IDLE, will hold `extent` from the next transaction on. */
static void change(struct activity_log *log, uint32_t index, uint32_t extent)
{
    struct slot *slot = &log->slots[index];

    if (slot->state == IDLE) {
        list_remove(log, &log->idle, index);
        table_remove(log, slot->extent, index);
    } else {
        assert(slot->state == FREE);
        list_remove(log, &log->free, index);
    }
    slot->state = PENDING;
    slot->next_extent = extent;
    if (extent != NO_EXTENT)
        table_insert(log, extent, index);
    list_append(log, &log->pending, index);
}

int activity_log_want(struct activity_log *log, uint32_t extent)
{
    uint32_t index = find(log, extent);

    assert(extent != NO_EXTENT);
    if (index != NO_SLOT) {
        if (log->slots[index].state == IDLE) {
            /* Hot already, but wanted together with one that is not: it must not be the next to leave. */
            list_remove(log, &log->idle, index);
            list_append(log, &log->idle, index);
        }
        return 0;
    }
    index = log->free.first != NO_SLOT ? log->free.first : log->idle.first;
    if (index == NO_SLOT)
        return -EBUSY;
    change(log, index, extent);
    return 0;
}

bool activity_log_retire(struct activity_log *log)
{
    while (log->idle.first != NO_SLOT)
        change(log, log->idle.first, NO_EXTENT);
    return log->pending.count > 0 || log->writing.count > 0;
}

/* --- Transactions --- */

bool activity_log_wants_transaction(const struct activity_log *log)
{
    return log->pending.count > 0 && log->writing.count == 0;
}

/* Consecutive numbers go to consecutive stripes, as 8.4 places them: so on an array of disks neighbours do not share
 * one. */
static uint64_t offset_of(const struct activity_log *log, uint32_t sequence)
{
    uint64_t position = sequence % log->geometry.blocks;
    uint32_t stripes = log->geometry.stripes;

    position = position % stripes * log->geometry.stripe_size_4k + position / stripes;
    return position * ACTIVITY_LOG_BLOCK_BYTES;
}

static void fill_updates(struct activity_log *log, struct transaction *transaction, uint32_t *evicted,
                         uint32_t *evicted_count)
{
    uint16_t count = 0;

    *evicted_count = 0;
    while (count < ACTIVITY_LOG_UPDATES && log->pending.first != NO_SLOT) {
        uint32_t index = log->pending.first;
        struct slot *slot = &log->slots[index];

        list_remove(log, &log->pending, index);
        slot->state = WRITING;
        list_append(log, &log->writing, index);
        transaction->update_slot[count] = htobe16((uint16_t)index);
        transaction->update_extent[count] = htobe32(slot->next_extent);
        if (slot->extent != NO_EXTENT)
            evicted[(*evicted_count)++] = slot->extent;
        count++;
    }
    transaction->updates = htobe16(count);
    for (; count < ACTIVITY_LOG_UPDATES; count++) {
        transaction->update_slot[count] = htobe16(NO_SLOT_ON_DISK);
        transaction->update_extent[count] = htobe32(NO_EXTENT);
    }
}

static void fill_context(struct activity_log *log, struct transaction *transaction)
{
    transaction->context_size = htobe16((uint16_t)log->geometry.extents);
    transaction->context_start_slot = htobe16((uint16_t)log->context_start);
    for (uint32_t i = 0; i < CONTEXT_SLOTS; i++) {
        uint32_t index = log->context_start + i;

        transaction->context[i] = htobe32(index < log->geometry.extents ? log->slots[index].extent : NO_EXTENT);
    }
    log->context_start += CONTEXT_SLOTS;
    if (log->context_start >= log->geometry.extents)
        log->context_start = 0;
}

void activity_log_prepare(struct activity_log *log, void *block, uint64_t *offset_bytes,
                          uint32_t evicted[ACTIVITY_LOG_UPDATES], uint32_t *evicted_count)
{
    struct transaction *transaction = block;

    assert(activity_log_wants_transaction(log));
    memset(transaction, 0, sizeof(*transaction));
    transaction->magic = htobe32(MAGIC);
    transaction->number = htobe32(log->sequence);
    transaction->type = htobe16(TYPE_UPDATE);
    fill_updates(log, transaction, evicted, evicted_count);
    fill_context(log, transaction);
    /* The kernel's CRC begins with 0 and ends without inversion; digest_crc32c does both the usual way. */
    transaction->crc32c = htobe32(~digest_crc32c(UINT32_MAX, transaction, sizeof(*transaction)));
    *offset_bytes = offset_of(log, log->sequence);
    log->sequence++;
}

void activity_log_commit(struct activity_log *log)
{
    while (log->writing.first != NO_SLOT) {
        uint32_t index = log->writing.first;
        struct slot *slot = &log->slots[index];

        list_remove(log, &log->writing, index);
        slot->extent = slot->next_extent;
        slot->next_extent = NO_EXTENT;
        slot->state = slot->extent == NO_EXTENT ? FREE : IDLE;
        list_append(log, slot->state == FREE ? &log->free : &log->idle, index);
    }
}

uint32_t activity_log_hot(const struct activity_log *log)
{
    return log->idle.count + log->in_use;
}

uint32_t activity_log_in_use(const struct activity_log *log)
{
    return log->in_use;
}
