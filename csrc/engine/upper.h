/* upper.h - what the application asked for: one request in NBD's words, served by as many parts as it takes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What is longer than 1 MiB is split; the reply goes out when all parts are done. */
#ifndef CSRC_UPPER_H
#define CSRC_UPPER_H

#include <stdbool.h>
#include <stdint.h>

#include "nbd_session.h"

struct core_engine;
struct request;
struct client;

#define UPPER_PART_SECTORS 2048u /* 1 MiB */

struct upper {
    struct nbd_request *nbd;
    struct client *client; /* NULL: the kernel's ublk */
    struct core_engine *engine;
    void (*reply)(struct upper *upper); /* whoever asked; `error` is the answer */
    struct upper *next;                 /* free, starved, or waiting for epochs */
    struct upper *next_flush;           /* waiting for the local disk's flush */
    uint64_t cursor_bytes;              /* the next part begins here */
    uint64_t end_bytes;
    uint32_t parts;               /* under way */
    uint32_t epoch;               /* flush: the peer's answer to this epoch is awaited */
    int32_t error;                /* the first, a negative errno */
    uint8_t *fresh;               /* a read's own new payload, for the disk hangs with the old one; or NULL */
    bool starved;                 /* on the list of those that wait for a slot */
    bool flush_local, flush_peer; /* legs of a flush still out */
};

struct upper_queue {
    struct upper *first;
    struct upper *last;
};

void upper_begin(struct upper *upper); /* nbd, engine and reply are set */
void upper_reply(struct upper *upper);
void upper_issue(struct upper *upper); /* as many parts as there are slots */
void upper_part_done(struct upper *upper, int32_t result);
void upper_queue_put(struct upper_queue *queue, struct upper *upper);
struct upper *upper_queue_take(struct upper_queue *queue);

/* flush.c: durable on both nodes before it is answered */
void flush_begin(struct upper *upper);
void flush_peer_behind(struct core_engine *engine); /* we are ahead: its promise is not waited for */
void flush_pump(struct core_engine *engine);
void flush_disk_gone(struct core_engine *engine);     /* answers what the disk could not flush */
void flush_give_up(struct core_engine *engine);       /* the disk hangs: what it was asked is not known */
void flush_disk_kept(struct core_engine *engine);     /* asks the disk again */
void flush_epochs_stable(struct core_engine *engine); /* a BARRIER_ACK came, or the peer was released */

#endif
