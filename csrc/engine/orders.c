/* orders.c - the control plane's orders, carried out by the engine thread in the order they were given.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "orders.h"

#include <assert.h>
#include <errno.h>

#include "bitmap.h"
#include "engine.h"

static void attach(struct core_engine *engine, const struct order *order)
{
    int rc = disk_attach(engine, &order->with.disk);
    if (rc < 0)
        facts_done(engine, order->token, rc);
    else
        bitmap_pages_load(engine, order->token);
}

static void resize(struct core_engine *engine, const struct order *order)
{
    facts_done(engine, order->token, disk_resize(engine, order->sectors));
}

static void hold_metadata(struct core_engine *engine, const struct order *order)
{
    metadata_hold(engine, order->token);
}

static void place_metadata(struct core_engine *engine, const struct order *order)
{
    metadata_place(engine, order->token, &order->with.disk);
}

static void flush(struct core_engine *engine, const struct order *order)
{
    facts_done(engine, engine->flush_order_next, -ECANCELED); /* one at a time; the later one covers it */
    engine->flush_order_next = order->token;
}

static void bitmap_range(struct core_engine *engine, const struct order *order)
{
    struct disk *disk = &engine->disk;
    bool inside = order->sector <= disk->size_sectors && order->sectors <= disk->size_sectors - order->sector;
    if (disk->bitmap == NULL || !inside) {
        facts_done(engine, order->token, disk->bitmap == NULL ? -ENODEV : -EINVAL);
        return;
    }
    if (order->sectors > 0 && order->type == ORDER_BITMAP_SET)
        bitmap_set(disk->bitmap, order->sector, order->sectors);
    else if (order->sectors > 0)
        bitmap_clear(disk->bitmap, order->sector, order->sectors);
    facts_done(engine, order->token, 0);
}

static void send_packet(struct core_engine *engine, const struct order *order)
{
    struct peer *peer = &engine->peer;
    if (!peer_is_up(peer))
        return; /* PEER_LOST tells, or has told */
    peer_send(order->a == CORE_SOCKET_DATA ? &peer->data_out : &peer->meta_out, (uint16_t)order->b, order->with.payload,
              order->length_bytes);
}

static void set_gate(struct core_engine *engine, const struct order *order)
{
    engine->gate = (enum core_gate)order->a;
    engine->first_write_told = false;
    engine_release_held(engine);
}

static void set_reads(struct core_engine *engine, const struct order *order)
{
    engine->reads = (enum core_reads)order->a;
    engine_release_held(engine);
}

static void set_read_balancing(struct core_engine *engine, const struct order *order)
{
    engine->read_balancing = (enum core_read_balancing)order->a;
}

static void set_replication(struct core_engine *engine, const struct order *order)
{
    if (order->a != CORE_REPLICATE_PEER)
        mend_call_off(engine);
    engine->replication = (enum core_replication)order->a;
    engine->protocol = order->b;
    engine->peer.congestion_told_ns = 0;
    if (engine->replication == CORE_REPLICATE_AHEAD)
        flush_peer_behind(engine);
}

static void set_resync_rate(struct core_engine *engine, const struct order *order)
{
    engine->resync.rate_kib_s = order->a;
    if (order->b > 0)
        engine->resync.window_sectors = order->b;
}

static void stop(struct core_engine *engine, const struct order *order)
{
    (void)order;
    engine->stopping = true;
}

static void detach(struct core_engine *engine, const struct order *order)
{
    disk_detach(engine, order->token);
}

static void keep_disk(struct core_engine *engine, const struct order *order)
{
    (void)order;
    disk_keep(engine);
}

static void give_up_disk(struct core_engine *engine, const struct order *order)
{
    (void)order;
    hanging_give_up(engine);
}

static void bitmap_write(struct core_engine *engine, const struct order *order)
{
    bitmap_pages_sweep(engine, order->token, NULL);
}

static void al_retire(struct core_engine *engine, const struct order *order)
{
    hot_extents_retire(engine, order->token);
}

static void connect_peer(struct core_engine *engine, const struct order *order)
{
    peer_connect(engine, order->token, &order->with.peer);
}

static void disconnect_peer(struct core_engine *engine, const struct order *order)
{
    peer_disconnect(engine, order->token);
}

static void resume_peer(struct core_engine *engine, const struct order *order)
{
    (void)order;
    peer_resume(engine);
}

static void accept_from_peer(struct core_engine *engine, const struct order *order)
{
    engine->peer.accept = order->a;
}

static void release(struct core_engine *engine, const struct order *order)
{
    peer_release(engine, order->token);
}

static void bitmap_send(struct core_engine *engine, const struct order *order)
{
    bitmap_exchange_send(engine, order->token, order->a != 0);
}

static void bitmap_announce(struct core_engine *engine, const struct order *order)
{
    announce_begin(engine, order->token);
}

static void start_resync(struct core_engine *engine, const struct order *order)
{
    resync_start(engine, (enum core_resync)order->a);
}

static void stop_resync(struct core_engine *engine, const struct order *order)
{
    resync_stop(engine, order->token);
}

static void start_verify(struct core_engine *engine, const struct order *order)
{
    verify_start(engine, order->a != 0, order->sector, order->sectors);
}

static void until_verify(struct core_engine *engine, const struct order *order)
{
    verify_until(engine, order->sector);
}

static void stop_verify(struct core_engine *engine, const struct order *order)
{
    verify_stop(engine, order->token);
}

static void set_export_block(struct core_engine *engine, const struct order *order)
{
    engine->export.block_bytes = order->a;
}

static void open_export(struct core_engine *engine, const struct order *order)
{
    export_open(engine, order->token, order->with.name, order->a != 0);
}

static void add_client(struct core_engine *engine, const struct order *order)
{
    export_client_new(engine, (int32_t)order->a, order->b);
}

static void open_ublk(struct core_engine *engine, const struct order *order)
{
    ublk_queue_open(engine, order->token, (int32_t)order->a, order->b);
}

static void resize_export(struct core_engine *engine, const struct order *order)
{
    (void)order;
    export_take_size(engine);
}

static void close_export(struct core_engine *engine, const struct order *order)
{
    export_close(engine, order->token);
}

static void park_export(struct core_engine *engine, const struct order *order)
{
    parking_begin(engine, order->token);
}

static void unpark_export(struct core_engine *engine, const struct order *order)
{
    (void)order;
    parking_cancel(engine);
}

typedef void (*order_handler)(struct core_engine *engine, const struct order *order);

static const order_handler handlers[] = {
    [ORDER_STOP] = stop,
    [ORDER_ATTACH] = attach,
    [ORDER_DETACH] = detach,
    [ORDER_KEEP_DISK] = keep_disk,
    [ORDER_GIVE_UP_DISK] = give_up_disk,
    [ORDER_RESIZE] = resize,
    [ORDER_METADATA_HOLD] = hold_metadata,
    [ORDER_METADATA_PLACE] = place_metadata,
    [ORDER_FLUSH] = flush,
    [ORDER_BITMAP_SET] = bitmap_range,
    [ORDER_BITMAP_CLEAR] = bitmap_range,
    [ORDER_BITMAP_WRITE] = bitmap_write,
    [ORDER_AL_RETIRE] = al_retire,
    [ORDER_PEER_CONNECT] = connect_peer,
    [ORDER_PEER_DISCONNECT] = disconnect_peer,
    [ORDER_PEER_SEND] = send_packet,
    [ORDER_PEER_RESUME] = resume_peer,
    [ORDER_PEER_ACCEPT] = accept_from_peer,
    [ORDER_RELEASE] = release,
    [ORDER_REPLICATE] = set_replication,
    [ORDER_READS] = set_reads,
    [ORDER_READ_BALANCING] = set_read_balancing,
    [ORDER_GATE] = set_gate,
    [ORDER_BITMAP_SEND] = bitmap_send,
    [ORDER_BITMAP_ANNOUNCE] = bitmap_announce,
    [ORDER_RESYNC_START] = start_resync,
    [ORDER_RESYNC_RATE] = set_resync_rate,
    [ORDER_RESYNC_STOP] = stop_resync,
    [ORDER_VERIFY_START] = start_verify,
    [ORDER_VERIFY_UNTIL] = until_verify,
    [ORDER_VERIFY_STOP] = stop_verify,
    [ORDER_EXPORT_BLOCK] = set_export_block,
    [ORDER_EXPORT_OPEN] = open_export,
    [ORDER_EXPORT_CLIENT] = add_client,
    [ORDER_EXPORT_UBLK] = open_ublk,
    [ORDER_EXPORT_RESIZE] = resize_export,
    [ORDER_EXPORT_CLOSE] = close_export,
    [ORDER_EXPORT_PARK] = park_export,
    [ORDER_EXPORT_UNPARK] = unpark_export,
    [ORDER_EXPORT_ADOPT] = parking_adopt,
};

void orders_run(struct core_engine *engine)
{
    const struct order *order;
    while ((order = ring_peek(engine->orders)) != NULL) {
        assert(order->type < sizeof handlers / sizeof handlers[0]);
        handlers[order->type](engine, order);
        ring_drop(engine->orders);
    }
}
