/* test_hanging.c - a disk that does not answer: applications go on in time, and its memory stays its own; and an engine
 * whose way to the kernel breaks.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The way to the world is io_threads.c with two of its calls put before: while `holding`, disk operations are kept
 * back; when `broken`, a turn fails. */
#include <stdatomic.h>

#include "engine.h"
#include "io_implementation.h"
#include "one_client.h"

#define TIMEOUT_MS 300u

static struct io_calls calls;
static const struct io_calls *below;
static struct io_queue held;
static atomic_bool holding, broken;
static core_engine *left_behind; /* for the leak checker */

static void queue(struct io *io, struct io_op *op)
{
    if (io_is_disk(op) && holding)
        io_queue_push(&held, op);
    else
        below->queue(io, op);
}

static int turn(struct io *io, uint64_t deadline_ns)
{
    struct io_op *op;
    if (broken)
        return -EBADF;
    while (!holding && (op = io_queue_pop(&held)) != NULL)
        below->queue(io, op);
    uint64_t soon = io_clock_ns() + 10000000u; /* to see that `holding` is over */
    return below->turn(io, deadline_ns < soon ? deadline_ns : soon);
}

/* Not in memory: what lives there is served without asking anybody. */
static int plain_file(uint64_t bytes)
{
    char path[] = "pydrbd-test-XXXXXX";
    int fd = mkstemp(path);
    check(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    unlink(path);
    return fd;
}

static void start_held(struct node *node)
{
    struct core_options options = {.io = CORE_IO_THREADS, .requests = 256, .pool_bytes = 64u << 20};
    struct io *io;
    memset(node, 0, sizeof *node);
    node->data_fd = plain_file(PAIR_SECTORS * 512);
    node->md_fd = plain_file(PAIR_MD_BYTES);
    holding = broken = false;
    check(io_new(CORE_IO_THREADS, 1024, &io) == 0);
    below = io->calls;
    calls = *below;
    calls.queue = queue;
    calls.turn = turn;
    io->calls = &calls;
    check(engine_new_over(&options, io, &node->engine) == 0);
    check(core_engine_start(node->engine) == 0);
}

static int32_t attach(struct node *node)
{
    struct core_disk disk = {.data_fd = dup(node->data_fd),
                             .md_fd = dup(node->md_fd),
                             .size_sectors = PAIR_SECTORS,
                             .al_blocks = PAIR_AL_BLOCKS,
                             .al_stripes = 1,
                             .al_stripe_size_4k = PAIR_AL_BLOCKS,
                             .al_extents = 128,
                             .al_sequence = 1,
                             .flush = 1,
                             .bm_offset_bytes = PAIR_BM_OFFSET,
                             .bm_bytes = 65536,
                             .timeout_ms = TIMEOUT_MS};
    check(core_attach(node->engine, ++node->token, &disk) == 0);
    return node_done(node);
}

/* The primary's disk can hang, the secondary's lives in memory. */
static int start_pair(struct node *primary, struct node *secondary)
{
    start_held(primary);
    check(attach(primary) == 0);
    node_start(secondary, CORE_IO_THREADS);
    node_attach(secondary, 128);
    nodes_join(primary, secondary);
    node_accept(secondary, CORE_ACCEPT_WRITES | CORE_ACCEPT_READS);
    check(core_replicate(primary->engine, CORE_REPLICATE_PEER, 3) == 0);
    check(core_export_open(primary->engine, ++primary->token, "r0", 0) == 0);
    check(node_done(primary) == 0);
    return nbd_connect(primary);
}

static void stop_pair(struct node *primary, struct node *secondary, int fd)
{
    close(fd);
    node_stop(primary);
    node_stop(secondary);
}

static void write_block(int fd, uint64_t offset, uint8_t value)
{
    char block[4096];
    memset(block, value, sizeof block);
    nbd_request(fd, 1, 0, offset, sizeof block, block);
}

static bool disk_has(const struct node *node, uint64_t offset, uint8_t value)
{
    uint8_t found[4096];
    check(pread(node->data_fd, found, sizeof found, (off_t)offset) == (ssize_t)sizeof found);
    for (size_t i = 0; i < sizeof found; i++)
        if (found[i] != value)
            return false;
    return true;
}

/* What the control plane does after CORE_DISK_TIMEOUT. */
static void lose_disk(struct node *node)
{
    struct core_fact fact = node_await(node, CORE_FACT_DISK_FAILED, 0);
    check(fact.b == CORE_DISK_TIMEOUT && fact.result == -ETIMEDOUT);
    check(core_gate(node->engine, CORE_GATE_SUSPENDED) == 0);
    check(core_detach(node->engine, ++node->token) == 0);
    check(node_done(node) == 0);
    check(core_reads(node->engine, CORE_READS_PEER) == 0);
    check(core_gate(node->engine, CORE_GATE_OPEN) == 0);
}

static void let_go(struct node *node)
{
    holding = false;
    for (int tries = 0; attach(node) == -EBUSY; tries++) {
        check(tries < 200);
        usleep(10000);
    }
}

static void a_write_goes_on_by_the_peer_and_its_memory_is_not_used_again(void)
{
    struct node primary, secondary;
    int fd = start_pair(&primary, &secondary);
    write_block(fd, 0, 1); /* the extent is hot */
    check(nbd_reply(fd) == 0);
    holding = true;
    write_block(fd, 8192, 2);
    lose_disk(&primary);
    check(nbd_reply(fd) == 0);
    check(disk_has(&secondary, 8192, 2));
    /* Memory that comes back is what is given out next: these would get it. */
    for (uint32_t i = 0; i < 500; i++) {
        write_block(fd, 1 << 20, (uint8_t)(i | 128));
        check(nbd_reply(fd) == 0);
    }
    check(!disk_has(&primary, 8192, 2));
    check(attach(&primary) == -EBUSY);
    let_go(&primary);
    check(disk_has(&primary, 8192, 2));
    stop_pair(&primary, &secondary, fd);
}

static void a_read_is_served_by_the_peer_in_other_memory(void)
{
    struct node primary, secondary;
    int fd = start_pair(&primary, &secondary);
    static uint8_t wanted[2 << 20];
    static uint8_t back[2 << 20];
    for (size_t i = 0; i < sizeof wanted; i++)
        wanted[i] = (uint8_t)(i >> 12);
    nbd_request(fd, 1, 0, 4096, sizeof wanted, wanted);
    check(nbd_reply(fd) == 0);
    holding = true;
    nbd_request(fd, 0, 0, 4096, sizeof back, NULL); /* more than one part */
    lose_disk(&primary);
    check(nbd_reply(fd) == 0);
    read_all(fd, back, sizeof back);
    check(memcmp(wanted, back, sizeof back) == 0);
    let_go(&primary);
    stop_pair(&primary, &secondary, fd);
}

static void a_flush_and_a_cold_extent_wait_no_longer(void)
{
    struct node primary, secondary;
    int fd = start_pair(&primary, &secondary);
    write_block(fd, 0, 1);
    check(nbd_reply(fd) == 0);
    holding = true;
    nbd_request(fd, 3, 0, 0, 0, NULL);
    write_block(fd, 16 << 20, 3); /* waits for a transaction */
    lose_disk(&primary);
    check(nbd_reply(fd) == 0 && nbd_reply(fd) == 0);
    check(disk_has(&secondary, 16 << 20, 3));
    let_go(&primary);
    stop_pair(&primary, &secondary, fd);
}

static void an_order_that_waits_for_the_disk_fails(void)
{
    struct node node;
    start_held(&node);
    check(attach(&node) == 0);
    holding = true;
    check(core_bitmap_write(node.engine, ++node.token) == 0);
    check(node_done(&node) == -ETIMEDOUT);
    check(core_flush(node.engine, ++node.token) == 0);
    check(node_done(&node) == -EIO);
    lose_disk(&node);
    let_go(&node);
    node_stop(&node);
}

static void a_disk_is_given_up_by_an_order_too(void)
{
    struct node primary, secondary;
    int fd = start_pair(&primary, &secondary);
    holding = true;
    write_block(fd, 0, 4);
    usleep(50000);
    check(core_give_up_disk(primary.engine) == 0);
    lose_disk(&primary);
    check(nbd_reply(fd) == 0);
    let_go(&primary);
    stop_pair(&primary, &secondary, fd);
}

/* `writer_has_disk` as the secondary knows it: without one, a write is marked and waits for the activity log. */
static int start_refusing_pair(struct node *primary, struct node *secondary, uint32_t writer_has_disk)
{
    start_held(secondary);
    check(attach(secondary) == 0);
    node_start(primary, CORE_IO_THREADS);
    node_attach(primary, 128);
    nodes_join(primary, secondary);
    check(core_replicate(secondary->engine, writer_has_disk, 3) == 0);
    node_accept(secondary, CORE_ACCEPT_WRITES); /* behind it: the engine knows both before the first write comes */
    check(core_replicate(primary->engine, CORE_REPLICATE_PEER, 3) == 0);
    check(core_export_open(primary->engine, ++primary->token, "r0", 0) == 0);
    check(node_done(primary) == 0);
    return nbd_connect(primary);
}

static void stop_refusing_pair(struct node *primary, struct node *secondary, int fd)
{
    node_await(primary, CORE_FACT_PEER_DISK_FAILED, 0);
    check(core_replicate(primary->engine, CORE_REPLICATE_NONE, 3) == 0);
    check(core_release(primary->engine, ++primary->token) == 0);
    check(nbd_reply(fd) == 0);
    holding = false;
    usleep(50000);
    stop_pair(primary, secondary, fd);
}

static void a_peers_write_is_refused_in_time(void)
{
    struct node primary, secondary;
    int fd = start_refusing_pair(&primary, &secondary, CORE_REPLICATE_PEER);
    holding = true;
    write_block(fd, 0, 5);
    check(node_await(&secondary, CORE_FACT_DISK_FAILED, 0).b == CORE_DISK_TIMEOUT);
    stop_refusing_pair(&primary, &secondary, fd);
}

static void a_peers_write_that_waits_for_the_activity_log_is_refused_when_the_disk_goes(void)
{
    struct node primary, secondary;
    int fd = start_refusing_pair(&primary, &secondary, CORE_REPLICATE_NONE);
    holding = true;
    write_block(fd, 0, 6);
    check(node_await(&secondary, CORE_FACT_DISK_FAILED, 0).b == CORE_DISK_TIMEOUT);
    check(core_detach(secondary.engine, ++secondary.token) == 0);
    check(node_done(&secondary) == 0);
    stop_refusing_pair(&primary, &secondary, fd);
}

static void an_engine_that_dies_says_so(void)
{
    struct node node;
    start_held(&node);
    check(attach(&node) == 0);
    broken = true;
    check(node_await(&node, CORE_FACT_DIED, 0).result == -EBADF);
    check(core_engine_stop(node.engine) == 0);
    close(node.data_fd);
    close(node.md_fd);
    left_behind = node.engine;
    core_engine_free(node.engine); /* but for its memory, which the kernel may have */
}

int main(void)
{
    a_write_goes_on_by_the_peer_and_its_memory_is_not_used_again();
    a_read_is_served_by_the_peer_in_other_memory();
    a_flush_and_a_cold_extent_wait_no_longer();
    an_order_that_waits_for_the_disk_fails();
    a_disk_is_given_up_by_an_order_too();
    a_peers_write_is_refused_in_time();
    a_peers_write_that_waits_for_the_activity_log_is_refused_when_the_disk_goes();
    an_engine_that_dies_says_so();
    return 0;
}
