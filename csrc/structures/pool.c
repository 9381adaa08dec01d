/* pool.c - payload memory as a buddy allocator.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The region is cut into trees of POOL_BLOCK_MAX.  A free block stands in the list of its order; the lists' links live
 * beside the region, not in it, so that a free block's memory is never touched.  Two free buddies are one free block of
 * the next order: always, except for the few 4 KiB blocks in `recent`, which skip splitting and merging and come back
 * while the processor's caches still know them.  They are merged when a larger block cannot be had otherwise. */
#include "pool.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE_BYTES 4096u
#define PAGE_SHIFT 12u
#define ORDERS 14u /* 4 KiB << 13 is POOL_BLOCK_MAX */
#define ORDER_NOT_FREE 0xffu
#define NO_PAGE UINT32_MAX
#define RECENT_MAX 64u
#define HUGE_PAGE_BYTES (2u << 20)
#ifndef POOL_UNTOUCHED
#define POOL_UNTOUCHED false /* true for who makes and drops engines by the thousand: the simulator */
#endif

_Static_assert((PAGE_BYTES << (ORDERS - 1)) == POOL_BLOCK_MAX, "the last order is the largest block");

/* Of a page at which a free block begins: its neighbours in the list of its order. */
struct link {
    uint32_t next, previous;
};

struct pool {
    uint8_t *region;
    uint64_t bytes;
    uint64_t free_bytes;
    void *mapping; /* what was mapped: the region, and what aligning it to huge pages left over */
    uint64_t mapping_bytes;
    struct link *links;   /* one per page */
    uint8_t *free_orders; /* one per page: the order of the free block that begins there, or ORDER_NOT_FREE */
    uint32_t heads[ORDERS];
    uint32_t recent[RECENT_MAX]; /* free 4 KiB blocks, not merged */
    uint32_t recent_count;
    bool locked;
};

static void list_push(struct pool *pool, uint32_t page, uint32_t order)
{
    uint32_t head = pool->heads[order];

    pool->links[page] = (struct link){.next = head, .previous = NO_PAGE};
    if (head != NO_PAGE)
        pool->links[head].previous = page;
    pool->heads[order] = page;
    pool->free_orders[page] = (uint8_t)order;
}

static void list_remove(struct pool *pool, uint32_t page, uint32_t order)
{
    struct link link = pool->links[page];

    if (link.previous != NO_PAGE)
        pool->links[link.previous].next = link.next;
    else
        pool->heads[order] = link.next;
    if (link.next != NO_PAGE)
        pool->links[link.next].previous = link.previous;
    pool->free_orders[page] = ORDER_NOT_FREE;
}

static uint32_t order_of(uint32_t length_bytes)
{
    uint32_t pages = (length_bytes + PAGE_BYTES - 1) >> PAGE_SHIFT;

    return pages <= 1 ? 0 : 32u - (uint32_t)__builtin_clz(pages - 1);
}

static void merge(struct pool *pool, uint32_t page, uint32_t order)
{
    while (order < ORDERS - 1) {
        uint32_t buddy = page ^ (1u << order);

        if (pool->free_orders[buddy] != order)
            break;
        list_remove(pool, buddy, order);
        page &= ~(1u << order);
        order++;
    }
    list_push(pool, page, order);
}

static void merge_recent(struct pool *pool)
{
    while (pool->recent_count > 0)
        merge(pool, pool->recent[--pool->recent_count], 0);
}

/* Takes a block of exactly this order out of the lists, splitting a larger one where it must. */
static uint32_t take(struct pool *pool, uint32_t order)
{
    uint32_t from = order;
    uint32_t page;

    while (from < ORDERS && pool->heads[from] == NO_PAGE)
        from++;
    if (from == ORDERS)
        return NO_PAGE;
    page = pool->heads[from];
    list_remove(pool, page, from);
    while (from > order) {
        from--;
        list_push(pool, page + (1u << from), from);
    }
    return page;
}

/* Maps one huge page more than asked for, so that the region can begin at a multiple of one. */
static int map_region(struct pool *pool, uint64_t bytes)
{
    uintptr_t begin;

    pool->mapping_bytes = bytes + HUGE_PAGE_BYTES;
    pool->mapping = mmap(NULL, pool->mapping_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pool->mapping == MAP_FAILED)
        return -errno;
    begin = ((uintptr_t)pool->mapping + HUGE_PAGE_BYTES - 1) & ~(uintptr_t)(HUGE_PAGE_BYTES - 1);
    pool->region = (uint8_t *)pool->mapping + (begin - (uintptr_t)pool->mapping);
    pool->bytes = bytes;
    return 0;
}

static void touch_region(struct pool *pool, bool lock)
{
    if (POOL_UNTOUCHED)
        return;
    /* A refusal of either costs speed or certainty, not correctness. */
    (void)madvise(pool->region, pool->bytes, MADV_HUGEPAGE);
    pool->locked = lock && mlock(pool->region, pool->bytes) == 0;
    for (uint64_t offset = 0; offset < pool->bytes; offset += PAGE_BYTES)
        ((volatile uint8_t *)pool->region)[offset] = 0;
}

int pool_new(uint64_t bytes, bool lock, struct pool **pool)
{
    struct pool *self;
    uint64_t pages = bytes >> PAGE_SHIFT;
    int rc = -ENOMEM;

    if (bytes == 0 || bytes % POOL_BLOCK_MAX != 0 || pages >= NO_PAGE)
        return -EINVAL;
    self = calloc(1, sizeof(*self));
    if (!self)
        return -ENOMEM;
    self->links = malloc(pages * sizeof(*self->links));
    if (!self->links)
        goto free_self;
    self->free_orders = malloc(pages);
    if (!self->free_orders)
        goto free_links;
    rc = map_region(self, bytes);
    if (rc < 0)
        goto free_orders;
    touch_region(self, lock);
    for (uint32_t order = 0; order < ORDERS; order++)
        self->heads[order] = NO_PAGE;
    for (uint64_t page = 0; page < pages; page++) {
        self->links[page] = (struct link){.next = NO_PAGE, .previous = NO_PAGE};
        self->free_orders[page] = ORDER_NOT_FREE;
    }
    for (uint64_t page = pages; page > 0; page -= 1u << (ORDERS - 1))
        list_push(self, (uint32_t)(page - (1u << (ORDERS - 1))), ORDERS - 1);
    self->free_bytes = bytes;
    *pool = self;
    return 0;

free_orders:
    free(self->free_orders);
free_links:
    free(self->links);
free_self:
    free(self);
    return rc;
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    (void)munmap(pool->mapping, pool->mapping_bytes);
    free(pool->free_orders);
    free(pool->links);
    free(pool);
}

bool pool_locked(const struct pool *pool)
{
    return pool->locked;
}

void *pool_get(struct pool *pool, uint32_t length_bytes)
{
    uint32_t order, page;

    if (length_bytes == 0 || length_bytes > POOL_BLOCK_MAX)
        return NULL;
    order = order_of(length_bytes);
    if (order == 0 && pool->recent_count > 0) {
        page = pool->recent[--pool->recent_count];
    } else {
        page = take(pool, order);
        if (page == NO_PAGE && pool->recent_count > 0) {
            merge_recent(pool);
            page = take(pool, order);
        }
        if (page == NO_PAGE)
            return NULL;
    }
    pool->free_bytes -= (uint64_t)PAGE_BYTES << order;
    return pool->region + ((uint64_t)page << PAGE_SHIFT);
}

void pool_put(struct pool *pool, void *block, uint32_t length_bytes)
{
    uint64_t offset = (uint64_t)((uint8_t *)block - pool->region);
    uint32_t page = (uint32_t)(offset >> PAGE_SHIFT);
    uint32_t order = order_of(length_bytes);

    assert(offset < pool->bytes && offset % ((uint64_t)PAGE_BYTES << order) == 0);
    assert(length_bytes > 0 && length_bytes <= POOL_BLOCK_MAX && pool->free_orders[page] == ORDER_NOT_FREE);
    pool->free_bytes += (uint64_t)PAGE_BYTES << order;
    if (order == 0 && pool->recent_count < RECENT_MAX)
        pool->recent[pool->recent_count++] = page;
    else
        merge(pool, page, order);
}

uint64_t pool_free_bytes(const struct pool *pool)
{
    return pool->free_bytes;
}
