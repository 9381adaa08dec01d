/* ublk_control.c - commands to /dev/ublk-control: one ring of long entries per command, and the caller waits.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a command means and when it is given is the control plane's; START_DEV and END_USER_RECOVERY wait in the kernel
 * until the engine's thread has opened the queue, so no command is ever given from there. */
#include <errno.h>
#include <liburing.h>
#include <string.h>

#include "core.h"
#include "ublk_uapi.h"

static void prepare(struct io_uring_sqe *sqe, int32_t fd, uint32_t operation,
                    const struct ublk_control_command *command)
{
    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, 0);
    sqe->cmd_op = operation;
    memcpy(sqe->cmd, command, sizeof *command);
}

static int run(struct io_uring *ring)
{
    struct io_uring_cqe *cqe;
    int rc = io_uring_submit(ring);
    if (rc < 0)
        return rc;
    do
        rc = io_uring_wait_cqe(ring, &cqe);
    while (rc == -EINTR);
    return rc < 0 ? rc : cqe->res;
}

/* NOLINTNEXTLINE(readability-function-size): the driver's own words */
int core_ublk_control(int32_t fd, uint32_t operation, uint32_t number, uint8_t *buffer, uint32_t length, uint64_t data)
{
    struct ublk_control_command command = {.number = number,
                                           .queue = UINT16_MAX,
                                           .length_bytes = (uint16_t)length,
                                           .address = length > 0 ? (uint64_t)(uintptr_t)buffer : 0,
                                           .data = data};
    struct io_uring ring;
    if (length > UINT16_MAX)
        return -EINVAL;
    int rc = io_uring_queue_init(1, &ring, IORING_SETUP_SQE128);
    if (rc < 0)
        return rc;
    prepare(io_uring_get_sqe(&ring), fd, operation, &command);
    rc = run(&ring);
    io_uring_queue_exit(&ring);
    return rc;
}
