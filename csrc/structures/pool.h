/* pool.h - payload memory: one region, cut into blocks of 4 KiB << n (a buddy allocator).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Everything is mapped and touched at pool_new; nothing is allocated afterwards.  One thread.  O(log) per call. */
#ifndef CSRC_POOL_H
#define CSRC_POOL_H

#include <stdbool.h>
#include <stdint.h>

#define POOL_BLOCK_MAX (32u << 20) /* bytes of the largest block */

struct pool;

/* bytes: a multiple of POOL_BLOCK_MAX.  lock: mlock it; a refusal (-EPERM, -ENOMEM of the limit) is not an error,
 * pool_locked tells. */
int pool_new(uint64_t bytes, bool lock, struct pool **pool);
void pool_free(struct pool *pool);
bool pool_locked(const struct pool *pool);
/* 4 KiB aligned, at least length_bytes (1..POOL_BLOCK_MAX), or NULL: no room now. */
void *pool_get(struct pool *pool, uint32_t length_bytes);
/* length_bytes: as it was asked for. */
void pool_put(struct pool *pool, void *block, uint32_t length_bytes);
uint64_t pool_free_bytes(const struct pool *pool);

#endif
