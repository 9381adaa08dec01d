/* sim_world.h - the simulated world as its own files see it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CSRC_SIM_WORLD_H
#define CSRC_SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core.h"
#include "io_implementation.h"
#include "io_sim.h"
#include "sim_api.h"

#define SIM_FD_FIRST 1000000 /* no kernel gives such numbers */
#define SIM_FDS 4096u
#define SIM_FACTS_NONE UINT64_MAX

struct sim_disk;
struct sim_stream;

enum sim_fd_kind { SIM_FD_FREE, SIM_FD_DISK, SIM_FD_STREAM };

struct sim_fd {
    enum sim_fd_kind kind;
    uint32_t end; /* of a stream: 0 or 1 */
    union {
        struct sim_disk *disk;
        struct sim_stream *stream;
    } is;
};

enum sim_event_kind {
    SIM_EVENT_DISK,   /* op ends on the disk */
    SIM_EVENT_ARRIVE, /* look what of a stream's end has arrived */
    SIM_EVENT_SENT,   /* op's bytes are in the socket */
    SIM_EVENT_NOTHING /* time that somebody waits for */
};

struct sim_event {
    uint64_t at_ns;
    uint64_t order;
    enum sim_event_kind kind;
    uint32_t end;
    struct io_op *op; /* NULL: for nobody */
    struct io *io;    /* whose op it is */
    void *object;     /* struct sim_disk or sim_stream */
    void *more;       /* struct sim_record */
};

struct sim_machine {
    struct core_engine *engine;
    struct io *io;
    uint64_t steps;
    uint64_t cut_step;
    uint64_t facts_due_ns; /* SIM_FACTS_NONE: no fact is known yet */
    bool dead;
    bool again; /* its last turn did something */
};

struct sim_world {
    struct sim_options options;
    struct sim_machine machines[SIM_NODES];
    uint64_t now_ns;
    uint64_t random;
    uint64_t order; /* of events and of ended writes */
    struct sim_event *events;
    uint32_t events_count, events_room;
    struct sim_fd fds[SIM_FDS];
    uint32_t fd_next;
    struct sim_disk *disks;     /* linked; live as long as the world */
    struct sim_stream *streams; /* linked */
    uint32_t (*ask)(uint32_t node, uint64_t step);
    bool cut_hit;
    bool readable;
    bool tracing;
    char *trace;
    char *trace_told;
    size_t trace_length, trace_room;
};

uint64_t sim_between(struct sim_world *world, uint64_t low, uint64_t high); /* both included */
void sim_say(struct sim_world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* True: the machine lives through this step.  ends: false for its beginning. */
bool sim_step(struct sim_world *world, uint32_t node, enum sim_step kind, bool ends);
void sim_event_add(struct sim_world *world, uint64_t at_ns, const struct sim_event *event);
void sim_events_forget(struct sim_world *world, const struct io *io); /* events of its operations; NULL: none */

int32_t sim_fd_new(struct sim_world *world, const struct sim_fd *fd); /* a descriptor, or -EMFILE */
struct sim_fd *sim_fd_find(struct sim_world *world, int32_t fd);      /* NULL: there is none */

/* sim_disk.c */
void sim_disk_begin(struct sim_world *world, struct io *io, struct io_op *op);
void sim_disk_ends(struct sim_world *world, const struct sim_event *event);
void sim_disks_free(struct sim_world *world);

/* sim_stream.c */
void sim_stream_begin(struct sim_world *world, struct io *io, struct io_op *op);
void sim_stream_cancel(struct sim_world *world, struct io *io, struct io_op *op);
void sim_stream_arrives(struct sim_world *world, const struct sim_event *event);
void sim_stream_op_sent(struct sim_world *world, const struct sim_event *event);
void sim_stream_shutdown(struct sim_world *world, int32_t fd);
void sim_stream_drop(struct sim_world *world, struct sim_fd *fd); /* its descriptor is closed */
uint32_t sim_stream_node(const struct sim_fd *fd);                /* whose end it is */
bool sim_stream_is_kept(const struct sim_fd *fd);                 /* sim_stream_keep */
void sim_streams_orphan(struct sim_world *world, const struct io *io);
/* silent: the power failed, nobody says anything; else the kernel closes what the process had. */
void sim_streams_of_dead(struct sim_world *world, uint32_t node, bool silent);
void sim_streams_reset(struct sim_world *world, uint32_t node); /* the machine is back and knows nothing of them */
bool sim_streams_readable(struct sim_world *world);
void sim_streams_free(struct sim_world *world);

#endif
