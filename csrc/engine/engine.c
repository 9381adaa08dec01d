/* engine.c - see engine.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "bitmap.h"
#include "checksum.h"
#include "container.h"
#include "orders.h"

#define ORDERS 1024u
#define FACTS 4096u

/* --- making and unmaking
 * -------------------------------------------------------------------------------------------------- */

static int build_rooms(struct core_engine *engine)
{
    int rc = request_table_new(engine, engine->options.requests, &engine->requests);
    if (rc == 0)
        rc = checksum_set_new(&engine->checksums);
    engine->digests = calloc(engine->options.requests, CHECKSUM_BYTES_MAX);
    if (rc == 0 && engine->digests == NULL)
        rc = -ENOMEM;
    if (rc == 0)
        rc = bitmap_pages_init(engine);
    if (rc == 0)
        rc = hot_extents_init(engine);
    if (rc == 0)
        rc = peer_init(engine);
    ordering_init(&engine->ordering);
    return rc;
}

static int build(struct core_engine *engine)
{
    const struct core_options *options = &engine->options;
    engine->order_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    engine->fact_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (engine->order_fd < 0 || engine->fact_fd < 0)
        return -errno;
    int rc = ring_new(ORDERS, sizeof(struct order), &engine->orders);
    if (rc == 0)
        rc = ring_new(FACTS, sizeof(struct core_fact), &engine->facts);
    if (rc == 0)
        rc = pool_new(options->pool_bytes, options->lock_memory != 0, &engine->pool);
    if (rc == 0 && engine->io == NULL)
        rc = io_new(options->io, options->requests * 2 + 512, &engine->io);
    engine->zeroes = aligned_alloc(4096, ENGINE_ZEROES_BYTES);
    if (engine->zeroes == NULL)
        return -ENOMEM;
    memset(engine->zeroes, 0, ENGINE_ZEROES_BYTES);
    return rc == 0 ? build_rooms(engine) : rc;
}

static bool is_possible(const struct core_options *options)
{
    return options->requests > 0 && options->requests <= 65536 && options->pool_bytes > 0 &&
           options->pool_bytes % POOL_BLOCK_MAX == 0;
}

int engine_new_over(const struct core_options *options, struct io *io, struct core_engine **out)
{
    struct core_engine *engine = is_possible(options) ? calloc(1, sizeof *engine) : NULL;
    if (engine == NULL) {
        io_free(io);
        return is_possible(options) ? -ENOMEM : -EINVAL;
    }
    engine->io = io;
    engine->options = *options;
    engine->protocol = 3;
    engine->order_fd = engine->fact_fd = -1;
    engine->reads = CORE_READS_LOCAL;
    engine->resync.window_sectors = RESYNC_WINDOW_SECTORS;
    int rc = build(engine);
    if (rc < 0) {
        core_engine_free(engine);
        return rc; /* NOLINT(clang-analyzer-unix.Malloc): it cannot have died before it began */
    }
    *out = engine;
    return 0;
}

int core_engine_new(const struct core_options *options, core_engine **out)
{
    return engine_new_over(options, NULL, out);
}

void core_engine_free(core_engine *engine)
{
    if (engine == NULL)
        return;
    assert(!engine->started);
    if (engine->died || engine->disk.hanging > 0)
        return; /* the kernel or the disk has it still, and gets it until the process ends */
    peer_fini(engine);
    hot_extents_fini(engine);
    bitmap_pages_fini(engine);
    request_table_free(&engine->requests);
    checksum_set_free(engine->checksums);
    free(engine->digests);
    free(engine->zeroes);
    if (engine->io != NULL)
        io_free(engine->io);
    if (engine->pool != NULL)
        pool_free(engine->pool);
    if (engine->orders != NULL)
        ring_free(engine->orders);
    if (engine->facts != NULL)
        ring_free(engine->facts);
    if (engine->order_fd >= 0)
        close(engine->order_fd);
    if (engine->fact_fd >= 0)
        close(engine->fact_fd);
    free(engine);
}

int core_engine_event_fd(core_engine *engine)
{
    return engine->fact_fd;
}

const char *core_engine_io_name(core_engine *engine)
{
    return io_name(engine->io);
}

/* --- what the control plane ordered, as questions
 * ------------------------------------------------------------------------- */

static bool peer_is_going(const struct core_engine *engine)
{
    return engine->peer.state == PEER_CLOSING || engine->peer.state == PEER_LOST || engine->peer.draining;
}

bool engine_replicates(const struct core_engine *engine)
{
    return engine->replication == CORE_REPLICATE_PEER && peer_is_up(&engine->peer);
}

bool engine_admits_writes(struct core_engine *engine)
{
    if (engine->disk.failed)
        return false; /* undecided */
    /* A peer that was written to is going: until the control plane has made the new generation durable, nobody may be
     * told of a write that only we have. */
    if (engine->replication == CORE_REPLICATE_PEER && (peer_is_going(engine) || engine->peer.state == PEER_NONE))
        return false;
    if (engine->gate == CORE_GATE_FIRST_WRITE && !engine->first_write_told) {
        engine->first_write_told = true;
        facts_simple(engine, CORE_FACT_FIRST_WRITE, 0, 0, 0);
    }
    return engine->gate == CORE_GATE_OPEN;
}

bool engine_peer_has_all(const struct core_engine *engine)
{
    if (!peer_is_up(&engine->peer))
        return false;
    switch (engine->reads) {
    case CORE_READS_IN_SYNC:
    case CORE_READS_PEER:
        return true;
    case CORE_READS_BALANCED:
    case CORE_READS_LOCAL: /* it has if it gets every write and is no target */
        return engine->replication == CORE_REPLICATE_PEER && (!engine->resync.active || engine->resync.target);
    case CORE_READS_NONE:
        break;
    }
    return false;
}

bool engine_admits_reads(const struct core_engine *engine)
{
    return engine->gate != CORE_GATE_SUSPENDED;
}

uint8_t *engine_digest_of(const struct request *request)
{
    return request->engine->digests + (size_t)request->index * CHECKSUM_BYTES_MAX;
}

void engine_release_held(struct core_engine *engine)
{
    for (uint32_t left = engine->held.count; left > 0; left--)
        request_continue(request_queue_take(&engine->held));
}

/* --- the thread
 * ----------------------------------------------------------------------------------------------------------- */

static void orders_came(struct io_op *op, int32_t result)
{
    struct core_engine *engine = CONTAINER_OF(op, struct core_engine, order_op);
    uint64_t count;
    (void)result;
    engine->waiting_for_orders = false;
    if (read(engine->order_fd, &count, sizeof count) < 0)
        assert(errno == EAGAIN);
}

static void wait_for_orders(struct core_engine *engine)
{
    if (engine->waiting_for_orders)
        return;
    engine->waiting_for_orders = true;
    engine->order_op.done = orders_came;
    io_wait_readable(engine->io, &engine->order_op, engine->order_fd);
}

static void issue_starved(struct core_engine *engine)
{
    while (engine->starved.first != NULL && engine->requests.free_count > 0) {
        struct upper *upper = upper_queue_take(&engine->starved);
        upper->starved = false;
        upper_issue(upper);
    }
}

static void tell_facts(struct core_engine *engine)
{
    uint64_t one = 1;
    if (!engine->facts_posted)
        return;
    engine->facts_posted = false;
    if (write(engine->fact_fd, &one, sizeof one) < 0)
        assert(errno == EAGAIN);
}

static void publish_counters(struct core_engine *engine)
{
    struct core_counters *counters = &engine->counters;
    counters->turns++;
    counters->enters = io_enters(engine->io);
    counters->out_of_sync_bits = engine->disk.bitmap != NULL ? bitmap_count(engine->disk.bitmap) : 0;
    counters->upper_pending = engine->upper_pending;
    counters->lower_pending = engine->disk.in_flight;
    counters->pending = (uint32_t)(engine->peer.log.in - engine->peer.log.out);
    counters->unacked = engine->peer.unacked;
    counters->unstable = (uint32_t)transfer_log_count(&engine->peer.log);
    counters->clients = engine->export.transmitting;
    counters->resync_in_flight_sectors = engine->resync.in_flight_sectors;
    if (engine->verify.active && engine->verify.source)
        counters->resync_in_flight_sectors += engine->verify.in_flight * VERIFY_BLOCK_SECTORS;
    counters->verify_left_sectors = verify_left_sectors(engine);
    uint_fast64_t version = atomic_load_explicit(&engine->published_version, memory_order_relaxed);
    atomic_store_explicit(&engine->published_version, version + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    engine->published = *counters;
    atomic_store_explicit(&engine->published_version, version + 2, memory_order_release);
}

/* Everything that can move, moves; in the order in which one thing lets another move. */
static void pump(struct core_engine *engine)
{
    issue_starved(engine);
    write_release_crowded(engine);
    flush_pump(engine);
    hot_extents_pump(engine);
    bitmap_exchange_pump(engine);
    announce_pump(engine);
    resync_pump(engine);
    verify_pump(engine);
    mend_pump(engine);
    bitmap_pages_pump(engine); /* after these, which may just have asked for its last sweep */
    metadata_hold_pump(engine);
    peer_pump(engine);
    ublk_queue_pump(engine);
    export_pump(engine);
}

static uint64_t next_deadline_ns(const struct core_engine *engine)
{
    uint64_t deadline = peer_deadline_ns(engine);
    uint64_t other = resync_deadline_ns(engine);
    if (other < deadline)
        deadline = other;
    other = hanging_deadline_ns(engine);
    if (other < deadline)
        deadline = other;
    other = verify_deadline_ns(engine);
    if (other < deadline)
        deadline = other;
    other = export_deadline_ns(engine);
    if (other < deadline)
        deadline = other;
    other = ublk_queue_deadline_ns(engine);
    return other < deadline ? other : deadline;
}

static bool is_quiet(const struct core_engine *engine)
{
    return engine->peer.state != PEER_UP && engine->peer.state != PEER_CLOSING && engine->disk.in_flight == 0;
}

/* Sockets first, so that what is under way on them comes home; then the disk's operations end. */
static void wind_up(struct core_engine *engine)
{
    export_close(engine, 0);
    ublk_queue_abandon(engine);
    for (uint32_t i = 0; i < EXPORT_CLIENTS_MAX; i++)
        if (engine->export.clients[i] != NULL)
            engine->export.clients[i]->closing = true;
    peer_lose(&engine->peer, CORE_LOST_ORDERED);
    while (!is_quiet(engine) || !export_sockets_are_quiet(engine) || !ublk_queue_is_quiet(engine)) {
        export_pump(engine);
        if (io_turn(engine->io, io_now_ns(engine->io) + 100000000ull) < 0)
            break;
        hanging_tick(engine);
    }
    if (engine->waiting_for_orders)
        io_cancel(engine->io, &engine->order_op);
    while (engine->waiting_for_orders && io_turn(engine->io, UINT64_MAX) >= 0)
        ;
    export_fini(engine);
    ublk_queue_fini(engine);
    disk_free(engine);
}

int engine_turn(struct core_engine *engine)
{
    wait_for_orders(engine);
    orders_run(engine);
    if (engine->stopping)
        return 0;
    pump(engine);
    tell_facts(engine);
    publish_counters(engine);
    /* An order that came since orders_run has written its eventfd: the wait ends at once. */
    int rc = io_turn(engine->io, next_deadline_ns(engine));
    peer_tick(engine);
    export_tick(engine);
    hanging_tick(engine);
    return rc;
}

static void *run(void *argument)
{
    struct core_engine *engine = argument;
    prctl(PR_SET_NAME, "pydrbd-engine");
    /* The clock and the ring belong to this thread from its first turn on. */
    int rc = io_turn(engine->io, 0);
    while (rc >= 0 && !engine->stopping)
        rc = engine_turn(engine);
    if (rc < 0) {
        engine->died = true;
        facts_simple(engine, CORE_FACT_DIED, rc, 0, 0);
    }
    wind_up(engine);
    tell_facts(engine);
    publish_counters(engine);
    return NULL;
}

int core_engine_start(core_engine *engine)
{
    if (engine->started)
        return -EALREADY;
    int rc = pthread_create(&engine->thread, NULL, run, engine);
    engine->started = rc == 0;
    return -rc;
}

int core_engine_stop(core_engine *engine)
{
    if (!engine->started)
        return -EALREADY;
    int rc = engine_order_stop(engine);
    if (rc < 0)
        return rc;
    rc = pthread_join(engine->thread, NULL);
    engine->started = rc != 0;
    return -rc;
}

void core_engine_counters(core_engine *engine, struct core_counters *counters)
{
    uint_fast64_t before;
    uint_fast64_t after;
    do {
        before = atomic_load_explicit(&engine->published_version, memory_order_acquire);
        *counters = engine->published;
        atomic_thread_fence(memory_order_acquire);
        after = atomic_load_explicit(&engine->published_version, memory_order_relaxed);
    } while (before != after || (before & 1) != 0);
}
