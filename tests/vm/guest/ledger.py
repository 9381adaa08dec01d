"""Records that were acknowledged before the power went.

    ledger.py write FILE        # until it is killed: append a record, sync, then say so on the serial console
    ledger.py check FILE LAST   # whether records 0 to LAST are there, whole

What the console has said is outside the machine, so a power cut does not take it back. Copied into the guest; standard
library alone.
"""

import os
import sys

RECORD_BYTES = 4096
CONSOLE = "/dev/ttyS0"


def record(number: int) -> bytes:
    """Return a record's content."""
    return (f"record {number} ".encode().ljust(64, b".") * (RECORD_BYTES // 64))[:RECORD_BYTES]


def write(path: str) -> None:
    """Append records, each durable before the next."""
    file = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
    console = os.open(CONSOLE, os.O_WRONLY | os.O_NOCTTY)
    number = 0
    while True:
        assert os.write(file, record(number)) == RECORD_BYTES
        os.fsync(file)
        os.write(console, f"acknowledged {number}\n".encode())
        number += 1


def check(path: str, last: int) -> None:
    """Compare."""
    with open(path, "rb") as file:  # noqa: PTH123
        wrong = [number for number in range(last + 1) if file.read(RECORD_BYTES) != record(number)]
    if wrong:
        sys.exit(f"{len(wrong)} of {last + 1} acknowledged records are wrong, the first is {wrong[0]}")
    print(f"{last + 1} records are right")


if sys.argv[1] == "write":
    write(sys.argv[2])
else:
    check(sys.argv[2], int(sys.argv[3]))
