/* ring.h - a bounded single-producer single-consumer queue of fixed-size elements, between two threads.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The producer publishes, then looks whether the consumer had caught up (ring_push tells: wake it); the other order
 * loses the last wake-up. */
#ifndef CSRC_RING_H
#define CSRC_RING_H

#include <stdbool.h>
#include <stdint.h>

struct ring;

int ring_new(uint32_t elements, uint32_t element_bytes, struct ring **ring); /* elements: a power of two */
void ring_free(struct ring *ring);
/* Copies the element in.  -EAGAIN: full.  *was_empty: the consumer may be asleep. */
int ring_push(struct ring *ring, const void *element, bool *was_empty);
bool ring_pop(struct ring *ring, void *element); /* false: empty */
const void *ring_peek(struct ring *ring);        /* the oldest, or NULL; stays until ring_drop */
void ring_drop(struct ring *ring);
bool ring_is_empty(struct ring *ring); /* consumer's view, with the fence that sleeping needs */

#endif
