/* test_faults.c - disks that fail and peers that go, under writes: what is answered, when, and what is marked.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A disk that fails: a descriptor that may only be read (writes fail), only be written (reads fail), or /dev/null
 * (flushes fail). */
#include "one_client.h"

static enum core_io io_kind;

/* A second opening of a disk in memory, by its descriptor. */
static int reopened(int fd, int flags)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, flags | O_CLOEXEC);
    check(again >= 0);
    return again;
}

static void attach_as(struct node *node, int data_fd)
{
    int own = node->data_fd;
    node->data_fd = data_fd;
    node_attach(node, 128);
    node->data_fd = own;
    close(data_fd);
}

static void start(struct node *primary, int data_fd)
{
    attach_as(primary, data_fd);
    check(core_export_open(primary->engine, ++primary->token, "r0", 0) == 0);
    check(node_done(primary) == 0);
}

static void start_pair(struct node *primary, struct node *secondary, int flags)
{
    node_start(primary, io_kind);
    node_start(secondary, io_kind);
    node_attach(secondary, 128);
    nodes_join(primary, secondary);
    node_accept(secondary, CORE_ACCEPT_WRITES | CORE_ACCEPT_READS);
    check(core_replicate(primary->engine, CORE_REPLICATE_PEER, 3) == 0);
    start(primary, reopened(primary->data_fd, flags));
}

static void stop_pair(struct node *primary, struct node *secondary)
{
    node_stop(primary);
    node_stop(secondary);
}

static void detach(struct node *node)
{
    check(core_gate(node->engine, CORE_GATE_SUSPENDED) == 0);
    check(core_detach(node->engine, ++node->token) == 0);
    check(node_done(node) == 0);
}

static uint64_t bits(struct node *node)
{
    struct core_counters counters;
    check(core_flush(node->engine, ++node->token) == 0); /* a turn, and the counters of before it are published */
    node_done(node);
    check(core_bitmap_set(node->engine, ++node->token, 0, 0) == 0);
    node_done(node);
    usleep(20000);
    core_engine_counters(node->engine, &counters);
    return counters.out_of_sync_bits;
}

static bool disk_has(struct node *node, uint64_t offset, const char *block, size_t length)
{
    char found[4096];
    check(length <= sizeof found && pread(node->data_fd, found, length, (off_t)offset) == (ssize_t)length);
    return memcmp(found, block, length) == 0;
}

static void a_write_that_the_disk_refuses_is_answered_when_it_is_gone_and_the_peer_has_it(void)
{
    struct node primary, secondary;
    start_pair(&primary, &secondary, O_RDONLY);
    int fd = nbd_connect(&primary);
    char block[4096];
    memset(block, 3, sizeof block);
    nbd_request(fd, 1, 0, 8192, sizeof block, block);
    struct core_fact failed = node_await(&primary, CORE_FACT_DISK_FAILED, 0);
    check(failed.b == CORE_DISK_WRITE && failed.result < 0 && failed.a == 16);
    check(!nbd_replied(fd, 100));
    detach(&primary);
    check(core_reads(primary.engine, CORE_READS_PEER) == 0);
    check(core_gate(primary.engine, CORE_GATE_OPEN) == 0);
    check(nbd_reply(fd) == 0);
    check(disk_has(&secondary, 8192, block, sizeof block));
    memset(block, 4, sizeof block);
    nbd_request(fd, 1, 0, 8192, sizeof block, block);
    check(nbd_reply(fd) == 0);
    check(disk_has(&secondary, 8192, block, sizeof block));
    nbd_request(fd, 3, 0, 0, 0, NULL);
    check(nbd_reply(fd) == 0);
    close(fd);
    stop_pair(&primary, &secondary);
}

static void a_write_without_a_disk_waits_while_suspended_and_goes_to_the_next_disk(void)
{
    struct node primary;
    node_start(&primary, io_kind);
    start(&primary, reopened(primary.data_fd, O_RDONLY));
    int fd = nbd_connect(&primary);
    char block[4096];
    memset(block, 5, sizeof block);
    nbd_request(fd, 1, 0, 4096, sizeof block, block);
    node_await(&primary, CORE_FACT_DISK_FAILED, 0);
    detach(&primary);
    check(!nbd_replied(fd, 100));
    node_attach(&primary, 128);
    check(core_gate(primary.engine, CORE_GATE_OPEN) == 0);
    check(nbd_reply(fd) == 0);
    check(disk_has(&primary, 4096, block, sizeof block));
    close(fd);
    node_stop(&primary);
}

static void a_write_without_any_copy_fails(void)
{
    struct node primary;
    node_start(&primary, io_kind);
    start(&primary, reopened(primary.data_fd, O_RDONLY));
    int fd = nbd_connect(&primary);
    char block[4096] = {1};
    nbd_request(fd, 1, 0, 4096, sizeof block, block);
    node_await(&primary, CORE_FACT_DISK_FAILED, 0);
    detach(&primary);
    check(core_gate(primary.engine, CORE_GATE_OPEN) == 0);
    check(nbd_reply(fd) == 5);
    nbd_request(fd, 3, 0, 0, 0, NULL);
    check(nbd_reply(fd) == 5);
    close(fd);
    node_stop(&primary);
}

static void a_read_that_the_disk_refuses_comes_from_the_peer(void)
{
    struct node primary, secondary;
    start_pair(&primary, &secondary, O_WRONLY);
    int fd = nbd_connect(&primary);
    char block[4096];
    char back[4096];
    memset(block, 6, sizeof block);
    nbd_request(fd, 1, 0, 0, sizeof block, block);
    check(nbd_reply(fd) == 0);
    nbd_request(fd, 0, 0, 0, sizeof back, NULL);
    check(nbd_reply(fd) == 0);
    read_all(fd, back, sizeof back);
    check(memcmp(block, back, sizeof back) == 0);
    check(node_await(&primary, CORE_FACT_DISK_FAILED, 0).b == CORE_DISK_READ);
    close(fd);
    stop_pair(&primary, &secondary);
}

static void a_disk_that_is_kept_has_what_it_refused_marked(void)
{
    struct node primary, secondary;
    start_pair(&primary, &secondary, O_RDONLY);
    int fd = nbd_connect(&primary);
    char block[4096];
    memset(block, 7, sizeof block);
    nbd_request(fd, 1, 0, 1 << 20, sizeof block, block);
    node_await(&primary, CORE_FACT_DISK_FAILED, 0);
    check(core_keep_disk(primary.engine) == 0);
    check(nbd_reply(fd) == 0);
    check(disk_has(&secondary, 1 << 20, block, sizeof block));
    check(bits(&primary) == 1);
    close(fd);
    stop_pair(&primary, &secondary);
}

/* The order to keep the disk was given for the block; the flush that failed behind it is told, and not kept. */
static void a_disk_whose_flush_failed_too_is_not_kept(void)
{
    struct node primary, secondary;
    start_pair(&primary, &secondary, O_RDONLY);
    int fd = nbd_connect(&primary);
    char block[4096];
    memset(block, 7, sizeof block);
    check(core_gate(primary.engine, CORE_GATE_SUSPENDED) == 0);
    nbd_request(fd, 1, 0, 0, sizeof block, block);
    nbd_request(fd, 1, 1, 8192, sizeof block, block); /* FUA */
    check(!nbd_replied(fd, 100));
    check(core_gate(primary.engine, CORE_GATE_OPEN) == 0);
    check(node_await(&primary, CORE_FACT_DISK_FAILED, 0).b == CORE_DISK_WRITE);
    check(node_await(&primary, CORE_FACT_DISK_FAILED, 0).b == CORE_DISK_FLUSH);
    check(core_keep_disk(primary.engine) == 0);
    check(!nbd_replied(fd, 100));
    detach(&primary);
    check(nbd_reply(fd) == 0 && nbd_reply(fd) == 0);
    check(disk_has(&secondary, 8192, block, sizeof block));
    close(fd);
    stop_pair(&primary, &secondary);
}

static void a_flush_that_failed_is_answered_when_the_disk_is_gone(bool with_peer)
{
    struct node primary, secondary;
    node_start(&primary, io_kind);
    node_start(&secondary, io_kind);
    node_attach(&secondary, 128);
    if (with_peer) {
        nodes_join(&primary, &secondary);
        check(core_replicate(primary.engine, CORE_REPLICATE_PEER, 3) == 0);
    }
    start(&primary, open("/dev/null", O_RDWR | O_CLOEXEC));
    int fd = nbd_connect(&primary);
    char block[4096];
    memset(block, 8, sizeof block);
    nbd_request(fd, 1, 0, 0, sizeof block, block);
    check(nbd_reply(fd) == 0);
    nbd_request(fd, 3, 0, 0, 0, NULL);
    check(node_await(&primary, CORE_FACT_DISK_FAILED, 0).b == CORE_DISK_FLUSH);
    check(!nbd_replied(fd, 100));
    nbd_request(fd, 3, 0, 0, 0, NULL); /* and the disk is not asked a second time */
    check(!nbd_replied(fd, 100));
    detach(&primary);
    uint32_t expected = with_peer ? 0 : 5;
    check(nbd_reply(fd) == expected);
    check(nbd_reply(fd) == expected);
    close(fd);
    stop_pair(&primary, &secondary);
}

static void an_answer_that_the_peer_owes_waits_for_the_gate(enum core_gate then)
{
    struct node primary, secondary;
    start_pair(&primary, &secondary, O_RDWR);
    int fd = nbd_connect(&primary);
    char block[4096];
    memset(block, 9, sizeof block);
    node_accept(&secondary, 0); /* the next write loses the peer */
    nbd_request(fd, 1, 0, 0, sizeof block, block);
    check(node_await(&primary, CORE_FACT_PEER_LOST, 0).a == 1);
    check(core_gate(primary.engine, CORE_GATE_SUSPENDED) == 0);
    check(core_replicate(primary.engine, CORE_REPLICATE_NONE, 3) == 0);
    check(core_release(primary.engine, ++primary.token) == 0);
    check(node_done(&primary) == 0);
    check(!nbd_replied(fd, 100));
    check(bits(&primary) == 1);
    check(core_gate(primary.engine, then) == 0);
    check(nbd_reply(fd) == (then == CORE_GATE_OPEN ? 0 : 5));
    close(fd);
    stop_pair(&primary, &secondary);
}

static void a_held_first_write_fails_when_the_export_is_taken_away(void)
{
    struct node primary;
    node_start(&primary, io_kind);
    start(&primary, reopened(primary.data_fd, O_RDWR));
    int fd = nbd_connect(&primary);
    char block[4096];
    memset(block, 10, sizeof block);
    check(core_gate(primary.engine, CORE_GATE_FIRST_WRITE) == 0);
    nbd_request(fd, 1, 0, 0, sizeof block, block);
    node_await(&primary, CORE_FACT_FIRST_WRITE, 0);
    check(core_gate(primary.engine, CORE_GATE_FAIL) == 0);
    check(nbd_reply(fd) == 5);
    check(!disk_has(&primary, 0, block, sizeof block));
    close(fd);
    node_stop(&primary);
}

static void what_a_diskless_peer_writes_here_is_marked_and_logged(void)
{
    struct node primary, secondary;
    node_start(&primary, io_kind);
    node_start(&secondary, io_kind);
    node_attach(&secondary, 128);
    check(core_resize(primary.engine, ++primary.token, PAIR_SECTORS) == 0);
    check(node_done(&primary) == 0);
    nodes_join(&primary, &secondary);
    check(core_replicate(primary.engine, CORE_REPLICATE_PEER, 3) == 0);
    check(core_reads(primary.engine, CORE_READS_PEER) == 0);
    check(core_export_open(primary.engine, ++primary.token, "r0", 0) == 0);
    check(node_done(&primary) == 0);
    int fd = nbd_connect(&primary);
    char block[4096];
    memset(block, 11, sizeof block);
    for (uint64_t i = 0; i < 8; i++) {
        nbd_request(fd, 1, 0, i * (5u << 20), sizeof block, block);
        check(nbd_reply(fd) == 0);
    }
    check(bits(&secondary) == 8);
    struct core_counters counters;
    core_engine_counters(secondary.engine, &counters);
    check(counters.al_writes >= 1);
    close(fd);
    stop_pair(&primary, &secondary);
}

static void a_disk_is_replaced_under_load(void)
{
    struct node primary, secondary;
    start_pair(&primary, &secondary, O_RDWR);
    int fd = nbd_connect(&primary);
    char block[4096];
    for (uint32_t i = 0; i < 300; i++) {
        memset(block, (int)i, sizeof block);
        nbd_request(fd, 1, 0, (uint64_t)(i * 7919u % 16000u) * 4096, sizeof block, block);
        if (i == 100)
            detach(&primary);
        if (i == 100)
            check(core_reads(primary.engine, CORE_READS_PEER) == 0 && core_gate(primary.engine, CORE_GATE_OPEN) == 0);
        if (i == 200)
            node_attach(&primary, 128);
        check(nbd_reply(fd) == 0);
    }
    nbd_request(fd, 3, 0, 0, 0, NULL);
    check(nbd_reply(fd) == 0);
    close(fd);
    stop_pair(&primary, &secondary);
}

int main(void)
{
    const enum core_io kinds[] = {CORE_IO_URING, CORE_IO_THREADS};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        io_kind = kinds[i];
        a_write_that_the_disk_refuses_is_answered_when_it_is_gone_and_the_peer_has_it();
        a_write_without_a_disk_waits_while_suspended_and_goes_to_the_next_disk();
        a_write_without_any_copy_fails();
        a_read_that_the_disk_refuses_comes_from_the_peer();
        a_disk_that_is_kept_has_what_it_refused_marked();
        a_disk_whose_flush_failed_too_is_not_kept();
        a_flush_that_failed_is_answered_when_the_disk_is_gone(true);
        a_flush_that_failed_is_answered_when_the_disk_is_gone(false);
        an_answer_that_the_peer_owes_waits_for_the_gate(CORE_GATE_OPEN);
        an_answer_that_the_peer_owes_waits_for_the_gate(CORE_GATE_FAIL);
        a_held_first_write_fails_when_the_export_is_taken_away();
        what_a_diskless_peer_writes_here_is_marked_and_logged();
        a_disk_is_replaced_under_load();
    }
    return 0;
}
