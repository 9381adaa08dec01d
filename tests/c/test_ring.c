/* test_ring.c - the ring between two threads: order, fullness, and that no wake-up is lost.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "allocation.h"
#include "check.h"

#include "../../csrc/structures/ring.c" /* its allocations fail on demand */

struct element {
    uint64_t number;
    uint8_t payload[24];
};

static void is_a_bounded_queue(void)
{
    struct element element = {0}, out;
    struct ring *ring;
    bool was_empty;

    CHECK_EQUAL(ring_new(4, sizeof(element), &ring), 0);
    CHECK(ring_is_empty(ring) && !ring_peek(ring) && !ring_pop(ring, &out), "a new ring is empty");
    for (uint64_t lap = 0; lap < 100; lap++) {
        for (uint64_t i = 0; i < 4; i++) {
            element.number = 4 * lap + i;
            CHECK_EQUAL(ring_push(ring, &element, &was_empty), 0);
            CHECK_EQUAL(was_empty, i == 0);
        }
        CHECK_EQUAL(ring_push(ring, &element, &was_empty), -EAGAIN);
        CHECK(!ring_is_empty(ring), "a full ring says it is empty");
        CHECK_EQUAL(((const struct element *)ring_peek(ring))->number, 4 * lap);
        ring_drop(ring);
        for (uint64_t i = 1; i < 4; i++) {
            CHECK(ring_pop(ring, &out), "element %llu", (unsigned long long)i);
            CHECK_EQUAL(out.number, 4 * lap + i);
        }
        CHECK(ring_is_empty(ring), "not empty after the last");
    }
    ring_free(ring);
}

struct channel {
    struct ring *ring;
    int event_fd;
    uint64_t elements;
    uint64_t pause; /* spins of the producer between two bursts, at most: sporadic, so that the consumer keeps falling
                       asleep */
};

static void *produce(void *argument)
{
    struct channel *channel = argument;
    uint64_t state = 12345, one = 1;

    for (uint64_t number = 0; number < channel->elements;) {
        uint64_t burst = 1 + draw_below(&state, 3);

        for (; burst > 0 && number < channel->elements; burst--) {
            struct element element = {.number = number};
            bool was_empty;

            memset(element.payload, (int)(number & 0xff), sizeof(element.payload));
            if (ring_push(channel->ring, &element, &was_empty) == -EAGAIN)
                continue;
            number++;
            if (was_empty)
                CHECK_EQUAL(write(channel->event_fd, &one, sizeof(one)), sizeof(one));
        }
        for (uint64_t spin = draw_below(&state, channel->pause); spin > 0; spin--)
            atomic_signal_fence(memory_order_seq_cst);
    }
    return NULL;
}

static void consume(struct channel *channel)
{
    uint64_t expected = 0, ignored;

    while (expected < channel->elements) {
        struct pollfd wait = {.fd = channel->event_fd, .events = POLLIN};
        struct element element;

        while (ring_pop(channel->ring, &element)) {
            CHECK_EQUAL(element.number, expected);
            CHECK_EQUAL(element.payload[23], expected & 0xff);
            expected++;
        }
        if (expected == channel->elements || !ring_is_empty(channel->ring))
            continue;
        CHECK(poll(&wait, 1, 5000) == 1, "a wake-up was lost after element %llu", (unsigned long long)expected);
        CHECK_EQUAL(read(channel->event_fd, &ignored, sizeof(ignored)), sizeof(ignored));
    }
}

static void a_sleeping_consumer_is_always_woken(uint64_t elements, uint64_t pause)
{
    struct channel channel = {.event_fd = eventfd(0, EFD_CLOEXEC), .elements = elements, .pause = pause};
    pthread_t producer;

    CHECK_EQUAL(ring_new(8, sizeof(struct element), &channel.ring), 0);
    CHECK_EQUAL(pthread_create(&producer, NULL, produce, &channel), 0);
    consume(&channel);
    CHECK_EQUAL(pthread_join(producer, NULL), 0);
    ring_free(channel.ring);
    close(channel.event_fd);
}

static void a_failed_allocation_leaves_nothing_behind(void)
{
    struct ring *ring = NULL;

    for (unsigned nth = 1; nth <= 2; nth++) {
        allocations_left_to_fail = nth;
        CHECK(ring_new(8, 16, &ring) == -ENOMEM, "allocation %u", nth);
    }
    allocations_left_to_fail = 0;
    CHECK_EQUAL(ring_new(7, 16, &ring), -EINVAL);
    CHECK_EQUAL(ring_new(8, 0, &ring), -EINVAL);
    CHECK(!ring, "the out-parameter is touched");
    ring_free(NULL);
}

int main(void)
{
    is_a_bounded_queue();
    a_sleeping_consumer_is_always_woken(20000, 200);
    a_sleeping_consumer_is_always_woken(5000, 20000);
    a_sleeping_consumer_is_always_woken(100000, 1);
    a_failed_allocation_leaves_nothing_behind();
    return 0;
}
