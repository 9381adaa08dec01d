/* ublk_queue.h - the kernel's ublk device as a client: its requests come through one queue of the driver.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A tag of the queue is a slot here.  Its command waits in the kernel until there is a request for the tag; the answer
 * and the wish for the next one are one command again (COMMIT_AND_FETCH).  Payloads are copied by reading and writing
 * the device's descriptor, once, straight into and out of the engine's pool.  All commands of a queue have to come from
 * the same thread: ours.
 *
 * A queue whose engine ends without an answer leaves the request to the kernel, which gives it to the next daemon. */
#ifndef CSRC_UBLK_QUEUE_H
#define CSRC_UBLK_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "ublk_uapi.h"

struct core_engine;
struct nbd_request;

/* Takes fd, /dev/ublkcN opened O_NONBLOCK, over, also when it fails.  The token is answered with 0 when the kernel has
 * a command for each of `depth` tags, so that the device may be started; -EOPNOTSUPP: this way to the world has no
 * commands; -EBUSY: there is a queue; -ESHUTDOWN: no export is open. */
void ublk_queue_open(struct core_engine *engine, uint64_t token, int32_t fd, uint32_t depth);
/* Among others it ends the queue when the kernel has given all commands back: the device was stopped. */
void ublk_queue_pump(struct core_engine *engine);
bool ublk_queue_is_idle(const struct core_engine *engine); /* no request in here */
uint64_t ublk_queue_deadline_ns(const struct core_engine *engine);
/* hold: what comes from now on does not begin; what has begun goes on.  An engine that ends leaves it to the next. */
void ublk_queue_hold(struct core_engine *engine, bool hold);
/* For an engine that ends: nothing is answered any more.  Quiet: no payload is being copied. */
void ublk_queue_abandon(struct core_engine *engine);
bool ublk_queue_is_quiet(const struct core_engine *engine);
void ublk_queue_fini(struct core_engine *engine);

/* What the descriptor asks for, in NBD's words; the payload is not set.  0; -EOPNOTSUPP: an operation that was not
 * offered; -EINVAL: beyond the end, or too long for a payload. */
int ublk_translate(const struct ublk_descriptor *descriptor, uint64_t size_bytes, struct nbd_request *request);

#endif
