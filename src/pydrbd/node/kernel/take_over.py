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
from pydrbd.node.handover.inheritance import Inheritance
from pydrbd.node.kernel.kernel_device import KernelDevice
from pydrbd.node.performer import Performer

log = logging.getLogger(__name__)

PEER_S = 1.0
"""A peer that lives connects within this; who waits for the device waits as long."""
PEER_PLANNED_S = 1.8
"""In a planned restart: it was told, and knocks. A little longer, for a write without it costs a resync."""
PATIENCE_S = 30.0
"""A refusal that has to do with a handshake or a resync passes; after this long it counts."""
POLL_S = 0.1


async def take_over(
    device: KernelDevice, performer: Performer, verbs: Verbs, inherited: Inheritance | None = None
) -> None:
    """Become Primary again if the last daemon left a device, or was Primary when it made room for us.

    If that may not be, clear the device away, and hang up on the clients.
    """
    inherited = inherited or Inheritance()
    leftover = device.leftover()
    if leftover is None:
        device.remove_dead_names()
    if leftover is None and not inherited.was_primary:
        return
    what = "was Primary" if leftover is None else f"ended with {leftover.path} in use"
    log.warning("the last program %s: becoming Primary again", what)
    device.get_ready()
    peer_s = PEER_PLANNED_S if inherited.had_peer else PEER_S
    try:
        await asyncio.wait_for(performer.wait_until(lambda state: state.established), peer_s)
    except TimeoutError:
        log.info("no connection to the peer within %.1f s: without it", peer_s)
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        reply = await verbs.order(COMMANDS["primary"], "primary", {})
        if reply.exit == EXIT_OK or device.attached is not None:
            return
        late = asyncio.get_running_loop().time() > deadline
        if late or performer.state.role is Role.PRIMARY or performer.state.peer_role is Role.PRIMARY:
            log.error("%s is given up: %s", "the role" if leftover is None else leftover.path, reply.sentence)
            inherited.close()
            await device.abandon()
            return
        await asyncio.sleep(POLL_S)
