/* allocation.h - lets the nth allocation fail, to see that a constructor gives back what it had.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Include it after the system's headers and before the .c file under test, which the test then includes as well: its
 * allocations go through here.  The leak checker of ASAN is the judge of what was given back. */
#ifndef TESTS_ALLOCATION_H
#define TESTS_ALLOCATION_H

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

static unsigned allocations_left_to_fail; /* 0: none fails; n: the nth from now on does */

static inline bool allocation_fails(void)
{
    return allocations_left_to_fail > 0 && --allocations_left_to_fail == 0;
}

static inline void *allocation_malloc(size_t bytes)
{
    return allocation_fails() ? NULL : malloc(bytes);
}

static inline void *allocation_calloc(size_t count, size_t bytes)
{
    return allocation_fails() ? NULL : calloc(count, bytes);
}

static inline void *allocation_aligned_alloc(size_t alignment, size_t bytes)
{
    return allocation_fails() ? NULL : aligned_alloc(alignment, bytes);
}

static inline void *allocation_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (allocation_fails()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return mmap(address, bytes, protection, flags, fd, offset);
}

#define malloc(bytes) allocation_malloc(bytes)
#define calloc(count, bytes) allocation_calloc(count, bytes)
#define aligned_alloc(alignment, bytes) allocation_aligned_alloc(alignment, bytes)
#define mmap(address, bytes, protection, flags, fd, offset)                                                            \
    allocation_mmap(address, bytes, protection, flags, fd, offset)

#endif
