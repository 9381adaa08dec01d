/* sim_api.h - a simulated world for real engines, as the tests drive it: disks, sockets, time, power cuts.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * cffi reads this file as cdef, behind core_api.h, for the test build alone; the product does not contain it.
 *
 * One thread, one seed.  A world holds SIM_NODES machines.  Each has at most one engine and any number of disks, whose
 * contents outlive the engine and the machine's power.  Descriptors are numbers of the world.  Times are nanoseconds of
 * the world.  Results are 0 or a negative errno.
 *
 * A step is the beginning or the end of one write, flush or send of a machine: the moments at which its power can be
 * made to fail.  A begun write may be on the platter after a cut; one whose beginning failed is not. */

#define SIM_NODES 2

typedef struct sim_world sim_world;

struct sim_options {
    uint64_t seed;
    uint32_t disk_ns_min, disk_ns_max; /* a disk operation takes so long */
    uint32_t wire_ns_min, wire_ns_max; /* a byte is under way so long */
    uint32_t facts_ns_max;             /* the control plane looks at its facts so late */
    uint32_t short_transfers;          /* 1: a send or receive moves less than it could, at times */
};

/* Why sim_run has returned. */
enum sim_stop {
    SIM_TIME = 0,     /* the time is up */
    SIM_FACTS = 1,    /* an engine has something to tell */
    SIM_READABLE = 2, /* a stream's outer end has bytes or its end to tell */
    SIM_CUT = 3,      /* the power of a machine has failed */
    SIM_IDLE = 4,     /* nothing will ever happen by itself */
    SIM_LIVELOCK = 5  /* an engine turns for ever without time passing */
};

enum sim_step { SIM_WRITE = 0, SIM_FLUSH = 1, SIM_SEND = 2, SIM_READ = 3 };

/* One write that a power cut may lose. */
struct sim_volatile {
    uint64_t offset_bytes;
    uint32_t length_bytes;
    uint32_t begun_only; /* 1: it had not ended */
    uint64_t order;      /* in which the writes ended; those begun only come behind all others */
};

int sim_world_new(const struct sim_options *options, sim_world **world);
void sim_world_free(sim_world *world); /* its engines must be gone */
uint64_t sim_now_ns(sim_world *world);
uint64_t sim_random(sim_world *world);
uint32_t sim_run(sim_world *world, uint64_t until_ns); /* enum sim_stop */
/* Text of what happened since the last call; "" while tracing is off. */
void sim_trace(sim_world *world, uint32_t on);
const char *sim_trace_take(sim_world *world);

/* Machines. */
int sim_engine_new(sim_world *world, uint32_t node, const struct core_options *options, core_engine **engine);
void sim_engine_free(sim_world *world, uint32_t node); /* as a kill -9 does: nothing is said, memory is gone */
uint32_t sim_has_facts(sim_world *world, uint32_t node);
uint64_t sim_steps(sim_world *world, uint32_t node); /* so far */
/* The power fails at that step of the machine, counted as sim_steps does; UINT64_MAX: not any more. */
void sim_cut_at(sim_world *world, uint32_t node, uint64_t step);
void sim_cut_now(sim_world *world, uint32_t node);
/* Asked at every step of every machine; not 0: its power fails here.  NULL: nobody is asked. */
void sim_ask_at_steps(sim_world *world, uint32_t (*ask)(uint32_t node, uint64_t step));
uint32_t sim_is_dead(sim_world *world, uint32_t node);
void sim_power_on(sim_world *world, uint32_t node);

/* Disks. */
int32_t sim_disk_new(sim_world *world, uint32_t node, const char *name, uint64_t bytes); /* a descriptor */
int32_t sim_disk_open(sim_world *world, int32_t fd); /* another descriptor of the same disk */
int sim_disk_read(sim_world *world, int32_t fd, uint64_t offset_bytes, uint8_t *bytes, uint32_t length_bytes);
/* What a look from outside sees, be there power or not; durable: what no power cut can take. */
void sim_disk_peek(sim_world *world, int32_t fd, uint64_t offset_bytes, uint8_t *bytes, uint32_t length_bytes,
                   uint32_t durable);
int sim_disk_write(sim_world *world, int32_t fd, uint64_t offset_bytes, const uint8_t *bytes, uint32_t length_bytes);
int sim_disk_flush(sim_world *world, int32_t fd);
uint32_t sim_disk_volatile(sim_world *world, int32_t fd, struct sim_volatile *list, uint32_t count); /* all there are */
/* The list's index-th write survives the power cut, from that sector of it on, for so many. */
void sim_disk_survives(sim_world *world, int32_t fd, uint32_t index, uint32_t sector, uint32_t sectors);
void sim_disk_cut(sim_world *world, int32_t fd);    /* what did not survive is gone */
void sim_disk_settle(sim_world *world, int32_t fd); /* the process died, the machine lives: begun writes end */
/* The count-th operation (0: the next) of that kind (enum sim_step) from now fails, unless the power does before. */
void sim_disk_fail(sim_world *world, int32_t fd, uint32_t kind, uint32_t count, int32_t error);
void sim_disk_stall(sim_world *world, int32_t fd, uint64_t until_ns); /* nothing ends before */
/* First byte at or behind offset_bytes at which two disks differ, within length_bytes; UINT64_MAX: none. */
uint64_t sim_disk_differ(sim_world *world, int32_t a, int32_t b, uint64_t offset_bytes, uint64_t length_bytes);

/* Streams: a pair of ends, each a machine's (for its engine) or SIM_NODES (the test's own). */
int sim_stream_new(sim_world *world, uint32_t node_a, uint32_t node_b, int32_t ends[2]);
int32_t sim_stream_send(sim_world *world, int32_t fd, const uint8_t *bytes, uint32_t length_bytes);
/* Bytes, 0 at the end of the stream, -EAGAIN, or -ECONNRESET. */
int32_t sim_stream_receive(sim_world *world, int32_t fd, uint8_t *bytes, uint32_t length_bytes);
void sim_stream_close(sim_world *world, int32_t fd);
/* This end, which no engine serves at the moment, does not go with its machine's next sim_engine_free; 0: it does. */
void sim_stream_keep(sim_world *world, int32_t fd, uint32_t keep);
/* What the end at fd sends never arrives from `more_bytes` behind what has arrived on.  Nobody is told. */
void sim_stream_cut(sim_world *world, int32_t fd, uint64_t more_bytes);
void sim_stream_tell(sim_world *world, int32_t fd); /* the end hears that its connection was reset */
uint32_t sim_stream_exists(sim_world *world, int32_t fd);
uint64_t sim_stream_under_way(sim_world *world, int32_t fd); /* bytes sent by that end and not arrived */
uint64_t sim_stream_sent(sim_world *world, int32_t fd);      /* bytes, ever */
