/* ordering.h - who overlaps whom, and who therefore waits.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Everything that reads or writes a range of the device takes a place here when it arrives.  A place waits for all
 * overlapping places that stand already and are of a kind it must wait for; later ones never overtake it.  Without
 * that, three writes of which the second overlaps both others could end in one order on one node and in another order
 * on its peer (facts: protocols A and B acknowledge a write that is still waiting).
 *
 *   kind          waits for                       because
 *   APP_WRITE     all                             one write at a time per block, and none under a resync of it
 *   PEER_WRITE    APP, PEER, RS_READ, RS_WRITE    the peer's stream order is the order of its disk
 *   RS_READ       APP, PEER                       the block sent must not be older than a write sent before it
 *   RS_FETCH      APP, PEER, RS_FETCH, RS_WRITE   (target, from request to write) an application's write waits for it
 *   RS_WRITE      PEER                            (target, from reply to write) what came before it in the stream goes
 * first */
#ifndef CSRC_ORDERING_H
#define CSRC_ORDERING_H

#include <stdbool.h>
#include <stdint.h>

#include "interval.h"

enum order_kind {
    ORDER_APP_WRITE = 1,
    ORDER_PEER_WRITE = 2,
    ORDER_RS_READ = 4,
    ORDER_RS_FETCH = 8,
    ORDER_RS_WRITE = 16
};

struct place;
typedef void (*place_go)(struct place *place);

struct place {
    struct interval interval;
    uint64_t arrival;
    uint32_t blockers;  /* overlapping places that must leave first */
    place_go go;        /* called once, from the last blocker's ordering_leave; never if ordering_enter said true */
    struct place *next; /* ordering_leave's own, for the moment between counting and going */
};

struct ordering {
    struct interval_set set;
    uint64_t arrivals;
};

void ordering_init(struct ordering *ordering);
/* True: nothing to wait for, `go` will not be called. */
bool ordering_enter(struct ordering *ordering, struct place *place, enum order_kind kind, uint64_t sector,
                    uint64_t sectors);
void ordering_leave(struct ordering *ordering, struct place *place);
/* The RS_FETCH place that covers exactly this range and waits for nobody, or NULL. */
struct place *ordering_find_fetch(const struct ordering *ordering, uint64_t sector, uint64_t sectors);

#endif
