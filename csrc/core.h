/* core.h - core_api.h for a C compiler: what cffi's cdef must not see stands here.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef PYDRBD_CORE_H
#define PYDRBD_CORE_H

#include <stddef.h>
#include <stdint.h>

#include "core_values.h"
/* Behind what it names. */
#include "core_api.h"

/* The cdef spells the number out in struct core_fact, so it stands there twice. */
_Static_assert(sizeof(((struct core_fact *)0)->payload) == CORE_PAYLOAD_MAX, "a fact holds the largest control packet");
/* Python lays these out from the same text; a hole in the middle would be a field that the two could see differently.
 */
_Static_assert(offsetof(struct core_fact, payload) == 44, "struct core_fact has no hidden padding before its payload");
_Static_assert(sizeof(struct core_fact) == 560, "struct core_fact is what Python copies in batches");
_Static_assert(offsetof(struct core_disk, size_sectors) == 8, "the descriptors come first");
_Static_assert(sizeof(struct core_peer) == 60, "struct core_peer is fifteen 32-bit words");

#endif
