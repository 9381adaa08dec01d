/* ordering.c - see ordering.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "ordering.h"

#include <assert.h>
#include <stddef.h>

#include "container.h"

static uint32_t waits_for(uint32_t kind)
{
    switch ((enum order_kind)kind) {
    case ORDER_APP_WRITE:
        return ORDER_APP_WRITE | ORDER_PEER_WRITE | ORDER_RS_READ | ORDER_RS_FETCH | ORDER_RS_WRITE;
    case ORDER_PEER_WRITE:
        return ORDER_APP_WRITE | ORDER_PEER_WRITE | ORDER_RS_READ | ORDER_RS_WRITE;
    case ORDER_RS_READ:
        return ORDER_APP_WRITE | ORDER_PEER_WRITE;
    case ORDER_RS_FETCH:
        return ORDER_APP_WRITE | ORDER_PEER_WRITE | ORDER_RS_FETCH | ORDER_RS_WRITE;
    case ORDER_RS_WRITE:
        return ORDER_PEER_WRITE;
    }
    return 0;
}

static struct place *place_of(struct interval *interval)
{
    return CONTAINER_OF(interval, struct place, interval);
}

/* Counts the members of the wanted kinds that overlap. */
static uint32_t count_overlaps(const struct interval *node, uint64_t sector, uint64_t end, uint32_t kinds)
{
    if (node == NULL || node->end_max <= sector)
        return 0;
    uint32_t found = count_overlaps(node->left, sector, end, kinds);
    if (node->sector >= end)
        return found;
    if (node->sector + node->sectors > sector && (node->kind & kinds) != 0)
        found++;
    return found + count_overlaps(node->right, sector, end, kinds);
}

void ordering_init(struct ordering *ordering)
{
    interval_set_init(&ordering->set);
    ordering->arrivals = 0;
}

bool ordering_enter(struct ordering *ordering, struct place *place, enum order_kind kind, uint64_t sector,
                    uint64_t sectors)
{
    place->interval.sector = sector;
    place->interval.sectors = sectors;
    place->interval.kind = kind;
    place->arrival = ordering->arrivals++;
    place->blockers = count_overlaps(ordering->set.root, sector, sector + sectors, waits_for(kind));
    interval_insert(&ordering->set, &place->interval);
    return place->blockers == 0;
}

/* Those who can go now, in the order of their arrival as the walk meets it. */
struct ready {
    struct place *first;
    struct place **last;
};

/* Tells everybody who waits for `gone` that it is gone.  Later arrivals only: an earlier one did not count it. */
static void release_waiters(struct interval *node, const struct place *gone, struct ready *ready)
{
    uint64_t end = gone->interval.sector + gone->interval.sectors;
    if (node == NULL || node->end_max <= gone->interval.sector)
        return;
    release_waiters(node->left, gone, ready);
    if (node->sector >= end)
        return;
    struct place *place = place_of(node);
    if (node->sector + node->sectors > gone->interval.sector && place->arrival > gone->arrival &&
        (waits_for(node->kind) & gone->interval.kind) != 0) {
        assert(place->blockers > 0);
        if (--place->blockers == 0) {
            place->next = NULL;
            *ready->last = place;
            ready->last = &place->next;
        }
    }
    release_waiters(node->right, gone, ready);
}

void ordering_leave(struct ordering *ordering, struct place *place)
{
    interval_remove(&ordering->set, &place->interval);
    struct ready ready = {.first = NULL};
    ready.last = &ready.first;
    release_waiters(ordering->set.root, place, &ready);
    /* Going may enter and leave other places, so the tree is not walked any more by now. */
    for (struct place *next = ready.first; next != NULL;) {
        struct place *one = next;
        next = one->next;
        one->go(one);
    }
}

static struct place *find_fetch(struct interval *node, uint64_t sector, uint64_t sectors)
{
    if (node == NULL || node->end_max <= sector)
        return NULL;
    struct place *found = find_fetch(node->left, sector, sectors);
    if (found != NULL || node->sector > sector)
        return found;
    if (node->sector == sector && node->sectors == sectors && node->kind == ORDER_RS_FETCH &&
        place_of(node)->blockers == 0)
        return place_of(node);
    return find_fetch(node->right, sector, sectors);
}

struct place *ordering_find_fetch(const struct ordering *ordering, uint64_t sector, uint64_t sectors)
{
    return find_fetch(ordering->set.root, sector, sectors);
}
