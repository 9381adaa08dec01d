/* peer.c - see peer.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "peer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "engine.h"

#define DATA_INBOX_BYTES (256u << 10)
#define META_INBOX_BYTES (64u << 10)
#define OUTBOX_BYTES (1u << 20)
#define OUTBOX_SEGMENTS 16384u
#define MS 1000000ull

int peer_init(struct core_engine *engine)
{
    struct peer *peer = &engine->peer;
    peer->engine = engine;
    peer->epochs = calloc(PEER_EPOCHS, sizeof *peer->epochs);
    int rc = peer->epochs != NULL ? 0 : -ENOMEM;
    if (rc == 0)
        rc = transfer_log_init(&peer->log);
    if (rc == 0)
        rc = inbox_init(&peer->data_in, engine, DATA_INBOX_BYTES, peer_data_received);
    if (rc == 0)
        rc = inbox_init(&peer->meta_in, engine, META_INBOX_BYTES, peer_meta_received);
    if (rc == 0)
        rc = outbox_init(&peer->data_out, engine, OUTBOX_BYTES, OUTBOX_SEGMENTS);
    if (rc == 0)
        rc = outbox_init(&peer->meta_out, engine, OUTBOX_BYTES, OUTBOX_SEGMENTS);
    return rc;
}

void peer_fini(struct core_engine *engine)
{
    struct peer *peer = &engine->peer;
    inbox_fini(&peer->data_in);
    inbox_fini(&peer->meta_in);
    outbox_fini(&peer->data_out);
    outbox_fini(&peer->meta_out);
    transfer_log_fini(&peer->log);
    free(peer->epochs);
}

static bool digests_known(const struct core_engine *engine, const struct core_peer *config)
{
    return checksum_is_known(engine->checksums, config->verify_alg) &&
           checksum_is_known(engine->checksums, config->csums_alg) &&
           checksum_is_known(engine->checksums, config->integrity_alg);
}

void peer_connect(struct core_engine *engine, uint64_t token, const struct core_peer *config)
{
    struct peer *peer = &engine->peer;
    int rc = peer->state == PEER_NONE ? 0 : -EISCONN;
    if (rc == 0 && !digests_known(engine, config))
        rc = -EOPNOTSUPP;
    if (rc < 0) {
        io_close(engine->io, config->data_fd);
        io_close(engine->io, config->meta_fd);
        facts_done(engine, token, rc);
        return;
    }
    peer->config = *config;
    peer->state = PEER_UP;
    peer->draining = peer->paused = peer->stalled = peer->disk_failure_told = peer->forgiving = false;
    peer->congestion_told_ns = 0;
    peer->accept = 0;
    peer->filling = NULL;
    peer->heard_ns = io_now_ns(engine->io);
    peer->ping_sent_ns = 0;
    peer->unacked = 0;
    peer->epochs_in = 1;
    peer->epochs_out = 0;
    peer->epochs[0] = (struct epoch){.closed = false};
    inbox_open(&peer->data_in, config->data_fd);
    inbox_open(&peer->meta_in, config->meta_fd);
    outbox_open(&peer->data_out, config->data_fd);
    outbox_open(&peer->meta_out, config->meta_fd);
    facts_done(engine, token, 0);
}

void peer_disconnect(struct core_engine *engine, uint64_t token)
{
    struct peer *peer = &engine->peer;
    if (peer->state == PEER_NONE || peer->state == PEER_LOST) {
        facts_done(engine, token, 0);
        return;
    }
    peer->disconnect_token = token;
    peer->draining = true;
    peer->paused = true;                        /* nothing the peer says matters any more */
    peer->ping_sent_ns = io_now_ns(engine->io); /* from here the time to say goodbye runs */
}

void peer_lose(struct peer *peer, enum core_lost reason)
{
    if (peer->state != PEER_UP)
        return;
    peer->state = PEER_CLOSING;
    peer->lost = peer->draining ? CORE_LOST_ORDERED : reason;
    /* Both directions: what is under way on these sockets comes home at once, and peer_check_closed sees the last of
     * it. */
    io_shutdown(peer->engine->io, peer->config.data_fd);
    io_shutdown(peer->engine->io, peer->config.meta_fd);
    peer_check_closed(peer);
}

/* Our own disk answers at once if it is good; else it waits for what the control plane makes of the loss. */
static void give_back_read(struct request *request)
{
    struct core_engine *engine = request->engine;
    if (engine->reads == CORE_READS_BALANCED) {
        request_leg_done(request, LEG_ACK, -EIO);
        return;
    }
    request->legs = 0;
    read_not_at_peer(engine);
    request_queue_put(&engine->held, request);
}

/* Whatever was under way for the peer ends without an answer; what was under way with it waits for core_release. */
static void abandon(struct core_engine *engine)
{
    for (uint32_t i = 0; i < engine->requests.count; i++) {
        struct request *request = &engine->requests.requests[i];
        switch ((enum request_kind)request->kind) {
        case PEER_WRITE:
        case PEER_ZERO:
            request->epoch = NULL;
            request->flags |= REQUEST_ABANDONED;
            break;
        case PEER_READ:
        case RESYNC_READ:
        case VERIFY_READ:
            request->flags |= REQUEST_ABANDONED;
            break;
        case REQUEST_READ:
            if ((request->legs & LEG_ACK) != 0)
                give_back_read(request);
            break;
        case RESYNC_FETCH: /* resync_peer_lost */
        case VERIFY_BLOCK: /* verify_peer_lost */
        case MEND_BLOCK:   /* mend_peer_lost */
        case REQUEST_WRITE:
        case REQUEST_ZERO:
            break;
        }
    }
}

static bool sockets_are_quiet(const struct peer *peer)
{
    return !peer->data_in.receiving && !peer->meta_in.receiving && !peer->data_out.sending && !peer->meta_out.sending;
}

void peer_check_closed(struct peer *peer)
{
    struct core_engine *engine = peer->engine;
    if (peer->state != PEER_CLOSING || !sockets_are_quiet(peer))
        return;
    peer->state = PEER_LOST;
    struct request *torn = peer->filling; /* half a payload is no write */
    peer->filling = NULL;
    abandon(engine);
    outbox_drop(&peer->data_out);
    outbox_drop(&peer->meta_out);
    bitmap_exchange_drop(engine);
    announce_drop(engine);
    resync_peer_lost(engine);
    verify_peer_lost(engine);
    mend_peer_lost(engine);
    if (torn != NULL && torn->kind == PEER_WRITE)
        request_end(torn);
    peer->data_in.fd = peer->meta_in.fd = -1;
    io_close(engine->io, peer->config.data_fd);
    io_close(engine->io, peer->config.meta_fd);
    peer->unacked = 0;
    facts_simple(engine, CORE_FACT_PEER_LOST, (int32_t)peer->lost, transfer_log_held(&peer->log),
                 transfer_log_count(&peer->log));
    facts_done(engine, peer->disconnect_token, 0);
    peer->disconnect_token = 0;
}

void peer_release(struct core_engine *engine, uint64_t token)
{
    struct peer *peer = &engine->peer;
    mend_call_off(engine);
    if (peer->state == PEER_LOST) {
        peer->state = PEER_NONE;
        transfer_log_release(engine);
    } else if (peer->state == PEER_UP && engine->replication == CORE_REPLICATE_PEER) {
        transfer_log_release_refused(engine);
    } else if (peer->state == PEER_UP) {
        /* Its disk is gone, the connection is not: nothing of the log will ever be stable there.  Acks that are on
         * their way mean nothing any more. */
        peer->forgiving = true;
        transfer_log_release(engine);
    }
    engine_release_held(engine);
    facts_done(engine, token, 0);
}

void peer_resume(struct core_engine *engine)
{
    struct peer *peer = &engine->peer;
    if (peer->state != PEER_UP || peer->draining || !peer->paused)
        return;
    peer->paused = false;
    peer_data_parse(peer);
}

static bool wants_epoch_closed(const struct core_engine *engine)
{
    const struct transfer_log *log = &engine->peer.log;
    if (log->epoch_size == 0)
        return false;
    uint32_t most = engine->peer.config.max_epoch_size;
    if (log->epoch_size >= most || log->in - log->out > TRANSFER_LOG_ENTRIES / 2)
        return true;
    /* Where the amount in flight is looked at, it must not count what has long arrived. */
    if (log->epoch_sectors >= engine->peer.config.congestion_fill_sectors / 4 &&
        engine->peer.config.congestion_fill_sectors != 0)
        return true;
    return engine->hot.starved || io_now_ns(engine->io) - log->epoch_since_ns >= TRANSFER_LOG_EPOCH_NS;
}

void peer_pump(struct core_engine *engine)
{
    struct peer *peer = &engine->peer;
    if (peer->state != PEER_UP)
        return;
    if (peer->stalled && !peer->draining)
        peer_data_parse(peer);
    if (peer_is_up(peer) && wants_epoch_closed(engine))
        transfer_log_close_epoch(engine);
    outbox_pump(&peer->data_out);
    outbox_pump(&peer->meta_out);
    if (peer->draining && outbox_is_empty(&peer->data_out) && outbox_is_empty(&peer->meta_out)) {
        peer_lose(peer, CORE_LOST_ORDERED);
        return;
    }
    if (!peer->paused && !peer->stalled)
        inbox_pump(&peer->data_in);
    inbox_pump(&peer->meta_in);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When a silent or stuck peer has used up its time; UINT64_MAX: never. */
static uint64_t stuck_ns(const struct core_engine *engine)
{
    struct peer *peer = (struct peer *)&engine->peer;
    uint64_t limit = peer->config.timeout_ms * MS * peer->config.ko_count;
    uint64_t deadline = UINT64_MAX;
    if (limit == 0)
        return deadline;
    uint64_t since = transfer_log_unacknowledged_since_ns(&peer->log);
    if (since != 0)
        deadline = earlier(deadline, since + limit);
    since = transfer_log_barrier_since_ns(&peer->log);
    if (since != 0)
        deadline = earlier(deadline, since + limit);
    since = verify_waits_since_ns(engine); /* an application's write may be waiting for the block under verify */
    if (since != 0)
        deadline = earlier(deadline, since + limit);
    if (engine->reads_at_peer > 0)
        deadline = earlier(deadline, engine->reads_at_peer_since_ns + limit);
    if (peer->data_out.sending_since_ns != 0)
        deadline = earlier(deadline, peer->data_out.sending_since_ns + limit);
    if (peer->meta_out.sending_since_ns != 0)
        deadline = earlier(deadline, peer->meta_out.sending_since_ns + limit);
    return deadline;
}

static uint64_t ping_ns(const struct peer *peer)
{
    if (peer->draining)
        return peer->ping_sent_ns + peer->config.timeout_ms * MS;
    if (peer->ping_sent_ns != 0)
        return peer->ping_sent_ns + peer->config.ping_timeout_ms * MS;
    return peer->heard_ns + peer->config.ping_int_ms * MS;
}

uint64_t peer_deadline_ns(const struct core_engine *engine)
{
    const struct peer *peer = &engine->peer;
    if (peer->state != PEER_UP)
        return UINT64_MAX;
    uint64_t deadline = earlier(ping_ns(peer), stuck_ns(engine));
    if (peer->log.epoch_size > 0)
        deadline = earlier(deadline, peer->log.epoch_since_ns + TRANSFER_LOG_EPOCH_NS);
    return deadline;
}

void peer_tick(struct core_engine *engine)
{
    struct peer *peer = &engine->peer;
    uint64_t now = io_now_ns(engine->io);
    if (peer->state != PEER_UP)
        return;
    if (now >= stuck_ns(engine)) {
        peer_lose(peer, CORE_LOST_TIMEOUT);
        return;
    }
    if (now < ping_ns(peer))
        return;
    if (peer->draining) {
        peer_lose(peer, CORE_LOST_ORDERED); /* it does not even take our goodbye */
    } else if (peer->ping_sent_ns != 0 && peer->heard_ns <= peer->ping_sent_ns) {
        peer_lose(peer, CORE_LOST_PING);
    } else if (peer->ping_sent_ns != 0) {
        peer->ping_sent_ns = 0; /* other bytes came: it lives; its answer may come late */
    } else {
        peer->ping_sent_ns = now;
        peer_send(&peer->meta_out, P_PING, NULL, 0);
    }
}
