/* ublk_uapi.h - what Linux's ublk driver and its server say to each other, as include/uapi/linux/ublk_cmd.h of Linux
 * 6.12 has it (the headers of Debian 12, Linux 6.1, lack half of it).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CSRC_UBLK_UAPI_H
#define CSRC_UBLK_UAPI_H

#include <linux/ioctl.h>
#include <stdint.h>

/* For the device's descriptor: one tag of one queue.  `result` and `address` belong to COMMIT; with user copy the
 * address is 0. */
struct ublk_io_command {
    uint16_t queue;
    uint16_t tag;
    int32_t result;
    uint64_t address;
};
_Static_assert(sizeof(struct ublk_io_command) == 16, "the driver's struct ublksrv_io_cmd");

#define UBLK_FETCH _IOWR('u', 0x20, struct ublk_io_command)
#define UBLK_COMMIT_AND_FETCH _IOWR('u', 0x21, struct ublk_io_command)

/* For /dev/ublk-control: what the 80 bytes of a long submission queue entry hold. */
struct ublk_control_command {
    uint32_t number; /* of the device; UINT32_MAX: any */
    uint16_t queue;  /* UINT16_MAX: none */
    uint16_t length_bytes;
    uint64_t address; /* of a buffer, in and out */
    uint64_t data;
    uint16_t path_length;
    uint16_t pad;
    uint32_t reserved;
};
_Static_assert(sizeof(struct ublk_control_command) == 32, "the driver's struct ublksrv_ctrl_cmd");

/* What the application asks for: one per tag, mapped read-only from offset 0 of the device's descriptor. */
struct ublk_descriptor {
    uint32_t operation; /* in the lowest byte; flags above */
    uint32_t sectors;
    uint64_t sector;
    uint64_t address;
};
_Static_assert(sizeof(struct ublk_descriptor) == 24, "the driver's struct ublksrv_io_desc");

#define UBLK_OPERATION_MASK 0xffu
enum ublk_operation {
    UBLK_READ = 0,
    UBLK_WRITE = 1,
    UBLK_FLUSH = 2,
    UBLK_DISCARD = 3,
    UBLK_WRITE_ZEROES = 5,
};
#define UBLK_FUA (1u << 13)
#define UBLK_NO_UNMAP (1u << 15)

/* Where a tag's payload is read from and written to on the device's descriptor (UBLK_F_USER_COPY), in queue 0. */
#define UBLK_PAYLOADS 0x80000000ull
#define UBLK_PAYLOAD_SHIFT 25

#endif
