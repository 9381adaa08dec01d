/* orders.h - one order of the control plane, as it lies in the ring.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CSRC_ORDERS_H
#define CSRC_ORDERS_H

#include <stdint.h>

#include "core.h"

enum order_type {
    ORDER_STOP,
    ORDER_ATTACH,
    ORDER_DETACH,
    ORDER_KEEP_DISK,
    ORDER_GIVE_UP_DISK,
    ORDER_RESIZE,
    ORDER_METADATA_HOLD,
    ORDER_METADATA_PLACE,
    ORDER_FLUSH,
    ORDER_BITMAP_SET,
    ORDER_BITMAP_CLEAR,
    ORDER_BITMAP_WRITE,
    ORDER_AL_RETIRE,
    ORDER_PEER_CONNECT,
    ORDER_PEER_DISCONNECT,
    ORDER_PEER_SEND,
    ORDER_PEER_RESUME,
    ORDER_PEER_ACCEPT,
    ORDER_RELEASE,
    ORDER_REPLICATE,
    ORDER_READS,
    ORDER_READ_BALANCING,
    ORDER_GATE,
    ORDER_BITMAP_SEND,
    ORDER_BITMAP_ANNOUNCE,
    ORDER_RESYNC_START,
    ORDER_RESYNC_RATE,
    ORDER_RESYNC_STOP,
    ORDER_VERIFY_START,
    ORDER_VERIFY_UNTIL,
    ORDER_VERIFY_STOP,
    ORDER_EXPORT_BLOCK,
    ORDER_EXPORT_OPEN,
    ORDER_EXPORT_CLIENT,
    ORDER_EXPORT_UBLK,
    ORDER_EXPORT_RESIZE,
    ORDER_EXPORT_CLOSE,
    ORDER_EXPORT_PARK,
    ORDER_EXPORT_UNPARK,
    ORDER_EXPORT_ADOPT
};

struct order {
    uint32_t type; /* enum order_type */
    uint32_t a;
    uint32_t b;
    uint32_t length_bytes; /* of payload */
    uint64_t token;
    uint64_t sector;
    uint64_t sectors;
    union {
        struct core_disk disk;
        struct core_peer peer;
        uint8_t payload[CORE_PAYLOAD_MAX];
        char name[256];
    } with;
};

#endif
