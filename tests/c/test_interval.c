/* test_interval.c - the interval set against a plain list.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "interval.h"

#include <stddef.h>

#include "check.h"

#define MEMBERS 512

static bool overlaps(const struct interval *interval, uint64_t sector, uint64_t sectors, uint32_t kinds)
{
    return interval->sector < sector + sectors && sector < interval->sector + interval->sectors &&
           (interval->kind & kinds) != 0;
}

/* Returns the depth of the subtree and checks what interval.c promises of every node. */
static unsigned check_subtree(const struct interval *node, const struct interval *parent, uint64_t *end_max)
{
    uint64_t left_end = 0, right_end = 0;
    unsigned left, right;

    *end_max = 0;
    if (!node)
        return 0;
    CHECK(node->parent == parent, "a node hangs where its parent link does not lead");
    CHECK(!parent || parent->priority >= node->priority, "a child is above its parent");
    CHECK(!node->left || node->left->sector <= node->sector, "order");
    CHECK(!node->right || node->right->sector >= node->sector, "order");
    left = check_subtree(node->left, node, &left_end);
    right = check_subtree(node->right, node, &right_end);
    *end_max = node->sector + node->sectors;
    *end_max = left_end > *end_max ? left_end : *end_max;
    *end_max = right_end > *end_max ? right_end : *end_max;
    CHECK_EQUAL(node->end_max, *end_max);
    return 1 + (left > right ? left : right);
}

static void check_query(const struct interval_set *set, const struct interval *members, const bool *in, uint64_t *state)
{
    uint64_t sector = draw_below(state, 4096), sectors = 1 + draw_below(state, 64);
    uint32_t kinds = (uint32_t)draw_below(state, 8);
    struct interval *found = interval_overlap(set, sector, sectors, kinds);
    bool expected = false;

    for (int i = 0; i < MEMBERS; i++)
        expected = expected || (in[i] && overlaps(&members[i], sector, sectors, kinds));
    CHECK((found != NULL) == expected, "sector %llu + %llu", (unsigned long long)sector, (unsigned long long)sectors);
    CHECK(!found || (in[found - members] && overlaps(found, sector, sectors, kinds)), "found one that is none");
}

static void agrees_with_a_list_under_random_operations(void)
{
    static struct interval members[MEMBERS];
    bool in[MEMBERS] = {false};
    struct interval_set set;
    uint64_t state = 7, count = 0, end_max;

    interval_set_init(&set);
    for (int round = 0; round < 40000; round++) {
        uint64_t i = draw_below(&state, MEMBERS);

        if (in[i]) {
            interval_remove(&set, &members[i]);
            count--;
        } else {
            members[i].sector = draw_below(&state, 4096);
            members[i].sectors = 1 + draw_below(&state, draw_below(&state, 8) == 0 ? 512 : 8);
            members[i].kind = 1u << draw_below(&state, 3);
            interval_insert(&set, &members[i]);
            count++;
        }
        in[i] = !in[i];
        CHECK_EQUAL(set.count, count);
        check_query(&set, members, in, &state);
        if (round % 512 == 0)
            (void)check_subtree(set.root, NULL, &end_max);
    }
}

static void ascending_arrivals_do_not_make_it_deep(void)
{
    enum { COUNT = 20000 };
    struct interval *members = calloc(COUNT, sizeof(*members));
    struct interval_set set;
    uint64_t end_max;
    unsigned depth;

    interval_set_init(&set);
    for (uint64_t i = 0; i < COUNT; i++) {
        members[i] = (struct interval){.sector = 8 * i, .sectors = 8, .kind = 1};
        interval_insert(&set, &members[i]);
    }
    depth = check_subtree(set.root, NULL, &end_max);
    CHECK(depth < 64, "depth %u of %d members", depth, COUNT);
    for (uint64_t i = 0; i < COUNT; i++)
        interval_remove(&set, &members[i]);
    CHECK(!set.root && set.count == 0, "not empty");
    free(members);
}

static void neighbours_do_not_overlap(void)
{
    struct interval a = {.sector = 8, .sectors = 8, .kind = 1},
                    last = {.sector = UINT64_MAX - 1, .sectors = 8, .kind = 2};
    struct interval_set set;

    interval_set_init(&set);
    CHECK(!interval_overlap(&set, 0, 100, 1), "found something in an empty set");
    interval_insert(&set, &a);
    interval_insert(&set, &last);
    CHECK(!interval_overlap(&set, 0, 8, 1), "before");
    CHECK(!interval_overlap(&set, 16, 8, 1), "behind");
    CHECK(interval_overlap(&set, 15, 1, 1) == &a, "its last sector");
    CHECK(interval_overlap(&set, 0, 9, 3) == &a, "its first sector");
    CHECK(!interval_overlap(&set, 8, 8, 2), "another kind");
    CHECK(!interval_overlap(&set, 8, 0, 1), "an empty range");
    CHECK(interval_overlap(&set, 100, UINT64_MAX, 2) == &last, "a range that runs past the end of the numbers");
}

int main(void)
{
    agrees_with_a_list_under_random_operations();
    ascending_arrivals_do_not_make_it_deep();
    neighbours_do_not_overlap();
    return 0;
}
