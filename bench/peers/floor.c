/* floor.c - the least that an honest protocol-C replicator must do; the yardstick for everything that does more.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 *   floor replica FILE PORT                     write what one peer sends, acknowledge after the write
 *   floor primary FILE PORT SOCKET SIZE         an NBD export on a UNIX socket, replicated to 127.0.0.1:PORT
 *
 * A write is answered when the local write and the peer's acknowledgement, after its own write, are both in; a flush
 * when both disks were flushed.  One thread, one io_uring for the disk, one receive, one send per peer and one send of
 * replies in a turn.  There is no bitmap, no activity log, no identifier, no check of anything that a peer says, and no
 * way to come back after a loss: a real program cannot be much faster on the same machine.  Any error ends it. */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ = 0, WRITE = 1, DISCONNECT = 2, FLUSH = 3 }; /* NBD's numbers, on the peer's wire too */

#define REQUESTS 128
#define PAYLOAD_MAX (1U << 20)
#define STREAM_BYTES (8U << 20)

struct nbd_header {
    uint32_t magic;
    uint16_t flags, type;
    uint64_t cookie, offset;
    uint32_t length;
} __attribute__((packed));

struct nbd_reply {
    uint32_t magic, error;
    uint64_t cookie;
} __attribute__((packed));

struct frame { /* to the replica, host order: both ends are on one machine; `id` is the primary's slot */
    uint64_t id, offset;
    uint32_t length, type;
};

struct ack {
    uint64_t id;
    uint64_t error;
};

struct request {
    char *payload; /* PAYLOAD_MAX bytes, aligned for O_DIRECT */
    uint64_t id, offset;
    uint32_t length, type;
    uint32_t legs; /* disk, peer: still out */
    uint32_t error;
};

struct stream {
    int fd;
    char *in, *out;
    size_t in_bytes, out_bytes;
};

struct replicator {
    bool primary;
    int listener; /* for NBD clients, one at a time */
    uint64_t size_bytes;
    int disk_fd;
    struct io_uring ring;
    struct stream client; /* who asks us: an NBD client, or the primary */
    struct stream peer;   /* whom we replicate to; fd -1 on the replica */
    struct request requests[REQUESTS];
    struct request *idle[REQUESTS];
    uint32_t idle_count;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void send_all(int fd, const void *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t sent = send(fd, (const char *)data + done, length - done, MSG_NOSIGNAL);
        if (sent <= 0) {
            die("send");
        }
        done += (size_t)sent;
    }
}

static void receive_all(int fd, void *data, size_t length)
{
    if (length > 0 && recv(fd, data, length, MSG_WAITALL) != (ssize_t)length) {
        die("recv");
    }
}

static void stream_flush(struct stream *stream)
{
    send_all(stream->fd, stream->out, stream->out_bytes);
    stream->out_bytes = 0;
}

static void stream_put(struct stream *stream, const void *data, size_t length)
{
    if (stream->out_bytes + length > STREAM_BYTES) {
        stream_flush(stream);
    }
    memcpy(stream->out + stream->out_bytes, data, length);
    stream->out_bytes += length;
}

/* Takes what has arrived, without waiting; returns false when the other end has closed. */
static bool stream_fill(struct stream *stream)
{
    if (stream->in_bytes == STREAM_BYTES) {
        return true;
    }
    ssize_t got = recv(stream->fd, stream->in + stream->in_bytes, STREAM_BYTES - stream->in_bytes, MSG_DONTWAIT);
    if (got < 0 && errno != EAGAIN) {
        die("recv");
    }
    stream->in_bytes += got > 0 ? (size_t)got : 0;
    return got != 0;
}

static void stream_consume(struct stream *stream, size_t length)
{
    stream->in_bytes -= length;
    memmove(stream->in, stream->in + length, stream->in_bytes);
}

static void request_leg_done(struct replicator *self, struct request *request, uint32_t error)
{
    request->error = error != 0 ? error : request->error;
    if (--request->legs > 0) {
        return;
    }
    if (self->primary) {
        struct nbd_reply reply = {htobe32(0x67446698), htobe32(request->error), request->id};
        stream_put(&self->client, &reply, sizeof reply);
        if (request->type == READ && request->error == 0) {
            stream_put(&self->client, request->payload, request->length);
        }
    } else {
        struct ack ack = {request->id, request->error};
        stream_put(&self->client, &ack, sizeof ack);
    }
    self->idle[self->idle_count++] = request;
}

static void request_start(struct replicator *self, struct request *request)
{
    request->legs = 1;
    request->error = 0;
    if (self->primary && request->type != READ) {
        struct frame frame = {(uint64_t)(request - self->requests), request->offset, request->length, request->type};
        request->legs = 2;
        stream_put(&self->peer, &frame, sizeof frame);
        if (request->type == WRITE) {
            stream_put(&self->peer, request->payload, request->length);
        }
    }
    struct io_uring_sqe *sqe = io_uring_get_sqe(&self->ring);
    if (request->type == WRITE) {
        io_uring_prep_write(sqe, self->disk_fd, request->payload, request->length, request->offset);
    } else if (request->type == READ) {
        io_uring_prep_read(sqe, self->disk_fd, request->payload, request->length, request->offset);
    } else {
        io_uring_prep_fsync(sqe, self->disk_fd, IORING_FSYNC_DATASYNC);
    }
    io_uring_sqe_set_data(sqe, request);
}

static void take_completions(struct replicator *self)
{
    struct io_uring_cqe *cqe;
    io_uring_get_events(&self->ring);
    while (io_uring_peek_cqe(&self->ring, &cqe) == 0) {
        struct request *request = io_uring_cqe_get_data(cqe);
        bool whole = request->type == FLUSH ? cqe->res == 0 : cqe->res == (int)request->length;
        io_uring_cqe_seen(&self->ring, cqe);
        request_leg_done(self, request, whole ? 0 : EIO);
    }
}

static void take_acks(struct replicator *self)
{
    struct stream *peer = &self->peer;
    size_t done = 0;
    if (!stream_fill(peer)) {
        exit(0);
    }
    for (; peer->in_bytes - done >= sizeof(struct ack); done += sizeof(struct ack)) {
        struct ack ack;
        memcpy(&ack, peer->in + done, sizeof ack);
        request_leg_done(self, &self->requests[ack.id], (uint32_t)ack.error);
    }
    stream_consume(peer, done);
}

static void reply_option(int fd, uint32_t option, uint32_t type, const void *data, uint32_t length)
{
    struct {
        uint64_t magic;
        uint32_t option, type, length;
    } __attribute__((packed)) reply = {htobe64(0x3e889045565a9), htobe32(option), htobe32(type), htobe32(length)};
    send_all(fd, &reply, sizeof reply);
    send_all(fd, data, length);
}

/* Fixed newstyle, options GO and INFO; returns false when the client gave up. */
static bool negotiate(int fd, uint64_t size_bytes)
{
    struct {
        uint64_t magic, option_magic;
        uint16_t flags;
    } __attribute__((packed)) hello = {htobe64(0x4e42444d41474943), htobe64(0x49484156454f5054), htobe16(3)};
    struct {
        uint16_t type;
        uint64_t size;
        uint16_t flags; /* HAS_FLAGS, SEND_FLUSH */
    } __attribute__((packed)) info = {0, htobe64(size_bytes), htobe16(1 | 4)};
    uint32_t client_flags;
    send_all(fd, &hello, sizeof hello);
    receive_all(fd, &client_flags, sizeof client_flags);
    for (;;) {
        struct {
            uint64_t magic;
            uint32_t option, length;
        } __attribute__((packed)) head;
        char ignored[4096];
        receive_all(fd, &head, sizeof head);
        uint32_t option = be32toh(head.option), length = be32toh(head.length);
        if (length > sizeof ignored) {
            return false;
        }
        receive_all(fd, ignored, length);
        if (option == 2) { /* ABORT */
            return false;
        }
        if (option != 6 && option != 7) {
            reply_option(fd, option, 0x80000001, NULL, 0); /* ERR_UNSUP */
            continue;
        }
        reply_option(fd, option, 3, &info, sizeof info);
        reply_option(fd, option, 1, NULL, 0);
        if (option == 7) {
            return true;
        }
    }
}

/* A client has gone: the replica ends with its primary, the primary waits for the next one. */
static void next_client(struct replicator *self)
{
    if (!self->primary) {
        exit(0);
    }
    close(self->client.fd);
    self->client.in_bytes = self->client.out_bytes = 0;
    do {
        self->client.fd = accept(self->listener, NULL, NULL);
    } while (self->client.fd < 0 || !negotiate(self->client.fd, self->size_bytes));
}

static void parse_header(const struct replicator *self, const char *data, struct request *next)
{
    if (!self->primary) {
        struct frame frame;
        memcpy(&frame, data, sizeof frame);
        *next = (struct request){.id = frame.id, .offset = frame.offset, .length = frame.length, .type = frame.type};
        return;
    }
    struct nbd_header header;
    memcpy(&header, data, sizeof header);
    *next = (struct request){.id = header.cookie,
                             .offset = be64toh(header.offset),
                             .length = be32toh(header.length),
                             .type = be16toh(header.type)};
}

static void take_requests(struct replicator *self)
{
    struct stream *client = &self->client;
    size_t header_bytes = self->primary ? sizeof(struct nbd_header) : sizeof(struct frame);
    size_t done = 0;
    while (client->in_bytes - done >= header_bytes && self->idle_count > 0) {
        struct request next;
        parse_header(self, client->in + done, &next);
        if (next.type == DISCONNECT) {
            next_client(self);
            return;
        }
        size_t payload_bytes = next.type == WRITE ? next.length : 0;
        if (next.length > PAYLOAD_MAX) {
            errno = EMSGSIZE;
            die("request");
        }
        if (client->in_bytes - done < header_bytes + payload_bytes) {
            break;
        }
        struct request *request = self->idle[--self->idle_count];
        next.payload = request->payload;
        *request = next;
        memcpy(request->payload, client->in + done + header_bytes, payload_bytes);
        request_start(self, request);
        done += header_bytes + payload_bytes;
    }
    stream_consume(client, done);
}

static void run(struct replicator *self)
{
    for (;;) {
        struct pollfd ready[3] = {
            {self->client.fd, POLLIN, 0}, {self->peer.fd, POLLIN, 0}, {self->ring.ring_fd, POLLIN, 0}};
        if (poll(ready, 3, -1) < 0) {
            die("poll");
        }
        take_completions(self);
        if (ready[1].revents != 0) {
            take_acks(self);
        }
        if (ready[0].revents != 0 && !stream_fill(&self->client)) {
            next_client(self);
        }
        take_requests(self);
        if (self->primary) {
            stream_flush(&self->peer);
        }
        if (io_uring_submit(&self->ring) < 0) {
            die("io_uring_submit");
        }
        stream_flush(&self->client);
    }
}

static int listen_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4) < 0) {
        die(path);
    }
    return listener;
}

/* One TCP socket to the other half: the replica waits for it, the primary makes it. */
static int meet(bool primary, uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (primary) {
        if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
            die("connect");
        }
    } else {
        if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 1) < 0) {
            die("listen");
        }
        fd = accept(fd, NULL, NULL);
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void stream_init(struct stream *stream, int fd)
{
    *stream = (struct stream){.fd = fd, .in = malloc(STREAM_BYTES), .out = malloc(STREAM_BYTES)};
    if (stream->in == NULL || stream->out == NULL) {
        die("malloc");
    }
}

int main(int argc, char **argv)
{
    bool primary = argc == 6 && strcmp(argv[1], "primary") == 0;
    if (!primary && !(argc == 4 && strcmp(argv[1], "replica") == 0)) {
        (void)fprintf(stderr, "usage: floor replica FILE PORT | floor primary FILE PORT SOCKET SIZE\n");
        return 2;
    }
    struct replicator *self = calloc(1, sizeof *self);
    if (self == NULL) {
        die("calloc");
    }
    self->primary = primary;
    self->disk_fd = open(argv[2], O_RDWR | O_DIRECT);
    if (self->disk_fd < 0 || io_uring_queue_init(2 * REQUESTS, &self->ring, 0) < 0) {
        die(argv[2]);
    }
    for (uint32_t i = 0; i < REQUESTS; i++) {
        self->requests[i].payload = aligned_alloc(4096, PAYLOAD_MAX);
        if (self->requests[i].payload == NULL) {
            die("aligned_alloc");
        }
        self->idle[self->idle_count++] = &self->requests[i];
    }
    int other = meet(primary, (uint16_t)strtoul(argv[3], NULL, 10));
    stream_init(&self->peer, primary ? other : -1);
    stream_init(&self->client, primary ? -1 : other);
    if (primary) {
        self->listener = listen_unix(argv[4]);
        self->size_bytes = strtoull(argv[5], NULL, 10);
        next_client(self);
    }
    run(self);
}
