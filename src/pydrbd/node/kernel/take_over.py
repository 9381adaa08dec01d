"""A daemon that died as Primary under an open device comes back as Primary: what is held in the kernel goes on.

The role is asked for like a user would, so every rule has its say: first, for a moment, the peer is waited for, which
may have been promoted meanwhile. Then this node may not be Primary, and the device is cleared away, with errors for
who has it open.
"""

from __future__ import annotations

import asyncio
import logging

from pydrbd.model.states import Role
from pydrbd.node.admin.admin_socket import EXIT_OK
from pydrbd.node.admin.verbs import COMMANDS, Verbs
from pydrbd.node.kernel.kernel_device import KernelDevice
from pydrbd.node.performer import Performer

log = logging.getLogger(__name__)

PEER_S = 1.0
"""A peer that lives connects within this; who waits for the device waits as long."""
PATIENCE_S = 30.0
"""A refusal that has to do with a handshake or a resync passes; after this long it counts."""
POLL_S = 0.1


async def take_over(device: KernelDevice, performer: Performer, verbs: Verbs) -> None:
    """Become Primary again if the last daemon left a device, or clear it away."""
    leftover = device.leftover()
    if leftover is None:
        return
    log.warning("the last daemon ended with %s in use: becoming Primary again", leftover.path)
    try:
        await asyncio.wait_for(performer.wait_until(lambda state: state.established), PEER_S)
    except TimeoutError:
        log.info("no connection to the peer within %.0f s: without it", PEER_S)
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        reply = await verbs.order(COMMANDS["primary"], "primary", {})
        if reply.exit == EXIT_OK or device.attached is not None:
            return
        late = asyncio.get_running_loop().time() > deadline
        if late or performer.state.role is Role.PRIMARY or performer.state.peer_role is Role.PRIMARY:
            log.error("%s is given up: %s", leftover.path, reply.sentence)
            await device.abandon()
            return
        await asyncio.sleep(POLL_S)
