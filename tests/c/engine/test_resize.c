/* test_resize.c - the device grows while clients write, and the metadata moves under them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "one_client.h"

#define GROWN_SECTORS (PAIR_SECTORS * 2)
#define NEW_PLACE (1u << 20)
#define EXTENT_BYTES (4ull << 20)

static enum core_io io_kind;

static void metadata_place(struct node *node, uint64_t al_offset, uint64_t bm_offset)
{
    struct core_disk place = {
        .data_fd = -1, .md_fd = -1, .al_offset_bytes = al_offset, .bm_offset_bytes = bm_offset, .bm_bytes = 65536};
    check(core_metadata_place(node->engine, ++node->token, &place) == 0);
}

static void alone(struct node *node, uint32_t al_extents)
{
    node_start(node, io_kind);
    node_attach(node, al_extents);
    check(core_export_open(node->engine, ++node->token, "r0", 0) == 0);
    check(node_done(node) == 0);
}

static bool is_written_at(int fd, uint64_t offset)
{
    char block[4096];
    char zeroes[4096] = {0};
    ssize_t got = pread(fd, block, sizeof block, (off_t)offset);
    return got == (ssize_t)sizeof block && memcmp(block, zeroes, sizeof block) != 0;
}

static void what_is_new_is_used_only_when_the_export_is_told(void)
{
    struct node node;
    char block[4096] = {3};
    char back[4096];
    alone(&node, 128);
    check(ftruncate(node.data_fd, GROWN_SECTORS * 512) == 0);
    int fd = nbd_connect(&node);
    check(core_resize(node.engine, ++node.token, GROWN_SECTORS) == 0);
    check(node_done(&node) == 0);
    nbd_request(fd, 1, 0, PAIR_SECTORS * 512, sizeof block, block);
    check(nbd_reply(fd) == 28); /* ENOSPC: not yet */
    check(core_bitmap_set(node.engine, ++node.token, PAIR_SECTORS, GROWN_SECTORS - PAIR_SECTORS) == 0);
    check(node_done(&node) == 0);
    check(core_bitmap_write(node.engine, ++node.token) == 0);
    check(node_done(&node) == 0);
    check(is_written_at(node.md_fd, PAIR_BM_OFFSET)); /* 131072 sectors are half a page */
    check(core_export_resize(node.engine) == 0);
    node_accept(&node, 0); /* it knows */
    nbd_request(fd, 1, 0, PAIR_SECTORS * 512, sizeof block, block);
    check(nbd_reply(fd) == 0);
    check(pread(node.data_fd, back, sizeof back, PAIR_SECTORS * 512) == sizeof back && back[0] == 3);
    check(core_resize(node.engine, ++node.token, PAIR_SECTORS) == 0);
    check(node_done(&node) == -EBUSY); /* somebody may be using it */
    close(fd);
    node_stop(&node);
}

static void nothing_is_written_to_metadata_that_is_held(void)
{
    struct node node;
    char block[4096] = {5};
    alone(&node, 128);
    check(ftruncate(node.md_fd, 2 * NEW_PLACE) == 0);
    int fd = nbd_connect(&node);
    nbd_request(fd, 1, 0, 0, sizeof block, block); /* extent 0 is hot */
    check(nbd_reply(fd) == 0);
    check(core_metadata_hold(node.engine, ++node.token) == 0);
    check(node_done(&node) == 0);
    char before[PAIR_MD_BYTES];
    char after[PAIR_MD_BYTES];
    check(pread(node.md_fd, before, sizeof before, 0) == (ssize_t)sizeof before);
    nbd_request(fd, 1, 0, 8192, sizeof block, block); /* hot: nothing to write */
    check(nbd_reply(fd) == 0);
    nbd_request(fd, 1, 0, EXTENT_BYTES, sizeof block, block); /* cold: waits */
    check(core_bitmap_write(node.engine, ++node.token) == 0);
    check(!nbd_replied(fd, 300) && !node_has(&node, CORE_FACT_DONE));
    check(pread(node.md_fd, after, sizeof after, 0) == (ssize_t)sizeof after);
    check(memcmp(before, after, sizeof before) == 0);
    uint64_t sweep = node.token;
    metadata_place(&node, NEW_PLACE, NEW_PLACE + PAIR_BM_OFFSET);
    check(node_await(&node, CORE_FACT_DONE, node.token).result == 0);
    check(nbd_reply(fd) == 0);
    check(node_await(&node, CORE_FACT_DONE, sweep).result == 0);
    check(pread(node.md_fd, after, sizeof after, 0) == (ssize_t)sizeof after);
    check(memcmp(before, after, sizeof before) == 0); /* all of it went to the new place */
    bool logged = false;
    for (uint64_t slot = 0; slot < PAIR_AL_BLOCKS; slot++)
        logged |= is_written_at(node.md_fd, NEW_PLACE + slot * 4096);
    check(logged && is_written_at(node.md_fd, NEW_PLACE + PAIR_BM_OFFSET));
    metadata_place(&node, 0, 0);
    check(node_done(&node) == -EINVAL); /* nobody holds it */
    close(fd);
    node_stop(&node);
}

static void a_disk_that_goes_takes_the_hold_with_it(void)
{
    struct node node;
    alone(&node, 128);
    check(core_metadata_hold(node.engine, ++node.token) == 0);
    check(node_done(&node) == 0);
    check(core_detach(node.engine, ++node.token) == 0);
    check(node_done(&node) == 0);
    check(core_metadata_hold(node.engine, ++node.token) == 0);
    check(node_done(&node) == -ENODEV);
    node_attach(&node, 128);
    check(core_bitmap_write(node.engine, ++node.token) == 0);
    check(node_done(&node) == 0);
    node_stop(&node);
}

static void a_bitmap_without_room_on_disk_is_refused(void)
{
    struct node node;
    alone(&node, 128);
    check(core_resize(node.engine, ++node.token, 17ull * 32768 * 8) == 0); /* 17 pages, 16 have room */
    check(node_done(&node) == -ENOSPC);
    node_stop(&node);
}

int main(void)
{
    const enum core_io kinds[] = {CORE_IO_URING, CORE_IO_THREADS};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        io_kind = kinds[i];
        what_is_new_is_used_only_when_the_export_is_told();
        nothing_is_written_to_metadata_that_is_held();
        a_disk_that_goes_takes_the_hold_with_it();
        a_bitmap_without_room_on_disk_is_refused();
    }
    return 0;
}
