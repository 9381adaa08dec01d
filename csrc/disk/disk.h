/* disk.h - the backing disk and its metadata, as the engine sees them: descriptors, the bitmap and the activity log in
 * memory.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A failed operation is a fact for the control plane and nothing else: the write that met it is held until an order
 * says what becomes of the disk. */
#ifndef CSRC_DISK_H
#define CSRC_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "core.h"
#include "request.h"

struct bitmap;
struct activity_log;

struct disk {
    struct core_disk config;
    struct bitmap *bitmap;
    struct activity_log *log;
    uint64_t size_sectors; /* of the device; stays when the disk goes */
    uint32_t in_flight;    /* operations on data_fd and md_fd */
    uint32_t others;       /* of these, no request's */
    uint64_t others_since_ns;
    uint64_t looked_ns;    /* for what is late */
    uint32_t hanging;      /* given up, and not ended: the descriptors stay open */
    uint64_t detach_token; /* answered when none is in flight */
    bool attached;
    bool failed; /* undecided: between CORE_FACT_DISK_FAILED and core_detach */
    bool grave;  /* and it is not to be kept: what became of more than one block is unknown */
    bool detaching;
    bool md_held;           /* nothing new begins on the metadata: the control plane copies it to another place */
    uint64_t md_hold_token; /* answered when nothing is under way there */
    struct request_queue failed_requests;
};

/* May a new request use the disk? */
bool disk_is_usable(const struct disk *disk);
/* Are its metadata as good as ever?  A block that failed leaves them so, decided or not. */
bool disk_has_metadata(const struct disk *disk);
int disk_attach(struct core_engine *engine,
                const struct core_disk *config); /* descriptors, bitmap, log; nothing read yet */
void disk_detach(struct core_engine *engine, uint64_t token);
/* Goes on with a disk that has failed: failed writes live on their other leg, or fail. */
void disk_keep(struct core_engine *engine);
void disk_free(struct core_engine *engine);
void disk_close(struct core_engine *engine); /* the descriptors; nothing may be under way, and nothing hang */
void disk_finish_detach(struct core_engine *engine);

/* resize.c: the device and its metadata get another size, and another place */
int disk_resize(struct core_engine *engine, uint64_t size_sectors);
void metadata_hold(struct core_engine *engine, uint64_t token);
void metadata_place(struct core_engine *engine, uint64_t token, const struct core_disk *place);
void metadata_hold_pump(struct core_engine *engine);
void metadata_hold_forget(struct core_engine *engine); /* the disk goes */

/* The local leg of a request: LEG_LOCAL is out before the call and done later. */
void disk_read(struct request *request);
void disk_write(struct request *request);
void disk_zero(struct request *request);
/* On a request's behalf; its completion begins with disk_request_over and ends with disk_request_end. */
void disk_flush_for(struct request *request, io_done over);
bool disk_request_over(struct request *request); /* false: it was given up, and nothing is to be done */
void disk_request_end(struct core_engine *engine);

/* Counts operations that are not requests' (bitmap pages, transactions, flushes). */
void disk_begin(struct core_engine *engine);
void disk_end(struct core_engine *engine);
/* Tells the control plane, once until core_detach or core_keep_disk; a flush or metadata that failed, behind a block
 * that did, is told besides, for no order given about the block was about that. */
void disk_failed(struct core_engine *engine, enum core_disk_op op, uint64_t sector, int32_t result);
/* What a write that failed was: one through to the platter is a flush as well, and the kernel tells of what else it
 * could not write back once only. */
enum core_disk_op disk_op_of(const struct request *request);

#endif
