"""The text forms of v08 metadata: `dump-md` and back, `show-gi`, `get-gi`, byte for byte as drbdmeta prints them.

Scripts read these. The dump's bitmap is printed in rows of four 64-bit words; equal rows, two at least, are folded
into `N times 0x...;`. drbdmeta does it in 32-bit words, which shows in one place: rows fold only if all their 32-bit
words are the same. The flags are the disk's own; drbdmeta printed 0 there until 9.33. Knows neither clock nor host
name: the dump's head comes in as text. Source: drbd-utils 9.22 `meta_dump_md`, `fprintf_bm`, `dt_print_uuids`,
`dt_pretty_print_uuids`, `drbdmeta_scanner.fl`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.ondisk.bitmap import count
from pydrbd.ondisk.errors import DumpSyntaxError, OnDiskError
from pydrbd.ondisk.layout import BYTES_PER_BIT, MAX_DEVICE_SECTORS, Layout, bitmap_bytes, check_stripes
from pydrbd.ondisk.superblock import Superblock

_ROW_BYTES = 32
_KIB_PER_ROW = _ROW_BYTES * 8 * BYTES_PER_BIT // 1024
_ROWS_PER_MARK = 8
_ROWS_PER_READ = (32 << 20) // _ROW_BYTES
"""drbdmeta reads 32 MiB at a time, and a single row left at either end of such a piece is printed unfolded."""

_UNCLEAN = (
    "This_is_an_unclean_meta_data_dump._Don't_trust_the_bitmap.\n"
    '# You should "apply-al" first, if you plan to restore this.\n\n'
)
UNCLEAN_WARNING = 'Found meta data is "unclean", please apply-al first'


@dataclass(frozen=True, slots=True)
class Dump:
    """What a dump says. `superblock` has no offsets of its own (they are 0): the disk it goes to has them."""

    superblock: Superblock
    bitmap: bytes


# --- generation identifiers -----------------------------------------------------------------------------------------


def get_gi(ids: GenerationIds, flags: MdFlag) -> str:
    """Return the one line of `get-gi`: four identifiers and seven flags."""
    bits = (
        MdFlag.CONSISTENT,
        MdFlag.WAS_UP_TO_DATE,
        MdFlag.PRIMARY_IND,
        MdFlag.CONNECTED_IND,
        MdFlag.FULL_SYNC,
        MdFlag.PEER_OUT_DATED,
        MdFlag.CRASHED_PRIMARY,
    )
    words = [f"{value:016X}" for value in (ids.current, ids.bitmap, ids.history0, ids.history1)]
    return ":".join(words + [str(int(bit in flags)) for bit in bits]) + "\n"


def show_gi(superblock: Superblock) -> str:
    """Return what `show-gi` prints: the line of `get-gi` with every part explained, and the size."""
    flags = superblock.flags
    state = "Inconsistent"
    if MdFlag.CONSISTENT in flags:
        state = "UpToDate" if MdFlag.WAS_UP_TO_DATE in flags else "Outdated"
    words = (
        " crashed" if MdFlag.CRASHED_PRIMARY in flags else "",
        "Primary" if MdFlag.PRIMARY_IND in flags else "Secondary",
        "Connected" if MdFlag.CONNECTED_IND in flags else "StandAlone",
        state,
        ", need full sync" if MdFlag.FULL_SYNC in flags else "",
        ", peer Outdated" if MdFlag.PEER_OUT_DATED in flags else "",
    )
    size = "zero size device -- never seen peer yet?\n"
    if superblock.agreed_sectors:
        size = (
            f"last agreed size: {pretty_size(superblock.agreed_sectors >> 1)} ({superblock.agreed_sectors} sectors)\n"
            f"last agreed max bio size: {superblock.peer_max_bio_bytes} Byte\n"
        )
    return (
        _GI_HEAD
        + get_gi(superblock.ids, flags)
        + _GI_LEGEND
        + "flags:{} {}, {}, {}{}{}\n".format(*words)
        + f"meta-data: {'clean' if MdFlag.AL_CLEAN in flags else 'need apply-al'}\n"
        + size
    )


def pretty_size(kib: int) -> str:
    """Return KiB as DRBD shortens them: at most four digits, rounded, and a unit of two letters."""
    units = "KMGTPE"
    base = 0
    while kib >= 10000 and base < len(units) - 1:
        kib = (kib >> 10) + (kib >> 9 & 1)
        base += 1
    return f"{kib} {units[base]}B"


_GI_HEAD = """
       +--<  Current data generation UUID  >-
       |               +--<  Bitmap's base data generation UUID  >-
       |               |                 +--<  younger history UUID  >-
       |               |                 |         +-<  older history  >-
       V               V                 V         V
"""
_GI_LEGEND = """\
                                                                    ^ ^ ^ ^ ^ ^ ^
                                      -<  Data consistency flag  >--+ | | | | | |
                             -<  Data was/is currently up-to-date  >--+ | | | | |
                                  -<  Node was/is currently primary  >--+ | | | |
                                  -<  Node was/is currently connected  >--+ | | |
         -<  Node was in the progress of setting all bits in the bitmap  >--+ | |
                        -<  The peer's disk was out-dated or inconsistent  >--+ |
      -<  This node was a crashed primary, and has not seen its peer since   >--+

"""


# --- dump -----------------------------------------------------------------------------------------------------------


def dump_md(superblock: Superblock, layout: Layout, bitmap: bytes, head: str) -> Iterator[str]:
    """Yield the text of `dump-md` in pieces.

    `head` is what stands in the comment: a line with the time and one with the command. `bitmap` is the device's, in
    whole 4 KiB blocks; none of it is printed while no size has been agreed. The dump of unclean metadata has a line
    that no reader takes, so that it is never restored by mistake.
    """
    ids = superblock.ids
    bitmap = bitmap[: bitmap_bytes(superblock.agreed_sectors)]
    comment = "".join(f"# {line}\n" for line in head.splitlines())
    yield f'# DRBD meta data dump\n{comment}#\n\nversion "v08";\n\n'
    if superblock.needs_apply_al:
        yield _UNCLEAN
    yield (
        f"# md_size_sect {superblock.md_size_sectors}\n"
        f"# md_offset {layout.superblock_offset_bytes}\n"
        f"# al_offset {layout.al_offset_bytes}\n"
        f"# bm_offset {layout.bm_offset_bytes}\n\n"
        "uuid {\n"
        f"    0x{ids.current:016X}; 0x{ids.bitmap:016X}; 0x{ids.history0:016X}; 0x{ids.history1:016X};\n"
        f"    flags 0x{int(superblock.flags):08X};\n"
        "}\n"
        f"# al-extents {superblock.al_extents};\n"
        f"la-size-sect {superblock.agreed_sectors};\n"
        f"bm-byte-per-bit {BYTES_PER_BIT};\n"
        f"device-uuid 0x{superblock.device_uuid:016X};\n"
        f"la-peer-max-bio-size {superblock.peer_max_bio_bytes};\n"
        f"al-stripes {superblock.al_stripes};\n"
        f"al-stripe-size-4k {superblock.al_stripe_size_4k};\n"
        f"# bm-bytes {len(bitmap)};\n"
        "bm {"
    )
    yield from _bitmap_rows(bitmap)
    yield f"\n}}\n# bits-set {count(bitmap)};\n"


def _bitmap_rows(bitmap: bytes) -> Iterator[str]:
    rows = len(bitmap) // _ROW_BYTES
    row = 0
    folded = 0
    word = b""
    while row < rows or folded:
        end = min(rows, (row // _ROWS_PER_READ + 1) * _ROWS_PER_READ)
        if not folded and row < rows:
            yield f"\n   # at {row * _KIB_PER_ROW}kB\n   " if row % _ROWS_PER_MARK == 0 else "\n   "
            word = bitmap[row * _ROW_BYTES : row * _ROW_BYTES + 4]
        equal = _equal_rows(bitmap, row, end, word)
        if equal > 1:
            folded += equal
            row += equal
            if row == end and row < rows:
                continue
        if folded:
            value = int.from_bytes(word, "little")
            yield f" {folded * 4} times 0x{value:08X}{value:08X};"
            folded = 0
        else:
            yield _row(bitmap, row)
            row += 1


def _equal_rows(bitmap: bytes, row: int, end: int, word: bytes) -> int:
    """Return how many rows from `row` up to `end` consist of this 32-bit word alone."""
    equal, step = 0, 1
    while row + equal < end:
        step = min(step, end - row - equal)
        at = (row + equal) * _ROW_BYTES
        if bitmap[at : at + step * _ROW_BYTES] == word * (step * _ROW_BYTES // 4):
            equal += step
            step *= 2
        elif step == 1:
            break
        else:
            step = max(1, step // 4)
    return equal


def _row(bitmap: bytes, row: int) -> str:
    at = row * _ROW_BYTES
    words = (int.from_bytes(bitmap[start : start + 8], "little") for start in range(at, at + _ROW_BYTES, 8))
    return "".join(f" 0x{word:016X};" for word in words)


# --- restore --------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r'(?P<skip>[ \t\r\n]+|#[^\n]*)|(?P<hex>0x[0-9A-Fa-f]+)|(?P<number>[0-9]+)|(?P<string>"[^"\r\n]{1,20}")'
    r"|(?P<word>[-_a-zA-Z][-_a-zA-Z0-9]*)|(?P<mark>[{};])"
)


class _Reader:
    """The dump's tokens, one after another; an error names the line."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._peeked: tuple[str, str] | None = None

    def next(self) -> tuple[str, str]:
        """Return the kind and the text of the next token; ("end", "") at the end."""
        if self._peeked is not None:
            token, self._peeked = self._peeked, None
            return token
        while self._at < len(self._text):
            match = _TOKEN.match(self._text, self._at)
            if match is None:
                raise self.error(f"'{self._text[self._at]}' does not belong here")
            self._at = match.end()
            kind = match.lastgroup or ""
            if kind != "skip":
                return kind, match.group()
        return "end", ""

    def peek(self) -> tuple[str, str]:
        """Return the next token, which stays next."""
        if self._peeked is None:
            self._peeked = self.next()
        return self._peeked

    def expect(self, *texts: str) -> None:
        """Take these tokens, or raise `DumpSyntaxError`."""
        for text in texts:
            found = self.next()[1]
            if found != text:
                raise self.error(f"expected '{text}', found {_quoted(found)}")

    def number(self, word: str) -> int:
        """Take `word NUMBER;`."""
        self.expect(word)
        kind, text = self.next()
        if kind != "number" or len(text) > 19:
            raise self.error(f"{word} needs a number, not {_quoted(text)}")
        self.expect(";")
        return int(text)

    def hexadecimal(self, digits: int) -> int:
        """Take a hexadecimal number of exactly so many digits and its semicolon."""
        kind, text = self.next()
        if kind != "hex" or len(text) != digits + 2:
            raise self.error(f"expected {digits} hexadecimal digits, found {_quoted(text)}")
        self.expect(";")
        return int(text, 16)

    def error(self, what: str) -> DumpSyntaxError:
        """Return the error with the line that was read last."""
        return DumpSyntaxError(f"line {self._text.count(chr(10), 0, self._at) + 1}: {what}")


def parse_dump(text: str) -> Dump:
    """Read the text of `dump-md`; raise `DumpSyntaxError` with the line. The dump of unclean metadata is refused."""
    reader = _Reader(text)
    reader.expect("version", '"v08"', ";")
    if reader.peek()[1].startswith("This_is_an_unclean"):
        raise reader.error("this is the dump of unclean metadata; `pydrbd apply-al` first, then dump again")
    reader.expect("uuid", "{")
    ids = GenerationIds(*(reader.hexadecimal(16) for _ in range(4)))
    reader.expect("flags")
    flags = reader.hexadecimal(8)
    reader.expect("}")
    agreed_sectors = reader.number("la-size-sect")
    if reader.number("bm-byte-per-bit") != BYTES_PER_BIT:
        raise reader.error(f"only {BYTES_PER_BIT} bytes per bit are supported")
    reader.expect("device-uuid")
    device_uuid = reader.hexadecimal(16)
    peer_max_bio_bytes = reader.number("la-peer-max-bio-size")
    al_stripes, al_stripe_size_4k = reader.number("al-stripes"), reader.number("al-stripe-size-4k")
    try:
        check_stripes(al_stripes, al_stripe_size_4k)
    except OnDiskError as error:
        raise reader.error(str(error)) from None
    if agreed_sectors > MAX_DEVICE_SECTORS or flags > 0x1FF or peer_max_bio_bytes > 1 << 20:
        raise reader.error("a size or the flags are out of range")
    superblock = Superblock(
        ids=ids,
        flags=MdFlag(flags) | MdFlag.AL_CLEAN,
        device_uuid=device_uuid,
        agreed_sectors=agreed_sectors,
        md_size_sectors=0,
        al_offset_sectors=0,
        bm_offset_sectors=0,
        peer_max_bio_bytes=peer_max_bio_bytes,
        al_stripes=al_stripes,
        al_stripe_size_4k=al_stripe_size_4k,
    )
    return Dump(superblock, _parse_bitmap(reader, bitmap_bytes(agreed_sectors)))


def _parse_bitmap(reader: _Reader, most_bytes: int) -> bytes:
    """Read `bm { ... }` and the end of the text. Shorter than the device is filled up with zeros, longer refused."""
    reader.expect("bm", "{")
    parts: list[bytes] = []
    size_bytes = 0
    while reader.peek()[1] != "}":
        times = 1
        if reader.peek()[0] == "number":
            kind, text = reader.next()
            times = int(text) if len(text) < 12 else most_bytes + 1
            reader.expect("times")
        word = reader.hexadecimal(16).to_bytes(8, "little")
        size_bytes += times * 8
        if size_bytes > max(most_bytes, 4096):
            raise reader.error("the bitmap is longer than the device")
        parts.append(word * times)
    reader.expect("}")
    kind, text = reader.next()
    if kind != "end":
        raise reader.error(f"{_quoted(text)} behind the end of the dump")
    return b"".join(parts)[:most_bytes].ljust(most_bytes, b"\0")


def _quoted(text: str) -> str:
    return f"'{text}'" if text else "the end"
