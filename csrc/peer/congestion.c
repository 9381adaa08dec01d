/* congestion.c - protocol A over a link that is slower than the applications: when to say so, and what is told later.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Whether to wait, to pull ahead or to disconnect is the control plane's to decide; what it could not act by (a resync
 * was running) is told again while it lasts.  While we are ahead
 * (CORE_REPLICATE_AHEAD) a write only sets its bits, and nothing of it goes on the wire, which is congested as it is.
 * Before the resync the peer is told of all bits at once. */
#include <errno.h>

#include "activity_log.h"
#include "bitmap.h"
#include "engine.h"

#define TELL_AGAIN_NS 1000000000ull
#define ANNOUNCED_BITS_MAX 256u /* 1 MiB: the largest write that a kernel's DRBD is ever told of */
#define SECTORS_PER_BIT 8u

void congestion_look(struct core_engine *engine)
{
    struct peer *peer = &engine->peer;
    const struct core_peer *config = &peer->config;
    uint64_t now = io_now_ns(engine->io);
    if (engine->protocol != 1 || (peer->congestion_told_ns != 0 && now - peer->congestion_told_ns < TELL_AGAIN_NS))
        return;
    bool full = config->congestion_fill_sectors != 0 && peer->log.sectors >= config->congestion_fill_sectors;
    bool hot = config->congestion_extents != 0 && engine->disk.log != NULL &&
               activity_log_in_use(engine->disk.log) >= config->congestion_extents;
    if ((!full && !hot) || !facts_have_room(engine))
        return;
    peer->congestion_told_ns = now;
    facts_simple(engine, CORE_FACT_CONGESTED, 0, peer->log.sectors, 0);
}

void announce_begin(struct core_engine *engine, uint64_t token)
{
    engine->announcement = (struct announcement){.busy = true, .token = token};
    if (engine->disk.bitmap == NULL || !peer_is_up(&engine->peer))
        announce_drop(engine);
}

static void over(struct core_engine *engine, int32_t result)
{
    if (!engine->announcement.busy)
        return;
    engine->announcement.busy = false;
    facts_done(engine, engine->announcement.token, result);
}

void announce_drop(struct core_engine *engine)
{
    over(engine, -ENOTCONN);
}

void announce_pump(struct core_engine *engine)
{
    struct announcement *announcement = &engine->announcement;
    if (announcement->busy && (engine->disk.bitmap == NULL || !peer_is_up(&engine->peer)))
        announce_drop(engine);
    while (announcement->busy && outbox_has_room(&engine->peer.data_out)) {
        uint64_t bit = bitmap_next(engine->disk.bitmap, announcement->bit);
        if (bit == BITMAP_NONE) {
            over(engine, 0);
            return;
        }
        uint64_t bits = bitmap_run(engine->disk.bitmap, bit, ANNOUNCED_BITS_MAX);
        uint64_t sectors = bits * SECTORS_PER_BIT;
        if (sectors > engine->disk.size_sectors - bit * SECTORS_PER_BIT)
            sectors = engine->disk.size_sectors - bit * SECTORS_PER_BIT;
        peer_send_out_of_sync(&engine->peer, bit * SECTORS_PER_BIT, sectors);
        announcement->bit = bit + bits;
    }
}
