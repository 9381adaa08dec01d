/* test_io.c - io.h by each of its implementations: the same behaviours, one after the other on both.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core.h"

#include "allocation.h"
#include "check.h"

/* Their allocations fail on demand. */
#include "../../csrc/io/io.c"
#include "../../csrc/io/io_threads.c"
#include "../../csrc/io/io_uring.c"

#define MS 1000000ull
#define SLOW_MS 5000ull /* an operation that takes longer than this hangs */
#define DISK_BYTES (1u << 20)

struct operation {
    struct io_op op; /* first: done gets this address back */
    int done_count;
    int32_t result;
};

static void on_done(struct io_op *op, int32_t result)
{
    struct operation *operation = (struct operation *)op;

    operation->done_count++;
    operation->result = result;
}

static struct operation operation_new(void)
{
    return (struct operation){.op.done = on_done};
}

static void turn_until_done(struct io *io, const struct operation *operation)
{
    uint64_t deadline_ns = io_clock_ns() + SLOW_MS * MS;

    while (operation->done_count == 0) {
        CHECK(io_turn(io, deadline_ns) >= 0, "io_turn");
        CHECK(operation->done_count > 0 || io_clock_ns() < deadline_ns, "not done within %llu ms", SLOW_MS);
    }
    CHECK_EQUAL(operation->done_count, 1);
}

static int32_t result_of(struct io *io, const struct operation *operation)
{
    turn_until_done(io, operation);
    return operation->result;
}

static int open_disk(const char *folder, int flags)
{
    char name[64];
    int fd;

    snprintf(name, sizeof(name), "%s/pydrbd-test-io-XXXXXX", folder);
    fd = mkostemp(name, flags | O_CLOEXEC);
    CHECK(fd >= 0, "%s: %s", name, strerror(errno));
    CHECK_EQUAL(unlink(name), 0);
    CHECK_EQUAL(ftruncate(fd, DISK_BYTES), 0);
    return fd;
}

static struct io *new_io(uint32_t kind)
{
    struct io *io = NULL;

    CHECK_EQUAL(io_new(kind, 64, &io), 0);
    return io;
}

static void fill_buffer(uint8_t *buffer, size_t length, uint64_t seed)
{
    for (size_t i = 0; i < length; i++)
        buffer[i] = (uint8_t)(draw(&seed) >> 32);
}

/* --- Disks --- */

static void a_disk_reads_back_what_was_written(uint32_t kind, const char *folder, int flags)
{
    enum { BLOCKS = 32, BYTES = 8192 };
    uint8_t *written = aligned_alloc(4096, BLOCKS * BYTES), *read_back = aligned_alloc(4096, BLOCKS * BYTES);
    struct operation operations[BLOCKS];
    struct io *io = new_io(kind);
    int fd = open_disk(folder, flags);

    CHECK_EQUAL(io_disk_add(io, fd), 0);
    fill_buffer(written, BLOCKS * BYTES, 5);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        operations[i] = operation_new();
        io_write(io, &operations[i].op, fd, written + i * BYTES, BYTES, (uint64_t)(BLOCKS - 1 - i) * BYTES, i % 4 == 0);
        CHECK_EQUAL(operations[i].done_count, 0);
    }
    for (uint32_t i = 0; i < BLOCKS; i++)
        CHECK_EQUAL(result_of(io, &operations[i]), BYTES);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        operations[i] = operation_new();
        io_read(io, &operations[i].op, fd, read_back + i * BYTES, BYTES, (uint64_t)(BLOCKS - 1 - i) * BYTES);
    }
    for (uint32_t i = 0; i < BLOCKS; i++)
        CHECK_EQUAL(result_of(io, &operations[i]), BYTES);
    CHECK(memcmp(written, read_back, BLOCKS * BYTES) == 0, "other bytes");
    io_disk_remove(io, fd);
    io_free(io);
    close(fd);
    free(written);
    free(read_back);
}

static void a_disk_flushes_zeroes_and_punches(uint32_t kind, const char *folder, bool in_memory)
{
    uint8_t buffer[4096], zeroes[4096] = {0};
    struct io *io = new_io(kind);
    int fd = open_disk(folder, O_RDWR);
    struct operation write_op = operation_new(), flush = operation_new(), zero = operation_new(),
                     punch = operation_new(), read_op = operation_new();

    CHECK_EQUAL(io_disk_add(io, fd), 0);
    fill_buffer(buffer, sizeof(buffer), 9);
    io_write(io, &write_op.op, fd, buffer, sizeof(buffer), 8192, false);
    CHECK_EQUAL(result_of(io, &write_op), sizeof(buffer));
    io_flush(io, &flush.op, fd);
    CHECK_EQUAL(result_of(io, &flush), 0);
    io_zero(io, &zero.op, fd, 8192, 4096, false);
    /* tmpfs can't zero without giving the space back. */
    CHECK((result_of(io, &zero) == 0 && !in_memory) || zero.result == -EOPNOTSUPP, "%d", zero.result);
    io_zero(io, &punch.op, fd, 8192, 4096, true);
    CHECK(result_of(io, &punch) == 0 || (!in_memory && punch.result == -EOPNOTSUPP), "%d", punch.result);
    if (punch.result == 0) {
        io_read(io, &read_op.op, fd, buffer, sizeof(buffer), 8192);
        CHECK_EQUAL(result_of(io, &read_op), sizeof(buffer));
        CHECK(memcmp(buffer, zeroes, sizeof(buffer)) == 0, "not zeroes");
    }
    io_free(io);
    close(fd);
}

static void a_read_across_the_end_is_an_error(uint32_t kind, const char *folder)
{
    uint8_t buffer[8192];
    struct io *io = new_io(kind);
    int fd = open_disk(folder, O_RDWR);
    struct operation across = operation_new(), bad = operation_new();

    CHECK_EQUAL(io_disk_add(io, fd), 0);
    io_read(io, &across.op, fd, buffer, sizeof(buffer), DISK_BYTES - 4096); /* 4096 bytes, then nothing */
    CHECK_EQUAL(result_of(io, &across), -EIO);
    io_write(io, &bad.op, -1, buffer, sizeof(buffer), 0, false);
    CHECK_EQUAL(result_of(io, &bad), -EBADF);
    CHECK_EQUAL(io_disk_add(io, -1), -EBADF);
    io_free(io);
    close(fd);
}

static void a_disk_in_memory_is_served_at_once(uint32_t kind)
{
    uint8_t buffer[512] = {0};
    struct io *io = new_io(kind);
    int fd = open_disk("/dev/shm", O_RDWR), device = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct operation write_op = operation_new();

    CHECK_EQUAL(io_disk_add(io, fd), 0);
    CHECK_EQUAL(io->memory_fd_count, 1);
    CHECK_EQUAL(io_disk_add(io, device), 0); /* its name stands on a tmpfs, its data do not */
    CHECK_EQUAL(io->memory_fd_count, 1);
    io_write(io, &write_op.op, fd, buffer, sizeof(buffer), 0, true);
    CHECK_EQUAL(write_op.done_count, 0);
    CHECK_EQUAL(io_turn(io, UINT64_MAX), 1);
    CHECK_EQUAL(write_op.result, sizeof(buffer));
    io_disk_remove(io, device);
    io_disk_remove(io, fd);
    CHECK_EQUAL(io->memory_fd_count, 0);
    io_free(io);
    close(device);
    close(fd);
}

static void transfers_are_continued_until_whole(void)
{
    uint8_t buffer[4096];
    struct io_op op = {.kind = IO_READ, .buffer = buffer, .length_bytes = 4096, .offset_bytes = 512};

    CHECK(!io_disk_advance(&op, -EINTR) && !io_disk_advance(&op, -EAGAIN), "an interruption ends it");
    CHECK(!io_disk_advance(&op, 1000), "a short transfer ends it");
    CHECK_EQUAL(op.offset_bytes, 1512);
    CHECK(op.buffer == buffer + 1000 && op.length_bytes == 3096, "the rest");
    CHECK(io_disk_advance(&op, 3096), "whole, but not ended");
    CHECK_EQUAL(op.result, 4096);
    op = (struct io_op){.kind = IO_WRITE, .length_bytes = 4096};
    CHECK(io_disk_advance(&op, -EINVAL) && op.result == -EINVAL, "an error of O_DIRECT is reported as it is");
    op = (struct io_op){.kind = IO_WRITE, .length_bytes = 4096};
    CHECK(io_disk_advance(&op, 0) && op.result == -EIO, "a transfer that does not move ends");
    op = (struct io_op){.kind = IO_ZERO, .length_bytes = 4096};
    CHECK(io_disk_advance(&op, -ENODEV) && op.result == -EOPNOTSUPP, "zeroing is not supported");
}

static void more_operations_than_the_ring_has_entries_all_end(uint32_t kind)
{
    enum { COUNT = 1000 };
    struct operation *operations = calloc(COUNT, sizeof(*operations));
    uint8_t (*buffers)[512] = calloc(COUNT, sizeof(*buffers));
    struct io *io = NULL;
    int fd = open_disk("/var/tmp", O_RDWR);

    CHECK_EQUAL(io_new(kind, 8, &io), 0);
    for (int i = 0; i < COUNT; i++) {
        operations[i] = operation_new();
        io_read(io, &operations[i].op, fd, buffers[i], sizeof(*buffers), (uint64_t)i * 512);
    }
    for (int i = 0; i < COUNT; i++)
        CHECK_EQUAL(result_of(io, &operations[i]), 512);
    io_free(io);
    close(fd);
    free(operations);
    free(buffers);
}

struct chain {
    struct operation operation;
    struct io *io;
    int fd;
    int left;
};

static void on_chain(struct io_op *op, int32_t result)
{
    struct chain *chain = (struct chain *)op;

    chain->operation.result = result;
    if (--chain->left > 0)
        io_flush(chain->io, op, chain->fd);
    else
        chain->operation.done_count = 1;
}

static void done_may_queue_the_same_operation_again_and_a_turn_ends(uint32_t kind)
{
    struct io *io = new_io(kind);
    int fd = open_disk("/dev/shm", O_RDWR);
    struct chain chain = {.operation.op.done = on_chain, .io = io, .fd = fd, .left = 50};

    CHECK_EQUAL(io_disk_add(io, fd), 0);
    io_flush(io, &chain.operation.op, fd);
    CHECK_EQUAL(io_turn(io, UINT64_MAX), 1);
    CHECK_EQUAL(chain.left, 49);
    turn_until_done(io, &chain.operation);
    CHECK_EQUAL(chain.left, 0);
    io_free(io);
    close(fd);
}

/* --- Sockets --- */

static void open_pair(int fds[2], int flags)
{
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0, fds), 0);
}

static void a_receive_waits_for_bytes_and_sees_the_end(uint32_t kind, int flags)
{
    char text[16] = {0}, head[2], tail[8] = {0};
    struct iovec whole = {.iov_base = text, .iov_len = sizeof(text)};
    struct iovec parts[2] = {{.iov_base = head, .iov_len = 2}, {.iov_base = tail, .iov_len = sizeof(tail)}};
    struct io *io = new_io(kind);
    struct operation receive = operation_new();
    int fds[2];

    open_pair(fds, flags);
    io_receive(io, &receive.op, fds[0], &whole, 1);
    CHECK_EQUAL(io_turn(io, 0), 0);
    CHECK_EQUAL(io_turn(io, io_clock_ns() + 5 * MS), 0);
    CHECK_EQUAL(send(fds[1], "castor", 6, 0), 6);
    CHECK_EQUAL(result_of(io, &receive), 6);
    CHECK(memcmp(text, "castor", 6) == 0, "%s", text);
    receive = operation_new();
    io_receive(io, &receive.op, fds[0], parts, 2);
    CHECK_EQUAL(send(fds[1], "pollux", 6, 0), 6);
    CHECK_EQUAL(result_of(io, &receive), 6);
    CHECK(memcmp(head, "po", 2) == 0 && memcmp(tail, "llux", 4) == 0, "scattered wrongly");
    close(fds[1]);
    receive = operation_new();
    io_receive(io, &receive.op, fds[0], &whole, 1);
    CHECK_EQUAL(result_of(io, &receive), 0);
    io_free(io);
    close(fds[0]);
}

static void a_send_to_a_closed_peer_is_an_error_and_no_signal(uint32_t kind)
{
    char byte = 'x';
    struct iovec one = {.iov_base = &byte, .iov_len = 1}, two[2] = {one, one};
    struct io *io = new_io(kind);
    struct operation send_one = operation_new(), send_two = operation_new();
    int fds[2];

    open_pair(fds, SOCK_NONBLOCK);
    close(fds[1]);
    io_send(io, &send_one.op, fds[0], &one, 1);
    CHECK_EQUAL(result_of(io, &send_one), -EPIPE);
    io_send(io, &send_two.op, fds[0], two, 2);
    CHECK_EQUAL(result_of(io, &send_two), -EPIPE);
    io_free(io);
    close(fds[0]);
}

/* Both directions at once, more than the sockets hold, in odd pieces: the stream arrives whole and in order. */
static void a_long_stream_arrives_whole(uint32_t kind, int flags)
{
    enum { BYTES = 3 << 20 };
    uint8_t *out = malloc(BYTES), *in = malloc(BYTES);
    size_t sent = 0, received = 0;
    struct operation send_op = operation_new(), receive = operation_new();
    struct iovec out_iov[2], in_iov[2];
    struct io *io = new_io(kind);
    uint64_t state = 3;
    bool sending = false, receiving = false;
    int fds[2];

    fill_buffer(out, BYTES, 11);
    open_pair(fds, flags);
    while (received < BYTES) {
        if (!sending && sent < BYTES) {
            size_t part = (BYTES - sent) / 3;

            out_iov[0] = (struct iovec){.iov_base = out + sent, .iov_len = part};
            out_iov[1] = (struct iovec){.iov_base = out + sent + part, .iov_len = BYTES - sent - part};
            send_op = operation_new();
            io_send(io, &send_op.op, fds[0], part > 0 ? out_iov : &out_iov[1], part > 0 ? 2 : 1);
            sending = true;
        }
        if (!receiving) {
            size_t some = 1 + draw_below(&state, 200000);

            some = some < BYTES - received ? some : BYTES - received;
            in_iov[0] = (struct iovec){.iov_base = in + received, .iov_len = some / 2};
            in_iov[1] = (struct iovec){.iov_base = in + received + some / 2, .iov_len = some - some / 2};
            receive = operation_new();
            io_receive(io, &receive.op, fds[1], in_iov, 2);
            receiving = true;
        }
        CHECK(io_turn(io, io_clock_ns() + SLOW_MS * MS) > 0, "nothing moves after %zu bytes", received);
        if (sending && send_op.done_count > 0) {
            CHECK(send_op.result > 0, "send: %d", send_op.result);
            sent += (size_t)send_op.result;
            sending = false;
        }
        if (receive.done_count > 0) {
            CHECK(receive.result > 0, "receive: %d", receive.result);
            received += (size_t)receive.result;
            receiving = false;
        }
    }
    CHECK(memcmp(in, out, BYTES) == 0, "other bytes");
    if (sending)
        turn_until_done(io, &send_op);
    io_free(io);
    close(fds[0]);
    close(fds[1]);
    free(out);
    free(in);
}

static void what_is_cancelled_is_done_soon(uint32_t kind)
{
    char bytes[4] = {0};
    struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    struct io *io = new_io(kind);
    struct operation receive = operation_new(), never_handed_over = operation_new(), waiting = operation_new();
    int fds[2], other[2], event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    open_pair(fds, SOCK_NONBLOCK);
    open_pair(other, 0);
    io_receive(io, &receive.op, fds[0], &iov, 1);
    io_wait_readable(io, &waiting.op, event_fd);
    CHECK_EQUAL(io_turn(io, io_clock_ns() + 2 * MS), 0);
    io_receive(io, &never_handed_over.op, other[0], &iov, 1);
    io_cancel(io, &never_handed_over.op);
    io_cancel(io, &receive.op);
    io_cancel(io, &receive.op); /* twice is once */
    io_cancel(io, &waiting.op);
    CHECK_EQUAL(receive.done_count, 0);
    CHECK_EQUAL(result_of(io, &receive), -ECANCELED);
    CHECK_EQUAL(result_of(io, &never_handed_over), -ECANCELED);
    CHECK_EQUAL(result_of(io, &waiting), -ECANCELED);
    io_cancel(io, &receive.op); /* no longer under way: nothing happens */
    CHECK_EQUAL(io_turn(io, io_clock_ns() + 2 * MS), 0);
    /* The socket is as good as before. */
    receive = operation_new();
    io_receive(io, &receive.op, fds[0], &iov, 1);
    CHECK_EQUAL(send(fds[1], "abc", 3, 0), 3);
    CHECK_EQUAL(result_of(io, &receive), 3);
    io_free(io);
    close(fds[0]);
    close(fds[1]);
    close(other[0]);
    close(other[1]);
    close(event_fd);
}

/* One socket, waited for in both directions: what ends one wait must not forget the other. */
static void both_directions_of_a_socket_wait_at_once(uint32_t kind)
{
    enum { BYTES = 4 << 20 };
    uint8_t *buffer = calloc(1, BYTES);
    char byte;
    struct iovec much = {.iov_base = buffer, .iov_len = BYTES}, one = {.iov_base = &byte, .iov_len = 1};
    struct operation receive = operation_new(), fill_up = operation_new(), blocked = operation_new();
    struct io *io = new_io(kind);
    int fds[2];

    open_pair(fds, SOCK_NONBLOCK);
    io_receive(io, &receive.op, fds[0], &one, 1);
    io_send(io, &fill_up.op, fds[0], &much, 1);
    CHECK(result_of(io, &fill_up) > 0 && fill_up.result < BYTES, "%d bytes at once", fill_up.result);
    io_send(io, &blocked.op, fds[0], &much, 1);
    CHECK_EQUAL(io_turn(io, io_clock_ns() + 2 * MS), 0);
    CHECK_EQUAL(send(fds[1], "a", 1, 0), 1);
    CHECK_EQUAL(result_of(io, &receive), 1);
    CHECK_EQUAL(blocked.done_count, 0);
    CHECK(recv(fds[1], buffer, (size_t)fill_up.result, MSG_WAITALL | MSG_DONTWAIT) > 0, "nothing to receive");
    CHECK(result_of(io, &blocked) > 0, "send: %d", blocked.result);
    io_free(io);
    close(fds[0]);
    close(fds[1]);
    free(buffer);
}

static void a_number_that_is_given_to_another_socket_is_no_confusion(uint32_t kind)
{
    char bytes[4];
    struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    struct io *io = new_io(kind);
    int fds[2], first;

    open_pair(fds, SOCK_NONBLOCK);
    first = fds[0];
    for (int round = 0; round < 3; round++) {
        struct operation receive = operation_new();

        CHECK_EQUAL(fds[0], first);
        io_receive(io, &receive.op, fds[0], &iov, 1);
        CHECK_EQUAL(io_turn(io, io_clock_ns() + MS), 0);
        CHECK_EQUAL(send(fds[1], "ab", 2, 0), 2);
        CHECK_EQUAL(result_of(io, &receive), 2);
        close(fds[0]);
        close(fds[1]);
        open_pair(fds, SOCK_NONBLOCK);
    }
    io_free(io);
    close(fds[0]);
    close(fds[1]);
}

/* --- Time and waking --- */

static void a_turn_sleeps_until_its_deadline_and_no_longer(uint32_t kind)
{
    struct io *io = new_io(kind);
    uint64_t begin_ns = io_clock_ns(), enters;

    CHECK_EQUAL(io_turn(io, 0), 0);
    CHECK_EQUAL(io_turn(io, begin_ns), 0); /* long past */
    CHECK_EQUAL(io_turn(io, begin_ns + 30 * MS), 0);
    CHECK(io_clock_ns() >= begin_ns + 30 * MS, "woke %lld ns early", (long long)(begin_ns + 30 * MS - io_clock_ns()));
    CHECK(io_clock_ns() < begin_ns + SLOW_MS * MS, "overslept");
    CHECK(io_now_ns(io) >= begin_ns + 30 * MS, "the turn's clock stands still");
    enters = io_enters(io);
    CHECK_EQUAL(io_turn(io, io_clock_ns() + MS), 0);
    CHECK_EQUAL(io_enters(io), enters + 1);
    io_free(io);
}

static void *wake_later(void *argument)
{
    (void)usleep(20000);
    CHECK_EQUAL(eventfd_write(*(int *)argument, 1), 0);
    return NULL;
}

static void an_eventfd_wakes_a_sleeping_turn(uint32_t kind)
{
    struct io *io = new_io(kind);
    int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct operation wait = operation_new();
    pthread_t thread;
    eventfd_t value;

    for (int round = 0; round < 2; round++) {
        wait = operation_new();
        io_wait_readable(io, &wait.op, event_fd);
        CHECK_EQUAL(pthread_create(&thread, NULL, wake_later, &event_fd), 0);
        CHECK_EQUAL(result_of(io, &wait), 0);
        CHECK_EQUAL(eventfd_read(event_fd, &value), 0);
        CHECK_EQUAL(pthread_join(thread, NULL), 0);
    }
    io_free(io);
    close(event_fd);
}

struct waker {
    int event_fd;
    struct io *io;
};

static void *turn_elsewhere(void *argument)
{
    struct waker *waker = argument;
    struct operation wait = operation_new();

    io_wait_readable(waker->io, &wait.op, waker->event_fd);
    CHECK_EQUAL(eventfd_write(waker->event_fd, 1), 0);
    CHECK_EQUAL(result_of(waker->io, &wait), 0);
    return NULL;
}

static void the_thread_that_turns_need_not_be_the_one_that_made_it(uint32_t kind)
{
    struct waker waker = {.event_fd = eventfd(0, EFD_CLOEXEC), .io = new_io(kind)};
    pthread_t thread;

    CHECK_EQUAL(pthread_create(&thread, NULL, turn_elsewhere, &waker), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    io_free(waker.io);
    close(waker.event_fd);
}

static void a_failed_allocation_leaves_nothing_behind(uint32_t kind)
{
    struct io *io = NULL;
    unsigned nth = 1;
    int rc;

    do {
        allocations_left_to_fail = nth;
        rc = io_new(kind, 64, &io);
        CHECK(rc == 0 || (rc == -ENOMEM && !io), "allocation %u: %d", nth, rc);
        nth++;
    } while (rc < 0);
    allocations_left_to_fail = 0;
    CHECK(nth > 2, "no allocation failed");
    io_free(io);
    CHECK_EQUAL(io_new(kind, 0, &io), -EINVAL);
    CHECK_EQUAL(io_new(77, 64, &io), -EINVAL);
    io_free(NULL);
}

static void every_behaviour(uint32_t kind)
{
    a_disk_reads_back_what_was_written(kind, "/dev/shm", O_RDWR);
    a_disk_reads_back_what_was_written(kind, "/var/tmp", O_RDWR);
    a_disk_reads_back_what_was_written(kind, "/var/tmp", O_DIRECT);
    a_disk_in_memory_is_served_at_once(kind);
    a_disk_flushes_zeroes_and_punches(kind, "/dev/shm", true);
    a_disk_flushes_zeroes_and_punches(kind, "/var/tmp", false);
    a_read_across_the_end_is_an_error(kind, "/dev/shm");
    a_read_across_the_end_is_an_error(kind, "/var/tmp");
    more_operations_than_the_ring_has_entries_all_end(kind);
    done_may_queue_the_same_operation_again_and_a_turn_ends(kind);
    a_receive_waits_for_bytes_and_sees_the_end(kind, 0);
    a_receive_waits_for_bytes_and_sees_the_end(kind, SOCK_NONBLOCK);
    a_send_to_a_closed_peer_is_an_error_and_no_signal(kind);
    a_long_stream_arrives_whole(kind, 0);
    a_long_stream_arrives_whole(kind, SOCK_NONBLOCK);
    what_is_cancelled_is_done_soon(kind);
    both_directions_of_a_socket_wait_at_once(kind);
    a_number_that_is_given_to_another_socket_is_no_confusion(kind);
    a_turn_sleeps_until_its_deadline_and_no_longer(kind);
    an_eventfd_wakes_a_sleeping_turn(kind);
    the_thread_that_turns_need_not_be_the_one_that_made_it(kind);
    a_failed_allocation_leaves_nothing_behind(kind);
}

int main(void)
{
    struct io *io;

    transfers_are_continued_until_whole();
    CHECK_EQUAL(io_new(CORE_IO_AUTO, 64, &io), 0);
    if (strcmp(io_name(io), "io_uring") == 0)
        every_behaviour(CORE_IO_URING);
    else
        fprintf(stderr, "io_uring is not to be had here: only the threads are tested\n");
    io_free(io);
    every_behaviour(CORE_IO_THREADS);
    return 0;
}
