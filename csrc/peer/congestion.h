/* congestion.h - protocol A over a link that is slower than the applications.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CSRC_CONGESTION_H
#define CSRC_CONGESTION_H

#include <stdbool.h>
#include <stdint.h>

struct core_engine;

/* Every block that is out of sync is on its way to be told. */
struct announcement {
    bool busy;
    uint64_t token;
    uint64_t bit;
};

void congestion_look(struct core_engine *engine); /* after each write that the peer is sent */
void announce_begin(struct core_engine *engine, uint64_t token);
void announce_pump(struct core_engine *engine);
void announce_drop(struct core_engine *engine);

#endif
