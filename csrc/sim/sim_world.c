/* sim_world.c - time, chance, events, descriptors, and the machines that engines run on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "sim_world.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

#define TURNS_WITHOUT_TIME_MAX 20000u
#define EVENTS_FIRST 64u

int sim_world_new(const struct sim_options *options, sim_world **out)
{
    sim_world *world = calloc(1, sizeof(*world));

    if (!world)
        return -ENOMEM;
    world->options = *options;
    world->random = options->seed * 2 + 1;
    world->now_ns = 1000000000u; /* nothing takes 0 for "never" */
    world->events_room = EVENTS_FIRST;
    world->events = calloc(EVENTS_FIRST, sizeof(*world->events));
    if (!world->events) {
        free(world);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < SIM_NODES; i++)
        world->machines[i] = (struct sim_machine){.cut_step = UINT64_MAX, .facts_due_ns = SIM_FACTS_NONE};
    *out = world;
    return 0;
}

void sim_world_free(sim_world *world)
{
    for (uint32_t i = 0; i < SIM_NODES; i++)
        assert(world->machines[i].engine == NULL);
    sim_disks_free(world);
    sim_streams_free(world);
    free(world->events);
    free(world->trace);
    free(world->trace_told);
    free(world);
}

uint64_t sim_now_ns(sim_world *world)
{
    return world->now_ns;
}

/* splitmix64 */
uint64_t sim_random(sim_world *world)
{
    uint64_t mixed = world->random += 0x9e3779b97f4a7c15u;

    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

uint64_t sim_between(struct sim_world *world, uint64_t low, uint64_t high)
{
    return high <= low ? low : low + sim_random(world) % (high - low + 1);
}

/* --- the trace --- */

void sim_trace(sim_world *world, uint32_t on)
{
    world->tracing = on != 0;
}

void sim_say(struct sim_world *world, const char *format, ...)
{
    va_list arguments;
    char line[256];
    int length;

    if (!world->tracing)
        return;
    length = snprintf(line, sizeof(line), "%12.6f ", (double)world->now_ns / 1e9);
    va_start(arguments, format);
    length += vsnprintf(line + length, sizeof(line) - (size_t)length - 1, format, arguments);
    va_end(arguments);
    if (length > (int)sizeof(line) - 2)
        length = (int)sizeof(line) - 2;
    line[length++] = '\n';
    if (world->trace_length + (size_t)length + 1 > world->trace_room) {
        world->trace_room = world->trace_room * 2 + 4096;
        char *trace = realloc(world->trace, world->trace_room);
        assert(trace != NULL);
        world->trace = trace;
    }
    memcpy(world->trace + world->trace_length, line, (size_t)length + 1);
    world->trace_length += (size_t)length;
    world->trace[world->trace_length] = '\0';
}

const char *sim_trace_take(sim_world *world)
{
    free(world->trace_told);
    world->trace_told = world->trace;
    world->trace = NULL;
    world->trace_length = world->trace_room = 0;
    return world->trace_told ? world->trace_told : "";
}

/* --- events --- */

void sim_event_add(struct sim_world *world, uint64_t at_ns, const struct sim_event *event)
{
    if (world->events_count == world->events_room) {
        world->events_room *= 2;
        struct sim_event *events = realloc(world->events, world->events_room * sizeof(*events));
        assert(events != NULL);
        world->events = events;
    }
    world->events[world->events_count] = *event;
    world->events[world->events_count].at_ns = at_ns;
    world->events[world->events_count++].order = world->order++;
}

void sim_events_forget(struct sim_world *world, const struct io *io)
{
    for (uint32_t i = 0; i < world->events_count; i++)
        if (world->events[i].io == io)
            world->events[i].op = NULL;
}

static struct sim_event *next_event(struct sim_world *world)
{
    struct sim_event *next = NULL;

    for (uint32_t i = 0; i < world->events_count; i++) {
        struct sim_event *event = &world->events[i];
        if (!next || event->at_ns < next->at_ns || (event->at_ns == next->at_ns && event->order < next->order))
            next = event;
    }
    return next;
}

static void happen(struct sim_world *world, struct sim_event *next)
{
    struct sim_event event = *next;

    *next = world->events[--world->events_count];
    switch (event.kind) {
    case SIM_EVENT_DISK:
        sim_disk_ends(world, &event);
        break;
    case SIM_EVENT_ARRIVE:
        sim_stream_arrives(world, &event);
        break;
    case SIM_EVENT_SENT:
        sim_stream_op_sent(world, &event);
        break;
    case SIM_EVENT_NOTHING:
        break;
    }
}

/* --- descriptors --- */

int32_t sim_fd_new(struct sim_world *world, const struct sim_fd *fd)
{
    /* A number is used again as late as can be: a stale one finds nothing rather than something else. */
    for (uint32_t tries = 0; tries < SIM_FDS; tries++) {
        uint32_t i = world->fd_next++ % SIM_FDS;
        if (world->fds[i].kind != SIM_FD_FREE)
            continue;
        world->fds[i] = *fd;
        return SIM_FD_FIRST + (int32_t)i;
    }
    return -EMFILE;
}

struct sim_fd *sim_fd_find(struct sim_world *world, int32_t fd)
{
    if (fd < SIM_FD_FIRST || fd >= SIM_FD_FIRST + (int32_t)SIM_FDS)
        return NULL;
    if (world->fds[fd - SIM_FD_FIRST].kind == SIM_FD_FREE)
        return NULL;
    return &world->fds[fd - SIM_FD_FIRST];
}

/* --- machines --- */

int sim_engine_new(sim_world *world, uint32_t node, const struct core_options *options, core_engine **engine)
{
    struct sim_machine *machine = &world->machines[node];
    int rc;

    assert(machine->engine == NULL && !machine->dead);
    rc = io_new_sim(world, node, &machine->io);
    if (rc == 0)
        rc = engine_new_over(options, machine->io, engine);
    if (rc < 0)
        return rc;
    machine->engine = *engine;
    machine->again = true;
    machine->facts_due_ns = SIM_FACTS_NONE;
    return 0;
}

/* What the engine did not close itself: its peer's sockets. */
static void forget_streams(struct sim_world *world, uint32_t node)
{
    for (uint32_t i = 0; i < SIM_FDS; i++)
        if (world->fds[i].kind == SIM_FD_STREAM && sim_stream_node(&world->fds[i]) == node &&
            !(sim_stream_is_kept(&world->fds[i]) && !world->machines[node].dead))
            world->fds[i] = (struct sim_fd){.kind = SIM_FD_FREE};
}

void sim_engine_free(sim_world *world, uint32_t node)
{
    struct sim_machine *machine = &world->machines[node];

    if (!machine->engine)
        return;
    sim_events_forget(world, machine->io);
    sim_streams_orphan(world, machine->io);
    sim_streams_of_dead(world, node, machine->dead);
    io_sim_forget(machine->io);
    export_fini(machine->engine);
    disk_free(machine->engine);
    io_sim_forget(machine->io);
    core_engine_free(machine->engine);
    forget_streams(world, node);
    machine->engine = NULL;
    machine->io = NULL;
}

uint32_t sim_has_facts(sim_world *world, uint32_t node)
{
    struct sim_machine *machine = &world->machines[node];

    return machine->engine && !machine->dead && machine->facts_due_ns <= world->now_ns;
}

uint64_t sim_steps(sim_world *world, uint32_t node)
{
    return world->machines[node].steps;
}

void sim_cut_at(sim_world *world, uint32_t node, uint64_t step)
{
    world->machines[node].cut_step = step;
}

void sim_ask_at_steps(sim_world *world, uint32_t (*ask)(uint32_t node, uint64_t step))
{
    world->ask = ask;
}

void sim_cut_now(sim_world *world, uint32_t node)
{
    if (world->machines[node].dead)
        return;
    sim_say(world, "node %u: the power fails", node);
    world->machines[node].dead = true;
    world->cut_hit = true;
}

uint32_t sim_is_dead(sim_world *world, uint32_t node)
{
    return world->machines[node].dead;
}

void sim_power_on(sim_world *world, uint32_t node)
{
    assert(world->machines[node].engine == NULL);
    world->machines[node].dead = false;
    world->machines[node].cut_step = UINT64_MAX;
    sim_streams_reset(world, node);
    sim_say(world, "node %u: the power is back", node);
}

bool sim_step(struct sim_world *world, uint32_t node, enum sim_step kind, bool ends)
{
    static const char *const names[] = {"write", "flush", "send", "read"};
    struct sim_machine *machine = &world->machines[node];
    uint64_t step = machine->steps;

    if (machine->dead)
        return false;
    if (kind == SIM_READ)
        return true;
    machine->steps++;
    if (step != machine->cut_step && (world->ask == NULL || world->ask(node, step) == 0))
        return true;
    sim_say(world, "node %u: step %llu, %s of a %s", node, (unsigned long long)step, ends ? "the end" : "the beginning",
            names[kind]);
    sim_cut_now(world, node);
    return false;
}

/* --- running --- */

static bool has_work(const struct sim_world *world, const struct sim_machine *machine)
{
    if (!machine->engine || machine->dead)
        return false;
    return machine->again || io_is_ready(machine->io) || !ring_is_empty(machine->engine->orders) ||
           io_sim_deadline_ns(machine->io) <= world->now_ns;
}

static void note_facts(struct sim_world *world, struct sim_machine *machine)
{
    if (ring_is_empty(machine->engine->facts))
        machine->facts_due_ns = SIM_FACTS_NONE;
    else if (machine->facts_due_ns == SIM_FACTS_NONE)
        machine->facts_due_ns = world->now_ns + sim_between(world, 0, world->options.facts_ns_max);
}

/* False: for ever without end. */
static bool turn_engines(struct sim_world *world)
{
    uint32_t first = world->options.facts_ns_max > 0 ? (uint32_t)sim_between(world, 0, SIM_NODES - 1) : 0;
    uint32_t turns = 0;

    for (uint32_t i = 0; i < SIM_NODES; i++) {
        struct sim_machine *machine = &world->machines[(first + i) % SIM_NODES];
        if (machine->engine)
            note_facts(world, machine); /* those that were taken since are no reason to hear of the next at once */
        while (!world->cut_hit && has_work(world, machine) && turns++ < TURNS_WITHOUT_TIME_MAX) {
            int rc = engine_turn(machine->engine);
            assert(rc >= 0 || machine->dead);
            machine->again = rc > 0;
        }
        if (machine->engine)
            note_facts(world, machine);
    }
    return turns < TURNS_WITHOUT_TIME_MAX;
}

static bool tells_something(struct sim_world *world, enum sim_stop *stop)
{
    *stop = SIM_CUT;
    if (world->cut_hit) {
        world->cut_hit = false;
        return true;
    }
    *stop = SIM_FACTS;
    for (uint32_t i = 0; i < SIM_NODES; i++)
        if (sim_has_facts(world, i))
            return true;
    *stop = SIM_READABLE;
    if (world->readable && sim_streams_readable(world)) {
        world->readable = false;
        return true;
    }
    return false;
}

static uint64_t next_ns(struct sim_world *world)
{
    const struct sim_event *event = next_event(world);
    uint64_t next = event ? event->at_ns : UINT64_MAX;

    for (uint32_t i = 0; i < SIM_NODES; i++) {
        const struct sim_machine *machine = &world->machines[i];
        if (!machine->engine || machine->dead)
            continue;
        if (io_sim_deadline_ns(machine->io) < next)
            next = io_sim_deadline_ns(machine->io);
        if (machine->facts_due_ns < next)
            next = machine->facts_due_ns;
    }
    return next < world->now_ns ? world->now_ns : next;
}

uint32_t sim_run(sim_world *world, uint64_t until_ns)
{
    enum sim_stop stop;

    for (;;) {
        uint64_t next;
        struct sim_event *event;

        if (!turn_engines(world))
            return SIM_LIVELOCK;
        if (tells_something(world, &stop))
            return stop;
        next = next_ns(world);
        if (next == UINT64_MAX && until_ns == UINT64_MAX)
            return SIM_IDLE;
        if (next > until_ns) {
            world->now_ns = until_ns;
            return SIM_TIME;
        }
        world->now_ns = next;
        while ((event = next_event(world)) != NULL && event->at_ns <= world->now_ns && !world->cut_hit)
            happen(world, event);
    }
}
