/* parking.h - a planned restart: the export's sockets are brought to rest between two requests and handed back, and
 * another engine, in the next process, goes on with them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What has to hold before a socket leaves: every request that was taken from it is finished and answered, and what it
 * wrote is safe from a power cut at the peer (the activity log may forget it).  The rest is in the socket's own buffer,
 * where the next engine finds it.  All sockets leave at once or none does. */
#ifndef CSRC_PARKING_H
#define CSRC_PARKING_H

#include <stdbool.h>
#include <stdint.h>

#include "nbd_session.h"

struct core_engine;
struct client;
struct order;

/* Token: 0 when every socket was handed back (CORE_FACT_PARKED), -ECANCELED after parking_cancel, -EBUSY: twice. */
void parking_begin(struct core_engine *engine, uint64_t token);
void parking_cancel(struct core_engine *engine); /* requests are taken again; harmless when all have left */
void parking_pump(struct core_engine *engine);
void parking_adopt(struct core_engine *engine, const struct order *order);
/* May its export be closed, its activity log be emptied: is everything that was written safe at the peer? */
bool parking_peer_has_it_for_good(struct core_engine *engine);

#endif
