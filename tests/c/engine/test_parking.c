/* test_parking.c - a planned restart as the engine sees it: sockets come back between two requests, and go on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <pthread.h>

#include "one_client.h"

#define WRITES 400u
#define BLOCK 4096u

static enum core_io io_kind;

static void pair_start(struct node *primary, struct node *secondary)
{
    node_start(primary, io_kind);
    node_start(secondary, io_kind);
    node_attach(primary, 128);
    node_attach(secondary, 128);
    nodes_join(primary, secondary);
    check(core_replicate(primary->engine, CORE_REPLICATE_PEER, 3) == 0);
    check(core_export_open(primary->engine, ++primary->token, "r0", 0) == 0);
    check(node_done(primary) == 0);
}

static void pair_stop(struct node *primary, struct node *secondary)
{
    node_stop(primary);
    node_stop(secondary);
}

/* Nothing is under way, and the engine sleeps: what it counts was published at the end of its last turn. */
static bool is_at_rest(struct node *node)
{
    struct core_counters counters;
    usleep(20000);
    core_engine_counters(node->engine, &counters);
    return counters.upper_pending + counters.lower_pending + counters.pending + counters.unstable == 0;
}

static void *write_many(void *argument)
{
    int fd = *(int *)argument;
    static char block[BLOCK];
    for (uint32_t i = 0; i < WRITES; i++) {
        memset(block, (int)(i % 251) + 1, sizeof block);
        nbd_request(fd, 1, 0, (uint64_t)i * BLOCK, sizeof block, block);
    }
    return NULL;
}

static void park(struct node *node)
{
    check(core_export_park(node->engine, ++node->token) == 0);
    check(node_done(node) == 0);
}

static void adopt(struct node *node)
{
    struct core_fact parked = node_await(node, CORE_FACT_PARKED, 0);
    check(core_export_adopt(node->engine, (int32_t)parked.a, (uint32_t)parked.b, parked.payload, parked.length) == 0);
}

/* Parked again and again under a client that never stops to write: every write is answered once, and is on both. */
static void a_client_under_way_notices_nothing(void)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary);
    int fd = nbd_connect(&primary);
    pthread_t writer;
    check(pthread_create(&writer, NULL, write_many, &fd) == 0);
    uint32_t answered = 0;
    while (answered < WRITES) {
        park(&primary);
        check(is_at_rest(&primary)); /* no power cut can take any of it from the peer */
        adopt(&primary);
        check(core_export_unpark(primary.engine) == 0);
        for (uint32_t i = 0; i < 40 && answered < WRITES; i++, answered++)
            check(nbd_reply(fd) == 0);
    }
    check(pthread_join(writer, NULL) == 0);
    check(!nbd_replied(fd, 50));
    char here[BLOCK], there[BLOCK];
    for (uint32_t i = 0; i < WRITES; i++) {
        check(pread(primary.data_fd, here, BLOCK, (off_t)i * BLOCK) == BLOCK);
        check(pread(secondary.data_fd, there, BLOCK, (off_t)i * BLOCK) == BLOCK);
        check(here[0] == (char)((i % 251) + 1) && memcmp(here, there, BLOCK) == 0);
    }
    close(fd);
    pair_stop(&primary, &secondary);
}

static void part_of_a_header_goes_along(void)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary);
    int fd = nbd_connect(&primary);
    struct nbd_wire_request request = {
        .magic = htobe32(0x25609513), .type = htobe16(1), .offset = htobe64(8192), .length = htobe32(BLOCK)};
    char block[BLOCK];
    memset(block, 0x3c, sizeof block);
    write_all(fd, &request, 11);
    usleep(50000);
    park(&primary);
    struct core_fact parked = node_await(&primary, CORE_FACT_PARKED, 0);
    check(parked.length == 11 && memcmp(parked.payload, &request, 11) == 0);
    check(parked.b == 0);
    check(core_export_adopt(primary.engine, (int32_t)parked.a, 0, parked.payload, parked.length) == 0);
    write_all(fd, (char *)&request + 11, sizeof request - 11);
    write_all(fd, block, sizeof block);
    check(nbd_reply(fd) == 0);
    close(fd);
    pair_stop(&primary, &secondary);
}

/* A write that nobody acknowledges holds the others up; whoever parked thinks better of it, and all goes on. */
static void what_cannot_end_is_waited_for_until_it_is_taken_back(void)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary);
    int fd = nbd_connect(&primary);
    int other = nbd_connect(&primary);
    char block[BLOCK] = {1};
    check(core_gate(primary.engine, CORE_GATE_SUSPENDED) == 0);
    nbd_request(fd, 1, 0, 0, sizeof block, block);
    usleep(50000);
    uint64_t token = ++primary.token;
    check(core_export_park(primary.engine, token) == 0);
    node_accept(&primary, CORE_ACCEPT_WRITES); /* answered: the order before it is carried out, too */
    nbd_request(other, 3, 0, 0, 0, NULL);
    check(!nbd_replied(other, 100) && !node_has(&primary, CORE_FACT_DONE));
    check(core_export_unpark(primary.engine) == 0);
    check(node_await(&primary, CORE_FACT_DONE, token).result == -ECANCELED);
    check(!node_has(&primary, CORE_FACT_PARKED));
    check(core_gate(primary.engine, CORE_GATE_OPEN) == 0);
    check(nbd_reply(fd) == 0);
    check(nbd_reply(other) == 0);
    close(fd);
    close(other);
    pair_stop(&primary, &secondary);
}

/* One who has sent half a request is waited for a second, then he is cut off: he must not hold the others up. */
static void who_owes_half_a_payload_is_cut_off(void)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary);
    int fd = nbd_connect(&primary);
    int owing = nbd_connect(&primary);
    char block[BLOCK] = {1};
    struct nbd_wire_request request = {.magic = htobe32(0x25609513), .type = htobe16(1), .length = htobe32(BLOCK)};
    write_all(owing, &request, sizeof request);
    write_all(owing, block, 100);
    usleep(50000);
    park(&primary);
    check(read(owing, block, 1) == 0);
    adopt(&primary);
    check(!node_has(&primary, CORE_FACT_PARKED)); /* one socket came back, not two */
    nbd_request(fd, 3, 0, 0, 0, NULL);
    check(nbd_reply(fd) == 0);
    close(fd);
    close(owing);
    pair_stop(&primary, &secondary);
}

static void our_own_device_is_handed_back_as_one(void)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary);
    int pair[2];
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    check(core_export_device(primary.engine, pair[1], 1) == 0);
    park(&primary);
    struct core_fact parked = node_await(&primary, CORE_FACT_PARKED, 0);
    check(parked.b == CORE_PARKED_DEVICE && parked.length == 0);
    check(core_export_adopt(primary.engine, (int32_t)parked.a, CORE_PARKED_DEVICE, parked.payload, 0) == 0);
    nbd_request(pair[0], 3, 0, 0, 0, NULL);
    check(nbd_reply(pair[0]) == 0);
    struct core_counters counters;
    core_engine_counters(primary.engine, &counters);
    check(counters.clients == 0);
    close(pair[0]);
    pair_stop(&primary, &secondary);
}

int main(void)
{
    const enum core_io kinds[] = {CORE_IO_URING, CORE_IO_THREADS};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        io_kind = kinds[i];
        a_client_under_way_notices_nothing();
        part_of_a_header_goes_along();
        what_cannot_end_is_waited_for_until_it_is_taken_back();
        who_owes_half_a_payload_is_cut_off();
        our_own_device_is_handed_back_as_one();
    }
    return 0;
}
