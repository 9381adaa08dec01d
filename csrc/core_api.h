/* core_api.h - the one border between the data plane and the control plane.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * cffi reads this file as its cdef, byte for byte, behind core_values.h, so it holds plain declarations only.
 *
 * Orders go down, facts come up.  Every function that takes a `token` puts one order into a bounded ring and returns
 * at once: 0, -EAGAIN (ring full: drain the facts, try again) or -EINVAL.  The engine thread carries orders out
 * strictly in the order given.  An order with a token other than 0 is answered by exactly one CORE_FACT_DONE with that
 * token, when its effect is complete.  All functions but core_engine_counters are called from one thread.
 *
 * Results are 0 or a negative errno.  A `sector` is 512 bytes.  Times are milliseconds. */

typedef struct core_engine core_engine;

int core_engine_new(const struct core_options *options, core_engine **engine);
int core_engine_start(core_engine *engine);
int core_engine_stop(core_engine *engine); /* closes all descriptors it owns; waits for disk operations under way */
void core_engine_free(core_engine *engine);
int core_engine_event_fd(core_engine *engine);
const char *core_engine_io_name(core_engine *engine); /* "io_uring" or "threads" */
uint32_t core_engine_drain(core_engine *engine, struct core_fact *facts, uint32_t count);
void core_engine_counters(core_engine *engine, struct core_counters *counters);

int core_attach(core_engine *engine, uint64_t token, const struct core_disk *disk); /* loads the bitmap */
int core_detach(core_engine *engine, uint64_t token); /* writes waiting for a failed disk complete by their other leg */
/* What is under way on the disk fails now, whenever it may end (detach --force); facts as after a disk-timeout. */
int core_give_up_disk(core_engine *engine);
/* The device has this size.  It may grow at any time, new blocks in sync until core_bitmap_set; it shrinks only while
 * no export is open and nothing is in flight.  Applications keep the old size until core_export_resize. */
int core_resize(core_engine *engine, uint64_t token, uint64_t size_sectors);
/* Answered when nothing is under way on the metadata; nothing begins there until core_metadata_place, which says where
 * the metadata is from now on (al_offset_bytes, bm_offset_bytes, bm_bytes; the rest of `place` means nothing). */
int core_metadata_hold(core_engine *engine, uint64_t token);
int core_metadata_place(core_engine *engine, uint64_t token, const struct core_disk *place);
int core_keep_disk(core_engine *engine);             /* after DISK_FAILED of a read or write: on-io-error pass_on */
int core_flush(core_engine *engine, uint64_t token); /* backing disk: all completed writes are stable */
int core_bitmap_set(core_engine *engine, uint64_t token, uint64_t sector, uint64_t sectors); /* out of sync; RAM */
int core_bitmap_clear(core_engine *engine, uint64_t token, uint64_t sector, uint64_t sectors);
int core_bitmap_write(core_engine *engine, uint64_t token); /* flush the data, then write changed pages, durable */
int core_al_retire(core_engine *engine, uint64_t token); /* every extent out, on disk too; nothing may be in flight */

int core_peer_connect(core_engine *engine, uint64_t token, const struct core_peer *peer); /* takes both descriptors */
int core_peer_disconnect(core_engine *engine,
                         uint64_t token); /* says what is queued, then closes; CORE_FACT_PEER_LOST follows */
int core_peer_send(core_engine *engine, uint32_t socket, uint16_t command, const uint8_t *payload, uint32_t length);
int core_peer_resume(core_engine *engine); /* read on after a packet fact */
int core_peer_accept(core_engine *engine, uint32_t accept);
int core_release(core_engine *engine,
                 uint64_t token); /* after PEER_LOST: mark what is unstable, complete what is held */

int core_replicate(core_engine *engine, uint32_t replication, uint32_t protocol); /* protocol 1 A, 2 B, 3 C */
int core_reads(core_engine *engine, uint32_t reads);
int core_read_balancing(core_engine *engine, uint32_t policy); /* enum core_read_balancing, for CORE_READS_BALANCED */
int core_gate(core_engine *engine, uint32_t gate);             /* OPEN lets held requests go */

/* Tells the peer of every block that is out of sync, by OUT_OF_SYNC packets; answered when the last one is queued. */
int core_bitmap_announce(core_engine *engine, uint64_t token);
int core_bitmap_send(core_engine *engine, uint64_t token,
                     uint32_t use_rle); /* answered when the last packet is queued */
int core_resync_start(core_engine *engine,
                      uint32_t end); /* enum core_resync: a target asks for blocks, a source marks in sync by acks */
/* 0 KiB/s: no limit.  In flight: asked for at once (target), or read and sent at once (source); 0: as before. */
int core_resync_rate(core_engine *engine, uint32_t rate_kib_s, uint32_t in_flight_sectors);
int core_resync_stop(core_engine *engine, uint64_t token); /* answered when no resync write is in flight */

/* source 1: ask for digests from start_sector (rounded down to 4 KiB) up to stop_sector, or the end of the device, and
 * compare; 0: answer.  Ends with CORE_FACT_VERIFY_DONE.  Its pace is core_resync_rate's. */
int core_verify_start(core_engine *engine, uint32_t source, uint64_t start_sector, uint64_t stop_sector);
int core_verify_until(core_engine *engine, uint64_t stop_sector); /* source: end there; at once, if it is behind us */
int core_verify_stop(core_engine *engine, uint64_t token);        /* answered when no block is in flight */

/* The smallest request that the next core_export_open lets through: a power of two, 512 to 65536. */
int core_export_block(core_engine *engine, uint32_t bytes);
int core_export_open(core_engine *engine, uint64_t token, const char *name, uint32_t read_only);
int core_export_client(core_engine *engine, int32_t fd); /* an accepted stream socket; taken over */
/* As core_export_client, for our own kernel device: not counted as a client, in facts and counters.  in_transmission 1:
 * nothing is negotiated (the kernel's nbd). */
int core_export_device(core_engine *engine, int32_t fd, uint32_t in_transmission);
/* The queue of our own ublk device: /dev/ublkcN, opened O_NONBLOCK, with one queue of that depth; taken over.  Answered
 * when the kernel has a command for each tag, that is, when START_DEV and END_USER_RECOVERY need no longer wait;
 * -EOPNOTSUPP: not by way of threads.  It ends by itself when the device is stopped. */
int core_export_ublk(core_engine *engine, uint64_t token, int32_t fd, uint32_t depth);
int core_export_resize(core_engine *engine); /* applications may use the size that core_resize set */
/* For a planned restart: no request is taken any more, and when everything that was is answered and safe from a power
 * cut at the peer, each socket is handed back by CORE_FACT_PARKED, and last of all this is answered.  Until then
 * core_export_unpark takes it back: answered -ECANCELED, nothing is handed back. */
int core_export_park(core_engine *engine, uint64_t token);
int core_export_unpark(core_engine *engine);
/* The next engine goes on with such a socket: `parked` and `rest` as the fact had them; taken over. */
int core_export_adopt(core_engine *engine, int32_t fd, uint32_t parked, const uint8_t *rest, uint32_t length);
int core_export_close(core_engine *engine, uint64_t token); /* no new requests; answered when none is in flight */

/* Gives /dev/ublk-control (fd) a command of linux/ublk_cmd.h, for the device of this number, with a buffer in and out,
 * and waits: from any thread but the engine's.  Returns what the driver does, or -EPERM, -ENOSYS, -EINVAL: no such
 * ring. */
int core_ublk_control(int32_t fd, uint32_t operation, uint32_t number, uint8_t *buffer, uint32_t length, uint64_t data);

uint32_t core_crc32c(uint32_t seed, const uint8_t *data, uint64_t length); /* seed and result inverted: 0 begins */
