"""What can be wrong with the bytes of a disk: one class per case, one sentence, one exit code.

The exit codes are `drbdmeta`'s (drbd-utils 9.22): 255 no valid metadata, 10 a bad value or a disk too small,
1 and 2 an activity log that cannot be replayed, 20 a disk that cannot be opened, 40 data in the way.
A sentence names the command that repairs it, if there is one. Nothing has been written when one of these is raised.
"""

from __future__ import annotations


class OnDiskError(Exception):
    """The base of them all. `str()` is the sentence for the user."""

    exit_code = 10

    @property
    def sentence(self) -> str:
        """Return the one sentence for the user."""
        return str(self)


class NoMetadataError(OnDiskError):
    """No DRBD superblock where one should be."""

    exit_code = 255


class OtherVersionError(OnDiskError):
    """A DRBD superblock, but of another version than v08."""

    exit_code = 255


class GarbledSuperblockError(OnDiskError):
    """The magic is right, a field is impossible: torn, or hit by something else."""

    exit_code = 255


class DiskTooSmallError(OnDiskError):
    """The metadata does not fit, or leaves no room for data."""


class ActivityLogDamagedError(OnDiskError):
    """Blocks of the ring are lost, and what is left does not name every active extent."""

    exit_code = 2


class DumpSyntaxError(OnDiskError):
    """The text is not a dump of v08 metadata."""
