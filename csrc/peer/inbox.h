/* inbox.h - bytes arriving on one socket: a linear buffer to parse from, and a payload that fills past it without a
 * copy.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CSRC_INBOX_H
#define CSRC_INBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "io.h"

struct core_engine;

struct inbox {
    struct io_op op;
    struct core_engine *engine;
    uint8_t *bytes;
    uint32_t size, begin, end; /* unparsed: [begin, end) */
    uint32_t window;  /* room offered behind a large payload: little, so that the next payload does not land here */
    uint8_t *payload; /* what is missing of the payload being received */
    uint32_t payload_left;
    int32_t fd;
    bool receiving;
    struct iovec iov[2];
};

int inbox_init(struct inbox *inbox, struct core_engine *engine, uint32_t size, io_done done);
void inbox_fini(struct inbox *inbox);
void inbox_open(struct inbox *inbox, int32_t fd);
void inbox_pump(struct inbox *inbox); /* receive, if there is room and nothing under way */
/* result > 0 bytes came.  True when a payload was under way and is whole now. */
bool inbox_take(struct inbox *inbox, uint32_t bytes);
uint32_t inbox_available(const struct inbox *inbox);
const uint8_t *inbox_peek(const struct inbox *inbox);
void inbox_skip(struct inbox *inbox, uint32_t bytes);
/* The next length_bytes go to `payload`; what is here already is copied.  True: all of it was. */
bool inbox_fill(struct inbox *inbox, uint8_t *payload, uint32_t length_bytes);

#endif
