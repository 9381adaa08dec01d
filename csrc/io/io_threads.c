/* io_threads.c - io.h on epoll and a few disk threads, for hosts and containers that forbid io_uring.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A socket operation is tried at once, by the turning thread; where that would block, it waits for epoll. Registrations
 * are one shot, and are made anew by fd at every wait: so a socket that was closed and its number given to another
 * needs no care. Disk operations go through one queue to the disk threads, whole lists at a time, and come back the
 * same way with an eventfd as the bell; `lock` guards those two queues and nothing else. */
#include "io.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io_implementation.h"

#define DISK_THREADS 4
#define EVENTS_PER_TURN 64
#define NS_PER_MS 1000000u
#define TIMEOUT_MS_MAX 1000000000u

/* Who waits for a socket. */
struct waiters {
    struct io_op *reader, *writer;
};

struct threads {
    struct io io;
    struct io_queue fresh;   /* socket operations, not tried yet */
    struct io_queue disk;    /* disk operations, not handed over yet */
    struct waiters *waiters; /* by fd; grows with the highest number seen, not with operations */
    uint32_t waiters_count;
    int epoll_fd;
    int bell_fd; /* eventfd: `finished` is no longer empty */
    pthread_t disk_threads[DISK_THREADS];
    uint32_t disk_threads_count;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct io_queue handed_over; /* under lock */
    struct io_queue finished;    /* under lock */
    bool ending;                 /* under lock */
};

/* --- Disk threads --- */

static void *disk_thread(void *argument)
{
    struct threads *self = argument;

    (void)pthread_mutex_lock(&self->lock);
    for (;;) {
        struct io_op *op = io_queue_pop(&self->handed_over);
        bool ring;

        if (!op) {
            if (self->ending)
                break;
            (void)pthread_cond_wait(&self->work, &self->lock);
            continue;
        }
        (void)pthread_mutex_unlock(&self->lock);
        io_disk_run(op);
        (void)pthread_mutex_lock(&self->lock);
        /* Who finds the queue empty rings; the turning thread empties it after it has heard the bell. */
        ring = !self->finished.first;
        io_queue_push(&self->finished, op);
        if (ring)
            (void)eventfd_write(self->bell_fd, 1);
    }
    (void)pthread_mutex_unlock(&self->lock);
    return NULL;
}

static void hand_over_disk(struct threads *self)
{
    struct io_op *op;
    uint32_t count = 0;

    if (!self->disk.first)
        return;
    (void)pthread_mutex_lock(&self->lock);
    while ((op = io_queue_pop(&self->disk)) != NULL) {
        io_queue_push(&self->handed_over, op);
        count++;
    }
    (void)pthread_mutex_unlock(&self->lock);
    if (count == 1)
        (void)pthread_cond_signal(&self->work);
    else
        (void)pthread_cond_broadcast(&self->work);
}

static void collect_disk(struct threads *self)
{
    struct io_queue finished;
    struct io_op *op;
    eventfd_t ignored;

    (void)eventfd_read(self->bell_fd, &ignored);
    (void)pthread_mutex_lock(&self->lock);
    finished = self->finished;
    self->finished = (struct io_queue){0};
    (void)pthread_mutex_unlock(&self->lock);
    while ((op = io_queue_pop(&finished)) != NULL)
        io_queue_push(&self->io.ended, op);
}

/* --- Sockets --- */

static int32_t try_once(const struct io_op *op)
{
    struct msghdr message = {.msg_iov = op->buffer, .msg_iovlen = op->count};
    ssize_t result;

    do
        result = op->kind == IO_RECEIVE ? recvmsg(op->fd, &message, MSG_DONTWAIT)
                                        : sendmsg(op->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : (int32_t)result;
}

static int reserve_waiters(struct threads *self, uint32_t fd)
{
    uint32_t count = self->waiters_count;
    struct waiters *grown;

    if (fd < count)
        return 0;
    while (count <= fd)
        count *= 2;
    grown = realloc(self->waiters, count * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    memset(grown + self->waiters_count, 0, (count - self->waiters_count) * sizeof(*grown));
    self->waiters = grown;
    self->waiters_count = count;
    return 0;
}

/* Registers for what is still waited for; nothing: the one shot is spent, there is nothing to do. */
static int arm(struct threads *self, int32_t fd)
{
    struct waiters *waiters = &self->waiters[fd];
    struct epoll_event event = {.data.fd = fd, .events = EPOLLONESHOT};

    if (!waiters->reader && !waiters->writer)
        return 0;
    event.events |= waiters->reader ? (uint32_t)EPOLLIN : 0;
    event.events |= waiters->writer ? (uint32_t)EPOLLOUT : 0;
    if (epoll_ctl(self->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0)
        return 0;
    if (errno == ENOENT && epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
        return 0;
    return -errno;
}

static void wait_for(struct threads *self, struct io_op *op)
{
    int rc = op->fd < 0 ? -EBADF : reserve_waiters(self, (uint32_t)op->fd);
    struct io_op **place;

    if (rc < 0) {
        io_end(&self->io, op, rc);
        return;
    }
    place = op->kind == IO_SEND ? &self->waiters[op->fd].writer : &self->waiters[op->fd].reader;
    if (*place) {
        io_end(&self->io, op, -EBUSY); /* one operation per direction: two would tear the stream */
        return;
    }
    *place = op;
    rc = arm(self, op->fd);
    if (rc < 0) {
        *place = NULL;
        io_end(&self->io, op, rc);
    }
}

static void try_or_wait(struct threads *self, struct io_op *op)
{
    int32_t result;

    if ((op->flags & IO_CANCELLED) != 0) {
        io_end(&self->io, op, -ECANCELED);
        return;
    }
    if (op->kind == IO_WAIT_READABLE) {
        wait_for(self, op);
        return;
    }
    result = try_once(op);
    if (result == -EAGAIN)
        wait_for(self, op);
    else
        io_end(&self->io, op, result);
}

static void wake(struct threads *self, struct io_op **place)
{
    struct io_op *op = *place;

    *place = NULL;
    if (!op)
        return;
    if (op->kind == IO_WAIT_READABLE)
        io_end(&self->io, op, 0);
    else
        try_or_wait(self, op);
}

static void on_event(struct threads *self, const struct epoll_event *event)
{
    struct waiters *waiters = &self->waiters[event->data.fd];
    int rc;

    if ((event->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
        wake(self, &waiters->reader);
    if ((event->events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0)
        wake(self, &waiters->writer);
    /* The shot is spent for both directions. */
    rc = arm(self, event->data.fd);
    if (rc < 0) {
        if (waiters->reader)
            io_end(&self->io, waiters->reader, rc);
        if (waiters->writer)
            io_end(&self->io, waiters->writer, rc);
        *waiters = (struct waiters){0};
    }
}

/* --- The table of calls --- */

static void threads_queue(struct io *io, struct io_op *op)
{
    struct threads *self = (struct threads *)io;

    io_queue_push(io_is_disk(op) ? &self->disk : &self->fresh, op);
}

static void threads_cancel(struct io *io, struct io_op *op)
{
    struct threads *self = (struct threads *)io;
    struct waiters *waiters;

    if (op->fd < 0 || (uint32_t)op->fd >= self->waiters_count)
        return; /* not tried yet: its flag will be seen */
    waiters = &self->waiters[op->fd];
    if (waiters->reader == op)
        waiters->reader = NULL;
    else if (waiters->writer == op)
        waiters->writer = NULL;
    else
        return;
    io_end(io, op, -ECANCELED);
}

static int timeout_ms(const struct threads *self, uint64_t deadline_ns)
{
    uint64_t now_ns, left_ms;

    if (deadline_ns == 0 || io_is_ready(&self->io))
        return 0;
    if (deadline_ns == UINT64_MAX)
        return -1;
    now_ns = io_clock_ns();
    if (deadline_ns <= now_ns)
        return 0;
    left_ms = (deadline_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS;
    return (int)(left_ms < TIMEOUT_MS_MAX ? left_ms : TIMEOUT_MS_MAX);
}

static int threads_turn(struct io *io, uint64_t deadline_ns)
{
    struct threads *self = (struct threads *)io;
    struct epoll_event events[EVENTS_PER_TURN];
    struct io_op *op;
    int count;

    while ((op = io_queue_pop(&self->fresh)) != NULL)
        try_or_wait(self, op);
    hand_over_disk(self);
    io_run_memory(io);
    io->enters++;
    count = epoll_wait(self->epoll_fd, events, EVENTS_PER_TURN, timeout_ms(self, deadline_ns));
    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++) {
        if (events[i].data.fd == self->bell_fd)
            collect_disk(self);
        else
            on_event(self, &events[i]);
    }
    return 0;
}

static void stop_disk_threads(struct threads *self)
{
    (void)pthread_mutex_lock(&self->lock);
    self->ending = true;
    (void)pthread_mutex_unlock(&self->lock);
    (void)pthread_cond_broadcast(&self->work);
    while (self->disk_threads_count > 0)
        (void)pthread_join(self->disk_threads[--self->disk_threads_count], NULL);
}

static void threads_free(struct io *io)
{
    struct threads *self = (struct threads *)io;

    stop_disk_threads(self);
    (void)pthread_cond_destroy(&self->work);
    (void)pthread_mutex_destroy(&self->lock);
    (void)close(self->bell_fd);
    (void)close(self->epoll_fd);
    free(self->waiters);
    free(self);
}

static const struct io_calls threads_calls = {
    .name = "threads",
    .free = threads_free,
    .queue = threads_queue,
    .cancel = threads_cancel,
    .turn = threads_turn,
};

/* The disk threads take no signals: those are for the thread that knows what to do with them. */
static int start_disk_threads(struct threads *self)
{
    sigset_t all, before;
    int rc = 0;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    while (rc == 0 && self->disk_threads_count < DISK_THREADS) {
        rc = -pthread_create(&self->disk_threads[self->disk_threads_count], NULL, disk_thread, self);
        if (rc == 0)
            self->disk_threads_count++;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static int open_fds(struct threads *self)
{
    struct epoll_event event = {.events = EPOLLIN};
    int rc;

    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (self->epoll_fd < 0)
        return -errno;
    self->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->bell_fd < 0) {
        rc = -errno;
        goto close_epoll;
    }
    event.data.fd = self->bell_fd;
    if (epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, self->bell_fd, &event) == 0)
        return 0;
    rc = -errno;
    (void)close(self->bell_fd);
close_epoll:
    (void)close(self->epoll_fd);
    return rc;
}

int io_new_threads(uint32_t entries, struct io **io)
{
    struct threads *self = calloc(1, sizeof(*self));
    int rc = -ENOMEM;

    (void)entries; /* operations are linked, not counted */
    if (!self)
        return -ENOMEM;
    self->io.calls = &threads_calls;
    self->waiters_count = 256;
    self->waiters = calloc(self->waiters_count, sizeof(*self->waiters));
    if (!self->waiters)
        goto free_self;
    rc = open_fds(self);
    if (rc < 0)
        goto free_waiters;
    (void)pthread_mutex_init(&self->lock, NULL); /* with default attributes neither can fail */
    (void)pthread_cond_init(&self->work, NULL);
    rc = start_disk_threads(self);
    if (rc < 0) {
        threads_free(&self->io);
        return rc;
    }
    *io = &self->io;
    return 0;

free_waiters:
    free(self->waiters);
free_self:
    free(self);
    return rc;
}
