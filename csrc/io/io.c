/* io.c - the part of io.h that no implementation should have an opinion on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Describes operations, decides which disks live in memory, carries transfers on until they are whole, and calls
 * `done`: only ever from io_turn, so that a caller never meets its own completion inside the call that queued it. */
#include "io.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "core.h"
#include "io_implementation.h"

#define NS_PER_S 1000000000u

uint64_t io_clock_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* What a host or a container answers that has no io_uring, forbids it, or has one that lacks what we need. */
static bool is_missing(int rc)
{
    return rc == -EPERM || rc == -EACCES || rc == -ENOSYS || rc == -EINVAL || rc == -ENOMEM;
}

int io_new(uint32_t kind, uint32_t entries, struct io **io)
{
    int rc = -EINVAL;

    if (entries == 0)
        return -EINVAL;
    if (kind == CORE_IO_URING || kind == CORE_IO_AUTO)
        rc = io_new_uring(entries, io);
    if (kind == CORE_IO_THREADS || (kind == CORE_IO_AUTO && rc < 0 && is_missing(rc)))
        rc = io_new_threads(entries, io);
    if (rc < 0)
        return rc;
    (*io)->now_ns = io_clock_ns();
    return 0;
}

void io_free(struct io *io)
{
    if (!io)
        return;
    assert(!io_is_ready(io));
    io->calls->free(io);
}

const char *io_name(const struct io *io)
{
    return io->calls->name;
}

uint64_t io_now_ns(const struct io *io)
{
    return io->now_ns;
}

uint64_t io_enters(const struct io *io)
{
    return io->enters;
}

/* A block device's node stands on devtmpfs, which has tmpfs's magic: only a regular file lives where its name does. */
static int lives_in_memory(int32_t fd)
{
    struct stat status;
    struct statfs filesystem;

    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return 0;
    if (fstatfs(fd, &filesystem) < 0)
        return -errno;
    return (uint64_t)filesystem.f_type == TMPFS_MAGIC || (uint64_t)filesystem.f_type == RAMFS_MAGIC;
}

int io_disk_add(struct io *io, int32_t fd)
{
    int rc = io->calls->substitute ? 0 : lives_in_memory(fd);

    if (rc <= 0)
        return rc;
    if (io->memory_fd_count == IO_MEMORY_DISKS_MAX)
        return -ENOSPC;
    io->memory_fds[io->memory_fd_count++] = fd;
    return 0;
}

void io_disk_remove(struct io *io, int32_t fd)
{
    for (uint32_t i = 0; i < io->memory_fd_count; i++) {
        if (io->memory_fds[i] == fd) {
            io->memory_fds[i] = io->memory_fds[--io->memory_fd_count];
            return;
        }
    }
}

static void queue_disk(struct io *io, struct io_op *op)
{
    op->result = 0;
    for (uint32_t i = 0; i < io->memory_fd_count; i++) {
        if (io->memory_fds[i] == op->fd) {
            io_queue_push(&io->memory, op);
            return;
        }
    }
    io->calls->queue(io, op);
}

void io_disks_may_hang(struct io *io, bool may_hang)
{
    io->disks_may_hang = may_hang;
}

void io_read(struct io *io, struct io_op *op, int32_t fd, void *buffer, uint32_t length_bytes, uint64_t offset_bytes)
{
    op->kind = IO_READ;
    op->flags = 0;
    op->fd = fd;
    op->buffer = buffer;
    op->length_bytes = length_bytes;
    op->offset_bytes = offset_bytes;
    queue_disk(io, op);
}

/* NOLINTNEXTLINE(readability-function-size): a write is this many things */
void io_write(struct io *io, struct io_op *op, int32_t fd, const void *buffer, uint32_t length_bytes,
              uint64_t offset_bytes, bool fua)
{
    op->kind = IO_WRITE;
    op->flags = fua ? IO_FUA : 0;
    op->fd = fd;
    op->buffer = (void *)(uintptr_t)buffer; /* read only by whoever carries a write out */
    op->length_bytes = length_bytes;
    op->offset_bytes = offset_bytes;
    queue_disk(io, op);
}

void io_flush(struct io *io, struct io_op *op, int32_t fd)
{
    op->kind = IO_FLUSH;
    op->flags = 0;
    op->fd = fd;
    queue_disk(io, op);
}

void io_zero(struct io *io, struct io_op *op, int32_t fd, uint64_t offset_bytes, uint64_t length_bytes, bool punch)
{
    op->kind = IO_ZERO;
    op->flags = punch ? IO_PUNCH : 0;
    op->fd = fd;
    op->length_bytes = length_bytes;
    op->offset_bytes = offset_bytes;
    queue_disk(io, op);
}

static void queue_socket(struct io *io, struct io_op *op, uint8_t kind, int32_t fd)
{
    op->kind = kind;
    op->flags = 0;
    op->fd = fd;
    io->calls->queue(io, op);
}

void io_receive(struct io *io, struct io_op *op, int32_t fd, const struct iovec *iov, uint32_t count)
{
    op->buffer = (void *)(uintptr_t)iov;
    op->count = count;
    queue_socket(io, op, IO_RECEIVE, fd);
}

void io_send(struct io *io, struct io_op *op, int32_t fd, const struct iovec *iov, uint32_t count)
{
    op->buffer = (void *)(uintptr_t)iov;
    op->count = count;
    queue_socket(io, op, IO_SEND, fd);
}

void io_wait_readable(struct io *io, struct io_op *op, int32_t fd)
{
    queue_socket(io, op, IO_WAIT_READABLE, fd);
}

void io_command(struct io *io, struct io_op *op, int32_t fd, uint32_t operation, const void *message)
{
    op->kind = IO_COMMAND;
    op->flags = 0;
    op->fd = fd;
    op->count = operation;
    op->buffer = (void *)(uintptr_t)message; /* read only by whoever hands it over */
    if (io->calls->has_commands)
        io->calls->queue(io, op);
    else
        io_end(io, op, -EOPNOTSUPP);
}

void io_cancel(struct io *io, struct io_op *op)
{
    if (op->kind == IO_IDLE || op->kind == IO_COMMAND || io_is_disk(op) || (op->flags & IO_CANCELLED) != 0)
        return;
    op->flags |= IO_CANCELLED;
    io->calls->cancel(io, op);
}

void io_shutdown(struct io *io, int32_t fd)
{
    if (io->calls->substitute)
        io->calls->substitute->shutdown(io, fd);
    else
        (void)shutdown(fd, SHUT_RDWR);
}

void io_close(struct io *io, int32_t fd)
{
    if (io->calls->substitute)
        io->calls->substitute->close(io, fd);
    else
        (void)close(fd);
}

bool io_disk_advance(struct io_op *op, int32_t result)
{
    if (result == -EINTR || result == -EAGAIN)
        return false;
    if (op->kind > IO_WRITE) {
        bool unsupported = op->kind == IO_ZERO && (result == -ENOSYS || result == -ENODEV);

        op->result = unsupported ? -EOPNOTSUPP : result;
        return true;
    }
    if (result < 0 || (result == 0 && op->length_bytes > 0)) {
        op->result = result < 0 ? result : -EIO;
        return true;
    }
    op->result += result;
    op->buffer = (uint8_t *)op->buffer + result;
    op->offset_bytes += (uint32_t)result;
    op->length_bytes -= (uint32_t)result;
    return op->length_bytes == 0;
}

int io_zero_mode(const struct io_op *op)
{
    return (op->flags & IO_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE;
}

static ssize_t run_once(const struct io_op *op)
{
    struct iovec iov = {.iov_base = op->buffer, .iov_len = op->length_bytes};

    switch (op->kind) {
    case IO_READ:
        return pread(op->fd, op->buffer, op->length_bytes, (off_t)op->offset_bytes);
    case IO_WRITE:
        if ((op->flags & IO_FUA) != 0)
            return pwritev2(op->fd, &iov, 1, (off_t)op->offset_bytes, RWF_DSYNC);
        return pwrite(op->fd, op->buffer, op->length_bytes, (off_t)op->offset_bytes);
    case IO_FLUSH:
        return fdatasync(op->fd);
    default:
        assert(op->kind == IO_ZERO);
        return fallocate(op->fd, io_zero_mode(op), (off_t)op->offset_bytes, (off_t)op->length_bytes);
    }
}

void io_disk_run(struct io_op *op)
{
    ssize_t result;

    do
        result = run_once(op);
    while (!io_disk_advance(op, result < 0 ? -errno : (int32_t)result));
}

void io_run_memory(struct io *io)
{
    struct io_op *op;

    while ((op = io_queue_pop(&io->memory)) != NULL) {
        io_disk_run(op);
        io_queue_push(&io->ended, op);
    }
}

int io_turn(struct io *io, uint64_t deadline_ns)
{
    int rc = io->calls->turn(io, deadline_ns);
    struct io_queue ended = io->ended;
    struct io_op *op;
    int count = 0;

    if (rc < 0)
        return rc;
    io->now_ns = io->calls->substitute ? io->calls->substitute->now_ns(io) : io_clock_ns();
    /* What `done` queues is for the next turn, even where it ends at once: a turn has an end. */
    io->ended = (struct io_queue){0};
    while ((op = io_queue_pop(&ended)) != NULL) {
        op->kind = IO_IDLE;
        op->done(op, op->result);
        count++;
    }
    return count;
}
