/* sim_stream.c - stream sockets: ordered bytes, delay, and every way in which a connection ends.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One pipe per direction.  A send puts bytes into the pipe as far as there is room; they arrive after a delay, in
 * order; a receive takes what has arrived.  A pipe may be cut at any byte: what lies behind never arrives, and whether
 * anybody is told is the test's to say.  An end that is closed sends its end behind its bytes; one whose machine lost
 * its power says nothing until the machine is back, which then answers with a reset. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim_world.h"

#define PIPE_BYTES (256u << 10)
#define CHUNKS 64u

struct chunk {
    uint64_t due_ns;
    uint64_t until; /* position behind its last byte */
};

/* Positions are running: read <= arrived <= written. */
struct pipe {
    uint8_t *bytes; /* a ring of PIPE_BYTES */
    uint64_t written, arrived, taken;
    uint64_t cut_at; /* no byte from here on arrives */
    uint64_t due_ns; /* of the newest chunk */
    struct chunk chunks[CHUNKS];
    uint32_t chunks_in, chunks_out;
    uint64_t end_due_ns; /* the end of the stream arrives then; 0: it is not on its way */
    bool ended;          /* the end has arrived */
    bool mute;           /* nothing is said any more: neither bytes nor the end arrive */
};

struct sim_end {
    struct io_op *receiver, *sender;
    struct io *io;
    uint32_t node; /* SIM_NODES: the test's */
    bool open;
    bool shut;  /* sends no more, hears no more */
    bool reset; /* was told that the connection is gone */
    bool told;  /* the test has seen the end */
    bool kept;  /* outlives its engine */
};

struct sim_stream {
    struct sim_stream *next;
    struct sim_end ends[2];
    struct pipe pipes[2]; /* [i]: what end i sends */
};

static struct sim_stream *stream_at(struct sim_world *world, int32_t fd, uint32_t *end)
{
    struct sim_fd *found = sim_fd_find(world, fd);

    assert(found && found->kind == SIM_FD_STREAM);
    *end = found->end;
    return found->is.stream;
}

int sim_stream_new(sim_world *world, uint32_t node_a, uint32_t node_b, int32_t ends[2])
{
    struct sim_stream *stream = calloc(1, sizeof(*stream));

    if (!stream)
        return -ENOMEM;
    for (uint32_t i = 0; i < 2; i++) {
        stream->ends[i].node = i == 0 ? node_a : node_b;
        stream->ends[i].open = true;
        stream->pipes[i].cut_at = UINT64_MAX;
        stream->pipes[i].bytes = malloc(PIPE_BYTES);
        assert(stream->pipes[i].bytes != NULL);
        ends[i] = sim_fd_new(world, &(struct sim_fd){.kind = SIM_FD_STREAM, .end = i, .is.stream = stream});
        assert(ends[i] >= 0);
    }
    stream->next = world->streams;
    world->streams = stream;
    return 0;
}

void sim_streams_free(struct sim_world *world)
{
    struct sim_stream *stream;

    while ((stream = world->streams) != NULL) {
        world->streams = stream->next;
        free(stream->pipes[0].bytes);
        free(stream->pipes[1].bytes);
        free(stream);
    }
}

/* --- a pipe --- */

static void pipe_put(struct pipe *pipe, const uint8_t *bytes, uint64_t length)
{
    while (length > 0) {
        uint64_t at = pipe->written % PIPE_BYTES;
        uint64_t part = PIPE_BYTES - at < length ? PIPE_BYTES - at : length;
        memcpy(pipe->bytes + at, bytes, part);
        pipe->written += part;
        bytes += part;
        length -= part;
    }
}

static void pipe_get(struct pipe *pipe, uint8_t *bytes, uint64_t length)
{
    while (length > 0) {
        uint64_t at = pipe->taken % PIPE_BYTES;
        uint64_t part = PIPE_BYTES - at < length ? PIPE_BYTES - at : length;
        memcpy(bytes, pipe->bytes + at, part);
        pipe->taken += part;
        bytes += part;
        length -= part;
    }
}

static uint64_t room(const struct pipe *pipe)
{
    return PIPE_BYTES - (pipe->written - pipe->taken);
}

static uint64_t wire_ns(struct sim_world *world)
{
    return sim_between(world, world->options.wire_ns_min, world->options.wire_ns_max);
}

static void look_at(struct sim_world *world, struct sim_stream *stream, uint32_t end, uint64_t at_ns)
{
    struct sim_event event = {.kind = SIM_EVENT_ARRIVE, .object = stream, .end = end};

    sim_event_add(world, at_ns, &event);
}

/* What was just put on its way arrives behind all that is on its way. */
static void set_out(struct sim_world *world, struct sim_stream *stream, uint32_t end)
{
    struct pipe *pipe = &stream->pipes[end];
    uint64_t due = world->now_ns + wire_ns(world);

    if (due < pipe->due_ns)
        due = pipe->due_ns;
    pipe->due_ns = due;
    if (pipe->chunks_in - pipe->chunks_out == CHUNKS)
        pipe->chunks_in--; /* joins the newest */
    pipe->chunks[pipe->chunks_in++ % CHUNKS] = (struct chunk){.due_ns = due, .until = pipe->written};
    look_at(world, stream, end, due);
}

/* --- receiving --- */

static uint64_t shortened(struct sim_world *world, uint64_t length)
{
    if (!world->options.short_transfers || sim_random(world) % 4 != 0)
        return length;
    return sim_between(world, 1, length);
}

static int32_t take(struct sim_world *world, struct pipe *pipe, const struct iovec *iov, uint32_t count)
{
    uint64_t left = shortened(world, pipe->arrived - pipe->taken);
    uint64_t moved = 0;

    for (uint32_t i = 0; i < count && left > 0; i++) {
        uint64_t part = iov[i].iov_len < left ? iov[i].iov_len : left;
        pipe_get(pipe, iov[i].iov_base, part);
        moved += part;
        left -= part;
    }
    return (int32_t)moved;
}

static void try_send(struct sim_world *world, struct sim_stream *stream, uint32_t end);

/* True: the operation of that end is over. */
static void try_receive(struct sim_world *world, struct sim_stream *stream, uint32_t end)
{
    struct sim_end *self = &stream->ends[end];
    struct pipe *pipe = &stream->pipes[1 - end];
    struct io_op *op = self->receiver;
    int32_t result;

    if (!op)
        return;
    if (!self->shut && pipe->arrived > pipe->taken)
        result = take(world, pipe, op->buffer, op->count);
    else if (!self->shut && self->reset)
        result = -ECONNRESET;
    else if (self->shut || pipe->ended)
        result = 0;
    else
        return;
    self->receiver = NULL;
    if (self->node < SIM_NODES && world->machines[self->node].dead)
        return;
    io_end(self->io, op, result);
    if (result > 0)
        try_send(world, stream, 1 - end); /* there is room again */
}

static void tell(struct sim_world *world, struct sim_stream *stream, uint32_t end)
{
    if (stream->ends[end].node == SIM_NODES)
        world->readable = true;
    try_receive(world, stream, end);
    try_send(world, stream, end);
}

void sim_stream_arrives(struct sim_world *world, const struct sim_event *event)
{
    struct sim_stream *stream = event->object;
    struct pipe *pipe = &stream->pipes[event->end];
    uint32_t other = 1 - event->end;

    while (pipe->chunks_out != pipe->chunks_in && pipe->chunks[pipe->chunks_out % CHUNKS].due_ns <= world->now_ns) {
        uint64_t until = pipe->chunks[pipe->chunks_out++ % CHUNKS].until;
        if (until > pipe->cut_at)
            until = pipe->cut_at;
        if (!pipe->mute && until > pipe->arrived)
            pipe->arrived = until;
    }
    if (pipe->end_due_ns != 0 && pipe->end_due_ns <= world->now_ns && !pipe->mute && pipe->cut_at == UINT64_MAX)
        pipe->ended = true;
    tell(world, stream, other);
}

/* --- sending --- */

static uint64_t iov_bytes(const struct io_op *op)
{
    const struct iovec *iov = op->buffer;
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < op->count; i++)
        bytes += iov[i].iov_len;
    return bytes;
}

static int32_t put(struct sim_world *world, struct pipe *pipe, const struct io_op *op)
{
    const struct iovec *iov = op->buffer;
    uint64_t left = iov_bytes(op);
    uint64_t moved = 0;

    if (left > room(pipe))
        left = room(pipe);
    left = shortened(world, left);
    for (uint32_t i = 0; i < op->count && left > 0; i++) {
        uint64_t part = iov[i].iov_len < left ? iov[i].iov_len : left;
        pipe_put(pipe, iov[i].iov_base, part);
        moved += part;
        left -= part;
    }
    return (int32_t)moved;
}

static void try_send(struct sim_world *world, struct sim_stream *stream, uint32_t end)
{
    struct sim_end *self = &stream->ends[end];
    struct pipe *pipe = &stream->pipes[end];
    struct io_op *op = self->sender;
    struct sim_event sent = {.kind = SIM_EVENT_SENT, .op = op, .io = self->io, .object = stream, .end = end};

    if (!op)
        return;
    if (self->shut || self->reset) {
        op->result = self->shut ? -EPIPE : -ECONNRESET;
    } else if (room(pipe) > 0) {
        op->result = put(world, pipe, op);
        set_out(world, stream, end);
    } else {
        return;
    }
    self->sender = NULL;
    sim_event_add(world, world->now_ns, &sent);
}

void sim_stream_op_sent(struct sim_world *world, const struct sim_event *event)
{
    const struct sim_stream *stream = event->object;
    struct io_op *op = event->op;
    uint32_t node = stream->ends[event->end].node;

    if (!op)
        return;
    sim_say(world, "node %u: sent %d bytes", node, op->result);
    if (sim_step(world, node, SIM_SEND, true))
        io_end(event->io, op, op->result);
}

void sim_stream_begin(struct sim_world *world, struct io *io, struct io_op *op)
{
    uint32_t end;
    struct sim_stream *stream = stream_at(world, op->fd, &end);
    struct sim_end *self = &stream->ends[end];

    self->io = io;
    if ((op->flags & IO_CANCELLED) != 0) {
        io_end(io, op, -ECANCELED);
    } else if (op->kind == IO_SEND) {
        assert(!self->sender);
        if (!sim_step(world, self->node, SIM_SEND, false))
            return;
        self->sender = op;
        try_send(world, stream, end);
    } else {
        assert(!self->receiver);
        self->receiver = op;
        try_receive(world, stream, end);
    }
}

void sim_stream_cancel(struct sim_world *world, struct io *io, struct io_op *op)
{
    for (struct sim_stream *stream = world->streams; stream; stream = stream->next) {
        for (uint32_t end = 0; end < 2; end++) {
            struct sim_end *self = &stream->ends[end];
            if (self->receiver != op && self->sender != op)
                continue;
            if (self->receiver == op)
                self->receiver = NULL;
            else
                self->sender = NULL;
            io_end(io, op, -ECANCELED);
        }
    }
}

/* --- the end of a connection --- */

static void hang_up(struct sim_world *world, struct sim_stream *stream, uint32_t end)
{
    struct sim_end *self = &stream->ends[end];
    struct pipe *pipe = &stream->pipes[end];

    if (self->shut)
        return;
    self->shut = true;
    pipe->end_due_ns = world->now_ns + wire_ns(world);
    if (pipe->end_due_ns < pipe->due_ns)
        pipe->end_due_ns = pipe->due_ns;
    look_at(world, stream, end, pipe->end_due_ns);
    tell(world, stream, end);
}

void sim_stream_shutdown(struct sim_world *world, int32_t fd)
{
    uint32_t end;
    struct sim_stream *stream = stream_at(world, fd, &end);

    hang_up(world, stream, end);
}

void sim_stream_drop(struct sim_world *world, struct sim_fd *fd)
{
    hang_up(world, fd->is.stream, fd->end);
    fd->is.stream->ends[fd->end].open = false;
}

void sim_stream_close(sim_world *world, int32_t fd)
{
    struct sim_fd *found = sim_fd_find(world, fd);

    if (!found)
        return;
    sim_stream_drop(world, found);
    *found = (struct sim_fd){.kind = SIM_FD_FREE};
}

uint32_t sim_stream_node(const struct sim_fd *fd)
{
    return fd->is.stream->ends[fd->end].node;
}

static void forget_ops(struct sim_end *end)
{
    end->receiver = end->sender = NULL;
}

void sim_streams_orphan(struct sim_world *world, const struct io *io)
{
    for (struct sim_stream *stream = world->streams; stream; stream = stream->next)
        for (uint32_t end = 0; end < 2; end++)
            if (stream->ends[end].io == io)
                forget_ops(&stream->ends[end]);
}

void sim_stream_keep(sim_world *world, int32_t fd, uint32_t keep)
{
    uint32_t end;
    struct sim_stream *stream = stream_at(world, fd, &end);

    stream->ends[end].kept = keep != 0;
}

bool sim_stream_is_kept(const struct sim_fd *fd)
{
    return fd->is.stream->ends[fd->end].kept;
}

void sim_streams_of_dead(struct sim_world *world, uint32_t node, bool silent)
{
    for (struct sim_stream *stream = world->streams; stream; stream = stream->next) {
        for (uint32_t end = 0; end < 2; end++) {
            if (stream->ends[end].node != node || stream->ends[end].shut)
                continue;
            if (stream->ends[end].kept && !silent)
                continue;
            if (silent)
                stream->ends[end].shut = true; /* bytes under way arrive, the end does not */
            else
                hang_up(world, stream, end);
        }
    }
}

static void reset(struct sim_world *world, struct sim_stream *stream, uint32_t end)
{
    if (stream->ends[end].shut || stream->ends[end].reset)
        return;
    stream->ends[end].reset = true;
    tell(world, stream, end);
}

void sim_streams_reset(struct sim_world *world, uint32_t node)
{
    for (struct sim_stream *stream = world->streams; stream; stream = stream->next)
        for (uint32_t end = 0; end < 2; end++)
            if (stream->ends[end].node == node && !stream->pipes[end].ended)
                reset(world, stream, 1 - end);
}

void sim_stream_cut(sim_world *world, int32_t fd, uint64_t more_bytes)
{
    uint32_t end;
    struct sim_stream *stream = stream_at(world, fd, &end);
    struct pipe *pipe = &stream->pipes[end];

    if (pipe->cut_at == UINT64_MAX)
        pipe->cut_at = pipe->arrived + more_bytes;
    sim_say(world, "a stream from node %u is cut at byte %llu", stream->ends[end].node,
            (unsigned long long)pipe->cut_at);
}

void sim_stream_tell(sim_world *world, int32_t fd)
{
    uint32_t end;
    struct sim_stream *stream = stream_at(world, fd, &end);

    reset(world, stream, end);
}

uint32_t sim_stream_exists(sim_world *world, int32_t fd)
{
    const struct sim_fd *found = sim_fd_find(world, fd);

    return found && found->kind == SIM_FD_STREAM;
}

/* --- the test's own ends --- */

int32_t sim_stream_send(sim_world *world, int32_t fd, const uint8_t *bytes, uint32_t length_bytes)
{
    uint32_t end;
    struct sim_stream *stream = stream_at(world, fd, &end);
    struct pipe *pipe = &stream->pipes[end];

    if (stream->ends[end].reset || pipe->cut_at != UINT64_MAX)
        return -ECONNRESET;
    if (room(pipe) < length_bytes)
        return -EAGAIN;
    pipe_put(pipe, bytes, length_bytes);
    set_out(world, stream, end);
    return (int32_t)length_bytes;
}

int32_t sim_stream_receive(sim_world *world, int32_t fd, uint8_t *bytes, uint32_t length_bytes)
{
    uint32_t end;
    struct sim_stream *stream = stream_at(world, fd, &end);
    struct pipe *pipe = &stream->pipes[1 - end];
    struct iovec iov = {.iov_base = bytes, .iov_len = length_bytes};
    int32_t moved;

    if (pipe->arrived == pipe->taken) {
        stream->ends[end].told = stream->ends[end].reset || pipe->ended;
        if (stream->ends[end].reset)
            return -ECONNRESET;
        return pipe->ended ? 0 : -EAGAIN;
    }
    moved = take(world, pipe, &iov, 1);
    try_send(world, stream, 1 - end);
    return moved;
}

bool sim_streams_readable(struct sim_world *world)
{
    for (struct sim_stream *stream = world->streams; stream; stream = stream->next) {
        for (uint32_t end = 0; end < 2; end++) {
            const struct sim_end *self = &stream->ends[end];
            const struct pipe *pipe = &stream->pipes[1 - end];
            if (self->node != SIM_NODES || !self->open)
                continue;
            if (pipe->arrived > pipe->taken || ((pipe->ended || self->reset) && !self->told))
                return true;
        }
    }
    return false;
}

uint64_t sim_stream_under_way(sim_world *world, int32_t fd)
{
    uint32_t end;
    struct sim_stream *stream = stream_at(world, fd, &end);

    return stream->pipes[end].written - stream->pipes[end].arrived;
}

uint64_t sim_stream_sent(sim_world *world, int32_t fd)
{
    uint32_t end;
    struct sim_stream *stream = stream_at(world, fd, &end);

    return stream->pipes[end].written;
}
