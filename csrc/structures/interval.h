/* interval.h - who overlaps whom: a set of sector ranges with an intrusive, balanced, augmented tree.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Overlapping ranges may stand in the set together; the caller decides who waits for whom by `kind`. */
#ifndef CSRC_INTERVAL_H
#define CSRC_INTERVAL_H

#include <stdint.h>

struct interval {
    uint64_t sector;
    uint64_t sectors;  /* > 0 */
    uint32_t kind;     /* one bit, the caller's meaning */
    uint32_t priority; /* the tree's */
    uint64_t end_max;
    struct interval *left, *right, *parent;
};

struct interval_set {
    struct interval *root;
    uint64_t count;
    uint64_t seed;
};

void interval_set_init(struct interval_set *set);
void interval_insert(struct interval_set *set, struct interval *interval);
void interval_remove(struct interval_set *set, struct interval *interval);
/* Any member that overlaps [sector, sector + sectors) and whose kind is in kinds; NULL: none. */
struct interval *interval_overlap(const struct interval_set *set, uint64_t sector, uint64_t sectors, uint32_t kinds);

#endif
