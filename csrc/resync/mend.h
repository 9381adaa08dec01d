/* mend.h - a block that our disk cannot read is fetched from the peer and written again, while everything goes on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A disk that cannot read a sector usually can once the sector has been written: it puts it elsewhere.  In this order:
 *
 *   1. the block's bits are set, and their page is durable: whatever happens from here on, the disk says what it lacks;
 *   2. the block takes its place (RS_FETCH, as a resync's): from here on an application's write to it waits;
 *   3. it is asked for, and written behind what the peer wrote to it before its reply (RS_WRITE): nothing newer is
 *      ever overwritten;
 *   4. it is read back and compared; only now it counts, and local reads of it go to our disk again;
 *   5. its bits are cleared, on disk only behind a flush of the data (bitmap_pages.h), and CORE_FACT_MENDED says so.
 *
 * Until 4 whoever reads the block reads the peer's.  What the disk refuses on the way is CORE_FACT_DISK_FAILED, as if
 * nothing had been tried.  When the peer can't go on giving (it is lost, its disk is, writes no longer go to both) the
 * mend is called off: its bits are cleared again, for a later handshake would take them for the peer's lack and ask us
 * for just this block.  Whoever reads the block next begins anew. */
#ifndef CSRC_MEND_H
#define CSRC_MEND_H

#include <stdbool.h>
#include <stdint.h>

struct core_engine;
struct request;

#define MEND_BLOCKS 16u /* at once; a disk with more bad ones than that is a bad disk */

enum mend_step {
    MEND_FREE,
    MEND_NOTED,     /* its bits are set in memory */
    MEND_MARKED,    /* and on disk */
    MEND_WRITING,   /* has a request, up to its write; from before it is asked for */
    MEND_READING,   /* is read back */
    MEND_MENDED,    /* its bits are clear in memory; on disk not yet */
    MEND_CALLED_OFF /* the same */
};

struct mend_block {
    struct request *request; /* MEND_WRITING, MEND_READING */
    uint64_t sector;         /* whole bits, or up to the end of the device */
    uint32_t sectors;
    uint32_t checksum; /* of what was written */
    uint8_t step;      /* enum mend_step */
    bool in_batch;     /* of bitmap pages that are being written */
    bool was_marked;   /* it had bits before: they stay when it is called off */
};

struct mend {
    struct mend_block blocks[MEND_BLOCKS];
    uint32_t count; /* not MEND_FREE */
};

/* A local read of this range has failed: it is going to be mended, or the disk has failed. */
void mend_read_failed(struct core_engine *engine, uint64_t sector, uint32_t sectors, int32_t result);
/* Is a block of this range not yet read back? */
bool mend_covers(const struct core_engine *engine, uint64_t sector, uint32_t sectors);
void mend_pump(struct core_engine *engine);
/* Before anything else sets bits of what the peer lacks. */
void mend_call_off(struct core_engine *engine);
void mend_peer_lost(struct core_engine *engine);
void mend_forget(struct core_engine *engine); /* the disk goes, or shrinks */

void mend_arrived(struct request *request);  /* its payload is complete */
void mend_refused(struct request *request);  /* the peer cannot read it either */
void mend_leg_done(struct request *request); /* written, or read back */

#endif
