/* outbox.h - what waits to be sent on one socket, in order.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Headers and small packets are copied in; a request's payload is borrowed until its LEG_SENT is done.  One send is
 * under way at a time and takes all that is queued: the next batch collects while it flies, which is what makes a deep
 * queue cheap. */
#ifndef CSRC_OUTBOX_H
#define CSRC_OUTBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "io.h"

struct core_engine;
struct request;

#define OUTBOX_IOV 256

struct segment {
    uint8_t *base;
    struct request *payload_of; /* NULL: base is in `bytes` */
    uint32_t length_bytes;
    uint32_t ring_bytes; /* of `bytes`, padding at its end included */
};

struct outbox {
    struct io_op op;
    struct core_engine *engine;
    uint8_t *bytes;
    struct segment *segments;
    uint64_t bytes_in, bytes_out; /* running; the ring is their difference */
    uint64_t segments_in, segments_out;
    uint64_t sending_since_ns;          /* 0: nothing under way */
    uint32_t bytes_size, segments_size; /* powers of two */
    int32_t fd;
    uint32_t offset_bytes; /* of the first segment, already sent */
    bool sending;
    struct iovec iov[OUTBOX_IOV];
};

int outbox_init(struct outbox *outbox, struct core_engine *engine, uint32_t bytes_size, uint32_t segments_size);
void outbox_fini(struct outbox *outbox);
void outbox_open(struct outbox *outbox, int32_t fd);
bool outbox_has_room(const struct outbox *outbox); /* a quarter is kept for what must not wait */
bool outbox_is_empty(const struct outbox *outbox);
void outbox_put(struct outbox *outbox, const void *bytes, uint32_t length_bytes);
void outbox_put_payload(struct outbox *outbox, struct request *request, void *payload, uint32_t length_bytes);
void outbox_pump(struct outbox *outbox); /* start a send if there is something and none is under way */
void outbox_drop(
    struct outbox *outbox); /* the connection is over and no send under way: payloads go back to their requests */

#endif
