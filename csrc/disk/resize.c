/* resize.c - the device grows while it is in use, and its metadata moves to another place of the disk.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The control plane copies the metadata, and says when: between metadata_hold's answer and metadata_place nothing is
 * written there, so that the copy and the original are the same whenever power is lost.  Requests go on meanwhile; only
 * a write to a cold extent waits, for the transaction that would name it does.  What changed in memory is still dirty
 * afterwards, and is written to the new place.
 *
 * A size takes effect in three steps, each an order: the engine knows it (disk_resize; the peer may write there, and
 * bits can be set), then the bitmap and the superblock are durable, then applications may use it
 * (export_take_size). */
#include <errno.h>

#include "bitmap.h"
#include "engine.h"

int disk_resize(struct core_engine *engine, uint64_t size_sectors)
{
    struct disk *disk = &engine->disk;
    if (size_sectors == disk->size_sectors)
        return 0;
    bool shrinks = size_sectors < disk->size_sectors;
    if (shrinks && (engine->export.open || (disk->bitmap != NULL && disk->in_flight > 0)))
        return -EBUSY;
    if (shrinks)
        mend_forget(engine);
    if (disk->bitmap != NULL) {
        uint64_t pages = (size_sectors + BITMAP_PAGE_BITS * 8ull - 1) / (BITMAP_PAGE_BITS * 8ull);
        if (pages * BITMAP_PAGE_BYTES > disk->config.bm_bytes)
            return -ENOSPC;
        int rc = bitmap_resize(disk->bitmap, size_sectors);
        if (rc < 0)
            return rc;
    }
    disk->size_sectors = size_sectors;
    return 0;
}

void metadata_hold(struct core_engine *engine, uint64_t token)
{
    struct disk *disk = &engine->disk;
    if (!disk_is_usable(disk) || disk->config.md_fd < 0 || disk->md_held) {
        facts_done(engine, token, disk->md_held ? -EBUSY : -ENODEV);
        return;
    }
    disk->md_held = true;
    disk->md_hold_token = token;
}

void metadata_hold_pump(struct core_engine *engine)
{
    struct disk *disk = &engine->disk;
    if (disk->md_hold_token == 0 || engine->hot.busy || bitmap_pages_busy(&engine->pages))
        return;
    facts_done(engine, disk->md_hold_token, disk_is_usable(disk) ? 0 : -ENODEV);
    disk->md_hold_token = 0;
}

void metadata_place(struct core_engine *engine, uint64_t token, const struct core_disk *place)
{
    struct disk *disk = &engine->disk;
    if (!disk->md_held || disk->md_hold_token != 0) {
        facts_done(engine, token, -EINVAL);
        return;
    }
    disk->config.al_offset_bytes = place->al_offset_bytes;
    disk->config.bm_offset_bytes = place->bm_offset_bytes;
    disk->config.bm_bytes = place->bm_bytes;
    disk->md_held = false;
    facts_done(engine, token, 0);
}

void metadata_hold_forget(struct core_engine *engine)
{
    if (engine->disk.md_hold_token != 0)
        facts_done(engine, engine->disk.md_hold_token, -ENODEV);
    engine->disk.md_hold_token = 0;
    engine->disk.md_held = false;
}
