/* test_ublk.c - an ublk device's queue in front of a real engine; the driver is played.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The device's descriptor is a file in memory: descriptors are mapped from its beginning and payloads lie at their
 * offsets, as in the driver.  The engine's way to the world is a real one, but for commands: those end up here, and
 * come back when the test says so. */
#include <pthread.h>

#include "engine.h"
#include "engine_pair.h"
#include "io_implementation.h"
#include "ublk_queue.h"

#define DEPTH 128u
#define MIB (1u << 20)

static struct {
    pthread_mutex_t lock;
    const struct io_calls *real;
    struct io_calls calls;
    struct io_op *away[DEPTH]; /* the driver's, by tag */
    struct ublk_io_command said[DEPTH];
    uint32_t operation[DEPTH];
    int32_t result[DEPTH];
    bool due[DEPTH];
    uint32_t commits;
    struct io_op *copy; /* of a payload, kept back */
    uint64_t keep_until_ns;
    int fd;
} driver = {.lock = PTHREAD_MUTEX_INITIALIZER};

static enum core_io io_kind;

/* --- the driver, in the engine's thread */

static void played_queue(struct io *io, struct io_op *op)
{
    if (op->kind == IO_READ && io_clock_ns() < driver.keep_until_ns) {
        driver.copy = op;
        return;
    }
    if (op->kind != IO_COMMAND) {
        driver.real->queue(io, op);
        return;
    }
    struct ublk_io_command said;
    memcpy(&said, op->buffer, sizeof said);
    check(said.queue == 0 && said.address == 0 && said.tag < DEPTH);
    pthread_mutex_lock(&driver.lock);
    check(driver.away[said.tag] == NULL);
    driver.away[said.tag] = op;
    driver.said[said.tag] = said;
    driver.operation[said.tag] = op->count;
    driver.commits += op->count == UBLK_COMMIT_AND_FETCH;
    pthread_mutex_unlock(&driver.lock);
}

static int played_turn(struct io *io, uint64_t deadline_ns)
{
    uint64_t soon = io_clock_ns() + 1000000;
    pthread_mutex_lock(&driver.lock);
    for (uint32_t i = 0; i < DEPTH; i++) {
        if (!driver.due[i] || driver.away[i] == NULL)
            continue;
        driver.due[i] = false;
        io_end(io, driver.away[i], driver.result[i]);
        driver.away[i] = NULL;
    }
    pthread_mutex_unlock(&driver.lock);
    if (driver.copy != NULL && io_clock_ns() >= driver.keep_until_ns) {
        driver.real->queue(io, driver.copy);
        driver.copy = NULL;
    }
    return driver.real->turn(io, soon < deadline_ns ? soon : deadline_ns);
}

/* --- the driver, in the test's */

static void give_back(uint32_t tag, int32_t result)
{
    pthread_mutex_lock(&driver.lock);
    check(driver.away[tag] != NULL);
    driver.result[tag] = result;
    driver.due[tag] = true;
    pthread_mutex_unlock(&driver.lock);
}

static uint64_t payload_at(uint32_t tag)
{
    return UBLK_PAYLOADS + ((uint64_t)tag << UBLK_PAYLOAD_SHIFT);
}

static void ask(uint32_t tag, uint32_t operation, uint64_t sector, uint32_t sectors)
{
    struct ublk_descriptor descriptor = {.operation = operation, .sectors = sectors, .sector = sector};
    check(pwrite(driver.fd, &descriptor, sizeof descriptor, (off_t)(tag * sizeof descriptor)) == sizeof descriptor);
    give_back(tag, 0);
}

static bool is_back(uint32_t tag)
{
    pthread_mutex_lock(&driver.lock);
    bool back = driver.away[tag] != NULL && !driver.due[tag];
    pthread_mutex_unlock(&driver.lock);
    return back;
}

/* The result that comes with the next command for the tag. */
static int32_t answer(uint32_t tag)
{
    for (int tries = 0; !is_back(tag) && tries < 5000; tries++)
        usleep(1000);
    check(is_back(tag));
    pthread_mutex_lock(&driver.lock);
    check(driver.operation[tag] == UBLK_COMMIT_AND_FETCH);
    int32_t result = driver.said[tag].result;
    pthread_mutex_unlock(&driver.lock);
    return result;
}

/* --- a node with a device */

static int new_device(void)
{
    int fd = memory_file("ublk", payload_at(DEPTH));
    memset(driver.away, 0, sizeof driver.away);
    memset(driver.due, 0, sizeof driver.due);
    driver.commits = 0;
    driver.fd = fd;
    return dup(fd);
}

static int32_t open_queue(struct node *node, int fd)
{
    check(core_export_ublk(node->engine, ++node->token, fd, DEPTH) == 0);
    return node_done(node);
}

static void start_node(struct node *node, bool has_commands)
{
    struct core_options options = {.io = io_kind, .requests = 256, .pool_bytes = 64u << 20};
    struct io *io = NULL;
    memset(node, 0, sizeof *node);
    node->data_fd = memory_file("data", PAIR_SECTORS * 512);
    node->md_fd = memory_file("md", PAIR_MD_BYTES);
    check(io_new(io_kind, options.requests * 2 + 512, &io) == 0);
    driver.real = io->calls;
    driver.calls = *io->calls;
    driver.calls.queue = played_queue;
    driver.calls.turn = played_turn;
    driver.calls.has_commands = has_commands;
    io->calls = &driver.calls;
    check(engine_new_over(&options, io, &node->engine) == 0);
    check(core_engine_start(node->engine) == 0);
    node_attach(node, 128);
    check(core_export_open(node->engine, ++node->token, "r0", 0) == 0);
    check(node_done(node) == 0);
}

static int start(struct node *node)
{
    start_node(node, true);
    int fd = new_device();
    check(open_queue(node, fd) == 0);
    return fd;
}

static void stop(struct node *node)
{
    node_stop(node);
    close(driver.fd);
}

/* Until what comes is held. */
static void suspend(struct node *node)
{
    check(core_gate(node->engine, CORE_GATE_SUSPENDED) == 0);
    check(core_bitmap_set(node->engine, ++node->token, 0, 0) == 0);
    check(node_done(node) == 0);
}

static void stop_device(void)
{
    for (uint32_t i = 0; i < DEPTH; i++)
        give_back(i, -ENODEV);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static bool is_closed_in_time(int fd)
{
    for (int tries = 0; is_open(fd) && tries < 2000; tries++)
        usleep(1000);
    return !is_open(fd);
}

static bool all_are(const uint8_t *bytes, size_t length, uint8_t value)
{
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != value)
            return false;
    return true;
}

static uint8_t *disk_bytes(struct node *node, uint64_t offset, size_t length)
{
    static uint8_t found[MIB];
    check(length <= sizeof found && pread(node->data_fd, found, length, (off_t)offset) == (ssize_t)length);
    return found;
}

static void put_payload(uint32_t tag, size_t length, uint8_t value)
{
    static uint8_t bytes[MIB];
    memset(bytes, value, length);
    check(pwrite(driver.fd, bytes, length, (off_t)payload_at(tag)) == (ssize_t)length);
}

/* --- what is shown */

static void a_queue_is_open_when_the_driver_has_a_command_for_every_tag(void)
{
    struct node node;
    int fd = start(&node);
    for (uint32_t i = 0; i < DEPTH; i++)
        check(is_back(i) && driver.operation[i] == UBLK_FETCH && driver.said[i].tag == i);
    check(is_open(fd));
    stop(&node);
    check(!is_open(fd));
}

static void a_write_is_on_the_disk_and_a_read_finds_it(void)
{
    struct node node;
    (void)start(&node);
    put_payload(5, 8192, 0xa7);
    ask(5, UBLK_WRITE | UBLK_FUA, 64, 16);
    check(answer(5) == 8192);
    check(all_are(disk_bytes(&node, 64 * 512, 8192), 8192, 0xa7));
    check(all_are(disk_bytes(&node, 80 * 512, 512), 512, 0));
    ask(127, UBLK_READ, 72, 4);
    check(answer(127) == 2048);
    uint8_t read[2049];
    check(pread(driver.fd, read, sizeof read, (off_t)payload_at(127)) == sizeof read);
    check(all_are(read, 2048, 0xa7) && read[2048] == 0);
    stop(&node);
}

static void what_is_discarded_or_zeroed_reads_as_zeroes_and_a_flush_is_answered(void)
{
    struct node node;
    (void)start(&node);
    put_payload(0, MIB, 0x11);
    ask(0, UBLK_WRITE, 0, 2048);
    check(answer(0) == MIB);
    ask(1, UBLK_DISCARD, 8, 1024);
    check(answer(1) == 0);
    ask(2, UBLK_WRITE_ZEROES | UBLK_NO_UNMAP, 1100, 8);
    check(answer(2) == 0);
    ask(3, UBLK_FLUSH, 0, 0);
    check(answer(3) == 0);
    uint8_t *found = disk_bytes(&node, 0, MIB);
    check(all_are(found, 8 * 512, 0x11) && all_are(found + 8 * 512, 1024 * 512, 0));
    check(all_are(found + 1032 * 512, 68 * 512, 0x11) && all_are(found + 1100 * 512, 8 * 512, 0));
    check(all_are(found + 1108 * 512, 940 * 512, 0x11));
    stop(&node);
}

static void what_cannot_be_done_is_refused_and_the_next_request_is_served(void)
{
    struct node node;
    (void)start(&node);
    ask(9, UBLK_READ, PAIR_SECTORS - 1, 2);
    check(answer(9) == -EINVAL);
    ask(9, 4, 0, 8);
    check(answer(9) == -EOPNOTSUPP);
    ask(9, UBLK_READ, PAIR_SECTORS - 1, 1);
    check(answer(9) == 512);
    stop(&node);
}

static void more_payload_than_memory_waits_and_is_served(void)
{
    struct node node;
    (void)start(&node);
    suspend(&node);
    for (uint32_t i = 0; i < DEPTH; i++) {
        put_payload(i, MIB, (uint8_t)(i + 1));
        ask(i, UBLK_WRITE, (uint64_t)(i % 60) * 2048, 2048);
    }
    usleep(20000);
    check(core_gate(node.engine, CORE_GATE_OPEN) == 0);
    for (uint32_t i = 0; i < DEPTH; i++)
        check(answer(i) == MIB);
    check(pool_free_bytes(node.engine->pool) == 64u << 20);
    for (uint32_t i = 0; i < 60; i++) {
        const uint8_t *found = disk_bytes(&node, (uint64_t)i * MIB, MIB);
        check(all_are(found, MIB, found[0]) && (found[0] - 1u) % 60 == i);
    }
    stop(&node);
}

static void a_stopped_device_is_let_go_and_another_can_come(void)
{
    struct node node;
    int fd = start(&node);
    int second = dup(driver.fd);
    check(open_queue(&node, second) == -EBUSY && !is_open(second));
    stop_device();
    check(is_closed_in_time(fd));
    close(driver.fd);
    check(open_queue(&node, new_device()) == 0);
    put_payload(1, 512, 0x42);
    ask(1, UBLK_WRITE, 7, 1);
    check(answer(1) == 512);
    stop(&node);
}

static void a_queue_that_the_driver_refuses_is_told_and_let_go(void)
{
    struct node node;
    start_node(&node, true);
    int fd = new_device();
    pthread_mutex_lock(&driver.lock);
    for (uint32_t i = 0; i < DEPTH; i++) {
        driver.due[i] = true;
        driver.result[i] = -EINVAL;
    }
    pthread_mutex_unlock(&driver.lock);
    check(open_queue(&node, fd) == -EINVAL);
    check(is_closed_in_time(fd));
    stop(&node);
}

static void without_commands_there_is_no_queue(void)
{
    struct node node;
    start_node(&node, false);
    int fd = new_device();
    check(open_queue(&node, fd) == -EOPNOTSUPP);
    check(is_closed_in_time(fd));
    stop(&node);
}

static void an_engine_that_ends_leaves_what_it_holds_to_the_next(void)
{
    struct node node;
    (void)start(&node);
    suspend(&node);
    put_payload(3, 4096, 0x33);
    ask(3, UBLK_WRITE, 0, 8);
    ask(4, UBLK_READ, 0, 8);
    usleep(20000);
    check(!is_back(3) && !is_back(4));
    node_stop(&node);
    check(driver.commits == 0);
    close(driver.fd);
}

static void an_engine_that_ends_waits_for_a_copy_and_answers_nothing(void)
{
    struct node node;
    start_node(&node, true);
    int fd = new_device();
    driver.keep_until_ns = io_clock_ns() + 300000000;
    check(open_queue(&node, fd) == 0);
    put_payload(3, 4096, 0x33);
    ask(3, UBLK_WRITE, 0, 8);
    usleep(50000);
    node_stop(&node);
    check(io_clock_ns() >= driver.keep_until_ns && driver.copy == NULL);
    check(driver.commits == 0);
    close(driver.fd);
}

static void an_export_closes_when_what_is_held_is_answered(void)
{
    struct node node;
    (void)start(&node);
    suspend(&node);
    ask(3, UBLK_WRITE, 0, 8);
    usleep(20000);
    check(core_export_close(node.engine, ++node.token) == 0);
    usleep(20000);
    check(!node_has(&node, CORE_FACT_DONE));
    check(core_gate(node.engine, CORE_GATE_FAIL) == 0);
    check(node_done(&node) == 0);
    check(answer(3) == -EIO);
    ask(3, UBLK_READ, 0, 8);
    check(answer(3) == -EIO);
    stop(&node);
}

static void a_descriptor_says_the_same_in_nbds_words(void)
{
    const struct {
        uint32_t operation;
        int command;
        uint32_t flags;
    } cases[] = {
        {UBLK_READ, NBD_READ, 0},
        {UBLK_READ | UBLK_FUA, NBD_READ, 0},
        {UBLK_WRITE, NBD_WRITE, 0},
        {UBLK_WRITE | UBLK_FUA | 1u << 11, NBD_WRITE, NBD_FLAG_FUA},
        {UBLK_DISCARD, NBD_TRIM, 0},
        {UBLK_DISCARD | UBLK_FUA, NBD_TRIM, NBD_FLAG_FUA},
        {UBLK_WRITE_ZEROES, NBD_WRITE_ZEROES, 0},
        {UBLK_WRITE_ZEROES | UBLK_NO_UNMAP, NBD_WRITE_ZEROES, NBD_FLAG_NO_HOLE},
        {UBLK_DISCARD | UBLK_NO_UNMAP, NBD_TRIM, 0},
    };
    struct nbd_request request;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ublk_descriptor descriptor = {.operation = cases[i].operation, .sectors = 24, .sector = 1000};
        check(ublk_translate(&descriptor, 1024 * 512, &request) == 0);
        check((int)request.command == cases[i].command && request.flags == cases[i].flags);
        check(request.offset_bytes == 512000 && request.length_bytes == 12288);
    }
    struct ublk_descriptor flush = {.operation = UBLK_FLUSH, .sector = UINT64_MAX};
    check(ublk_translate(&flush, 512, &request) == 0 && request.command == NBD_FLUSH && request.length_bytes == 0);
    struct ublk_descriptor late = {.operation = UBLK_READ, .sectors = 25, .sector = 1000};
    check(ublk_translate(&late, 1024 * 512, &request) == -EINVAL);
    struct ublk_descriptor wraps = {.operation = UBLK_WRITE, .sectors = 2, .sector = UINT64_MAX};
    check(ublk_translate(&wraps, 1024 * 512, &request) == -EINVAL);
    struct ublk_descriptor huge = {.operation = UBLK_WRITE, .sectors = 65537};
    check(ublk_translate(&huge, 1ull << 40, &request) == -EINVAL);
    huge.operation = UBLK_DISCARD;
    check(ublk_translate(&huge, 1ull << 40, &request) == 0);
    struct ublk_descriptor strange = {.operation = 0x20, .sectors = 1};
    check(ublk_translate(&strange, 1024 * 512, &request) == -EOPNOTSUPP);
}

/* As a compiler that includes Linux 6.12's linux/ublk_cmd.h prints them. */
static void the_numbers_of_the_commands_are_the_drivers(void)
{
    CHECK_EQUAL(UBLK_FETCH, 0xc0107520u);
    CHECK_EQUAL(UBLK_COMMIT_AND_FETCH, 0xc0107521u);
    CHECK_EQUAL(payload_at(1), 0x82000000u);
}

int main(void)
{
    const enum core_io kinds[] = {CORE_IO_URING, CORE_IO_THREADS};
    a_descriptor_says_the_same_in_nbds_words();
    the_numbers_of_the_commands_are_the_drivers();
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        io_kind = kinds[i];
        a_queue_is_open_when_the_driver_has_a_command_for_every_tag();
        a_write_is_on_the_disk_and_a_read_finds_it();
        what_is_discarded_or_zeroed_reads_as_zeroes_and_a_flush_is_answered();
        what_cannot_be_done_is_refused_and_the_next_request_is_served();
        more_payload_than_memory_waits_and_is_served();
        a_stopped_device_is_let_go_and_another_can_come();
        a_queue_that_the_driver_refuses_is_told_and_let_go();
        without_commands_there_is_no_queue();
        an_engine_that_ends_leaves_what_it_holds_to_the_next();
        an_engine_that_ends_waits_for_a_copy_and_answers_nothing();
        an_export_closes_when_what_is_held_is_answered();
    }
    return 0;
}
