/* test_integrity.c - data-integrity-alg: data that came damaged are not written, not answered, not read.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "one_client.h"
#include "packet.h"

#define BLOCK 4096u

/* A node whose peer is the test. */
struct raw {
    struct node node;
    int data, meta;
};

static void raw_start(struct raw *raw)
{
    int data[2];
    int meta[2];
    node_start(&raw->node, CORE_IO_AUTO);
    node_attach(&raw->node, 128);
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, data) == 0);
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, meta) == 0);
    check(fcntl(data[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(meta[0], F_SETFL, O_NONBLOCK) == 0);
    node_join(&raw->node, data[0], meta[0]);
    raw->data = data[1];
    raw->meta = meta[1];
}

static void raw_stop(struct raw *raw)
{
    close(raw->data);
    close(raw->meta);
    node_stop(&raw->node);
}

/* DATA, DATA_REPLY or RS_DATA_REPLY as a kernel sends it with crc32c: fixed part, digest (lowest byte first), payload;
 * `flip` is xored into the last byte after the digest was made. */
static void say_data(int fd, uint16_t command, uint64_t sector, uint64_t block_id, char flip)
{
    struct {
        struct packet_header header;
        struct packet_data data;
        uint32_t digest;
        char payload[BLOCK];
    } __attribute__((packed)) packet = {
        .header = {.magic = htobe32(PACKET_MAGIC_100),
                   .command = htobe16(command),
                   .length = htobe32((uint32_t)sizeof(struct packet_data) + 4 + BLOCK)},
        .data = {.sector = htobe64(sector), .block_id = block_id, .dp_flags = htobe32(DP_SEND_WRITE_ACK)},
    };
    memset(packet.payload, 'd', BLOCK);
    packet.digest = htole32(core_crc32c(0, (const uint8_t *)packet.payload, BLOCK));
    packet.payload[BLOCK - 1] = (char)(packet.payload[BLOCK - 1] ^ flip);
    write_all(fd, &packet, sizeof packet);
}

static char on_disk(struct node *node, uint64_t sector)
{
    char byte;
    check(pread(node->data_fd, &byte, 1, (off_t)(sector * 512)) == 1);
    return byte;
}

static void check_lost_by_damage(struct node *node, uint64_t sector)
{
    struct core_fact damaged = node_await(node, CORE_FACT_DIGEST_FAILED, 0);
    check(damaged.a == sector && damaged.b == 8);
    check(node_await(node, CORE_FACT_PEER_LOST, 0).result == CORE_LOST_PROTOCOL);
}

static void a_damaged_write_is_not_written_and_loses_the_peer(void)
{
    struct raw raw;
    struct __attribute__((packed)) {
        struct packet_header header;
        struct packet_block_ack ack;
    } answer;
    raw_start(&raw);
    check(core_replicate(raw.node.engine, CORE_REPLICATE_PEER, 3) == 0);
    node_accept(&raw.node, CORE_ACCEPT_WRITES);
    say_data(raw.data, P_DATA, 80, 1, 0);
    read_all(raw.meta, &answer, sizeof answer);
    check(answer.header.command == htobe16(P_WRITE_ACK) && answer.ack.sector == htobe64(80));
    check(on_disk(&raw.node, 80) == 'd');
    say_data(raw.data, P_DATA, 160, 2, 4);
    check_lost_by_damage(&raw.node, 160);
    check(on_disk(&raw.node, 160) == 0);
    check(read(raw.meta, &answer, sizeof answer) == 0); /* no answer, only the end */
    check(core_release(raw.node.engine, ++raw.node.token) == 0);
    check(node_done(&raw.node) == 0);
    raw_stop(&raw);
}

static void a_damaged_block_of_a_resync_stays_out_of_sync(void)
{
    struct raw raw;
    struct core_counters counters;
    char request[40];
    raw_start(&raw);
    check(core_bitmap_set(raw.node.engine, ++raw.node.token, 800, 8) == 0);
    check(node_done(&raw.node) == 0);
    check(core_resync_start(raw.node.engine, CORE_RESYNC_TARGET) == 0);
    read_all(raw.data, request, sizeof request);
    say_data(raw.data, P_RS_DATA_REPLY, 800, PACKET_ID_SYNCER, 1);
    check_lost_by_damage(&raw.node, 800);
    check(core_release(raw.node.engine, ++raw.node.token) == 0);
    check(node_done(&raw.node) == 0);
    core_engine_counters(raw.node.engine, &counters);
    check(counters.out_of_sync_bits == 1 && on_disk(&raw.node, 800) == 0);
    raw_stop(&raw);
}

static void a_damaged_reply_is_no_answer_to_a_read(void)
{
    struct raw raw;
    struct __attribute__((packed)) {
        struct packet_header header;
        struct packet_block_request request;
    } asked;
    raw_start(&raw);
    check(core_replicate(raw.node.engine, CORE_REPLICATE_PEER, 3) == 0);
    check(core_reads(raw.node.engine, CORE_READS_PEER) == 0);
    check(core_export_open(raw.node.engine, ++raw.node.token, "r0", 0) == 0);
    check(node_done(&raw.node) == 0);
    int fd = nbd_connect(&raw.node);
    nbd_request(fd, 0, 0, BLOCK, BLOCK, NULL);
    read_all(raw.data, &asked, sizeof asked);
    say_data(raw.data, P_DATA_REPLY, 8, asked.request.block_id, 64);
    check_lost_by_damage(&raw.node, 8);
    check(!nbd_replied(fd, 50)); /* held until the control plane has decided */
    check(core_reads(raw.node.engine, CORE_READS_LOCAL) == 0);
    check(core_release(raw.node.engine, ++raw.node.token) == 0);
    check(nbd_reply(fd) == 0);
    char block[BLOCK];
    read_all(fd, block, sizeof block);
    check(block[0] == 0 && block[BLOCK - 1] == 0);
    close(fd);
    raw_stop(&raw);
}

static void writes_zeroes_reads_and_a_resync_go_their_way(uint32_t algorithm)
{
    struct node castor, pollux;
    static char payload[1 << 20];
    static char back[1 << 20];
    pair_integrity_alg = algorithm;
    node_start(&castor, CORE_IO_AUTO);
    node_start(&pollux, CORE_IO_AUTO);
    node_attach(&castor, 128);
    node_attach(&pollux, 128);
    nodes_join(&castor, &pollux);
    check(core_replicate(castor.engine, CORE_REPLICATE_PEER, 3) == 0);
    check(core_replicate(pollux.engine, CORE_REPLICATE_PEER, 3) == 0);
    check(core_export_open(castor.engine, ++castor.token, "r0", 0) == 0);
    check(node_done(&castor) == 0);
    int fd = nbd_connect(&castor);
    memset(payload, 'w', sizeof payload);
    nbd_request(fd, 1, 0, 1 << 20, sizeof payload, payload);
    check(nbd_reply(fd) == 0);
    nbd_request(fd, 6, 0, 1 << 20, BLOCK, NULL);
    check(nbd_reply(fd) == 0);
    node_accept(&pollux, CORE_ACCEPT_WRITES | CORE_ACCEPT_READS);
    check(core_reads(castor.engine, CORE_READS_PEER) == 0);
    nbd_request(fd, 0, 0, 1 << 20, sizeof back, NULL);
    check(nbd_reply(fd) == 0);
    read_all(fd, back, sizeof back);
    memset(payload, 0, BLOCK);
    check(memcmp(payload, back, sizeof back) == 0);
    node_accept(&castor, CORE_ACCEPT_RESYNC);
    for (int i = 0; i < 2; i++) {
        struct node *node = i == 0 ? &castor : &pollux;
        check(core_bitmap_set(node->engine, ++node->token, 4096, 4096) == 0);
        check(node_done(node) == 0);
    }
    check(core_resync_start(castor.engine, CORE_RESYNC_SOURCE) == 0);
    check(core_resync_start(pollux.engine, CORE_RESYNC_TARGET) == 0);
    check(node_await(&pollux, CORE_FACT_RESYNC_DONE, 0).a == 0);
    check(!node_has(&pollux, CORE_FACT_PEER_LOST) && !node_has(&castor, CORE_FACT_PEER_LOST));
    close(fd);
    node_stop(&castor);
    node_stop(&pollux);
}

int main(void)
{
    pair_integrity_alg = CORE_DIGEST_CRC32C;
    a_damaged_write_is_not_written_and_loses_the_peer();
    a_damaged_block_of_a_resync_stays_out_of_sync();
    a_damaged_reply_is_no_answer_to_a_read();
    for (uint32_t algorithm = CORE_DIGEST_NONE; algorithm <= CORE_DIGEST_SHA512; algorithm++)
        writes_zeroes_reads_and_a_resync_go_their_way(algorithm);
    return 0;
}
