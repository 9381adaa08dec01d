/* io_uring.c - io.h on one io_uring: the whole turn, handing over and waiting, is one system call.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An operation's submission queue entry is filled in where it is queued, its completion's user_data is the operation; 0
 * marks completions that nobody waits for.  The ring is made disabled and is enabled by the thread that first turns it,
 * since that thread is then the single issuer, whoever called io_new.  Completions are run when we ask for them
 * (DEFER_TASKRUN) and not by interrupting us; IORING_SQ_TASKRUN says that there are some, so that looking without
 * waiting needs no system call. */
#include "io.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "io_implementation.h"

#define NS_PER_S 1000000000u
#define ENTRIES_MAX 4096u /* of the submission queue: more than that in one turn wait in the backlog */
/* SUBMIT_STABLE: msghdr may go after submission.  EXT_ARG: waiting with a timeout is one call.  NODROP: no lost
 * completion. */
#define FEATURES (IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_FAST_POLL)

struct uring {
    struct io io;
    struct io_uring ring;
    struct msghdr *messages; /* one per submission queue entry, for as long as the entry */
    struct io_queue backlog; /* found the submission queue full */
    uint32_t setup_flags;
    bool begun; /* enabled, by the thread that turns it */
};

/* From the best to what every kernel with the features has. */
static const uint32_t setups[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL |
        IORING_SETUP_R_DISABLED,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
    0,
};

static void fill_message(struct uring *self, struct io_uring_sqe *sqe, const struct io_op *op)
{
    struct iovec *iov = op->buffer;
    struct msghdr *message = &self->messages[sqe - self->ring.sq.sqes];

    if (op->count == 1) {
        if (op->kind == IO_RECEIVE)
            io_uring_prep_recv(sqe, op->fd, iov->iov_base, iov->iov_len, 0);
        else
            io_uring_prep_send(sqe, op->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL);
        return;
    }
    *message = (struct msghdr){.msg_iov = iov, .msg_iovlen = op->count};
    if (op->kind == IO_RECEIVE)
        io_uring_prep_recvmsg(sqe, op->fd, message, 0);
    else
        io_uring_prep_sendmsg(sqe, op->fd, message, MSG_NOSIGNAL);
}

static void fill(struct uring *self, struct io_uring_sqe *sqe, struct io_op *op)
{
    switch (op->kind) {
    case IO_READ:
        io_uring_prep_read(sqe, op->fd, op->buffer, (uint32_t)op->length_bytes, op->offset_bytes);
        break;
    case IO_WRITE:
        io_uring_prep_write(sqe, op->fd, op->buffer, (uint32_t)op->length_bytes, op->offset_bytes);
        sqe->rw_flags = op->flags & IO_FUA ? RWF_DSYNC : 0;
        break;
    case IO_FLUSH:
        io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
        break;
    case IO_ZERO:
        io_uring_prep_fallocate(sqe, op->fd, io_zero_mode(op), (off_t)op->offset_bytes, (off_t)op->length_bytes);
        break;
    case IO_RECEIVE:
    case IO_SEND:
        fill_message(self, sqe, op);
        break;
    case IO_COMMAND:
        io_uring_prep_rw(IORING_OP_URING_CMD, sqe, op->fd, NULL, 0, 0);
        sqe->cmd_op = op->count;
        memcpy(sqe->cmd, op->buffer, IO_COMMAND_BYTES);
        break;
    default:
        io_uring_prep_poll_add(sqe, op->fd, POLLIN);
    }
    if (self->io.disks_may_hang && io_is_disk(op))
        sqe->flags |= IOSQE_ASYNC;
    io_uring_sqe_set_data(sqe, op);
}

static void uring_queue(struct io *io, struct io_op *op)
{
    struct uring *self = (struct uring *)io;
    struct io_uring_sqe *sqe = self->backlog.first ? NULL : io_uring_get_sqe(&self->ring);

    if (sqe)
        fill(self, sqe, op);
    else
        io_queue_push(&self->backlog, op);
}

/* Of a system call on the ring: what does not end the engine is no error. */
static int forgive(int rc)
{
    return rc >= 0 || rc == -EINTR || rc == -ETIME || rc == -EAGAIN || rc == -EBUSY ? 0 : rc;
}

static int submit(struct uring *self)
{
    self->io.enters++;
    return forgive(io_uring_submit(&self->ring));
}

static void uring_cancel(struct io *io, struct io_op *op)
{
    struct uring *self = (struct uring *)io;
    struct io_uring_sqe *sqe;

    /* While there is a backlog, the operation may be in it, where its flag is seen; or in front of it, where the
     * cancellation must overtake the backlog. */
    sqe = io_uring_get_sqe(&self->ring);
    if (!sqe && self->begun) {
        (void)submit(self);
        sqe = io_uring_get_sqe(&self->ring);
    }
    if (!sqe)
        return; /* the kernel takes nothing at all: what it has then ends by itself or never */
    io_uring_prep_cancel(sqe, op, 0);
    io_uring_sqe_set_data(sqe, NULL);
}

static int drain_backlog(struct uring *self)
{
    while (self->backlog.first) {
        struct io_uring_sqe *sqe;
        struct io_op *op;

        if ((self->backlog.first->flags & IO_CANCELLED) != 0) {
            io_end(&self->io, io_queue_pop(&self->backlog), -ECANCELED);
            continue;
        }
        sqe = io_uring_get_sqe(&self->ring);
        if (!sqe) {
            int rc = submit(self);

            if (rc < 0)
                return rc;
            sqe = io_uring_get_sqe(&self->ring);
            if (!sqe)
                return 0;
        }
        op = io_queue_pop(&self->backlog);
        fill(self, sqe, op);
    }
    return 0;
}

static int hand_over(struct uring *self)
{
    if (io_uring_sq_ready(&self->ring) > 0) {
        self->io.enters++;
        return forgive(io_uring_submit_and_get_events(&self->ring));
    }
    if ((IO_URING_READ_ONCE(*self->ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0) {
        self->io.enters++;
        return forgive(io_uring_get_events(&self->ring));
    }
    return 0;
}

static int hand_over_and_wait(struct uring *self, uint64_t deadline_ns)
{
    struct __kernel_timespec timeout;
    struct io_uring_cqe *cqe;
    uint64_t now_ns, left_ns;

    if (deadline_ns == UINT64_MAX) {
        self->io.enters++;
        return forgive(io_uring_submit_and_wait(&self->ring, 1));
    }
    now_ns = io_clock_ns();
    if (deadline_ns <= now_ns)
        return hand_over(self);
    left_ns = deadline_ns - now_ns;
    timeout =
        (struct __kernel_timespec){.tv_sec = (int64_t)(left_ns / NS_PER_S), .tv_nsec = (long long)(left_ns % NS_PER_S)};
    self->io.enters++;
    return forgive(io_uring_submit_and_wait_timeout(&self->ring, &cqe, 1, &timeout, NULL));
}

static void complete(struct uring *self, struct io_op *op, int32_t result)
{
    if (io_is_disk(op)) {
        if (io_disk_advance(op, result))
            io_queue_push(&self->io.ended, op);
        else
            uring_queue(&self->io, op);
        return;
    }
    if (result == -EINTR || result == -EAGAIN) {
        if ((op->flags & IO_CANCELLED) == 0) {
            uring_queue(&self->io, op);
            return;
        }
        result = -ECANCELED;
    }
    io_end(&self->io, op, op->kind == IO_WAIT_READABLE && result > 0 ? 0 : result);
}

static void reap(struct uring *self)
{
    unsigned ready = io_uring_cq_ready(&self->ring);
    struct io_uring_cqe *cqe;

    for (; ready > 0 && io_uring_peek_cqe(&self->ring, &cqe) == 0; ready--) {
        struct io_op *op = io_uring_cqe_get_data(cqe);
        int32_t result = cqe->res;

        io_uring_cqe_seen(&self->ring, cqe);
        if (op)
            complete(self, op, result);
    }
}

static int begin(struct uring *self)
{
    if ((self->setup_flags & IORING_SETUP_R_DISABLED) != 0) {
        /* liburing 2.3 declares io_uring_enable_rings and does not export it. */
        int rc = io_uring_register((unsigned)self->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);

        if (rc < 0)
            return rc;
        /* Saves a look-up per call.  Only where there is a single issuer: elsewhere a ring that is freed by another
         * thread would take back that thread's registration of the same number. */
        (void)io_uring_register_ring_fd(&self->ring);
    }
    self->begun = true;
    return 0;
}

static int uring_turn(struct io *io, uint64_t deadline_ns)
{
    struct uring *self = (struct uring *)io;
    int rc = self->begun ? 0 : begin(self);

    if (rc == 0)
        rc = drain_backlog(self);
    if (rc < 0)
        return rc;
    if (deadline_ns == 0 || io_is_ready(io) || self->backlog.first || io_uring_cq_ready(&self->ring) > 0)
        rc = hand_over(self);
    else
        rc = hand_over_and_wait(self, deadline_ns);
    if (rc < 0)
        return rc;
    /* After handing over: the peer has its data already while we copy ours. */
    io_run_memory(io);
    reap(self);
    return 0;
}

static void uring_free(struct io *io)
{
    struct uring *self = (struct uring *)io;

    io_uring_queue_exit(&self->ring);
    free(self->messages);
    free(self);
}

static const struct io_calls uring_calls = {
    .name = "io_uring",
    .free = uring_free,
    .queue = uring_queue,
    .cancel = uring_cancel,
    .turn = uring_turn,
    .has_commands = true,
};

static int set_up(struct uring *self, uint32_t entries)
{
    int rc = -EINVAL;

    for (size_t i = 0; i < sizeof(setups) / sizeof(setups[0]) && rc == -EINVAL; i++) {
        struct io_uring_params params = {
            .flags = setups[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
            .cq_entries = 2 * entries, /* an operation, and its cancellation */
        };

        rc = io_uring_queue_init_params(entries < ENTRIES_MAX ? entries : ENTRIES_MAX, &self->ring, &params);
        self->setup_flags = setups[i];
        if (rc == 0 && (params.features & FEATURES) != FEATURES) {
            io_uring_queue_exit(&self->ring);
            return -ENOSYS;
        }
    }
    return rc;
}

int io_new_uring(uint32_t entries, struct io **io)
{
    struct uring *self = calloc(1, sizeof(*self));
    int rc;

    if (!self)
        return -ENOMEM;
    rc = set_up(self, entries);
    if (rc < 0)
        goto free_self;
    self->messages = calloc(self->ring.sq.ring_entries, sizeof(*self->messages));
    if (!self->messages) {
        rc = -ENOMEM;
        goto exit_ring;
    }
    self->io.calls = &uring_calls;
    *io = &self->io;
    return 0;

exit_ring:
    io_uring_queue_exit(&self->ring);
free_self:
    free(self);
    return rc;
}
