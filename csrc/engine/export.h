/* export.h - the NBD side: client sockets driving nbd's sessions, payloads from our pool.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CSRC_EXPORT_H
#define CSRC_EXPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "io.h"
#include "nbd_session.h"
#include "upper.h"

struct core_engine;

#define EXPORT_CLIENTS_MAX 64u
#define EXPORT_PATIENCE_NS 10000000000ull

enum export_client_kind {
    EXPORT_CLIENT = 0,
    EXPORT_DEVICE = 1, /* our own kernel device: it is no client to those who count them */
    EXPORT_DEVICE_IN_TRANSMISSION = 2
};

struct client {
    struct io_op receive;
    struct io_op send;
    struct core_engine *engine;
    struct nbd_session *session;
    struct upper *free;   /* of uppers */
    uint64_t deadline_ns; /* to end negotiation, or to take the last answers; 0: none */
    int32_t fd;           /* -1: this slot is free */
    bool receiving, sending;
    bool device;  /* not EXPORT_CLIENT */
    bool parking; /* its session was told so */
    bool closing; /* shut down: no input, wait for what is under way */
    bool shut;    /* shutdown(2) was called */
    bool starved; /* ->begin found no memory */
    bool transmission;
    struct iovec receive_iov[2];
    struct iovec send_iov[NBD_IOV_MAX];
    struct upper uppers[NBD_REQUESTS_MAX];
};

struct export
{
    struct nbd_export table;
    struct client *clients[EXPORT_CLIENTS_MAX];
    char name[256];
    uint32_t block_bytes; /* of the next opening */
    bool open;
    bool parking; /* parking.h */
    uint64_t park_token;
    uint64_t close_token;
    uint32_t transmitting;
    uint64_t clients_ever;
    struct client *parsing;  /* whose session calls ->begin and ->submit right now */
    const void *want_memory; /* who asked first and got none: he is served first */
    bool told_dirty;         /* the number of clients changed and the control plane was not told yet */
};

void export_open(struct core_engine *engine, uint64_t token, const char *name, bool read_only);
void export_client_new(struct core_engine *engine, int32_t fd, uint32_t kind);
/* The socket of a client that another engine had (parking.h). */
void export_client_adopt(struct core_engine *engine, int32_t fd, bool device, const struct nbd_position *position);
void export_client_forget(struct core_engine *engine, uint32_t slot); /* its socket is somebody else's now */
void export_take_size(struct core_engine *engine); /* the device's: from now on clients may use all of it */
void export_close(struct core_engine *engine, uint64_t token);
void export_pump(struct core_engine *engine);
void export_tick(struct core_engine *engine);
uint64_t export_deadline_ns(const struct core_engine *engine);
/* Memory for a payload, of the pool, or NULL: ask again later.  First come, first served: while one waits for a large
 * payload, the small ones of others wait behind it.  asker: who it is, always the same. */
void *export_payload(struct core_engine *engine, const void *asker, uint32_t length_bytes);
void export_payload_over(struct core_engine *engine, void *payload, uint32_t length_bytes); /* when it is answered */
void export_fini(struct core_engine *engine);
bool export_is_idle(const struct core_engine *engine);           /* no client left */
bool export_sockets_are_quiet(const struct core_engine *engine); /* nothing under way on any */

#endif
