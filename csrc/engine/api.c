/* api.c - core_api.h: every call puts one order into the ring and wakes the engine.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "digest.h"
#include "engine.h"
#include "orders.h"

static int push(core_engine *engine, const struct order *order)
{
    bool was_empty = false;
    int rc = ring_push(engine->orders, order, &was_empty);
    uint64_t one = 1;
    if (rc == 0 && was_empty && write(engine->order_fd, &one, sizeof one) != sizeof one)
        return -errno;
    return rc;
}

static int push_plain(core_engine *engine, enum order_type type, uint64_t token, uint32_t a, uint32_t b)
{
    struct order order = {.type = type, .token = token, .a = a, .b = b};
    return push(engine, &order);
}

static int push_range(core_engine *engine, enum order_type type, uint64_t token, uint64_t sector, uint64_t sectors)
{
    struct order order = {.type = type, .token = token, .sector = sector, .sectors = sectors};
    return push(engine, &order);
}

int engine_order_stop(core_engine *engine)
{
    return push_plain(engine, ORDER_STOP, 0, 0, 0);
}

uint32_t core_engine_drain(core_engine *engine, struct core_fact *facts, uint32_t count)
{
    uint64_t drained;
    uint32_t n = 0;
    /* The wake-up is taken before the ring is read: a fact that comes after makes a new one. */
    if (read(engine->fact_fd, &drained, sizeof drained) < 0 && errno != EAGAIN)
        return 0;
    while (n < count && ring_pop(engine->facts, &facts[n]))
        n++;
    uint64_t one = 1;
    if (n == count && !ring_is_empty(engine->facts) && write(engine->fact_fd, &one, sizeof one) < 0)
        return n;
    return n;
}

int core_attach(core_engine *engine, uint64_t token, const struct core_disk *disk)
{
    if (disk->data_fd < 0 || disk->size_sectors == 0)
        return -EINVAL;
    struct order order = {.type = ORDER_ATTACH, .token = token, .with.disk = *disk};
    return push(engine, &order);
}

int core_detach(core_engine *engine, uint64_t token)
{
    return push_plain(engine, ORDER_DETACH, token, 0, 0);
}

int core_resize(core_engine *engine, uint64_t token, uint64_t size_sectors)
{
    return push_range(engine, ORDER_RESIZE, token, 0, size_sectors);
}

int core_metadata_hold(core_engine *engine, uint64_t token)
{
    return push_plain(engine, ORDER_METADATA_HOLD, token, 0, 0);
}

int core_metadata_place(core_engine *engine, uint64_t token, const struct core_disk *place)
{
    struct order order = {.type = ORDER_METADATA_PLACE, .token = token, .with.disk = *place};
    return push(engine, &order);
}

int core_keep_disk(core_engine *engine)
{
    return push_plain(engine, ORDER_KEEP_DISK, 0, 0, 0);
}

int core_give_up_disk(core_engine *engine)
{
    return push_plain(engine, ORDER_GIVE_UP_DISK, 0, 0, 0);
}

int core_flush(core_engine *engine, uint64_t token)
{
    return push_plain(engine, ORDER_FLUSH, token, 0, 0);
}

int core_bitmap_set(core_engine *engine, uint64_t token, uint64_t sector, uint64_t sectors)
{
    return push_range(engine, ORDER_BITMAP_SET, token, sector, sectors);
}

int core_bitmap_clear(core_engine *engine, uint64_t token, uint64_t sector, uint64_t sectors)
{
    return push_range(engine, ORDER_BITMAP_CLEAR, token, sector, sectors);
}

int core_bitmap_write(core_engine *engine, uint64_t token)
{
    return push_plain(engine, ORDER_BITMAP_WRITE, token, 0, 0);
}

int core_al_retire(core_engine *engine, uint64_t token)
{
    return push_plain(engine, ORDER_AL_RETIRE, token, 0, 0);
}

int core_peer_connect(core_engine *engine, uint64_t token, const struct core_peer *peer)
{
    if (peer->data_fd < 0 || peer->meta_fd < 0 || peer->agreed_version < 100 || peer->agreed_version > 101)
        return -EINVAL;
    struct order order = {.type = ORDER_PEER_CONNECT, .token = token, .with.peer = *peer};
    return push(engine, &order);
}

int core_peer_disconnect(core_engine *engine, uint64_t token)
{
    return push_plain(engine, ORDER_PEER_DISCONNECT, token, 0, 0);
}

int core_peer_send(core_engine *engine, uint32_t socket, uint16_t command, const uint8_t *payload, uint32_t length)
{
    if (length > CORE_PAYLOAD_MAX)
        return -EINVAL;
    struct order order = {.type = ORDER_PEER_SEND, .a = socket, .b = command, .length_bytes = length};
    if (length > 0)
        memcpy(order.with.payload, payload, length);
    return push(engine, &order);
}

int core_peer_resume(core_engine *engine)
{
    return push_plain(engine, ORDER_PEER_RESUME, 0, 0, 0);
}

int core_peer_accept(core_engine *engine, uint32_t accept)
{
    return push_plain(engine, ORDER_PEER_ACCEPT, 0, accept, 0);
}

int core_release(core_engine *engine, uint64_t token)
{
    return push_plain(engine, ORDER_RELEASE, token, 0, 0);
}

int core_replicate(core_engine *engine, uint32_t replication, uint32_t protocol)
{
    if (replication > CORE_REPLICATE_AHEAD || protocol < 1 || protocol > 3)
        return -EINVAL;
    return push_plain(engine, ORDER_REPLICATE, 0, replication, protocol);
}

int core_reads(core_engine *engine, uint32_t reads)
{
    return reads > CORE_READS_BALANCED ? -EINVAL : push_plain(engine, ORDER_READS, 0, reads, 0);
}

int core_read_balancing(core_engine *engine, uint32_t policy)
{
    return policy > CORE_BALANCE_STRIPING_1M ? -EINVAL : push_plain(engine, ORDER_READ_BALANCING, 0, policy, 0);
}

int core_gate(core_engine *engine, uint32_t gate)
{
    return gate > CORE_GATE_FAIL ? -EINVAL : push_plain(engine, ORDER_GATE, 0, gate, 0);
}

int core_bitmap_announce(core_engine *engine, uint64_t token)
{
    return push_plain(engine, ORDER_BITMAP_ANNOUNCE, token, 0, 0);
}

int core_bitmap_send(core_engine *engine, uint64_t token, uint32_t use_rle)
{
    return push_plain(engine, ORDER_BITMAP_SEND, token, use_rle, 0);
}

int core_resync_start(core_engine *engine, uint32_t end)
{
    if (end > CORE_RESYNC_TARGET_BY_CHECKSUMS)
        return -EINVAL;
    return push_plain(engine, ORDER_RESYNC_START, 0, end, 0);
}

int core_resync_rate(core_engine *engine, uint32_t rate_kib_s, uint32_t in_flight_sectors)
{
    return push_plain(engine, ORDER_RESYNC_RATE, 0, rate_kib_s, in_flight_sectors);
}

int core_resync_stop(core_engine *engine, uint64_t token)
{
    return push_plain(engine, ORDER_RESYNC_STOP, token, 0, 0);
}

int core_verify_start(core_engine *engine, uint32_t source, uint64_t start_sector, uint64_t stop_sector)
{
    struct order order = {.type = ORDER_VERIFY_START, .a = source, .sector = start_sector, .sectors = stop_sector};
    return push(engine, &order);
}

int core_verify_until(core_engine *engine, uint64_t stop_sector)
{
    return push_range(engine, ORDER_VERIFY_UNTIL, 0, stop_sector, 0);
}

int core_verify_stop(core_engine *engine, uint64_t token)
{
    return push_plain(engine, ORDER_VERIFY_STOP, token, 0, 0);
}

int core_export_block(core_engine *engine, uint32_t bytes)
{
    if (bytes < CORE_BLOCK_BYTES_MIN || bytes > 65536 || (bytes & (bytes - 1)) != 0)
        return -EINVAL;
    return push_plain(engine, ORDER_EXPORT_BLOCK, 0, bytes, 0);
}

int core_export_open(core_engine *engine, uint64_t token, const char *name, uint32_t read_only)
{
    struct order order = {.type = ORDER_EXPORT_OPEN, .token = token, .a = read_only};
    if (strlen(name) >= sizeof order.with.name)
        return -EINVAL;
    memcpy(order.with.name, name, strlen(name) + 1);
    return push(engine, &order);
}

int core_export_client(core_engine *engine, int32_t fd)
{
    return fd < 0 ? -EINVAL : push_plain(engine, ORDER_EXPORT_CLIENT, 0, (uint32_t)fd, 0);
}

int core_export_device(core_engine *engine, int32_t fd, uint32_t in_transmission)
{
    if (fd < 0 || in_transmission > 1)
        return -EINVAL;
    uint32_t kind = in_transmission != 0 ? EXPORT_DEVICE_IN_TRANSMISSION : EXPORT_DEVICE;
    return push_plain(engine, ORDER_EXPORT_CLIENT, 0, (uint32_t)fd, kind);
}

int core_export_ublk(core_engine *engine, uint64_t token, int32_t fd, uint32_t depth)
{
    if (fd < 0 || depth == 0 || depth > CORE_UBLK_DEPTH_MAX)
        return -EINVAL;
    return push_plain(engine, ORDER_EXPORT_UBLK, token, (uint32_t)fd, depth);
}

int core_export_resize(core_engine *engine)
{
    return push_plain(engine, ORDER_EXPORT_RESIZE, 0, 0, 0);
}

int core_export_park(core_engine *engine, uint64_t token)
{
    return token == 0 ? -EINVAL : push_plain(engine, ORDER_EXPORT_PARK, token, 0, 0);
}

int core_export_unpark(core_engine *engine)
{
    return push_plain(engine, ORDER_EXPORT_UNPARK, 0, 0, 0);
}

int core_export_adopt(core_engine *engine, int32_t fd, uint32_t parked, const uint8_t *rest, uint32_t length)
{
    struct order order = {.type = ORDER_EXPORT_ADOPT, .a = (uint32_t)fd, .b = parked, .length_bytes = length};
    if (fd < 0 || length > NBD_REST_BYTES_MAX || parked > (CORE_PARKED_STRUCTURED | CORE_PARKED_DEVICE))
        return -EINVAL;
    memcpy(order.with.payload, rest, length);
    return push(engine, &order);
}

int core_export_close(core_engine *engine, uint64_t token)
{
    return push_plain(engine, ORDER_EXPORT_CLOSE, token, 0, 0);
}

uint32_t core_crc32c(uint32_t seed, const uint8_t *data, uint64_t length)
{
    return digest_crc32c(seed, data, length);
}
