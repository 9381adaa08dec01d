/* test_engine.c - the data plane end to end: two engines, one NBD client, no control plane.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "one_client.h"
#include "packet.h"

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

static void same_at(struct node *one, struct node *two, uint64_t offset, const void *expected, size_t length)
{
    char *here = malloc(length);
    char *there = malloc(length);
    check(pread(one->data_fd, here, length, (off_t)offset) == (ssize_t)length);
    check(pread(two->data_fd, there, length, (off_t)offset) == (ssize_t)length);
    check(memcmp(here, expected, length) == 0);
    check(memcmp(there, expected, length) == 0);
    free(here);
    free(there);
}

static void a_write_is_on_both_disks_when_it_is_answered(void)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary);
    int fd = nbd_connect(&primary);
    static char block[3 << 20];
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)(i * 7 + (i >> 12));
    const uint32_t lengths[] = {512, 4096, 65536, 1 << 20, 3 << 20};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint64_t offset = (i + 1) * (5ull << 20) + 512 * i;
        nbd_request(fd, 1, 0, offset, lengths[i], block);
        check(nbd_reply(fd) == 0);
        same_at(&primary, &secondary, offset, block, lengths[i]);
    }
    nbd_request(fd, 3, 0, 0, 0, NULL);
    check(nbd_reply(fd) == 0);
    nbd_request(fd, 6, 0, 5ull << 20, 4096, NULL);
    check(nbd_reply(fd) == 0);
    same_at(&primary, &secondary, 5ull << 20, (char[4096]){0}, 4096);
    nbd_request(fd, 1, 1, 4096, 4096, block); /* FUA */
    check(nbd_reply(fd) == 0);
    struct core_counters counters;
    core_engine_counters(primary.engine, &counters);
    check(counters.out_of_sync_bits == 0);
    close(fd);
    node_stop(&primary);
    node_stop(&secondary);
}

static void a_read_gives_what_was_written(void)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary);
    int fd = nbd_connect(&primary);
    char block[8192];
    char back[8192];
    memset(block, 0x5a, sizeof block);
    nbd_request(fd, 1, 0, 1 << 20, sizeof block, block);
    check(nbd_reply(fd) == 0);
    nbd_request(fd, 0, 0, 1 << 20, sizeof back, NULL);
    check(nbd_reply(fd) == 0);
    read_all(fd, back, sizeof back);
    check(memcmp(block, back, sizeof back) == 0);
    check(core_reads(primary.engine, CORE_READS_PEER) == 0);
    node_accept(&secondary, CORE_ACCEPT_WRITES | CORE_ACCEPT_READS);
    nbd_request(fd, 0, 0, 1 << 20, sizeof back, NULL);
    check(nbd_reply(fd) == 0);
    read_all(fd, back, sizeof back);
    check(memcmp(block, back, sizeof back) == 0);
    close(fd);
    node_stop(&primary);
    node_stop(&secondary);
}

static void a_write_without_an_ack_is_held_until_it_is_released(void)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary);
    int fd = nbd_connect(&primary);
    char block[4096];
    memset(block, 1, sizeof block);
    nbd_request(fd, 1, 0, 0, sizeof block, block);
    check(nbd_reply(fd) == 0);
    node_stop(&secondary);
    struct core_fact lost = node_await(&primary, CORE_FACT_PEER_LOST, 0);
    check(lost.a == 0 && lost.b <= 1);
    nbd_request(fd, 1, 0, 8192, sizeof block, block);
    check(!nbd_replied(fd, 200));
    check(core_replicate(primary.engine, CORE_REPLICATE_NONE, 3) == 0);
    check(core_release(primary.engine, ++primary.token) == 0);
    check(node_done(&primary) == 0);
    check(nbd_reply(fd) == 0);
    struct core_counters counters;
    for (int tries = 0; tries < 100; tries++) {
        core_engine_counters(primary.engine, &counters);
        if (counters.out_of_sync_bits == 1 + lost.b)
            break;
        usleep(10000);
    }
    check(counters.out_of_sync_bits == 1 + lost.b);
    close(fd);
    node_stop(&primary);
}

static void the_first_write_waits_for_the_gate(void)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary);
    int fd = nbd_connect(&primary);
    char block[4096] = {0};
    check(core_gate(primary.engine, CORE_GATE_FIRST_WRITE) == 0);
    nbd_request(fd, 0, 0, 0, 512, NULL);
    check(nbd_reply(fd) == 0);
    read_all(fd, block, 512);
    nbd_request(fd, 1, 0, 0, sizeof block, block);
    node_await(&primary, CORE_FACT_FIRST_WRITE, 0);
    check(!nbd_replied(fd, 100));
    check(core_gate(primary.engine, CORE_GATE_OPEN) == 0);
    check(nbd_reply(fd) == 0);
    close(fd);
    node_stop(&primary);
    node_stop(&secondary);
}

static void give_and_take_bitmaps(struct node *source, struct node *target)
{
    node_accept(source, CORE_ACCEPT_BITMAP | CORE_ACCEPT_RESYNC);
    node_accept(target, CORE_ACCEPT_BITMAP | CORE_ACCEPT_WRITES);
    check(core_bitmap_send(source->engine, ++source->token, 1) == 0);
    check(node_done(source) == 0);
    struct core_fact fact = node_await(target, CORE_FACT_BITMAP_RECEIVED, 0);
    check(fact.a > 0);
    check(core_bitmap_send(target->engine, ++target->token, 1) == 0);
    check(node_done(target) == 0);
    node_await(source, CORE_FACT_BITMAP_RECEIVED, 0);
    check(core_peer_resume(source->engine) == 0);
    check(core_peer_resume(target->engine) == 0);
}

static void a_resync_copies_what_differs_while_writes_go_on(void)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary);
    static char noise[1 << 20];
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (char)(i * 31 + (i >> 9));
    for (uint64_t offset = 0; offset < PAIR_SECTORS * 512; offset += sizeof noise)
        check(pwrite(primary.data_fd, noise, sizeof noise, (off_t)offset) == (ssize_t)sizeof noise);
    check(core_bitmap_set(primary.engine, ++primary.token, 0, PAIR_SECTORS) == 0);
    check(node_done(&primary) == 0);
    give_and_take_bitmaps(&primary, &secondary);
    check(core_resync_start(primary.engine, 0) == 0);
    check(core_resync_start(secondary.engine, 1) == 0);
    int fd = nbd_connect(&primary);
    char block[4096];
    for (uint32_t i = 0; i < 200; i++) {
        memset(block, (int)i, sizeof block);
        nbd_request(fd, 1, 0, (uint64_t)(i * 7919u % 16000u) * 4096, sizeof block, block);
        check(nbd_reply(fd) == 0);
    }
    struct core_fact done = node_await(&secondary, CORE_FACT_RESYNC_DONE, 0);
    check(done.a == 0);
    close(fd);
    char *here = malloc(1 << 20);
    char *there = malloc(1 << 20);
    for (uint64_t offset = 0; offset < PAIR_SECTORS * 512; offset += 1 << 20) {
        check(pread(primary.data_fd, here, 1 << 20, (off_t)offset) == 1 << 20);
        check(pread(secondary.data_fd, there, 1 << 20, (off_t)offset) == 1 << 20);
        check(memcmp(here, there, 1 << 20) == 0);
    }
    free(here);
    free(there);
    node_stop(&primary);
    node_stop(&secondary);
}

static void more_cold_extents_than_slots_make_progress(void)
{
    struct node primary, secondary;
    node_start(&primary, io_kind);
    node_start(&secondary, io_kind);
    node_attach(&primary, 4);
    node_attach(&secondary, 4);
    nodes_join(&primary, &secondary);
    check(core_replicate(primary.engine, CORE_REPLICATE_PEER, 3) == 0);
    check(core_export_open(primary.engine, ++primary.token, "r0", 0) == 0);
    check(node_done(&primary) == 0);
    int fd = nbd_connect(&primary);
    char block[4096] = {1};
    for (uint32_t i = 0; i < 64; i++)
        nbd_request(fd, 1, 0, (uint64_t)(i % 16) * (4u << 20) + i * 4096u, sizeof block, block);
    for (uint32_t i = 0; i < 64; i++)
        check(nbd_reply(fd) == 0);
    close(fd);
    node_stop(&primary);
    node_stop(&secondary);
}

static void overlapping_writes_end_in_the_same_order_on_both(uint32_t protocol)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary);
    check(core_replicate(primary.engine, CORE_REPLICATE_PEER, protocol) == 0);
    int fd = nbd_connect(&primary);
    static char block[65536];
    for (uint32_t i = 0; i < 100; i++) {
        memset(block, (int)(i + 1), sizeof block);
        nbd_request(fd, 1, 0, (i * 13u % 7u) * 8192, 4096u << (i % 5), block);
    }
    for (uint32_t i = 0; i < 100; i++)
        check(nbd_reply(fd) == 0);
    nbd_request(fd, 3, 0, 0, 0, NULL);
    check(nbd_reply(fd) == 0);
    static char here[1 << 20];
    static char there[1 << 20];
    check(pread(primary.data_fd, here, sizeof here, 0) == (ssize_t)sizeof here);
    check(pread(secondary.data_fd, there, sizeof there, 0) == (ssize_t)sizeof there);
    check(memcmp(here, there, sizeof here) == 0);
    close(fd);
    node_stop(&primary);
    node_stop(&secondary);
}

static void a_thousand_requests_in_a_row_are_all_answered(void)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary);
    int fd = nbd_connect(&primary);
    char block[512] = {7};
    for (uint32_t i = 0; i < 1000; i++)
        nbd_request(fd, 1, 0, i * 512ull, sizeof block, block);
    check(shutdown(fd, SHUT_WR) == 0); /* an end without DISC: what was asked for is answered */
    for (uint32_t i = 0; i < 1000; i++)
        check(nbd_reply(fd) == 0);
    check(read(fd, block, 1) == 0);
    close(fd);
    node_stop(&primary);
    node_stop(&secondary);
}

/* The peer says nothing, is lost in the middle of a resync, and is lost once more: what ended the first time stays
 * ended. */
static void a_resync_may_be_lost_more_than_once(void)
{
    struct node target;
    node_start(&target, io_kind);
    node_attach(&target, 128);
    check(core_bitmap_set(target.engine, ++target.token, 0, PAIR_SECTORS) == 0);
    check(node_done(&target) == 0);
    for (int round = 0; round < 3; round++) {
        int data[2];
        int meta[2];
        char request[40];
        check(socketpair(AF_UNIX, SOCK_STREAM, 0, data) == 0);
        check(socketpair(AF_UNIX, SOCK_STREAM, 0, meta) == 0);
        node_join(&target, data[0], meta[0]);
        if (round == 0) {
            check(core_resync_start(target.engine, 1) == 0);
            read_all(data[1], request, sizeof request);
        }
        close(data[1]);
        close(meta[1]);
        node_await(&target, CORE_FACT_PEER_LOST, 0);
        check(core_release(target.engine, ++target.token) == 0);
        check(node_done(&target) == 0);
    }
    node_stop(&target);
}

static void send_packet(int fd, uint16_t command, const void *payload, uint32_t length)
{
    struct packet_header header = {
        .magic = htobe32(PACKET_MAGIC_100), .command = htobe16(command), .length = htobe32(length)};
    check(write(fd, &header, sizeof header) == (ssize_t)sizeof header);
    check(write(fd, payload, length) == (ssize_t)length);
}

/* The peer's wish to pause comes before the block that was asked for; a stop that waited for the block would wait for
 * ever, since nothing is read behind the wish until the stop is done. */
static void a_resync_stops_while_a_reply_is_outstanding_and_goes_on(void)
{
    struct node target;
    node_start(&target, io_kind);
    node_attach(&target, 128);
    check(core_bitmap_set(target.engine, ++target.token, 8, 8) == 0);
    check(node_done(&target) == 0);
    int data[2];
    int meta[2];
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, data) == 0);
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, meta) == 0);
    node_join(&target, data[0], meta[0]);
    check(core_resync_start(target.engine, 1) == 0);
    char asked[sizeof(struct packet_header) + sizeof(struct packet_block_request)];
    read_all(data[1], asked, sizeof asked);
    send_packet(data[1], 0x10, (char[4]){0}, 4); /* STATE */
    node_await(&target, CORE_FACT_PACKET, 0);
    check(core_resync_stop(target.engine, ++target.token) == 0);
    check(node_done(&target) == 0);
    check(core_resync_start(target.engine, 1) == 0);
    check(core_peer_resume(target.engine) == 0);
    struct pollfd nothing = {.fd = data[1], .events = POLLIN};
    check(poll(&nothing, 1, 100) == 0); /* not asked for twice */
    static char block[sizeof(struct packet_data) + 4096];
    memset(block + sizeof(struct packet_data), 0x42, 4096);
    *(struct packet_data *)block = (struct packet_data){.sector = htobe64(8), .block_id = UINT64_MAX};
    send_packet(data[1], P_RS_DATA_REPLY, block, sizeof block);
    check(node_await(&target, CORE_FACT_RESYNC_DONE, 0).a == 0);
    char here[4096];
    check(pread(target.data_fd, here, sizeof here, 4096) == (ssize_t)sizeof here);
    check(memcmp(here, block + sizeof(struct packet_data), sizeof here) == 0);
    close(data[1]);
    close(meta[1]);
    node_stop(&target);
}

static void a_packet_that_is_not_allowed_loses_the_peer(void)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary);
    node_accept(&secondary, 0);
    int fd = nbd_connect(&primary);
    char block[4096] = {0};
    nbd_request(fd, 1, 0, 0, sizeof block, block);
    check(node_await(&secondary, CORE_FACT_PEER_LOST, 0).result == CORE_LOST_PROTOCOL);
    struct core_fact lost = node_await(&primary, CORE_FACT_PEER_LOST, 0);
    check(lost.a == 1);
    close(fd);
    node_stop(&primary);
    node_stop(&secondary);
}

static void our_own_device_is_served_but_is_no_client(void)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary);
    int pair[2];
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    check(core_export_device(primary.engine, pair[1], 1) == 0);
    char block[4096];
    memset(block, 0x5c, sizeof block);
    nbd_request(pair[0], 1, 0, 8192, sizeof block, block);
    check(nbd_reply(pair[0]) == 0);
    same_at(&primary, &secondary, 8192, block, sizeof block);
    int fd = nbd_connect(&primary); /* one that counts, as the first */
    check(node_await(&primary, CORE_FACT_CLIENTS, 0).a == 1);
    struct core_counters counters;
    core_engine_counters(primary.engine, &counters);
    check(counters.clients == 1);
    close(fd);
    check(node_await(&primary, CORE_FACT_CLIENTS, 0).a == 0);
    check(core_export_close(primary.engine, ++primary.token) == 0);
    check(node_done(&primary) == 0);
    check(read(pair[0], block, 1) == 0); /* the export's end is the device's too */
    close(pair[0]);
    node_stop(&primary);
    node_stop(&secondary);
}

static void a_request_smaller_than_a_block_of_the_disk_is_refused(void)
{
    struct node primary, secondary;
    pair_start(&primary, &secondary);
    check(core_export_close(primary.engine, ++primary.token) == 0);
    check(node_done(&primary) == 0);
    check(core_export_block(primary.engine, 1000) == -EINVAL && core_export_block(primary.engine, 256) == -EINVAL);
    check(core_export_block(primary.engine, 4096) == 0);
    check(core_export_open(primary.engine, ++primary.token, "r0", 0) == 0);
    check(node_done(&primary) == 0);
    int fd = nbd_connect(&primary);
    char block[4096] = {1};
    nbd_request(fd, 1, 0, 512, 512, block);
    check(nbd_reply(fd) == 22);
    nbd_request(fd, 1, 0, 4096, sizeof block, block);
    check(nbd_reply(fd) == 0);
    same_at(&primary, &secondary, 4096, block, sizeof block);
    close(fd);
    node_stop(&primary);
    node_stop(&secondary);
}

int main(void)
{
    const enum core_io kinds[] = {CORE_IO_URING, CORE_IO_THREADS};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        io_kind = kinds[i];
        a_write_is_on_both_disks_when_it_is_answered();
        a_read_gives_what_was_written();
        a_write_without_an_ack_is_held_until_it_is_released();
        the_first_write_waits_for_the_gate();
        a_resync_copies_what_differs_while_writes_go_on();
        more_cold_extents_than_slots_make_progress();
        a_thousand_requests_in_a_row_are_all_answered();
        for (uint32_t protocol = 1; protocol <= 3; protocol++)
            overlapping_writes_end_in_the_same_order_on_both(protocol);
        a_resync_may_be_lost_more_than_once();
        a_resync_stops_while_a_reply_is_outstanding_and_goes_on();
        a_packet_that_is_not_allowed_loses_the_peer();
        our_own_device_is_served_but_is_no_client();
        a_request_smaller_than_a_block_of_the_disk_is_refused();
    }
    return 0;
}
