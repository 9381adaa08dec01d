/* io_sim.c - io.h in a simulated world: operations become events of the world, and a turn never waits.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What an engine that is stepped sees: a turn hands over what was queued and returns what the world has ended since;
 * when to call again is said by io_sim_deadline_ns and by io_is_ready.  An eventfd is never readable here: whoever
 * steps an engine looks at its rings. */
#include "io_sim.h"

#include <errno.h>
#include <stdlib.h>

#include "sim_world.h"

struct io_sim {
    struct io io;
    struct sim_world *world;
    uint32_t node;
    struct io_queue fresh;
    uint64_t deadline_ns;
};

static struct io_sim *sim_of(struct io *io)
{
    return (struct io_sim *)io;
}

static void sim_queue(struct io *io, struct io_op *op)
{
    io_queue_push(&sim_of(io)->fresh, op);
}

static void sim_cancel(struct io *io, struct io_op *op)
{
    if (op->kind == IO_WAIT_READABLE)
        io_end(io, op, -ECANCELED);
    else
        sim_stream_cancel(sim_of(io)->world, io, op);
}

static int sim_turn(struct io *io, uint64_t deadline_ns)
{
    struct io_sim *self = sim_of(io);
    struct io_op *op;

    self->deadline_ns = deadline_ns;
    io->enters++;
    while ((op = io_queue_pop(&self->fresh)) != NULL) {
        if (io_is_disk(op))
            sim_disk_begin(self->world, io, op);
        else if (op->kind != IO_WAIT_READABLE)
            sim_stream_begin(self->world, io, op);
    }
    return 0;
}

static void sim_free(struct io *io)
{
    free(io);
}

static uint64_t sim_clock_ns(const struct io *io)
{
    return ((const struct io_sim *)io)->world->now_ns;
}

static void sim_shutdown(struct io *io, int32_t fd)
{
    sim_stream_shutdown(sim_of(io)->world, fd);
}

static void sim_close(struct io *io, int32_t fd)
{
    struct sim_world *world = sim_of(io)->world;
    struct sim_fd *found = sim_fd_find(world, fd);

    if (!found)
        return;
    if (found->kind == SIM_FD_STREAM)
        sim_stream_drop(world, found);
    *found = (struct sim_fd){.kind = SIM_FD_FREE};
}

static const struct io_substitute substitute = {
    .now_ns = sim_clock_ns,
    .shutdown = sim_shutdown,
    .close = sim_close,
};

static const struct io_calls sim_calls = {
    .name = "sim",
    .substitute = &substitute,
    .free = sim_free,
    .queue = sim_queue,
    .cancel = sim_cancel,
    .turn = sim_turn,
};

int io_new_sim(struct sim_world *world, uint32_t node, struct io **io)
{
    struct io_sim *self = calloc(1, sizeof(*self));

    if (!self)
        return -ENOMEM;
    self->io.calls = &sim_calls;
    self->io.now_ns = world->now_ns;
    self->world = world;
    self->node = node;
    self->deadline_ns = world->now_ns;
    *io = &self->io;
    return 0;
}

uint32_t io_sim_node(const struct io *io)
{
    return ((const struct io_sim *)io)->node;
}

uint64_t io_sim_deadline_ns(const struct io *io)
{
    return ((const struct io_sim *)io)->deadline_ns;
}

void io_sim_forget(struct io *io)
{
    struct io_sim *self = sim_of(io);

    io->ended = io->memory = (struct io_queue){0};
    self->fresh = (struct io_queue){0};
}
