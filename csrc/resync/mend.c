/* mend.c - see mend.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "mend.h"

#include <assert.h>
#include <errno.h>

#include "bitmap.h"
#include "container.h"
#include "digest.h"
#include "engine.h"

#define SECTORS_PER_BIT 8u
#define PROTOCOL_C 3u

/* Has the peer the block, and will it get every write to it until we have it, too? */
static bool peer_can_give(const struct core_engine *engine)
{
    return engine_peer_has_all(engine) && engine->replication == CORE_REPLICATE_PEER && !engine->peer.disk_failure_told;
}

static struct mend_block *block_of(const struct request *request)
{
    struct mend *mend = &request->engine->mend;
    for (uint32_t i = 0; i < MEND_BLOCKS; i++)
        if (mend->blocks[i].step != MEND_FREE && mend->blocks[i].request == request)
            return &mend->blocks[i];
    return NULL; /* called off */
}

static void block_free(struct core_engine *engine, struct mend_block *block)
{
    assert(engine->mend.count > 0);
    *block = (struct mend_block){.step = MEND_FREE};
    engine->mend.count--;
}

static void tell(struct core_engine *engine, const struct mend_block *block, int32_t result)
{
    if (facts_have_room(engine)) /* for people alone: the counter counts them all */
        facts_simple(engine, CORE_FACT_MENDED, result, block->sector, block->sectors);
}

/* --- beginning
 * ------------------------------------------------------------------------------------------------------------- */

static bool is_open(const struct mend_block *block)
{
    return block->step != MEND_FREE && block->step < MEND_MENDED;
}

static bool covers(const struct mend_block *block, uint64_t sector, uint64_t sectors)
{
    return is_open(block) && block->sector < sector + sectors && sector < block->sector + block->sectors;
}

bool mend_covers(const struct core_engine *engine, uint64_t sector, uint32_t sectors)
{
    for (uint32_t i = 0; engine->mend.count > 0 && i < MEND_BLOCKS; i++)
        if (covers(&engine->mend.blocks[i], sector, sectors))
            return true;
    return false;
}

static bool contains(const struct mend_block *block, uint64_t sector, uint64_t sectors)
{
    return is_open(block) && block->sector <= sector && sector + sectors <= block->sector + block->sectors;
}

/* True: it is, or is being, taken care of. */
static bool begin(struct core_engine *engine, uint64_t sector, uint32_t sectors)
{
    struct disk *disk = &engine->disk;
    struct mend_block *free_block = NULL;
    if (!disk_is_usable(disk) || disk->bitmap == NULL || engine->resync.finishing || !peer_can_give(engine))
        return false;
    if (engine->resync.active) { /* we are target: it copies what is marked, and tells of a disk that refuses it */
        bitmap_set(disk->bitmap, sector, sectors);
        return true;
    }
    for (uint32_t i = 0; i < MEND_BLOCKS; i++) {
        struct mend_block *block = &engine->mend.blocks[i];
        if (contains(block, sector, sectors))
            return true;
        if (block->step == MEND_FREE && free_block == NULL)
            free_block = block;
    }
    if (free_block == NULL)
        return false;
    uint64_t first = sector - sector % SECTORS_PER_BIT;
    uint64_t end = (sector + sectors + SECTORS_PER_BIT - 1) / SECTORS_PER_BIT * SECTORS_PER_BIT;
    if (end > disk->size_sectors)
        end = disk->size_sectors;
    *free_block = (struct mend_block){.sector = first, .sectors = (uint32_t)(end - first), .step = MEND_NOTED};
    free_block->was_marked = bitmap_any(disk->bitmap, first, end - first);
    bitmap_set(disk->bitmap, first, end - first);
    engine->mend.count++;
    return true;
}

void mend_read_failed(struct core_engine *engine, uint64_t sector, uint32_t sectors, int32_t result)
{
    if (begin(engine, sector, sectors))
        return;
    if (engine->disk.bitmap != NULL && engine_peer_has_all(engine))
        bitmap_set(engine->disk.bitmap, sector, sectors);
    disk_failed(engine, CORE_DISK_READ, sector, result);
}

/* --- the bits on disk
 * ------------------------------------------------------------------------------------------------------ */

static bool awaits_page(const struct mend_block *block)
{
    return block->step == MEND_NOTED || block->step == MEND_MENDED || block->step == MEND_CALLED_OFF;
}

static void page_durable(struct core_engine *engine, struct mend_block *block)
{
    block->in_batch = false;
    switch ((enum mend_step)block->step) {
    case MEND_NOTED:
        block->step = MEND_MARKED;
        break;
    case MEND_MENDED:
        engine->counters.mended_sectors += block->sectors;
        tell(engine, block, 0);
        block_free(engine, block);
        break;
    case MEND_CALLED_OFF:
        block_free(engine, block);
        break;
    case MEND_FREE:
    case MEND_MARKED:
    case MEND_WRITING:
    case MEND_READING:
        assert(!"no page of it was written");
    }
}

static void pages_durable(struct core_engine *engine, int32_t result)
{
    for (uint32_t i = 0; i < MEND_BLOCKS; i++) {
        struct mend_block *block = &engine->mend.blocks[i];
        if (!block->in_batch)
            continue;
        if (result < 0)
            block_free(engine, block); /* told as the disk's failure */
        else
            page_durable(engine, block);
    }
}

static void list_page(uint64_t pages[2 * MEND_BLOCKS], uint32_t *count, uint64_t page)
{
    for (uint32_t i = 0; i < *count; i++)
        if (pages[i] == page)
            return;
    pages[(*count)++] = page;
}

static void write_pages(struct core_engine *engine)
{
    uint64_t pages[2 * MEND_BLOCKS]; /* a block of at most 1 MiB, and a bit, lies on two of them at most */
    uint32_t count = 0;
    if (bitmap_pages_busy(&engine->pages) || engine->disk.md_held)
        return;
    for (uint32_t i = 0; i < MEND_BLOCKS; i++) {
        struct mend_block *block = &engine->mend.blocks[i];
        if (!awaits_page(block))
            continue;
        block->in_batch = true;
        list_page(pages, &count, bitmap_page_of_sector(block->sector));
        list_page(pages, &count, bitmap_page_of_sector(block->sector + block->sectors - 1));
    }
    if (count > 0)
        bitmap_pages_write(engine, pages, count, pages_durable);
}

/* --- fetching
 * -------------------------------------------------------------------------------------------------------------- */

/* Under protocols A and B a write is over before the peer's disk has it, and the kernel's DRBD reads past it. */
static bool awaits_the_peers_disk(struct core_engine *engine, const struct mend_block *block)
{
    const struct transfer_log *log = &engine->peer.log;
    for (uint64_t i = log->out; engine->protocol < PROTOCOL_C && i != log->in; i++) {
        const struct transfer_entry *entry = &log->entries[i & (TRANSFER_LOG_ENTRIES - 1)];
        if (entry->sector < block->sector + block->sectors && block->sector < entry->sector + entry->sectors) {
            transfer_log_close_epoch(engine);
            return true;
        }
    }
    return false;
}

static void ask(struct request *request)
{
    struct core_engine *engine = request->engine;
    if (block_of(request) == NULL || !peer_is_up(&engine->peer)) {
        request_end(request);
        return;
    }
    request->legs = LEG_ACK;
    if (engine->reads_at_peer++ == 0)
        engine->reads_at_peer_since_ns = io_now_ns(engine->io);
    peer_send_block_request(&engine->peer, P_RS_DATA_REQUEST, request->sector, PACKET_ID_SYNCER, request->sectors << 9);
}

static void place_free(struct place *place)
{
    ask(CONTAINER_OF(place, struct request, place));
}

static void fetch(struct core_engine *engine, struct mend_block *block)
{
    if (!outbox_has_room(&engine->peer.data_out) || awaits_the_peers_disk(engine, block))
        return;
    struct request *request = resync_request_new(engine, MEND_BLOCK, block->sector, block->sectors);
    if (request == NULL)
        return; /* no slot or no memory: whoever gives some back makes a turn */
    block->request = request;
    block->step = MEND_WRITING;
    request->flags |= REQUEST_HAS_PLACE;
    request->place.go = place_free;
    if (ordering_enter(&engine->ordering, &request->place, ORDER_RS_FETCH, block->sector, block->sectors))
        ask(request);
}

static void call_off(struct core_engine *engine, bool keeps_bits);

void mend_pump(struct core_engine *engine)
{
    struct mend *mend = &engine->mend;
    if (mend->count == 0 || !disk_is_usable(&engine->disk))
        return;
    if (!peer_can_give(engine) || engine->resync.active)
        call_off(engine, true); /* a resync copies what is marked; else nobody knows who has set which bit by now */
    write_pages(engine);
    for (uint32_t i = 0; i < MEND_BLOCKS; i++)
        if (mend->blocks[i].step == MEND_MARKED)
            fetch(engine, &mend->blocks[i]);
}

/* --- writing, reading back
 * ------------------------------------------------------------------------------------------------- */

static void failed(struct request *request, enum core_disk_op op, int32_t result)
{
    struct core_engine *engine = request->engine;
    struct mend_block *block = block_of(request);
    if (block != NULL)
        block_free(engine, block); /* its bits stay: they are what the disk lacks */
    disk_failed(engine, op, request->sector, result);
    if (peer_is_up(&engine->peer))
        peer_send_ack(&engine->peer, P_NEG_ACK, request); /* the kernel's DRBD counts the answers that it waits for */
    request_end(request);
}

static void write_place_free(struct place *place)
{
    struct request *request = CONTAINER_OF(place, struct request, write_place);
    struct core_engine *engine = request->engine;
    struct mend_block *block = block_of(request);
    if (block == NULL || !disk_is_usable(&engine->disk)) {
        if (block != NULL)
            block_free(engine, block);
        request_end(request);
        return;
    }
    assert(block->step == MEND_WRITING);
    block->checksum = digest_crc32c(0, request->buffer, (uint64_t)request->sectors << 9);
    request->legs = LEG_LOCAL;
    disk_write(request);
}

void mend_arrived(struct request *request)
{
    request->flags |= REQUEST_HAS_WRITE_PLACE;
    request->write_place.go = write_place_free;
    if (ordering_enter(&request->engine->ordering, &request->write_place, ORDER_RS_WRITE, request->sector,
                       request->sectors))
        write_place_free(&request->write_place);
}

void mend_refused(struct request *request)
{
    struct core_engine *engine = request->engine;
    struct mend_block *block = block_of(request);
    request->legs = 0;
    read_not_at_peer(engine);
    if (block != NULL) {
        /* Neither can read it, or the peer is no longer good.  Our disk is all there is of the rest of it: it stays. */
        tell(engine, block, -ENODATA);
        block->request = NULL;
        block->step = MEND_CALLED_OFF;
        if (!block->was_marked && engine->disk.bitmap != NULL)
            bitmap_clear(engine->disk.bitmap, block->sector, block->sectors);
    }
    request_end(request);
}

static void read_back(struct request *request, struct mend_block *block)
{
    block->step = MEND_READING;
    request->legs = LEG_LOCAL;
    disk_read(request);
}

static void mended(struct request *request, struct mend_block *block)
{
    struct core_engine *engine = request->engine;
    bitmap_clear(engine->disk.bitmap, block->sector, block->sectors);
    if (peer_is_up(&engine->peer))
        peer_send_ack(&engine->peer, P_RS_WRITE_ACK, request);
    block->request = NULL;
    block->step = MEND_MENDED;
    request_end(request);
}

void mend_leg_done(struct request *request)
{
    struct mend_block *block = block_of(request);
    bool writing = block == NULL || block->step == MEND_WRITING;
    if (request->result < 0)
        failed(request, writing ? CORE_DISK_WRITE : CORE_DISK_READ, request->result);
    else if (block == NULL)
        request_end(request);
    else if (writing && disk_is_usable(&request->engine->disk))
        read_back(request, block);
    else if (!writing && digest_crc32c(0, request->buffer, (uint64_t)request->sectors << 9) == block->checksum)
        mended(request, block);
    else
        failed(request, CORE_DISK_READ, -EIO);
}

/* --- ending early
 * ---------------------------------------------------------------------------------------------------------- */

static void call_off(struct core_engine *engine, bool keeps_bits)
{
    struct mend *mend = &engine->mend;
    for (uint32_t i = 0; mend->count > 0 && i < MEND_BLOCKS; i++) {
        struct mend_block *block = &mend->blocks[i];
        if (!is_open(block))
            continue;
        tell(engine, block, -ECANCELED);
        if (!keeps_bits && !block->was_marked && engine->disk.bitmap != NULL)
            bitmap_clear(engine->disk.bitmap, block->sector, block->sectors);
        block->request = NULL; /* it ends by itself, and touches no bit */
        block->in_batch = false;
        block->step = MEND_CALLED_OFF;
    }
}

void mend_call_off(struct core_engine *engine)
{
    call_off(engine, false);
}

/* Those who wait for an answer never get one.  The others end by themselves. */
void mend_peer_lost(struct core_engine *engine)
{
    mend_call_off(engine);
    for (uint32_t i = 0; i < engine->requests.count; i++) {
        struct request *request = &engine->requests.requests[i];
        if (request->kind != MEND_BLOCK || (request->flags & REQUEST_HAS_PLACE) == 0)
            continue;
        if ((request->flags & REQUEST_HAS_WRITE_PLACE) != 0 || request->place.blockers > 0)
            continue;
        if ((request->legs & LEG_ACK) != 0)
            read_not_at_peer(engine);
        request->legs = 0;
        request_end(request);
    }
}

void mend_forget(struct core_engine *engine)
{
    struct mend *mend = &engine->mend;
    for (uint32_t i = 0; mend->count > 0 && i < MEND_BLOCKS; i++)
        if (mend->blocks[i].step != MEND_FREE)
            block_free(engine, &mend->blocks[i]);
}
