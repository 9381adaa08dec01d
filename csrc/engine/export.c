/* export.c - see export.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "export.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "container.h"
#include "engine.h"

#define PAYLOAD_BYTES_MAX (32u << 20)
#define BLOCK_BYTES_PREFERRED 4096u

/* --- the table of calls: memory, requests
 * -------------------------------------------------------------------------------- */

void *export_payload(struct core_engine *engine, const void *asker, uint32_t length_bytes)
{
    struct export *export = &engine->export;
    if (export->want_memory != NULL && export->want_memory != asker)
        return NULL;
    void *payload = pool_get(engine->pool, length_bytes);
    export->want_memory = payload == NULL ? asker : NULL;
    return payload;
}

static void *begin(void *user, struct nbd_request *request)
{
    struct core_engine *engine = user;
    struct client *client = engine->export.parsing;
    void *payload = export_payload(engine, client, (uint32_t)request->length_bytes);
    client->starved = payload == NULL;
    return payload;
}

void export_payload_over(struct core_engine *engine, void *payload, uint32_t length_bytes)
{
    if (!hanging_keeps(engine, payload))
        pool_put(engine->pool, payload, length_bytes);
}

static void release(void *user, void *payload, uint64_t length_bytes)
{
    export_payload_over(user, payload, (uint32_t)length_bytes);
}

static void reply(struct upper *upper)
{
    struct client *client = upper->client;
    struct nbd_request *nbd = upper->nbd;
    int error = upper->error;
    upper->next = client->free;
    client->free = upper;
    upper->nbd = NULL;
    nbd_session_reply(client->session, nbd, -error);
}

static void submit(void *user, struct nbd_session *session, struct nbd_request *request)
{
    struct core_engine *engine = user;
    struct client *client = engine->export.parsing;
    struct upper *upper = client->free;
    assert(upper != NULL && client->session == session); /* a session holds no more than we have */
    client->free = upper->next;
    upper->nbd = request;
    upper->client = client;
    upper->reply = reply;
    upper->engine = engine;
    upper_begin(upper);
}

/* --- sockets
 * ------------------------------------------------------------------------------------------------------------- */

static void tell_clients(struct core_engine *engine)
{
    struct export *export = &engine->export;
    if (!export->told_dirty)
        return;
    export->told_dirty = false;
    facts_simple(engine, CORE_FACT_CLIENTS, 0, export->transmitting, export->clients_ever);
}

static void note_state(struct client *client)
{
    struct export *export = &client->engine->export;
    enum nbd_state state = nbd_session_state(client->session);
    if (state == NBD_TRANSMISSION && !client->transmission && !client->closing) {
        client->transmission = true;
        client->deadline_ns = 0;
        if (!client->device) {
            export->transmitting++;
            export->clients_ever++;
            export->told_dirty = true;
        }
    }
    if (state == NBD_FAILED)
        client->closing = true;
}

static void received(struct io_op *op, int32_t result)
{
    struct client *client = CONTAINER_OF(op, struct client, receive);
    client->receiving = false;
    if (result == -ECANCELED && !client->shut)
        return; /* to be parked: nothing came, and more is asked for if something has to */
    client->closing |= result < 0;
    /* 0, the end of the stream: what it asked for before is still done and answered. */
    client->engine->export.parsing = client;
    nbd_session_received(client->session, result > 0 ? (size_t)result : 0);
    client->engine->export.parsing = NULL;
    note_state(client);
}

static void sent(struct io_op *op, int32_t result)
{
    struct client *client = CONTAINER_OF(op, struct client, send);
    client->sending = false;
    client->closing |= result <= 0;
    if (result > 0) {
        /* A slot is free again: the session may parse on. */
        client->engine->export.parsing = client;
        nbd_session_sent(client->session, (size_t)result);
        client->engine->export.parsing = NULL;
    }
    note_state(client);
}

/* position NULL: it negotiates first. */
static struct client *client_alloc(struct core_engine *engine, int32_t fd, bool device,
                                   const struct nbd_position *position)
{
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return NULL;
    const struct nbd_export *table = &engine->export.table;
    bool negotiates = position == NULL;
    int rc = negotiates ? nbd_session_new(table, &client->session)
                        : nbd_session_new_transmission(table, position, &client->session);
    if (rc < 0) {
        free(client);
        return NULL;
    }
    client->engine = engine;
    client->device = device;
    client->transmission = !negotiates;
    client->fd = fd;
    client->receive.done = received;
    client->send.done = sent;
    client->deadline_ns = negotiates ? io_now_ns(engine->io) + EXPORT_PATIENCE_NS : 0;
    for (uint32_t i = 0; i < NBD_REQUESTS_MAX; i++) {
        client->uppers[i].next = client->free;
        client->free = &client->uppers[i];
    }
    return client;
}

static bool client_add(struct core_engine *engine, int32_t fd, bool device, const struct nbd_position *position)
{
    struct export *export = &engine->export;
    for (uint32_t i = 0; export->open && i < EXPORT_CLIENTS_MAX; i++) {
        if (export->clients[i] != NULL)
            continue;
        export->clients[i] = client_alloc(engine, fd, device, position);
        if (export->clients[i] == NULL)
            break;
        return true;
    }
    io_close(engine->io, fd);
    return false;
}

void export_client_new(struct core_engine *engine, int32_t fd, uint32_t kind)
{
    const struct nbd_position first = {0};
    (void)client_add(engine, fd, kind != EXPORT_CLIENT, kind == EXPORT_DEVICE_IN_TRANSMISSION ? &first : NULL);
}

void export_client_adopt(struct core_engine *engine, int32_t fd, bool device, const struct nbd_position *position)
{
    struct export *export = &engine->export;
    if (!client_add(engine, fd, device, position) || device)
        return;
    export->transmitting++;
    export->clients_ever++;
    export->told_dirty = true;
}

void export_client_forget(struct core_engine *engine, uint32_t slot)
{
    struct export *export = &engine->export;
    struct client *client = export->clients[slot];
    if (export->want_memory == client)
        export->want_memory = NULL;
    if (client->transmission && !client->device) {
        export->transmitting--;
        export->told_dirty = true;
    }
    nbd_session_free(client->session);
    free(client);
    export->clients[slot] = NULL;
}

static void client_free(struct core_engine *engine, uint32_t slot)
{
    int32_t fd = engine->export.clients[slot]->fd;
    export_client_forget(engine, slot);
    io_close(engine->io, fd);
}

static bool is_leaving(const struct client *client)
{
    return nbd_session_state(client->session) >= NBD_CLOSING || client->engine->export.close_token != 0;
}

/* The last answers are sent, or the client does not take them. */
static bool wants_to_go(struct client *client)
{
    if (client->closing)
        return true;
    if (!is_leaving(client) || nbd_session_in_flight(client->session) > 0)
        return false;
    if (client->deadline_ns == 0)
        client->deadline_ns = io_now_ns(client->engine->io) + EXPORT_PATIENCE_NS;
    return !client->sending;
}

static void client_pump(struct client *client)
{
    struct core_engine *engine = client->engine;
    if (client->starved && !client->receiving && !client->closing) {
        engine->export.parsing = client;
        client->starved = false;
        nbd_session_retry(client->session);
        engine->export.parsing = NULL;
        note_state(client);
    }
    if (!client->sending && !client->closing) {
        uint32_t count = nbd_session_send_iov(client->session, client->send_iov, NBD_IOV_MAX);
        client->sending = count > 0;
        if (count > 0)
            io_send(engine->io, &client->send, client->fd, client->send_iov, count);
    }
    if (!client->receiving && !client->closing && !client->shut && nbd_session_state(client->session) < NBD_CLOSING) {
        uint32_t count = nbd_session_recv_iov(client->session, client->receive_iov);
        client->receiving = count > 0;
        if (count > 0)
            io_receive(engine->io, &client->receive, client->fd, client->receive_iov, count);
    }
    if (!client->shut && wants_to_go(client)) {
        client->shut = true;
        io_shutdown(engine->io, client->fd);
    }
}

static bool is_over(const struct client *client)
{
    return client->shut && !client->receiving && !client->sending && nbd_session_in_flight(client->session) == 0;
}

/* --- the export
 * ---------------------------------------------------------------------------------------------------------- */

void export_open(struct core_engine *engine, uint64_t token, const char *name, bool read_only)
{
    struct export *export = &engine->export;
    uint32_t block = export->block_bytes != 0 ? export->block_bytes : CORE_BLOCK_BYTES_MIN;
    snprintf(export->name, sizeof export->name, "%s", name);
    export->table =
        (struct nbd_export){.name = export->name,
                            .description = "pydrbd",
                            .size_bytes = engine->disk.size_sectors << 9,
                            .read_only = read_only,
                            .fast_zero = false,
                            .block_min_bytes = block,
                            .block_preferred_bytes = block > BLOCK_BYTES_PREFERRED ? block : BLOCK_BYTES_PREFERRED,
                            .payload_max_bytes = PAYLOAD_BYTES_MAX,
                            .user = engine,
                            .begin = begin,
                            .submit = submit,
                            .release = release};
    export->open = true;
    facts_done(engine, token, 0);
}

/* A client that is connected was told the old size, and is answered beyond it all the same. */
void export_take_size(struct core_engine *engine)
{
    if (engine->export.open)
        engine->export.table.size_bytes = engine->disk.size_sectors << 9;
}

bool export_is_idle(const struct core_engine *engine)
{
    for (uint32_t i = 0; i < EXPORT_CLIENTS_MAX; i++)
        if (engine->export.clients[i] != NULL)
            return false;
    return true;
}

void export_close(struct core_engine *engine, uint64_t token)
{
    engine->export.open = false;
    engine->export.table.shutting_down = true;
    engine->export.close_token = token != 0 ? token : UINT64_MAX;
}

void export_pump(struct core_engine *engine)
{
    struct export *export = &engine->export;
    for (uint32_t i = 0; i < EXPORT_CLIENTS_MAX; i++) {
        if (export->clients[i] == NULL)
            continue;
        client_pump(export->clients[i]);
        if (is_over(export->clients[i]))
            client_free(engine, i);
    }
    parking_pump(engine);
    /* Whoever closes the export gives up being Primary, and with that the activity log's word: a write that the peer
     * could still lose to a power cut would be named by nothing.  A lost peer is dealt with by core_release. */
    if (export->close_token != 0 && export_is_idle(engine) && ublk_queue_is_idle(engine) &&
        parking_peer_has_it_for_good(engine)) {
        if (export->close_token != UINT64_MAX)
            facts_done(engine, export->close_token, 0);
        export->close_token = 0;
    }
    tell_clients(engine);
}

void export_tick(struct core_engine *engine)
{
    uint64_t now = io_now_ns(engine->io);
    for (uint32_t i = 0; i < EXPORT_CLIENTS_MAX; i++) {
        struct client *client = engine->export.clients[i];
        if (client != NULL && client->deadline_ns != 0 && now >= client->deadline_ns)
            client->closing = true;
    }
}

uint64_t export_deadline_ns(const struct core_engine *engine)
{
    uint64_t deadline = UINT64_MAX;
    for (uint32_t i = 0; i < EXPORT_CLIENTS_MAX; i++) {
        const struct client *client = engine->export.clients[i];
        if (client != NULL && !client->closing && client->deadline_ns != 0 && client->deadline_ns < deadline)
            deadline = client->deadline_ns;
    }
    return deadline;
}

/* What still waits (held for a peer, an order) is answered to nobody: the client is gone, and so is the session's
 * memory after this. */
static void drop_requests(struct client *client)
{
    for (uint32_t i = 0; i < NBD_REQUESTS_MAX; i++)
        if (client->uppers[i].nbd != NULL) {
            hanging_before_reply(&client->uppers[i]);
            nbd_session_reply(client->session, client->uppers[i].nbd, ESHUTDOWN);
        }
}

void export_fini(struct core_engine *engine)
{
    for (uint32_t i = 0; i < EXPORT_CLIENTS_MAX; i++) {
        if (engine->export.clients[i] == NULL)
            continue;
        drop_requests(engine->export.clients[i]);
        client_free(engine, i);
    }
}

bool export_sockets_are_quiet(const struct core_engine *engine)
{
    for (uint32_t i = 0; i < EXPORT_CLIENTS_MAX; i++) {
        const struct client *client = engine->export.clients[i];
        if (client != NULL && (client->receiving || client->sending))
            return false;
    }
    return true;
}
