/* test_read_balancing.c - which of two good disks a read is served from, and that it is never old, nor an error.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The two disks are made to differ, so that a read tells where it came from. */
#include "one_client.h"

#define HERE 'h'
#define THERE 't'

static enum core_io io_kind;

static void pair_start(struct node *primary, struct node *secondary, uint32_t policy, uint32_t protocol)
{
    node_start(primary, io_kind);
    node_start(secondary, io_kind);
    node_attach(primary, 128);
    node_attach(secondary, 128);
    nodes_join(primary, secondary);
    node_accept(secondary, CORE_ACCEPT_WRITES | CORE_ACCEPT_READS);
    check(core_replicate(primary->engine, CORE_REPLICATE_PEER, protocol) == 0);
    check(core_read_balancing(primary->engine, policy) == 0);
    check(core_reads(primary->engine, CORE_READS_BALANCED) == 0);
    check(core_export_open(primary->engine, ++primary->token, "r0", 0) == 0);
    check(node_done(primary) == 0);
}

static void pair_stop(struct node *primary, struct node *secondary, int fd)
{
    close(fd);
    node_stop(primary);
    node_stop(secondary);
}

static void mark(struct node *primary, struct node *secondary)
{
    static char bytes[4 << 20];
    memset(bytes, HERE, sizeof bytes);
    check(pwrite(primary->data_fd, bytes, sizeof bytes, 0) == (ssize_t)sizeof bytes);
    memset(bytes, THERE, sizeof bytes);
    check(pwrite(secondary->data_fd, bytes, sizeof bytes, 0) == (ssize_t)sizeof bytes);
}

static char read_at(int fd, uint64_t offset)
{
    char block[512];
    nbd_request(fd, 0, 0, offset, sizeof block, NULL);
    check(nbd_reply(fd) == 0);
    read_all(fd, block, sizeof block);
    return block[0];
}

static void the_policy_says_where(void)
{
    for (uint32_t policy = 0; policy <= CORE_BALANCE_STRIPING_1M; policy++) {
        struct node primary, secondary;
        pair_start(&primary, &secondary, policy, 3);
        mark(&primary, &secondary);
        int fd = nbd_connect(&primary);
        bool striped = policy >= CORE_BALANCE_STRIPING_32K;
        uint64_t step = striped ? 32768ull << (policy - CORE_BALANCE_STRIPING_32K) : 4096;
        for (uint64_t i = 0; i < 4; i++) {
            char from = read_at(fd, i * step);
            bool odd = i % 2 == 1;
            if (striped)
                check(from == (odd ? THERE : HERE) && read_at(fd, i * step + step - 512) == from);
            else if (policy == CORE_BALANCE_ROUND_ROBIN)
                check(from == (odd ? HERE : THERE));
            else
                check(from == (policy == CORE_BALANCE_PREFER_REMOTE ? THERE : HERE)); /* an idle disk is not busy */
        }
        pair_stop(&primary, &secondary, fd);
    }
}

/* Under A the answer to a write only says that it was sent: the peer reads it back all the same. */
static void nothing_old_is_read_from_the_peer(uint32_t protocol)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary, CORE_BALANCE_PREFER_REMOTE, protocol);
    int fd = nbd_connect(&primary);
    static char block[65536];
    for (int i = 0; i < 400; i++) {
        uint64_t offset = (uint64_t)(i % 3) * 4096;
        memset(block, i % 250 + 1, sizeof block);
        nbd_request(fd, 1, 0, offset, sizeof block, block);
        check(nbd_reply(fd) == 0);
        check(read_at(fd, offset + (uint64_t)(i % 100) * 512) == (char)(i % 250 + 1));
    }
    struct core_counters counters;
    core_engine_counters(secondary.engine, &counters);
    check(counters.read_sectors > 300);
    pair_stop(&primary, &secondary, fd);
}

static void what_the_peer_may_not_answer_is_read_here(void)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary, CORE_BALANCE_PREFER_REMOTE, 3);
    mark(&primary, &secondary);
    int fd = nbd_connect(&primary);
    node_accept(&secondary, CORE_ACCEPT_WRITES); /* its disk is no good any more, and the primary does not know yet */
    check(read_at(fd, 0) == HERE);
    node_accept(&secondary, CORE_ACCEPT_WRITES | CORE_ACCEPT_READS);
    check(read_at(fd, 0) == THERE);
    check(!node_has(&primary, CORE_FACT_PEER_LOST));
    pair_stop(&primary, &secondary, fd);
}

/* The peer takes the question and says nothing. */
static void a_peer_lost_in_the_middle_costs_no_error(bool answers_half)
{
    struct node primary;
    int data[2];
    int meta[2];
    char request[40];
    node_start(&primary, io_kind);
    node_attach(&primary, 128);
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, data) == 0);
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, meta) == 0);
    node_join(&primary, data[0], meta[0]);
    check(core_replicate(primary.engine, CORE_REPLICATE_PEER, 3) == 0);
    check(core_read_balancing(primary.engine, CORE_BALANCE_PREFER_REMOTE) == 0);
    check(core_reads(primary.engine, CORE_READS_BALANCED) == 0);
    check(core_export_open(primary.engine, ++primary.token, "r0", 0) == 0);
    check(node_done(&primary) == 0);
    char block[4096];
    memset(block, HERE, sizeof block);
    check(pwrite(primary.data_fd, block, sizeof block, 0) == (ssize_t)sizeof block);
    int fd = nbd_connect(&primary);
    nbd_request(fd, 0, 0, 0, sizeof block, NULL);
    read_all(data[1], request, sizeof request);
    check(!nbd_replied(fd, 100));
    if (answers_half) {
        char reply[16 + 24 + 2048];
        uint32_t length = htobe32(24 + 4096);
        memset(reply, THERE, sizeof reply);
        memset(reply, 0, 40);
        memcpy(reply, request, 8);
        reply[7] = 1; /* DATA_REPLY */
        memcpy(reply + 8, &length, 4);
        memcpy(reply + 16, request + 16, 16); /* sector, block_id */
        write_all(data[1], reply, sizeof reply);
    }
    close(data[1]);
    close(meta[1]);
    check(nbd_reply(fd) == 0); /* before the control plane has said anything */
    read_all(fd, block, sizeof block);
    for (size_t i = 0; i < sizeof block; i++)
        check(block[i] == HERE);
    close(fd);
    node_stop(&primary);
}

int main(void)
{
    const enum core_io kinds[] = {CORE_IO_URING, CORE_IO_THREADS};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        io_kind = kinds[i];
        the_policy_says_where();
        for (uint32_t protocol = 1; protocol <= 3; protocol++)
            nothing_old_is_read_from_the_peer(protocol);
        what_the_peer_may_not_answer_is_read_here();
        a_peer_lost_in_the_middle_costs_no_error(false);
        a_peer_lost_in_the_middle_costs_no_error(true);
    }
    return 0;
}
