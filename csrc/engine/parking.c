/* parking.c - see parking.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "parking.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "engine.h"
#include "orders.h"

/* So long a client may take to send the rest of what it has begun. */
#define OWED_PATIENCE_NS 1000000000ull

bool parking_peer_has_it_for_good(struct core_engine *engine)
{
    if (engine->peer.log.epoch_size > 0) {
        transfer_log_close_epoch(engine);
        peer_pump(engine); /* in this turn: nobody may have a reason for another */
    }
    return transfer_log_count(&engine->peer.log) == 0;
}

static void hold_ublk(struct core_engine *engine, bool hold)
{
    if (engine->ublk != NULL)
        ublk_queue_hold(engine, hold);
}

void parking_begin(struct core_engine *engine, uint64_t token)
{
    struct export *export = &engine->export;
    if (export->parking) {
        facts_done(engine, token, -EBUSY);
        return;
    }
    export->parking = true;
    export->park_token = token;
    hold_ublk(engine, true);
}

static void unpark(struct client *client)
{
    client->parking = false;
    nbd_session_park(client->session, false);
    if (nbd_session_state(client->session) == NBD_HANDSHAKE)
        client->deadline_ns = io_now_ns(client->engine->io) + EXPORT_PATIENCE_NS;
    else if (nbd_session_state(client->session) == NBD_TRANSMISSION)
        client->deadline_ns = 0;
}

void parking_cancel(struct core_engine *engine)
{
    struct export *export = &engine->export;
    if (!export->parking)
        return;
    export->parking = false;
    hold_ublk(engine, false);
    for (uint32_t i = 0; i < EXPORT_CLIENTS_MAX; i++)
        if (export->clients[i] != NULL)
            unpark(export->clients[i]);
    facts_done(engine, export->park_token, -ECANCELED);
    export->park_token = 0;
}

/* The receive under way has room for anything: it is called home, and the next one has none. */
static void park(struct client *client)
{
    struct core_engine *engine = client->engine;
    client->parking = true;
    nbd_session_park(client->session, true);
    if (client->receiving)
        io_cancel(engine->io, &client->receive);
    if (nbd_session_is_owed(client->session))
        client->deadline_ns = io_now_ns(engine->io) + OWED_PATIENCE_NS;
}

static bool is_parked(struct client *client)
{
    if (nbd_session_state(client->session) == NBD_TRANSMISSION && !nbd_session_is_owed(client->session))
        client->deadline_ns = 0; /* what it waits for now is ours */
    return !client->receiving && !client->sending && nbd_session_is_parked(client->session, NULL);
}

static bool all_are_parked(struct core_engine *engine)
{
    bool all = true;
    for (uint32_t i = 0; i < EXPORT_CLIENTS_MAX; i++) {
        struct client *client = engine->export.clients[i];
        if (client == NULL)
            continue;
        if (!client->parking)
            park(client);
        all = all && is_parked(client);
    }
    return all;
}

static void hand_back(struct core_engine *engine, struct client *client)
{
    struct nbd_position position = {0};
    bool parked = nbd_session_is_parked(client->session, &position);
    assert(parked);
    (void)parked;
    struct core_fact fact = {.type = CORE_FACT_PARKED,
                             .a = (uint64_t)client->fd,
                             .b = (position.structured ? CORE_PARKED_STRUCTURED : 0) |
                                  (client->device ? CORE_PARKED_DEVICE : 0),
                             .length = position.rest_bytes};
    memcpy(fact.payload, position.rest, position.rest_bytes);
    facts_post(engine, &fact);
}

void parking_pump(struct core_engine *engine)
{
    struct export *export = &engine->export;
    if (!export->parking || export->park_token == 0)
        return;
    if (!all_are_parked(engine) || !ublk_queue_is_idle(engine) || !parking_peer_has_it_for_good(engine))
        return;
    for (uint32_t i = 0; i < EXPORT_CLIENTS_MAX; i++) {
        if (export->clients[i] == NULL)
            continue;
        hand_back(engine, export->clients[i]);
        export_client_forget(engine, i);
    }
    facts_done(engine, export->park_token, 0);
    export->park_token = 0;
}

void parking_adopt(struct core_engine *engine, const struct order *order)
{
    struct nbd_position position = {.structured = (order->b & CORE_PARKED_STRUCTURED) != 0,
                                    .rest_bytes = order->length_bytes};
    memcpy(position.rest, order->with.payload, order->length_bytes);
    bool device = (order->b & CORE_PARKED_DEVICE) != 0;
    export_client_adopt(engine, (int32_t)order->a, device, &position);
}
