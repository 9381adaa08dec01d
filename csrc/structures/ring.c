/* ring.c - a bounded queue between two threads, without locks.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * `tail` counts what was published and belongs to the producer, `head` what was consumed and belongs to the consumer;
 * both run freely and wrap at 2^32.  Each side publishes its own index and then looks at the other's, all four accesses
 * sequentially consistent: so either the producer sees that the consumer had caught up and wakes it, or the consumer
 * sees the new element before it sleeps.  With anything weaker both could miss. */
#include "ring.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_LINE_BYTES 64

struct ring {
    uint32_t mask;
    uint32_t element_bytes;
    uint8_t *slots;
    _Alignas(CACHE_LINE_BYTES) _Atomic uint32_t tail; /* written by the producer */
    uint32_t head_seen;                               /* the producer's last look at head: spares it the cache miss */
    _Alignas(CACHE_LINE_BYTES) _Atomic uint32_t head; /* written by the consumer */
    uint32_t tail_seen;                               /* the consumer's last look at tail */
};

int ring_new(uint32_t elements, uint32_t element_bytes, struct ring **ring)
{
    struct ring *self;

    if (elements == 0 || elements > 1u << 30 || (elements & (elements - 1)) != 0 || element_bytes == 0)
        return -EINVAL;
    self = aligned_alloc(CACHE_LINE_BYTES, sizeof(*self));
    if (!self)
        return -ENOMEM;
    memset(self, 0, sizeof(*self));
    self->mask = elements - 1;
    self->element_bytes = element_bytes;
    atomic_init(&self->tail, 0);
    atomic_init(&self->head, 0);
    self->slots = calloc(elements, element_bytes);
    if (!self->slots) {
        free(self);
        return -ENOMEM;
    }
    *ring = self;
    return 0;
}

void ring_free(struct ring *ring)
{
    if (!ring)
        return;
    free(ring->slots);
    free(ring);
}

static uint8_t *slot(const struct ring *ring, uint32_t index)
{
    return ring->slots + (uint64_t)(index & ring->mask) * ring->element_bytes;
}

int ring_push(struct ring *ring, const void *element, bool *was_empty)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint32_t head;

    if (tail - ring->head_seen > ring->mask) {
        ring->head_seen = atomic_load_explicit(&ring->head, memory_order_acquire);
        if (tail - ring->head_seen > ring->mask)
            return -EAGAIN;
    }
    memcpy(slot(ring, tail), element, ring->element_bytes);
    /* Publish, then look whether the consumer had caught up.  The other order loses the last wake-up: the consumer may
     * empty the ring between our look and our store. */
    atomic_store(&ring->tail, tail + 1);
    head = atomic_load(&ring->head);
    ring->head_seen = head;
    *was_empty = head == tail;
    return 0;
}

const void *ring_peek(struct ring *ring)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

    if (head == ring->tail_seen) {
        ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (head == ring->tail_seen)
            return NULL;
    }
    return slot(ring, head);
}

void ring_drop(struct ring *ring)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

    atomic_store(&ring->head, head + 1);
}

bool ring_pop(struct ring *ring, void *element)
{
    const void *oldest = ring_peek(ring);

    if (!oldest)
        return false;
    memcpy(element, oldest, ring->element_bytes);
    ring_drop(ring);
    return true;
}

bool ring_is_empty(struct ring *ring)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

    ring->tail_seen = atomic_load(&ring->tail);
    return head == ring->tail_seen;
}
