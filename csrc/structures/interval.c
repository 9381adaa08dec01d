/* interval.c - a treap ordered by first sector; each node knows the highest end below it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Random priorities keep the tree's depth logarithmic whatever the order of arrival, with rotations alone.  Invariants:
 * a node's priority is not above its parent's; end_max is the highest end (first sector past it) in the node's subtree.
 */
#include "interval.h"

#include <assert.h>
#include <stddef.h>

static uint64_t end_of(uint64_t sector, uint64_t sectors)
{
    return sectors > UINT64_MAX - sector ? UINT64_MAX : sector + sectors;
}

static uint32_t draw_priority(struct interval_set *set)
{
    /* xorshift64: a fixed seed makes a run repeatable, which a simulation needs. */
    uint64_t x = set->seed;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    set->seed = x;
    return (uint32_t)(x >> 32);
}

static void update_end_max(struct interval *node)
{
    uint64_t end = end_of(node->sector, node->sectors);

    if (node->left && node->left->end_max > end)
        end = node->left->end_max;
    if (node->right && node->right->end_max > end)
        end = node->right->end_max;
    node->end_max = end;
}

/* Puts `child` where `node` hangs. */
static void replace(struct interval_set *set, struct interval *node, struct interval *child)
{
    struct interval *parent = node->parent;

    if (!parent)
        set->root = child;
    else if (parent->left == node)
        parent->left = child;
    else
        parent->right = child;
    if (child)
        child->parent = parent;
}

/* `child` rises above its parent, which sinks to the other side. */
static void rotate_up(struct interval_set *set, struct interval *child)
{
    struct interval *parent = child->parent;

    replace(set, parent, child);
    if (parent->left == child) {
        parent->left = child->right;
        if (parent->left)
            parent->left->parent = parent;
        child->right = parent;
    } else {
        parent->right = child->left;
        if (parent->right)
            parent->right->parent = parent;
        child->left = parent;
    }
    parent->parent = child;
    update_end_max(parent);
    update_end_max(child);
}

void interval_set_init(struct interval_set *set)
{
    *set = (struct interval_set){.root = NULL, .count = 0, .seed = 0x9e3779b97f4a7c15u};
}

void interval_insert(struct interval_set *set, struct interval *interval)
{
    uint64_t end = end_of(interval->sector, interval->sectors);
    struct interval **place = &set->root;
    struct interval *parent = NULL;

    assert(interval->sectors > 0);
    while (*place) {
        parent = *place;
        if (parent->end_max < end)
            parent->end_max = end;
        place = interval->sector < parent->sector ? &parent->left : &parent->right;
    }
    interval->left = NULL;
    interval->right = NULL;
    interval->parent = parent;
    interval->end_max = end;
    interval->priority = draw_priority(set);
    *place = interval;
    while (interval->parent && interval->parent->priority < interval->priority)
        rotate_up(set, interval);
    set->count++;
}

void interval_remove(struct interval_set *set, struct interval *interval)
{
    struct interval *above;

    assert(set->count > 0);
    while (interval->left && interval->right)
        rotate_up(set, interval->left->priority > interval->right->priority ? interval->left : interval->right);
    above = interval->parent;
    replace(set, interval, interval->left ? interval->left : interval->right);
    for (; above; above = above->parent)
        update_end_max(above);
    interval->left = NULL;
    interval->right = NULL;
    interval->parent = NULL;
    set->count--;
}

/* The next node in order after the whole left part and `node` itself are done with. */
static struct interval *next_in_order(struct interval *node, uint64_t sector)
{
    if (node->right && node->right->end_max > sector) {
        node = node->right;
        while (node->left && node->left->end_max > sector)
            node = node->left;
        return node;
    }
    while (node->parent && node->parent->right == node)
        node = node->parent;
    return node->parent;
}

struct interval *interval_overlap(const struct interval_set *set, uint64_t sector, uint64_t sectors, uint32_t kinds)
{
    uint64_t end = end_of(sector, sectors);
    struct interval *node = set->root;

    if (!node || sectors == 0 || node->end_max <= sector)
        return NULL;
    /* In order of the first sector, passing over every subtree that ends too early, up to the first that begins too
     * late. */
    while (node->left && node->left->end_max > sector)
        node = node->left;
    while (node && node->sector < end) {
        if (end_of(node->sector, node->sectors) > sector && (node->kind & kinds) != 0)
            return node;
        node = next_in_order(node, sector);
    }
    return NULL;
}
