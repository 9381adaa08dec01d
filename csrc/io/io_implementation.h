/* io_implementation.h - what io.c and the implementations of io.h share, and nobody else includes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * io.c fills operations in, serves files that live in memory, and calls `done`; an implementation moves everything
 * else. */
#ifndef CSRC_IO_IMPLEMENTATION_H
#define CSRC_IO_IMPLEMENTATION_H

#include "io.h"

#define IO_MEMORY_DISKS_MAX 16

/* io_op.kind.  Disk operations come first, transfers first among them. */
enum {
    IO_IDLE = 0, /* not under way */
    IO_READ,
    IO_WRITE,
    IO_FLUSH,
    IO_ZERO,
    IO_RECEIVE,
    IO_SEND,
    IO_WAIT_READABLE,
    IO_COMMAND, /* count: the operation */
};
/* io_op.flags */
enum {
    IO_FUA = 1,
    IO_PUNCH = 2,
    IO_CANCELLED = 4, /* io_cancel was called: not to be tried again */
};

/* Operations in order, linked by io_op.next. */
struct io_queue {
    struct io_op *first, *last;
};

/* Where descriptors and time are of another world. */
struct io_substitute {
    uint64_t (*now_ns)(const struct io *io);
    void (*shutdown)(struct io *io, int32_t fd);
    void (*close)(struct io *io, int32_t fd);
};

/* What an implementation does.  `turn` hands over what was queued, waits as io_turn says (not at all where
 * io_is_ready), calls io_run_memory between handing over and looking for completions, ends operations by io_end, and
 * returns 0 or a negative errno; io.c then calls every `done`. */
struct io_calls {
    const char *name;
    const struct io_substitute *substitute; /* NULL: descriptors and time are the kernel's */
    void (*free)(struct io *io);
    void (*queue)(struct io *io, struct io_op *op);
    void (*cancel)(struct io *io, struct io_op *op); /* never a disk operation */
    int (*turn)(struct io *io, uint64_t deadline_ns);
    bool has_commands;
};

/* The first member of every implementation's own structure. */
struct io {
    const struct io_calls *calls;
    uint64_t now_ns;
    uint64_t enters;
    struct io_queue memory; /* queued for files in memory */
    struct io_queue ended;  /* `done` is due */
    int32_t memory_fds[IO_MEMORY_DISKS_MAX];
    uint32_t memory_fd_count;
    bool disks_may_hang;
};

int io_new_uring(uint32_t entries, struct io **io);
int io_new_threads(uint32_t entries, struct io **io);

static inline void io_queue_push(struct io_queue *queue, struct io_op *op)
{
    op->next = NULL;
    if (queue->last)
        queue->last->next = op;
    else
        queue->first = op;
    queue->last = op;
}

static inline struct io_op *io_queue_pop(struct io_queue *queue)
{
    struct io_op *op = queue->first;

    if (op) {
        queue->first = op->next;
        if (!queue->first)
            queue->last = NULL;
    }
    return op;
}

static inline bool io_is_disk(const struct io_op *op)
{
    return op->kind >= IO_READ && op->kind <= IO_ZERO;
}

static inline void io_end(struct io *io, struct io_op *op, int32_t result)
{
    op->result = result;
    io_queue_push(&io->ended, op);
}

/* Something is or is about to be done without waiting. */
static inline bool io_is_ready(const struct io *io)
{
    return io->memory.first || io->ended.first;
}

uint64_t io_clock_ns(void);
/* Takes the result of one system call on a disk operation in.  True: it is over, its result is in op->result; false:
 * the rest is to be tried again. */
bool io_disk_advance(struct io_op *op, int32_t result);
/* Carries a disk operation out in the calling thread, to its end; the result is in op->result. */
void io_disk_run(struct io_op *op);
void io_run_memory(struct io *io);
int io_zero_mode(const struct io_op *op);

#endif
