/* sim_disk.c - disks with a volatile cache.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A write is seen by reads from its end on, and by nobody before.  It is durable when a flush has ended that was begun
 * after the write's end, or at its own end if it is FUA.  At a power cut each sector of what is not durable, writes
 * that had only begun included, may survive or not: the test says which.  Contents are sparse: a page that nobody wrote
 * is zeroes.
 *
 * A write keeps a copy of its bytes from its beginning and compares at its end: whoever changes a buffer that is under
 * way is found out. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim_world.h"

#define PAGE_BYTES 4096u
#define SECTOR_BYTES 512u
#define NAME_BYTES 16u
#define FAULTS_MAX 4u

struct sim_record {
    struct sim_record *next; /* in the order in which the writes began */
    uint8_t *bytes;          /* NULL: zeroes */
    uint64_t offset_bytes;
    uint64_t length_bytes;
    uint64_t order; /* of its end; 0: it has not ended */
    uint32_t index; /* as sim_disk_volatile listed it */
    uint8_t *gone;  /* per sector: a newer write of it is durable; NULL: none is */
    bool lost;      /* a flush failed on it: no later one will save it */
};

struct sim_fault {
    enum sim_step kind;
    uint32_t count;
    int32_t error; /* 0: none */
};

struct sim_disk {
    struct sim_disk *next;
    struct sim_record *records;
    uint8_t **seen;
    uint8_t **durable;
    uint64_t pages;
    uint64_t stalled_until_ns;
    struct sim_fault faults[FAULTS_MAX];
    uint32_t node;
    char name[NAME_BYTES];
};

static struct sim_disk *disk_at(struct sim_world *world, int32_t fd)
{
    struct sim_fd *found = sim_fd_find(world, fd);

    assert(found && found->kind == SIM_FD_DISK);
    return found->is.disk;
}

int32_t sim_disk_new(sim_world *world, uint32_t node, const char *name, uint64_t bytes)
{
    struct sim_disk *disk = calloc(1, sizeof(*disk));

    if (!disk)
        return -ENOMEM;
    disk->pages = (bytes + PAGE_BYTES - 1) / PAGE_BYTES;
    disk->seen = (uint8_t **)calloc(disk->pages, sizeof(*disk->seen));
    disk->durable = (uint8_t **)calloc(disk->pages, sizeof(*disk->durable));
    assert(disk->seen && disk->durable);
    disk->node = node;
    strncpy(disk->name, name, NAME_BYTES - 1);
    disk->next = world->disks;
    world->disks = disk;
    return sim_fd_new(world, &(struct sim_fd){.kind = SIM_FD_DISK, .is.disk = disk});
}

int32_t sim_disk_open(sim_world *world, int32_t fd)
{
    return sim_fd_new(world, &(struct sim_fd){.kind = SIM_FD_DISK, .is.disk = disk_at(world, fd)});
}

/* --- contents --- */

static void pages_write(uint8_t **pages, uint64_t offset, const uint8_t *bytes, uint64_t length)
{
    while (length > 0) {
        uint64_t at = offset % PAGE_BYTES;
        uint64_t part = PAGE_BYTES - at < length ? PAGE_BYTES - at : length;
        uint8_t **page = &pages[offset / PAGE_BYTES];

        if (!*page && bytes)
            *page = calloc(1, PAGE_BYTES);
        if (bytes)
            memcpy(*page + at, bytes, part);
        else if (*page)
            memset(*page + at, 0, part);
        bytes = bytes ? bytes + part : NULL;
        offset += part;
        length -= part;
    }
}

static void pages_read(uint8_t *const *pages, uint64_t offset, uint8_t *bytes, uint64_t length)
{
    while (length > 0) {
        uint64_t at = offset % PAGE_BYTES;
        uint64_t part = PAGE_BYTES - at < length ? PAGE_BYTES - at : length;
        const uint8_t *page = pages[offset / PAGE_BYTES];

        if (page)
            memcpy(bytes, page + at, part);
        else
            memset(bytes, 0, part);
        bytes += part;
        offset += part;
        length -= part;
    }
}

static void pages_free(uint8_t **pages, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        free(pages[i]);
    free((void *)pages);
}

void sim_disks_free(struct sim_world *world)
{
    struct sim_disk *disk;

    while ((disk = world->disks) != NULL) {
        struct sim_record *record;
        world->disks = disk->next;
        while ((record = disk->records) != NULL) {
            disk->records = record->next;
            free(record->gone);
            free(record->bytes);
            free(record);
        }
        pages_free(disk->seen, disk->pages);
        pages_free(disk->durable, disk->pages);
        free(disk);
    }
}

static bool is_zero(const uint8_t *bytes, uint64_t length)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

/* --- what a write leaves behind --- */

/* Zeroes take no memory: most of what a resync copies is that, and every page costs each forked case a fault. */
static struct sim_record *record_new(struct sim_disk *disk, uint64_t offset, const uint8_t *bytes, uint64_t length)
{
    struct sim_record *record = calloc(1, sizeof(*record));
    struct sim_record **last = &disk->records;

    assert(record != NULL && offset + length <= disk->pages * PAGE_BYTES);
    record->offset_bytes = offset;
    record->length_bytes = length;
    if (bytes && !is_zero(bytes, length)) {
        record->bytes = malloc(length);
        assert(record->bytes != NULL);
        memcpy(record->bytes, bytes, length);
    }
    while (*last)
        last = &(*last)->next;
    *last = record;
    return record;
}

static void record_end(struct sim_disk *disk, struct sim_record *record)
{
    struct sim_record **place = &disk->records;

    while (*place != record)
        place = &(*place)->next;
    *place = record->next;
    free(record->gone);
    free(record->bytes);
    free(record);
}

static void make_seen(struct sim_world *world, struct sim_disk *disk, struct sim_record *record)
{
    record->order = ++world->order;
    pages_write(disk->seen, record->offset_bytes, record->bytes, record->length_bytes);
}

static void put_on_platter(struct sim_disk *disk, const struct sim_record *record, uint64_t sector, uint64_t sectors)
{
    for (uint64_t i = sector; i < sector + sectors; i++) {
        uint64_t skip = i * SECTOR_BYTES;
        if (!record->gone || !record->gone[i])
            pages_write(disk->durable, record->offset_bytes + skip, record->bytes ? record->bytes + skip : NULL,
                        SECTOR_BYTES);
    }
}

static void make_durable(struct sim_disk *disk, struct sim_record *record)
{
    put_on_platter(disk, record, 0, record->length_bytes / SECTOR_BYTES);
    record_end(disk, record);
}

/* What older writes the cache holds of these sectors is never written any more. */
static void supersede(struct sim_disk *disk, const struct sim_record *newer)
{
    uint64_t end = newer->offset_bytes + newer->length_bytes;

    for (struct sim_record *record = disk->records; record; record = record->next) {
        uint64_t from = record->offset_bytes > newer->offset_bytes ? record->offset_bytes : newer->offset_bytes;
        uint64_t until =
            record->offset_bytes + record->length_bytes < end ? record->offset_bytes + record->length_bytes : end;
        if (record->order == 0 || record->order >= newer->order || from >= until)
            continue;
        if (!record->gone)
            record->gone = calloc(1, record->length_bytes / SECTOR_BYTES);
        assert(record->gone != NULL);
        memset(record->gone + (from - record->offset_bytes) / SECTOR_BYTES, 1, (until - from) / SECTOR_BYTES);
    }
}

/* The oldest ended write that is not newer than `order`, or NULL. */
static struct sim_record *oldest(const struct sim_disk *disk, uint64_t order)
{
    struct sim_record *found = NULL;

    for (struct sim_record *record = disk->records; record; record = record->next)
        if (record->order != 0 && record->order <= order && !record->lost && (!found || record->order < found->order))
            found = record;
    return found;
}

static void flush_until(struct sim_disk *disk, uint64_t order)
{
    struct sim_record *record;

    while ((record = oldest(disk, order)) != NULL)
        make_durable(disk, record);
}

static void lose_until(struct sim_disk *disk, uint64_t order)
{
    struct sim_record *record;

    while ((record = oldest(disk, order)) != NULL)
        record->lost = true;
}

/* --- faults --- */

void sim_disk_fail(sim_world *world, int32_t fd, uint32_t kind, uint32_t count, int32_t error)
{
    struct sim_disk *disk = disk_at(world, fd);

    for (uint32_t i = 0; i < FAULTS_MAX; i++) {
        if (disk->faults[i].error != 0)
            continue;
        disk->faults[i] = (struct sim_fault){.kind = (enum sim_step)kind, .count = count, .error = error};
        return;
    }
}

static int32_t fault(struct sim_disk *disk, enum sim_step kind)
{
    for (uint32_t i = 0; i < FAULTS_MAX; i++) {
        struct sim_fault *one = &disk->faults[i];
        int32_t error = one->error;
        if (error == 0 || one->kind != kind || one->count-- > 0)
            continue;
        one->error = 0;
        return -error;
    }
    return 0;
}

void sim_disk_stall(sim_world *world, int32_t fd, uint64_t until_ns)
{
    disk_at(world, fd)->stalled_until_ns = until_ns;
}

/* --- operations of an engine --- */

static enum sim_step kind_of(const struct io_op *op)
{
    switch (op->kind) {
    case IO_READ:
        return SIM_READ;
    case IO_FLUSH:
        return SIM_FLUSH;
    default:
        return SIM_WRITE;
    }
}

void sim_disk_begin(struct sim_world *world, struct io *io, struct io_op *op)
{
    struct sim_disk *disk = disk_at(world, op->fd);
    struct sim_event event = {.kind = SIM_EVENT_DISK, .op = op, .io = io, .object = disk};
    uint64_t at = world->now_ns + sim_between(world, world->options.disk_ns_min, world->options.disk_ns_max);

    assert(op->offset_bytes + op->length_bytes <= disk->pages * PAGE_BYTES);
    if (!sim_step(world, disk->node, kind_of(op), false))
        return;
    if (kind_of(op) == SIM_WRITE)
        event.more = record_new(disk, op->offset_bytes, op->kind == IO_WRITE ? op->buffer : NULL, op->length_bytes);
    if (op->kind == IO_FLUSH)
        op->offset_bytes = world->order; /* what has ended by now is what it covers */
    sim_event_add(world, at < disk->stalled_until_ns ? disk->stalled_until_ns : at, &event);
}

static void write_ends(struct sim_world *world, struct sim_disk *disk, struct io_op *op, struct sim_record *record)
{
    if (op->kind == IO_WRITE && record->bytes)
        assert(memcmp(op->buffer, record->bytes, record->length_bytes) == 0);
    else if (op->kind == IO_WRITE)
        assert(is_zero(op->buffer, record->length_bytes));
    make_seen(world, disk, record);
    if ((op->flags & IO_FUA) == 0)
        return;
    supersede(disk, record);
    make_durable(disk, record);
}

static int32_t op_ends(struct sim_world *world, struct sim_disk *disk, struct io_op *op, struct sim_record *record)
{
    int32_t rc = fault(disk, kind_of(op));

    if (op->kind == IO_FLUSH && rc < 0)
        lose_until(disk, op->offset_bytes);
    if (rc < 0)
        return rc; /* a failed write stays begun: anything of it may be there */
    if (op->kind == IO_READ)
        pages_read(disk->seen, op->offset_bytes, op->buffer, op->length_bytes);
    else if (op->kind == IO_FLUSH)
        flush_until(disk, op->offset_bytes);
    else
        write_ends(world, disk, op, record);
    return op->kind == IO_READ || op->kind == IO_WRITE ? (int32_t)op->length_bytes : 0;
}

void sim_disk_ends(struct sim_world *world, const struct sim_event *event)
{
    static const char *const names[] = {"", "read", "write", "flush", "zero"};
    struct sim_disk *disk = event->object;
    struct io_op *op = event->op;
    uint64_t offset;
    int32_t result;

    if (!op || world->machines[disk->node].dead)
        return;
    offset = op->offset_bytes;
    result = op_ends(world, disk, op, event->more);
    sim_say(world, "node %u: %s %s%s %llu+%llu = %d", disk->node, disk->name, names[op->kind],
            (op->flags & IO_FUA) != 0 ? " fua" : "", (unsigned long long)offset, (unsigned long long)op->length_bytes,
            result);
    if (sim_step(world, disk->node, kind_of(op), true))
        io_end(event->io, op, result);
}

/* --- operations of the control plane, and of the test: no time passes --- */

int sim_disk_read(sim_world *world, int32_t fd, uint64_t offset_bytes, uint8_t *bytes, uint32_t length_bytes)
{
    struct sim_disk *disk = disk_at(world, fd);

    if (world->machines[disk->node].dead)
        return -EIO;
    pages_read(disk->seen, offset_bytes, bytes, length_bytes);
    return fault(disk, SIM_READ);
}

/* NOLINTNEXTLINE(readability-function-size): a look is this many things */
void sim_disk_peek(sim_world *world, int32_t fd, uint64_t offset_bytes, uint8_t *bytes, uint32_t length_bytes,
                   uint32_t durable)
{
    struct sim_disk *disk = disk_at(world, fd);

    pages_read(durable ? disk->durable : disk->seen, offset_bytes, bytes, length_bytes);
}

int sim_disk_write(sim_world *world, int32_t fd, uint64_t offset_bytes, const uint8_t *bytes, uint32_t length_bytes)
{
    struct sim_disk *disk = disk_at(world, fd);
    struct sim_record *record;
    int rc;

    if (!sim_step(world, disk->node, SIM_WRITE, false))
        return -EIO;
    record = record_new(disk, offset_bytes, bytes, length_bytes);
    rc = fault(disk, SIM_WRITE);
    if (rc == 0)
        make_seen(world, disk, record);
    sim_say(world, "node %u: %s written by the control plane %llu+%u = %d", disk->node, disk->name,
            (unsigned long long)offset_bytes, length_bytes, rc);
    return sim_step(world, disk->node, SIM_WRITE, true) ? rc : -EIO;
}

int sim_disk_flush(sim_world *world, int32_t fd)
{
    struct sim_disk *disk = disk_at(world, fd);
    int rc;

    if (!sim_step(world, disk->node, SIM_FLUSH, false))
        return -EIO;
    rc = fault(disk, SIM_FLUSH);
    if (rc < 0)
        lose_until(disk, UINT64_MAX);
    else
        flush_until(disk, UINT64_MAX);
    return sim_step(world, disk->node, SIM_FLUSH, true) ? rc : -EIO;
}

/* --- power cuts --- */

uint32_t sim_disk_volatile(sim_world *world, int32_t fd, struct sim_volatile *list, uint32_t count)
{
    uint32_t index = 0;

    for (struct sim_record *record = disk_at(world, fd)->records; record; record = record->next) {
        record->index = index;
        if (index < count)
            list[index] = (struct sim_volatile){.offset_bytes = record->offset_bytes,
                                                .length_bytes = (uint32_t)record->length_bytes,
                                                .begun_only = record->order == 0,
                                                .order = record->order};
        index++;
    }
    return index;
}

void sim_disk_survives(sim_world *world, int32_t fd, uint32_t index, uint32_t sector, uint32_t sectors)
{
    struct sim_disk *disk = disk_at(world, fd);

    for (struct sim_record *record = disk->records; record; record = record->next) {
        if (record->index != index)
            continue;
        assert(((uint64_t)sector + sectors) * SECTOR_BYTES <= record->length_bytes);
        put_on_platter(disk, record, sector, sectors);
    }
}

void sim_disk_cut(sim_world *world, int32_t fd)
{
    struct sim_disk *disk = disk_at(world, fd);

    memset(disk->faults, 0, sizeof disk->faults);
    while (disk->records)
        record_end(disk, disk->records);
    for (uint64_t i = 0; i < disk->pages; i++) {
        if (!disk->durable[i]) {
            free(disk->seen[i]);
            disk->seen[i] = NULL;
            continue;
        }
        if (!disk->seen[i])
            disk->seen[i] = malloc(PAGE_BYTES);
        assert(disk->seen[i] != NULL);
        memcpy(disk->seen[i], disk->durable[i], PAGE_BYTES);
    }
}

void sim_disk_settle(sim_world *world, int32_t fd)
{
    struct sim_disk *disk = disk_at(world, fd);

    for (struct sim_record *record = disk->records; record; record = record->next)
        if (record->order == 0)
            make_seen(world, disk, record);
}

static bool page_is(const uint8_t *page, const uint8_t *other, uint64_t *at)
{
    static const uint8_t zeroes[PAGE_BYTES];
    const uint8_t *a = page ? page : zeroes;
    const uint8_t *b = other ? other : zeroes;

    if (a == b || memcmp(a, b, PAGE_BYTES) == 0)
        return true;
    for (*at = 0; a[*at] == b[*at];)
        ++*at;
    return false;
}

uint64_t sim_disk_differ(sim_world *world, int32_t a, int32_t b, uint64_t offset_bytes, uint64_t length_bytes)
{
    const struct sim_disk *one = disk_at(world, a);
    const struct sim_disk *other = disk_at(world, b);
    uint64_t at;

    for (uint64_t page = offset_bytes / PAGE_BYTES; page < (offset_bytes + length_bytes) / PAGE_BYTES; page++)
        if (!page_is(one->seen[page], other->seen[page], &at))
            return page * PAGE_BYTES + at;
    return UINT64_MAX;
}
