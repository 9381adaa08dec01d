/* memory_server.c - a server over an export in memory, so that foreign clients can judge the NBD room alone.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One thread, poll(2), a UNIX socket.  It is also the shortest example of a driver for nbd_session.h: a receive
 * whenever the session wants input, a send whenever it has output, the deadline of the negotiation, and the end. */
#include "memory_export.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS_MAX = 400 };

struct client {
    int fd;
    struct nbd_session *session; /* NULL: this place is free */
    int64_t deadline_ms;         /* of the negotiation */
};

struct server {
    struct memory_export memory;
    int listener_fd;
    int64_t handshake_ms;
    bool verbose;
    struct client clients[CLIENTS_MAX];
    struct pollfd polls[CLIENTS_MAX + 1];
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void client_close(struct server *server, struct client *client, const char *why)
{
    if (server->verbose) {
        fprintf(stderr, "closed: %s\n", why);
    }
    close(client->fd);
    nbd_session_free(client->session);
    client->session = NULL;
}

static bool client_is_done(const struct client *client)
{
    struct iovec iov;
    const enum nbd_state state = nbd_session_state(client->session);
    return state == NBD_FAILED || (state == NBD_CLOSING && nbd_session_in_flight(client->session) == 0 &&
                                   nbd_session_send_iov(client->session, &iov, 1) == 0);
}

/* False: the connection is lost. */
static bool client_receive(struct client *client)
{
    struct iovec iov[2];
    struct msghdr message = {.msg_iov = iov};
    message.msg_iovlen = nbd_session_recv_iov(client->session, iov);
    if (message.msg_iovlen == 0) {
        return true;
    }
    const ssize_t got = recvmsg(client->fd, &message, MSG_DONTWAIT);
    if (got < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    nbd_session_received(client->session, (size_t)got);
    return true;
}

static bool client_send(struct client *client)
{
    struct iovec iov[NBD_IOV_MAX];
    struct msghdr message = {.msg_iov = iov};
    message.msg_iovlen = nbd_session_send_iov(client->session, iov, NBD_IOV_MAX);
    if (message.msg_iovlen == 0) {
        return true;
    }
    const ssize_t sent = sendmsg(client->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    nbd_session_sent(client->session, (size_t)sent);
    return true;
}

static void client_turn(struct server *server, struct client *client, short events)
{
    const bool alive = ((events & (POLLIN | POLLHUP | POLLERR)) == 0 || client_receive(client)) && client_send(client);
    if (!alive) {
        client_close(server, client, "the connection is lost");
    } else if (client_is_done(client)) {
        client_close(server, client, nbd_session_reason(client->session));
    } else if (nbd_session_state(client->session) == NBD_HANDSHAKE && now_ms() > client->deadline_ms) {
        client_close(server, client, "the negotiation took too long");
    }
}

static void server_accept(struct server *server)
{
    const int fd = accept4(server->listener_fd, NULL, NULL, SOCK_CLOEXEC);
    for (uint32_t i = 0; fd >= 0 && i < CLIENTS_MAX; i++) {
        struct client *client = &server->clients[i];
        if (client->session == NULL && nbd_session_new(&server->memory.export, &client->session) == 0) {
            client->fd = fd;
            client->deadline_ms = now_ms() + server->handshake_ms;
            return;
        }
    }
    close(fd);
}

static int client_wait_ms(const struct server *server, const struct client *client)
{
    if (nbd_session_state(client->session) != NBD_HANDSHAKE) {
        return -1;
    }
    const int64_t left_ms = client->deadline_ms - now_ms() + 1;
    return left_ms < 0 ? 0 : (int)(left_ms < server->handshake_ms ? left_ms : server->handshake_ms);
}

static void server_turn(struct server *server)
{
    struct iovec iov[2];
    int wait_ms = -1;
    server->polls[CLIENTS_MAX] = (struct pollfd){.fd = server->listener_fd, .events = POLLIN};
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
        const struct client *client = &server->clients[i];
        server->polls[i] = (struct pollfd){.fd = -1};
        if (client->session == NULL) {
            continue;
        }
        server->polls[i].fd = client->fd;
        server->polls[i].events = (short)((nbd_session_recv_iov(client->session, iov) > 0 ? POLLIN : 0) |
                                          (nbd_session_send_iov(client->session, iov, 1) > 0 ? POLLOUT : 0));
        const int client_ms = client_wait_ms(server, client);
        wait_ms = client_ms >= 0 && (wait_ms < 0 || client_ms < wait_ms) ? client_ms : wait_ms;
    }
    if (poll(server->polls, CLIENTS_MAX + 1, wait_ms) < 0) {
        return;
    }
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
        if (server->clients[i].session != NULL) {
            client_turn(server, &server->clients[i], server->polls[i].revents);
        }
    }
    if ((server->polls[CLIENTS_MAX].revents & POLLIN) != 0) {
        server_accept(server);
    }
}

static void server_listen(struct server *server, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    REQUIRE(strlen(path) < sizeof(address.sun_path), "the path is too long: %s", path);
    memcpy(address.sun_path, path, strlen(path));
    server->listener_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(bind(server->listener_fd, (struct sockaddr *)&address, sizeof(address)) == 0, "%s: %s", path,
            strerror(errno));
    REQUIRE(listen(server->listener_fd, 512) == 0, "%s", strerror(errno));
}

static uint64_t number(const char *text)
{
    char *end;
    const uint64_t value = strtoull(text, &end, 0);
    REQUIRE(*text != '\0' && *end == '\0', "not a number: %s", text);
    return value;
}

static void server_options(struct server *server, int argc, char **argv)
{
    static const struct option options[] = {{"read-only", no_argument, NULL, 'r'},
                                            {"fast-zero", no_argument, NULL, 'z'},
                                            {"copy", no_argument, NULL, 'c'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {"block-min", required_argument, NULL, 'b'},
                                            {"handshake-ms", required_argument, NULL, 'h'},
                                            {0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'r') {
            server->memory.export.read_only = true;
        } else if (option == 'z') {
            server->memory.export.fast_zero = true;
        } else if (option == 'c') {
            server->memory.in_place = false;
        } else if (option == 'v') {
            server->verbose = true;
        } else if (option == 'b') {
            server->memory.export.block_min_bytes = (uint32_t)number(optarg);
        } else if (option == 'h') {
            server->handshake_ms = (int64_t)number(optarg);
        } else {
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    static struct server server;
    if (argc < 3) {
        fprintf(stderr,
                "usage: %s SOCKET SIZE_BYTES [--read-only] [--fast-zero] [--copy] [--block-min BYTES]"
                " [--handshake-ms MS] [--verbose]\n",
                argv[0]);
        return 2;
    }
    memory_export_init(&server.memory, number(argv[2]));
    server.memory.in_place = true;
    server.handshake_ms = 10000;
    server_options(&server, argc - 2, argv + 2);
    signal(SIGPIPE, SIG_IGN);
    server_listen(&server, argv[1]);
    for (;;) {
        server_turn(&server);
    }
}
