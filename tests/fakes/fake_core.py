"""A stand-in for the compiled core: the declarations are those of core_api.h, the functions are Python.

It records every call as (name, arguments), answers each order with a token by a completion of result 0 (or what
`results` says for its name), and lets a test put facts into the ring. It refuses to know what an order means.
"""

# ruff: noqa: ANN401 - cffi's values have no types
from __future__ import annotations

import errno
import os
import re
from collections import deque
from pathlib import Path
from typing import Any

from cffi import FFI

from pydrbd.core.binding import Binding

CORE_API = Path(__file__).resolve().parents[2] / "csrc" / "core_api.h"

FFI_OF_API = FFI()
FFI_OF_API.cdef(CORE_API.with_name("core_values.h").read_text(encoding="utf-8"))
FFI_OF_API.cdef(CORE_API.read_text(encoding="utf-8"))
CONSTANTS = FFI_OF_API.dlopen(None)

STRUCTS = {
    "core_attach": "struct core_disk *",
    "core_metadata_place": "struct core_disk *",
    "core_peer_connect": "struct core_peer *",
}


class FakeLib:
    """What `lib` is to cffi."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.results: dict[str, int] = {}
        """Result of the completion, by order; `None` would never be answered."""
        self.silent: set[str] = set()
        """Orders whose completion the test gives itself."""
        self.ring_room = 1 << 30
        """Orders that the ring still takes before it says -EAGAIN."""
        self.facts: deque[dict[str, Any]] = deque()
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.counter_values: dict[str, int] = {}
        self.taken_fds: list[int] = []

    # --- what a test does ---

    def put(self, fact_type: int, **fields: Any) -> None:
        self.facts.append({"type": fact_type, **fields})
        os.eventfd_write(self.event_fd, 1)

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]

    # --- what the engine does ---

    def core_engine_new(self, options: Any, out: Any) -> int:
        self.options = {name: getattr(options, name) for name, _ in FFI_OF_API.typeof("struct core_options").fields}
        out[0] = FFI_OF_API.cast("core_engine *", 1)
        return 0

    def core_engine_start(self, _: Any) -> int:
        return 0

    def core_engine_stop(self, _: Any) -> int:
        self.calls.append(("core_engine_stop",))
        for fd in self.taken_fds:
            os.close(fd)
        self.taken_fds.clear()
        return 0

    def core_engine_free(self, _: Any) -> None:
        os.close(self.event_fd)

    def core_engine_event_fd(self, _: Any) -> int:
        return self.event_fd

    def core_engine_io_name(self, _: Any) -> Any:
        return FFI_OF_API.new("char[]", b"fake")

    def core_engine_counters(self, _: Any, out: Any) -> None:
        for name, value in self.counter_values.items():
            setattr(out, name, value)

    def core_engine_drain(self, _: Any, batch: Any, count: int) -> int:
        os.eventfd_read(self.event_fd)
        taken = min(count, len(self.facts))
        for index in range(taken):
            fields = self.facts.popleft()
            struct = FFI_OF_API.new("struct core_fact *", {k: v for k, v in fields.items() if k != "payload"})
            payload = fields.get("payload", b"")
            struct.length = len(payload)
            FFI_OF_API.memmove(struct.payload, payload, len(payload))
            batch[index] = struct[0]
        if self.facts:
            os.eventfd_write(self.event_fd, 1)
        return taken

    def __getattr__(self, name: str) -> Any:
        if name.startswith("CORE_"):
            return getattr(CONSTANTS, name)
        if not name.startswith("core_"):
            raise AttributeError(name)
        return lambda _engine, *arguments: self._order(name, arguments)

    def _order(self, name: str, arguments: tuple[Any, ...]) -> int:
        if self.ring_room <= 0:
            return -errno.EAGAIN
        self.ring_room -= 1
        signature = FFI_OF_API.typeof(PROTOTYPES[name])
        assert len(signature.args) == len(arguments) + 1, f"{name} takes {signature.args}"
        values = [self._value(name, argument) for argument in arguments]
        self.calls.append((name, *values))
        with_token = name in WITH_TOKEN
        if with_token and name not in self.silent:
            self.put(CONSTANTS.CORE_FACT_DONE, token=arguments[0], result=self.results.get(name, 0))
        if name == "core_peer_disconnect":
            self.put(CONSTANTS.CORE_FACT_PEER_LOST, result=CONSTANTS.CORE_LOST_ORDERED)
        return 0 if with_token else self.results.get(name, 0)

    def _value(self, name: str, argument: Any) -> Any:
        if isinstance(argument, FFI_OF_API.CData):
            if name == "core_export_open":
                return FFI_OF_API.string(argument).decode()
            if name == "core_export_adopt":
                return bytes(FFI_OF_API.buffer(argument))
            fields = FFI_OF_API.typeof(STRUCTS[name]).item.fields
            values = {field: getattr(argument, field) for field, _ in fields}
            self.taken_fds += [values[key] for key in ("data_fd", "md_fd", "meta_fd") if values.get(key, -1) >= 0]
            return values
        return argument


def _prototypes() -> tuple[dict[str, str], set[str]]:
    """Read the order functions' types out of core_api.h, so that a fake call has the real number of arguments."""
    types: dict[str, str] = {}
    with_token: set[str] = set()
    declaration = re.compile(r"^int (core_\w+)(\(core_engine \*engine[^;]*);", re.MULTILINE)
    for name, arguments in declaration.findall(CORE_API.read_text(encoding="utf-8")):
        types[name] = "int(*)" + arguments
        if "uint64_t token" in arguments:
            with_token.add(name)
    return types, with_token


PROTOTYPES, WITH_TOKEN = _prototypes()


def fake_binding() -> tuple[Binding, FakeLib]:
    lib = FakeLib()
    return Binding(FFI_OF_API, lib), lib
