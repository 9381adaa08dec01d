/* container.h - from a member back to the structure that holds it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CSRC_CONTAINER_H
#define CSRC_CONTAINER_H

#include <stddef.h>

#define CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

#endif
