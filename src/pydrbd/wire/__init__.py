"""Control packets <-> bytes, sans-I/O. The values are `pydrbd.model.packets`; the hot packets are the data plane's."""

from pydrbd.wire.codec import PROTOCOL_MAX, PROTOCOL_MIN, Agreed, decode, pack, unpack
from pydrbd.wire.errors import WireError
from pydrbd.wire.framing import Frame, FrameDecoder, frame
from pydrbd.wire.names import name_of

__all__ = [
    "PROTOCOL_MAX",
    "PROTOCOL_MIN",
    "Agreed",
    "Frame",
    "FrameDecoder",
    "WireError",
    "decode",
    "frame",
    "name_of",
    "pack",
    "unpack",
]
