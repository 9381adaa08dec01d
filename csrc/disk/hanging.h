/* hanging.h - a disk that does not answer: what is under way on it is given up, the memory that it was given is not.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An operation that was handed to a disk cannot be taken back: it may read from its buffer, or write into it, at any
 * time until it ends.  So giving it up means that its request fails with -ETIMEDOUT and goes on by its other leg, while
 * slot, buffer and payload stay where they are until the disk lets go of them.  Until all have ended no other disk is
 * taken, descriptors stay open, and an engine that ends leaves its memory behind. */
#ifndef CSRC_HANGING_H
#define CSRC_HANGING_H

#include <stdbool.h>
#include <stdint.h>

struct core_engine;
struct request;
struct upper;

/* Gives up everything under way on the disk, and says CORE_DISK_TIMEOUT. */
void hanging_give_up(struct core_engine *engine);
/* Gives up when something was under way for longer than core_disk.timeout_ms. */
void hanging_tick(struct core_engine *engine);
uint64_t hanging_deadline_ns(const struct core_engine *engine);

/* First thing in a completion.  True: it was given up long ago; nothing is to be done. */
bool hanging_ended(struct core_engine *engine); /* of an operation that is no request's */
bool hanging_request_ended(struct request *request);

/* Does the disk still have this payload of an application's request?  Then it is given back when it lets go. */
bool hanging_keeps(struct core_engine *engine, const void *payload);
/* A read's answer goes out: from memory that the disk does not have. */
void hanging_read_done(struct request *request);
void hanging_before_reply(struct upper *upper);

#endif
