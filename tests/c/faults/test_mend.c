/* test_mend.c - a block that a disk cannot read is fetched from the peer, written, read back, and good again.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The way to the world is io_threads.c with one of its calls put before: from BAD on, a disk cannot read until the
 * block has been written; or cannot at all, or refuses the write, or keeps it back. */
#include <stdatomic.h>

#include "engine.h"
#include "io_implementation.h"
#include "one_client.h"

#define BLOCK 4096u
#define BAD (1u << 20) /* behind all metadata: no block of theirs is meant */
#define BAD_BLOCKS 24u
#define ROUNDS 200u
#define READ_COOKIE 1u

static struct io_calls calls;
static const struct io_calls *below;
static struct io_queue kept_back;
static atomic_bool bad[BAD_BLOCKS];
static atomic_bool stays_bad, refuses_writes, holding;
static atomic_uint marked, unmarked; /* writes of a bad block that found its bit set on disk, or not */
static int md_fd;

static bool is_marked_on_disk(uint64_t offset_bytes)
{
    uint8_t byte;
    uint64_t bit = offset_bytes / BLOCK;
    check(pread(md_fd, &byte, 1, (off_t)(PAIR_BM_OFFSET + bit / 8)) == 1);
    return (byte >> bit % 8 & 1) != 0;
}

static int32_t fault(const struct io_op *op)
{
    uint64_t first = op->offset_bytes / BLOCK;
    for (uint64_t block = first; block * BLOCK < op->offset_bytes + op->length_bytes; block++) {
        uint64_t index = block - BAD / BLOCK;
        if (block < BAD / BLOCK || index >= BAD_BLOCKS || !bad[index])
            continue;
        if (op->kind == IO_READ)
            return -EIO;
        if (op->kind != IO_WRITE)
            continue;
        atomic_fetch_add(is_marked_on_disk(block * BLOCK) ? &marked : &unmarked, 1);
        if (refuses_writes)
            return -EIO;
        bad[index] = (bool)stays_bad;
    }
    return 0;
}

static void queue(struct io *io, struct io_op *op)
{
    int32_t error = io_is_disk(op) ? fault(op) : 0;
    if (error != 0)
        io_end(io, op, error);
    else if (holding && op->kind == IO_WRITE && op->offset_bytes >= BAD)
        io_queue_push(&kept_back, op);
    else
        below->queue(io, op);
}

static int turn(struct io *io, uint64_t deadline_ns)
{
    struct io_op *op;
    while (!holding && (op = io_queue_pop(&kept_back)) != NULL)
        below->queue(io, op);
    uint64_t soon = io_clock_ns() + 10000000u; /* to see that `holding` is over */
    return below->turn(io, deadline_ns < soon ? deadline_ns : soon);
}

static int plain_file(uint64_t bytes)
{
    char path[] = "pydrbd-test-XXXXXX"; /* not in memory: what lives there is served without asking anybody */
    int fd = mkstemp(path);
    check(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    unlink(path);
    return fd;
}

static void start_with_bad_disk(struct node *node)
{
    struct core_options options = {.io = CORE_IO_THREADS, .requests = 256, .pool_bytes = 64u << 20};
    struct io *io;
    memset(node, 0, sizeof *node);
    node->data_fd = plain_file(PAIR_SECTORS * 512);
    node->md_fd = md_fd = plain_file(PAIR_MD_BYTES);
    stays_bad = refuses_writes = holding = false;
    for (uint32_t i = 0; i < BAD_BLOCKS; i++)
        bad[i] = false;
    marked = unmarked = 0;
    check(io_new(CORE_IO_THREADS, 1024, &io) == 0);
    below = io->calls;
    calls = *below;
    calls.queue = queue;
    calls.turn = turn;
    io->calls = &calls;
    check(engine_new_over(&options, io, &node->engine) == 0);
    check(core_engine_start(node->engine) == 0);
    node_attach(node, 128);
}

static void start_good(struct node *node)
{
    node_start(node, CORE_IO_THREADS);
    node_attach(node, 128);
}

/* Both as the control plane has them: UpToDate, connected. */
static int join(struct node *primary, struct node *secondary)
{
    nodes_join(primary, secondary);
    node_accept(secondary, CORE_ACCEPT_WRITES | CORE_ACCEPT_READS);
    node_accept(primary, CORE_ACCEPT_READS);
    check(core_replicate(secondary->engine, CORE_REPLICATE_PEER, 3) == 0);
    check(core_replicate(primary->engine, CORE_REPLICATE_PEER, 3) == 0);
    check(core_export_open(primary->engine, ++primary->token, "r0", 0) == 0);
    check(node_done(primary) == 0);
    return nbd_connect(primary);
}

static int start_pair(struct node *primary, struct node *secondary)
{
    start_with_bad_disk(primary);
    start_good(secondary);
    return join(primary, secondary);
}

static void stop_pair(struct node *primary, struct node *secondary, int fd)
{
    holding = false;
    close(fd);
    node_stop(primary);
    node_stop(secondary);
}

static void begin_write(int fd, uint32_t block, uint8_t value)
{
    char bytes[BLOCK];
    memset(bytes, value, sizeof bytes);
    nbd_request(fd, 1, 0, BAD + block * BLOCK, sizeof bytes, bytes);
}

static void write_block(int fd, uint32_t block, uint8_t value)
{
    begin_write(fd, block, value);
    check(nbd_reply(fd) == 0);
}

static uint32_t read_block(int fd, uint32_t block, uint8_t value)
{
    uint8_t found[BLOCK];
    nbd_request(fd, 0, 0, BAD + block * BLOCK, sizeof found, NULL);
    uint32_t error = nbd_reply(fd);
    if (error == 0) {
        read_all(fd, found, sizeof found);
        check(found[0] == value && found[BLOCK - 1] == value);
    }
    return error;
}

static void begin_read(int fd, uint32_t block)
{
    struct nbd_wire_request request = {.magic = htobe32(0x25609513),
                                       .cookie = READ_COOKIE,
                                       .offset = htobe64(BAD + block * BLOCK),
                                       .length = htobe32(BLOCK)};
    write_all(fd, &request, sizeof request);
}

/* The error of the next reply, and whether it is a read's: those of writes have another cookie. */
static uint32_t reply_to(int fd, bool *is_read)
{
    struct __attribute__((packed)) {
        uint32_t magic, error;
        uint64_t cookie;
    } reply;
    read_all(fd, &reply, sizeof reply);
    check(reply.magic == htobe32(0x67446698));
    *is_read = reply.cookie == READ_COOKIE;
    return be32toh(reply.error);
}

static bool disk_has(const struct node *node, uint32_t block, uint8_t value)
{
    uint8_t found[BLOCK];
    check(pread(node->data_fd, found, sizeof found, (off_t)(BAD + block * BLOCK)) == BLOCK);
    return found[0] == value && memcmp(found, found + 1, sizeof found - 1) == 0;
}

static struct core_counters counters_of(struct node *node)
{
    struct core_counters counters;
    for (int turns = 0; turns < 2; turns++) { /* they are published in each turn */
        check(core_bitmap_set(node->engine, ++node->token, 0, 0) == 0);
        check(node_done(node) == 0);
    }
    core_engine_counters(node->engine, &counters);
    return counters;
}

static void await_mended(struct node *node, uint32_t block, int32_t result)
{
    struct core_fact fact = node_await(node, CORE_FACT_MENDED, 0);
    CHECK_EQUAL(fact.result, result);
    check(fact.a == (BAD + block * BLOCK) / 512 && fact.b == BLOCK / 512);
}

static void what_cannot_be_read_comes_from_the_peer_and_is_mended(void)
{
    struct node primary, secondary;
    int fd = start_pair(&primary, &secondary);
    write_block(fd, 3, 7);
    bad[3] = true;
    check(read_block(fd, 3, 7) == 0);
    await_mended(&primary, 3, 0);
    check(!bad[3] && disk_has(&primary, 3, 7));
    check(marked == 1 && unmarked == 0);
    check(!is_marked_on_disk(BAD + 3 * BLOCK));
    struct core_counters counters = counters_of(&primary);
    check(counters.out_of_sync_bits == 0 && counters.mended_sectors == BLOCK / 512);
    node_accept(&secondary, CORE_ACCEPT_WRITES); /* from here on the peer answers no read */
    check(read_block(fd, 3, 7) == 0);
    check(!node_has(&primary, CORE_FACT_DISK_FAILED));
    stop_pair(&primary, &secondary, fd);
}

static void a_write_that_comes_meanwhile_is_not_overwritten(void)
{
    struct node primary, secondary;
    int fd = start_pair(&primary, &secondary);
    write_block(fd, 3, 7);
    bad[3] = holding = true;
    check(read_block(fd, 3, 7) == 0);
    while (marked == 0)
        usleep(1000); /* the peer's data are on their way to our disk */
    begin_write(fd, 3, 8);
    check(!nbd_replied(fd, 100));
    check(disk_has(&secondary, 3, 7));
    holding = false;
    check(nbd_reply(fd) == 0);
    await_mended(&primary, 3, 0);
    check(disk_has(&primary, 3, 8) && disk_has(&secondary, 3, 8));
    check(read_block(fd, 3, 8) == 0);
    stop_pair(&primary, &secondary, fd);
}

/* Writes and reads of a few blocks that turn bad again and again, on whichever node. */
static void replicas_stay_the_same_under_load(bool on_secondary)
{
    struct node primary, secondary;
    if (on_secondary) {
        start_good(&primary);
        start_with_bad_disk(&secondary);
    } else {
        start_with_bad_disk(&primary);
        start_good(&secondary);
    }
    int fd = join(&primary, &secondary);
    if (on_secondary) {
        check(core_reads(primary.engine, CORE_READS_BALANCED) == 0);
        check(core_read_balancing(primary.engine, CORE_BALANCE_PREFER_REMOTE) == 0);
    }
    struct node *node = on_secondary ? &secondary : &primary;
    uint8_t found[BLOCK];
    for (uint32_t i = 1; i <= ROUNDS; i++) {
        uint32_t block = i % 4;
        bad[block] = true;
        begin_read(fd, block);
        usleep(i % 16 * 50); /* the writes fall on another moment of the mend each time */
        begin_write(fd, block, (uint8_t)i);
        begin_write(fd, block, (uint8_t)(i + 1));
        for (uint32_t replies = 0; replies < 3; replies++) {
            bool is_read = false;
            check(reply_to(fd, &is_read) == 0);
            if (is_read)
                read_all(fd, found, sizeof found);
        }
        while (counters_of(node).out_of_sync_bits > 0)
            usleep(100);
        bad[block] = false;
        check(disk_has(&primary, block, (uint8_t)(i + 1)) && disk_has(&secondary, block, (uint8_t)(i + 1)));
    }
    check(counters_of(node).mended_sectors > 0);
    check(!node_has(node, CORE_FACT_DISK_FAILED));
    stop_pair(&primary, &secondary, fd);
}

static void a_disk_that_refuses_to_be_mended_has_failed(enum core_disk_op op)
{
    struct node primary, secondary;
    int fd = start_pair(&primary, &secondary);
    write_block(fd, 3, 7);
    bad[3] = true;
    stays_bad = op == CORE_DISK_READ;
    refuses_writes = op == CORE_DISK_WRITE;
    check(read_block(fd, 3, 7) == 0);
    struct core_fact failed = node_await(&primary, CORE_FACT_DISK_FAILED, 0);
    check(failed.b == op && failed.a == (BAD + 3 * BLOCK) / 512 && failed.result == -EIO);
    check(counters_of(&primary).out_of_sync_bits == 1 && is_marked_on_disk(BAD + 3 * BLOCK));
    check(counters_of(&primary).mended_sectors == 0);
    node_await(&secondary, CORE_FACT_PEER_DISK_FAILED, 0);
    stop_pair(&primary, &secondary, fd);
}

static void a_mend_is_called_off_when_the_peer_goes(void)
{
    struct node primary, secondary;
    int fd = start_pair(&primary, &secondary);
    write_block(fd, 3, 7);
    bad[3] = holding = true;
    check(read_block(fd, 3, 7) == 0);
    while (marked == 0)
        usleep(1000);
    check(core_peer_disconnect(primary.engine, ++primary.token) == 0);
    node_await(&primary, CORE_FACT_PEER_LOST, 0);
    await_mended(&primary, 3, -ECANCELED);
    holding = false;
    check(core_replicate(primary.engine, CORE_REPLICATE_NONE, 3) == 0);
    check(core_release(primary.engine, ++primary.token) == 0);
    check(node_done(&primary) == 0);
    /* The write before it was never said to be stable over there: that bit is not the mend's to clear. */
    write_block(fd, 4, 9);
    check(counters_of(&primary).out_of_sync_bits == 2);
    check(!node_has(&primary, CORE_FACT_DISK_FAILED));
    stop_pair(&primary, &secondary, fd);
}

static void what_neither_can_read_costs_no_disk(void)
{
    struct node primary, secondary;
    int fd = start_pair(&primary, &secondary);
    write_block(fd, 3, 7);
    bad[3] = true;
    node_accept(&secondary, CORE_ACCEPT_WRITES);
    check(read_block(fd, 3, 7) == 5);
    await_mended(&primary, 3, -ENODATA);
    check(counters_of(&primary).out_of_sync_bits == 0);
    check(!node_has(&primary, CORE_FACT_DISK_FAILED) && !node_has(&primary, CORE_FACT_PEER_LOST));
    write_block(fd, 3, 8);
    check(read_block(fd, 3, 8) == 0);
    stop_pair(&primary, &secondary, fd);
}

static void a_disk_with_too_many_bad_blocks_at_once_has_failed(void)
{
    struct node primary, secondary;
    int fd = start_pair(&primary, &secondary);
    for (uint32_t block = 0; block <= MEND_BLOCKS; block++) {
        write_block(fd, block, 7);
        bad[block] = true;
    }
    holding = true;
    for (uint32_t block = 0; block < MEND_BLOCKS; block++)
        check(read_block(fd, block, 7) == 0);
    check(!node_has(&primary, CORE_FACT_DISK_FAILED));
    check(read_block(fd, MEND_BLOCKS, 7) == 0);
    check(node_await(&primary, CORE_FACT_DISK_FAILED, 0).b == CORE_DISK_READ);
    stop_pair(&primary, &secondary, fd);
}

int main(void)
{
    what_cannot_be_read_comes_from_the_peer_and_is_mended();
    a_write_that_comes_meanwhile_is_not_overwritten();
    replicas_stay_the_same_under_load(false);
    replicas_stay_the_same_under_load(true);
    a_disk_that_refuses_to_be_mended_has_failed(CORE_DISK_WRITE);
    a_disk_that_refuses_to_be_mended_has_failed(CORE_DISK_READ);
    a_mend_is_called_off_when_the_peer_goes();
    what_neither_can_read_costs_no_disk();
    a_disk_with_too_many_bad_blocks_at_once_has_failed();
    return 0;
}
