/* messages.h - what a client says, for the tests of the NBD room.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Numbers stand here a second time on purpose: a wrong constant in nbd_protocol.h must not agree with itself. */
#ifndef NBD_MESSAGES_H
#define NBD_MESSAGES_H

#include "wire.h"

#define COOKIE UINT64_C(0x0123456789abcdef)

static inline void wire_put_option_header(struct wire *wire, uint32_t option, uint32_t length_bytes)
{
    wire_put(wire, "IHAVEOPT", 8);
    wire_put_number(wire, option, 4);
    wire_put_number(wire, length_bytes, 4);
}

static inline void wire_put_option(struct wire *wire, uint32_t option, const void *data, uint32_t length_bytes)
{
    wire_put_option_header(wire, option, length_bytes);
    wire_put(wire, data, length_bytes);
}

/* INFO (6) or GO (7) with `count` information requests, each a uint16_t of `types`. */
static inline void wire_put_info(struct wire *wire, uint32_t option, const char *name, const uint16_t *types,
                                 uint16_t count)
{
    const uint32_t name_bytes = (uint32_t)strlen(name);
    wire_put_option_header(wire, option, 4 + name_bytes + 2 + 2U * count);
    wire_put_number(wire, name_bytes, 4);
    wire_put(wire, name, name_bytes);
    wire_put_number(wire, count, 2);
    for (uint16_t i = 0; i < count; i++) {
        wire_put_number(wire, types[i], 2);
    }
}

static inline void wire_put_request(struct wire *wire, uint32_t command, uint32_t flags, uint64_t offset_bytes,
                                    uint32_t length_bytes)
{
    wire_put_number(wire, 0x25609513, 4);
    wire_put_number(wire, flags, 2);
    wire_put_number(wire, command, 2);
    wire_put_number(wire, COOKIE, 8);
    wire_put_number(wire, offset_bytes, 8);
    wire_put_number(wire, length_bytes, 4);
}

#endif
