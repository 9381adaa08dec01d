/* io.h - the engine's only way to the world: disks, sockets, time.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One thread uses a struct io.  An operation is described by a struct io_op inside the caller's own structure; it is
 * queued by the calls below, handed over by io_turn, and its `done` is called from inside io_turn, exactly once, never
 * from inside the call that queued it.  `done` may queue further operations.  Results are bytes or a negative errno.
 * Buffers and iovecs are borrowed until done. Implementations: io_uring.c, io_threads.c. */
#ifndef CSRC_IO_H
#define CSRC_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct io;
struct io_op;
typedef void (*io_done)(struct io_op *op, int32_t result);

struct io_op {
    io_done done;
    /* The rest is the implementation's while the operation is under way. */
    struct io_op *next;
    void *buffer;
    uint64_t offset_bytes;
    uint64_t length_bytes;
    int32_t fd;
    int32_t result;
    uint32_t count;
    uint8_t kind;
    uint8_t flags;
};

/* kind: enum core_io.  entries: operations under way at most.  Falls back by itself under CORE_IO_AUTO. */
int io_new(uint32_t kind, uint32_t entries, struct io **io);
void io_free(struct io *io); /* nothing may be under way, but commands */
const char *io_name(const struct io *io);
uint64_t io_now_ns(const struct io *io); /* CLOCK_MONOTONIC, read once a turn */
uint64_t io_enters(const struct io *io); /* system calls that handed over or waited, so far */

/* Files that live in memory (tmpfs) are served by plain pread/pwrite in the calling thread: there is nothing to wait
 * for. */
int io_disk_add(struct io *io, int32_t fd);
void io_disk_remove(struct io *io, int32_t fd);

/* Disk: whole or error (a short transfer is continued; at the end of the file it is -EIO).  fua: durable when done. */
/* A disk that may hang must not hold the caller: from now on its operations are issued beside it, which costs a
 * hand-over each.  io_uring issues them at once otherwise, and a file's lock may then be waited for (seen with a FUSE
 * file under fsync, Linux 6.18). */
void io_disks_may_hang(struct io *io, bool may_hang);
void io_read(struct io *io, struct io_op *op, int32_t fd, void *buffer, uint32_t length_bytes, uint64_t offset_bytes);
void io_write(struct io *io, struct io_op *op, int32_t fd, const void *buffer, uint32_t length_bytes,
              uint64_t offset_bytes, bool fua);
void io_flush(struct io *io, struct io_op *op, int32_t fd); /* covers the writes that were done before it was queued */
/* Reads back as zeroes afterwards.  punch: may give the space back.  -EOPNOTSUPP: the caller writes zeroes. */
void io_zero(struct io *io, struct io_op *op, int32_t fd, uint64_t offset_bytes, uint64_t length_bytes, bool punch);

/* Sockets (non-blocking, stream): done with what one system call moved; 0 from io_receive is the end of the stream. */
void io_receive(struct io *io, struct io_op *op, int32_t fd, const struct iovec *iov, uint32_t count);
void io_send(struct io *io, struct io_op *op, int32_t fd, const struct iovec *iov, uint32_t count); /* MSG_NOSIGNAL */
void io_wait_readable(struct io *io, struct io_op *op, int32_t fd); /* an eventfd; one shot */
/* A command for the driver behind a character device (io_uring alone has them; elsewhere it ends with -EOPNOTSUPP):
 * operation, and IO_COMMAND_BYTES at `message` that the driver understands, borrowed until done.  Ends with the
 * driver's result, which may take for ever: it cannot be cancelled, and io_free does not wait for it. */
#define IO_COMMAND_BYTES 16u
void io_command(struct io *io, struct io_op *op, int32_t fd, uint32_t operation, const void *message);
/* Both directions of a socket: what is under way on it comes home at once. */
void io_shutdown(struct io *io, int32_t fd);
/* Any descriptor that the engine was given: whoever gave it may have made it up (io_sim.h). */
void io_close(struct io *io, int32_t fd);
/* op is done soon, with -ECANCELED or its own result.  A disk operation that has begun is left to end. */
void io_cancel(struct io *io, struct io_op *op);

/* Hands over what is queued, waits until something is done or deadline_ns (UINT64_MAX: no deadline; 0: do not wait),
 * calls `done` for all that is.  Returns how many were, or a negative errno that the engine can't go on from. */
int io_turn(struct io *io, uint64_t deadline_ns);

#endif
