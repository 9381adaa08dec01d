"""Which kind of device a resource gets."""

from dataclasses import dataclass

import pytest

from pydrbd.device.choice import choose, kinds
from pydrbd.device.kind import DeviceError
from pydrbd.device.none import NoDevice


@dataclass
class Fake(NoDevice):
    name: str
    lack: str | None = None

    def missing(self) -> str | None:
        return self.lack


@pytest.mark.parametrize(
    ("nbd_lack", "fuse_lack", "chosen"),
    [(None, None, "nbd"), ("no driver", None, "none"), ("no driver", "no fuse", "none")],
)
def test_auto_takes_what_costs_nothing(nbd_lack: str | None, fuse_lack: str | None, chosen: str) -> None:
    known = [Fake("nbd", nbd_lack), Fake("fuse", fuse_lack), Fake("none")]
    assert choose("auto", known).name == chosen


def test_a_kind_that_is_named_is_taken_or_refused_with_the_reason() -> None:
    known = [Fake("nbd", "the kernel has no nbd driver"), Fake("fuse"), Fake("none")]
    assert choose("fuse", known).name == "fuse"
    with pytest.raises(DeviceError, match="attach nbd is not possible on this host: the kernel has no nbd driver"):
        choose("nbd", known)
    with pytest.raises(DeviceError, match="attach ublk is not available in this version"):
        choose("ublk", known)


def test_there_is_one_of_each_kind() -> None:
    def command(_fd: int, _operation: int, _number: int, _buffer: bytearray, _data: int) -> None:
        raise AssertionError

    assert [kind.name for kind in kinds(command)] == ["nbd", "ublk", "fuse", "none"]
