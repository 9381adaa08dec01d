/* memory_export.h - an export in memory for the tests of the NBD room, which watches how the session treats it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * It aborts when a payload is given back twice, or was never given out, or has another length; when more payloads are
 * out than the session has slots; and when a request reaches it that the session should have refused. Payloads are
 * malloc'd, so that ASAN sees a byte too far; with `in_place` they are the memory itself, for speed. */
#ifndef NBD_MEMORY_EXPORT_H
#define NBD_MEMORY_EXPORT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nbd_session.h"

#define REQUIRE(condition, ...)                                                                                        \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s: not true: %s\n    ", __FILE__, __LINE__, __func__, #condition);                \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fputc('\n', stderr);                                                                                       \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

struct memory_payload {
    void *bytes; /* NULL: this place is free */
    uint64_t length_bytes;
};

struct memory_export {
    struct nbd_export export;
    uint8_t *bytes;
    bool in_place;
    bool hold;             /* keep requests until memory_export_answer */
    int error;             /* answer everything with this errno */
    uint32_t payloads_max; /* ->begin gives NULL while so many are out */
    uint32_t payloads;     /* out now */
    uint32_t begins_refused;
    uint32_t submitted[NBD_WRITE_ZEROES + 1]; /* by command */
    uint32_t last_flags;
    struct nbd_request *held[NBD_REQUESTS_MAX];
    uint32_t held_count;
    struct memory_payload out[NBD_REQUESTS_MAX + 1];
};

static inline void *memory_begin(void *user, struct nbd_request *request)
{
    struct memory_export *memory = user;
    REQUIRE(request->command == NBD_READ || request->command == NBD_WRITE, "command %u", (unsigned)request->command);
    REQUIRE(request->length_bytes > 0, "an empty payload was begun");
    REQUIRE(request->length_bytes <= memory->export.payload_max_bytes, "%llu bytes",
            (unsigned long long)request->length_bytes);
    if (memory->in_place) {
        return memory->bytes + request->offset_bytes;
    }
    if (memory->payloads == memory->payloads_max) {
        memory->begins_refused++;
        return NULL;
    }
    uint32_t place = 0;
    while (memory->out[place].bytes != NULL) {
        place++;
        REQUIRE(place <= NBD_REQUESTS_MAX, "more payloads than slots");
    }
    memory->out[place].bytes = malloc(request->length_bytes);
    REQUIRE(memory->out[place].bytes != NULL, "no memory for the test");
    memory->out[place].length_bytes = request->length_bytes;
    memory->payloads++;
    return memory->out[place].bytes;
}

static inline void memory_release(void *user, void *payload, uint64_t length_bytes)
{
    struct memory_export *memory = user;
    if (memory->in_place) {
        return;
    }
    uint32_t place = 0;
    while (memory->out[place].bytes != payload) {
        place++;
        REQUIRE(place <= NBD_REQUESTS_MAX, "released a payload that is not out");
    }
    REQUIRE(memory->out[place].length_bytes == length_bytes, "released %llu bytes of %llu",
            (unsigned long long)length_bytes, (unsigned long long)memory->out[place].length_bytes);
    free(payload);
    memory->out[place].bytes = NULL;
    memory->payloads--;
}

static inline void memory_execute(struct memory_export *memory, struct nbd_session *session,
                                  struct nbd_request *request)
{
    uint8_t *at = memory->bytes + request->offset_bytes;
    if (memory->error == 0 && !memory->in_place) {
        if (request->command == NBD_READ) {
            memcpy(request->payload, at, request->length_bytes);
        } else if (request->command == NBD_WRITE) {
            memcpy(at, request->payload, request->length_bytes);
        }
    }
    if (memory->error == 0 && (request->command == NBD_WRITE_ZEROES || request->command == NBD_TRIM)) {
        memset(at, 0, request->length_bytes);
    }
    nbd_session_reply(session, request, memory->error);
}

static inline void memory_submit(void *user, struct nbd_session *session, struct nbd_request *request)
{
    struct memory_export *memory = user;
    REQUIRE(request->command <= NBD_WRITE_ZEROES && request->command != NBD_DISC, "command %u was submitted",
            (unsigned)request->command);
    REQUIRE(request->offset_bytes <= memory->export.size_bytes &&
                request->length_bytes <= memory->export.size_bytes - request->offset_bytes,
            "beyond the end");
    REQUIRE((request->length_bytes == 0) == (request->command == NBD_FLUSH), "length %llu of command %u",
            (unsigned long long)request->length_bytes, (unsigned)request->command);
    REQUIRE(!memory->export.shutting_down, "submitted while shutting down");
    memory->submitted[request->command]++;
    memory->last_flags = request->flags;
    if (memory->hold) {
        REQUIRE(memory->held_count < NBD_REQUESTS_MAX, "more requests than slots");
        memory->held[memory->held_count++] = request;
    } else {
        memory_execute(memory, session, request);
    }
}

/* Answers the held request at `index`; the last held one takes its place. */
static inline void memory_export_answer(struct memory_export *memory, struct nbd_session *session, uint32_t index)
{
    struct nbd_request *request = memory->held[index];
    memory->held[index] = memory->held[--memory->held_count];
    memory_execute(memory, session, request);
}

static inline void memory_export_init(struct memory_export *memory, uint64_t size_bytes)
{
    *memory = (struct memory_export){.payloads_max = NBD_REQUESTS_MAX};
    memory->bytes = calloc(1, size_bytes != 0 ? size_bytes : 1);
    REQUIRE(memory->bytes != NULL, "no memory for the test");
    memory->export = (struct nbd_export){
        .name = "drbd0",
        .description = "a disk in memory",
        .size_bytes = size_bytes,
        .block_min_bytes = 1,
        .block_preferred_bytes = 4096,
        .payload_max_bytes = 32 * 1024 * 1024,
        .user = memory,
        .begin = memory_begin,
        .submit = memory_submit,
        .release = memory_release,
    };
}

static inline void memory_export_fini(struct memory_export *memory)
{
    REQUIRE(memory->payloads == 0, "%u payloads were never released", memory->payloads);
    REQUIRE(memory->held_count == 0, "%u requests were never answered", memory->held_count);
    free(memory->bytes);
}

#endif
