"""connect, disconnect, down: what a person orders about the connection.

StandAlone --connect--> Connecting --both sockets, handshake--> Connected
Connected --disconnect, granted by the peer--> Disconnecting --PeerLost--> StandAlone
Connected --the peer disconnects--> TearDown --PeerLost--> Connecting
Connected --the peer is lost--> Connecting
"""

from __future__ import annotations

from pydrbd.model.effects import DetachDisk, Exit, StopListening, StopTimer, WriteBitmap
from pydrbd.model.effects import StartListening as Listen
from pydrbd.model.events import Connect, Disconnect, Down
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, Role
from pydrbd.state import roles
from pydrbd.state.changes import requests
from pydrbd.state.node_state import Because, Pending
from pydrbd.state.turn import ERROR, Turn

RECONNECT_TIMER = "reconnect"
PEER_MAY_NOT_TALK = "peer-refused"
"""The rule of a peer that is refused before its first packet is looked at: versions, secret."""


def start_listening(turn: Turn) -> None:
    """Look for the peer."""
    turn.change(connection=ConnectionState.CONNECTING, because=None)
    turn.add(Listen())


def on_connect(turn: Turn, command: Connect) -> None:
    """Look for the peer, from StandAlone only."""
    state = turn.state
    if state.connection is not ConnectionState.STANDALONE:
        turn.answer(command.token, Refusal.ALREADY_CONNECTED)
    elif command.discard_my_data and state.role is Role.PRIMARY:
        turn.answer(command.token, Refusal.DISCARD_AS_PRIMARY)
    else:
        turn.change(discard_my_data=command.discard_my_data, tentative=command.tentative)
        start_listening(turn)
        turn.settle()
        turn.answer(command.token)


def on_reconnect_timer(turn: Turn) -> None:
    """Look for the peer again after a pause."""
    if turn.state.connection is ConnectionState.UNCONNECTED:
        start_listening(turn)


def on_disconnect(turn: Turn, command: Disconnect) -> None:
    """Become StandAlone; while connected the peer is asked, unless forced."""
    state = turn.state
    if state.link is None:
        if state.connection is ConnectionState.STANDALONE:
            turn.answer(command.token, Refusal.ALREADY_STANDALONE)
        else:
            stop_listening(turn)
            if command.because:
                turn.say(command.because, PEER_MAY_NOT_TALK, ERROR)
                turn.change(because=Because(PEER_MAY_NOT_TALK, command.because))
            turn.answer(command.token)
    elif state.role is Role.PRIMARY and state.disk < DiskState.UP_TO_DATE and not command.force:
        turn.answer(command.token, Refusal.NO_UP_TO_DATE_DISK)
    elif command.force or not state.established:
        turn.change(pending=Pending(command))
        turn.drop(ConnectionState.DISCONNECTING)
    else:
        requests.ask(turn, Pending(command))


def stop_listening(turn: Turn) -> None:
    """Become StandAlone where no link stands."""
    turn.change(connection=ConnectionState.STANDALONE, discard_my_data=False, tentative=False)
    turn.add(StopTimer(RECONNECT_TIMER), StopListening())
    turn.settle()


def on_down(turn: Turn, command: Down) -> None:
    """Demote, disconnect, detach, end."""
    state = turn.state
    if state.role is Role.PRIMARY:
        if state.clients and not command.force:
            turn.answer(command.token, Refusal.HELD_OPEN)
            return
        roles.become_secondary(turn)
    if state.link is None:
        finish_down(turn, command)
    elif command.force or not state.established:
        turn.change(pending=Pending(command))
        turn.drop(ConnectionState.DISCONNECTING)
    else:
        requests.ask(turn, Pending(command))


def finish_down(turn: Turn, command: Down) -> None:
    """Without a link any more: give everything up."""
    if turn.state.connection is not ConnectionState.STANDALONE:
        stop_listening(turn)
    if turn.state.has_disk:
        turn.settle()
        turn.add(WriteBitmap(), DetachDisk())
        turn.change(disk=DiskState.DISKLESS, metadata=None)
    turn.settle()
    turn.say("Down", "down")
    turn.answer(command.token)
    turn.add(Exit())
