/* outbox.c - see outbox.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "outbox.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "container.h"
#include "engine.h"

static void sent(struct io_op *op, int32_t result);

int outbox_init(struct outbox *outbox, struct core_engine *engine, uint32_t bytes_size, uint32_t segments_size)
{
    memset(outbox, 0, sizeof *outbox);
    outbox->engine = engine;
    outbox->bytes_size = bytes_size;
    outbox->segments_size = segments_size;
    outbox->fd = -1;
    outbox->op.done = sent;
    outbox->bytes = calloc(1, bytes_size);
    outbox->segments = calloc(segments_size, sizeof *outbox->segments);
    return outbox->bytes != NULL && outbox->segments != NULL ? 0 : -ENOMEM;
}

void outbox_fini(struct outbox *outbox)
{
    free(outbox->bytes);
    free(outbox->segments);
}

void outbox_open(struct outbox *outbox, int32_t fd)
{
    assert(!outbox->sending && outbox_is_empty(outbox));
    outbox->fd = fd;
    outbox->offset_bytes = 0;
}

bool outbox_is_empty(const struct outbox *outbox)
{
    return outbox->segments_in == outbox->segments_out;
}

bool outbox_has_room(const struct outbox *outbox)
{
    return outbox->segments_in - outbox->segments_out < outbox->segments_size / 4 * 3ull &&
           outbox->bytes_in - outbox->bytes_out < outbox->bytes_size / 4 * 3ull;
}

static struct segment *segment_new(struct outbox *outbox)
{
    assert(outbox->segments_in - outbox->segments_out < outbox->segments_size);
    struct segment *segment = &outbox->segments[outbox->segments_in++ & (outbox->segments_size - 1)];
    memset(segment, 0, sizeof *segment);
    return segment;
}

void outbox_put(struct outbox *outbox, const void *bytes, uint32_t length_bytes)
{
    uint32_t at = (uint32_t)(outbox->bytes_in & (outbox->bytes_size - 1));
    uint32_t to_end = outbox->bytes_size - at;
    uint32_t padding = to_end < length_bytes ? to_end : 0; /* a packet never wraps */
    assert(outbox->bytes_in - outbox->bytes_out + padding + length_bytes <= outbox->bytes_size);
    struct segment *segment = segment_new(outbox);
    segment->base = outbox->bytes + (padding != 0 ? 0 : at);
    segment->length_bytes = length_bytes;
    segment->ring_bytes = length_bytes + padding;
    memcpy(segment->base, bytes, length_bytes);
    outbox->bytes_in += segment->ring_bytes;
}

void outbox_put_payload(struct outbox *outbox, struct request *request, void *payload, uint32_t length_bytes)
{
    struct segment *segment = segment_new(outbox);
    segment->base = payload;
    segment->length_bytes = length_bytes;
    segment->payload_of = request;
}

/* One iovec entry for neighbours in memory: a run of acks is one entry. */
static uint32_t fill_iov(struct outbox *outbox)
{
    uint32_t count = 0;
    uint32_t skip = outbox->offset_bytes;
    for (uint64_t i = outbox->segments_out; i != outbox->segments_in; i++) {
        struct segment *segment = &outbox->segments[i & (outbox->segments_size - 1)];
        uint8_t *base = segment->base + skip;
        uint32_t length = segment->length_bytes - skip;
        skip = 0;
        struct iovec *last = count > 0 ? &outbox->iov[count - 1] : NULL;
        if (last != NULL && (uint8_t *)last->iov_base + last->iov_len == base) {
            last->iov_len += length;
            continue;
        }
        if (count == OUTBOX_IOV)
            break;
        outbox->iov[count++] = (struct iovec){.iov_base = base, .iov_len = length};
    }
    return count;
}

void outbox_pump(struct outbox *outbox)
{
    if (outbox->sending || outbox_is_empty(outbox) || outbox->fd < 0)
        return;
    uint32_t count = fill_iov(outbox);
    outbox->sending = true;
    outbox->sending_since_ns = io_now_ns(outbox->engine->io);
    io_send(outbox->engine->io, &outbox->op, outbox->fd, outbox->iov, count);
}

static void consume(struct outbox *outbox, uint64_t bytes)
{
    while (bytes > 0) {
        assert(!outbox_is_empty(outbox));
        struct segment *segment = &outbox->segments[outbox->segments_out & (outbox->segments_size - 1)];
        uint32_t left = segment->length_bytes - outbox->offset_bytes;
        if (bytes < left) {
            outbox->offset_bytes += (uint32_t)bytes;
            return;
        }
        bytes -= left;
        outbox->offset_bytes = 0;
        outbox->bytes_out += segment->ring_bytes;
        outbox->segments_out++;
        if (segment->payload_of != NULL)
            request_leg_done(segment->payload_of, LEG_SENT, 0);
    }
}

static void sent(struct io_op *op, int32_t result)
{
    struct outbox *outbox = CONTAINER_OF(op, struct outbox, op);
    outbox->sending = false;
    outbox->sending_since_ns = 0;
    if (result > 0)
        consume(outbox, (uint64_t)result);
    else
        peer_lose(&outbox->engine->peer, CORE_LOST_BROKEN);
    peer_check_closed(&outbox->engine->peer);
}

void outbox_drop(struct outbox *outbox)
{
    assert(!outbox->sending);
    outbox->fd = -1;
    while (!outbox_is_empty(outbox)) {
        struct segment *segment = &outbox->segments[outbox->segments_out++ & (outbox->segments_size - 1)];
        outbox->bytes_out += segment->ring_bytes;
        if (segment->payload_of != NULL)
            request_leg_done(segment->payload_of, LEG_SENT, 0);
    }
    outbox->offset_bytes = 0;
}
