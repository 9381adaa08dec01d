/* facts.c - what the control plane is told.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The ring never overflows by design: a fact answers an order, or stops something (reading, writes) until an order
 * comes, or is told once for an event of a connection or a disk.  Only packets on the meta socket are the peer's to
 * send at will: see facts_have_room. */
#include <assert.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

void facts_post(struct core_engine *engine, const struct core_fact *fact)
{
    bool was_empty = false;
    int rc = ring_push(engine->facts, fact, &was_empty);
    assert(rc == 0);
    (void)rc;
    engine->facts_posted |= was_empty;
    engine->facts_unread = was_empty ? 1 : engine->facts_unread + 1;
}

/* A control plane that has not looked for so long while a peer talks: the peer is at fault, not the clock. */
bool facts_have_room(const struct core_engine *engine)
{
    return engine->facts_unread < 1024;
}

void facts_done(struct core_engine *engine, uint64_t token, int32_t result)
{
    if (token == 0 || token == UINT64_MAX)
        return;
    struct core_fact fact = {.type = CORE_FACT_DONE, .token = token, .result = result};
    facts_post(engine, &fact);
}

void facts_simple(struct core_engine *engine, enum core_fact_type type, int32_t result, uint64_t a, uint64_t b)
{
    struct core_fact fact = {.type = type, .result = result, .a = a, .b = b};
    facts_post(engine, &fact);
}

void facts_packet(struct core_engine *engine, enum core_socket socket, const struct packet_header *header,
                  const uint8_t *payload)
{
    struct core_fact fact = {.type = CORE_FACT_PACKET,
                             .socket = socket,
                             .command = be16toh(header->command),
                             .volume = be16toh(header->volume),
                             .length = be32toh(header->length)};
    assert(fact.length <= CORE_PAYLOAD_MAX);
    if (fact.length > 0)
        memcpy(fact.payload, payload, fact.length);
    facts_post(engine, &fact);
}
