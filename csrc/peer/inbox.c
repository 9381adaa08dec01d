/* inbox.c - see inbox.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "inbox.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

#define LARGE_PAYLOAD_BYTES 65536u
#define SMALL_WINDOW_BYTES 4096u

int inbox_init(struct inbox *inbox, struct core_engine *engine, uint32_t size, io_done done)
{
    memset(inbox, 0, sizeof *inbox);
    inbox->engine = engine;
    inbox->size = size;
    inbox->fd = -1;
    inbox->op.done = done;
    inbox->bytes = calloc(1, size);
    return inbox->bytes != NULL ? 0 : -ENOMEM;
}

void inbox_fini(struct inbox *inbox)
{
    free(inbox->bytes);
}

void inbox_open(struct inbox *inbox, int32_t fd)
{
    assert(!inbox->receiving);
    inbox->fd = fd;
    inbox->begin = inbox->end = 0;
    inbox->payload_left = 0;
    inbox->window = inbox->size;
}

uint32_t inbox_available(const struct inbox *inbox)
{
    return inbox->end - inbox->begin;
}

const uint8_t *inbox_peek(const struct inbox *inbox)
{
    return inbox->bytes + inbox->begin;
}

void inbox_skip(struct inbox *inbox, uint32_t bytes)
{
    assert(bytes <= inbox_available(inbox));
    inbox->begin += bytes;
    if (inbox->begin == inbox->end)
        inbox->begin = inbox->end = 0;
}

void inbox_pump(struct inbox *inbox)
{
    if (inbox->receiving || inbox->fd < 0)
        return;
    if (inbox->begin > 0) {
        memmove(inbox->bytes, inbox->bytes + inbox->begin, inbox->end - inbox->begin);
        inbox->end -= inbox->begin;
        inbox->begin = 0;
    }
    uint32_t count = 0;
    if (inbox->payload_left > 0)
        inbox->iov[count++] = (struct iovec){.iov_base = inbox->payload, .iov_len = inbox->payload_left};
    uint32_t room = inbox->size - inbox->end;
    if (room > inbox->window)
        room = inbox->window;
    if (room > 0)
        inbox->iov[count++] = (struct iovec){.iov_base = inbox->bytes + inbox->end, .iov_len = room};
    if (count == 0)
        return;
    inbox->receiving = true;
    io_receive(inbox->engine->io, &inbox->op, inbox->fd, inbox->iov, count);
}

bool inbox_take(struct inbox *inbox, uint32_t bytes)
{
    bool whole = false;
    if (inbox->payload_left > 0) {
        uint32_t direct = bytes < inbox->payload_left ? bytes : inbox->payload_left;
        inbox->payload += direct;
        inbox->payload_left -= direct;
        bytes -= direct;
        whole = inbox->payload_left == 0;
    }
    inbox->end += bytes;
    assert(inbox->end <= inbox->size);
    return whole;
}

bool inbox_fill(struct inbox *inbox, uint8_t *payload, uint32_t length_bytes)
{
    uint32_t here = inbox_available(inbox);
    uint32_t copy = here < length_bytes ? here : length_bytes;
    memcpy(payload, inbox_peek(inbox), copy);
    inbox_skip(inbox, copy);
    inbox->window = length_bytes >= LARGE_PAYLOAD_BYTES ? SMALL_WINDOW_BYTES : inbox->size;
    inbox->payload = payload + copy;
    inbox->payload_left = length_bytes - copy;
    return inbox->payload_left == 0;
}
