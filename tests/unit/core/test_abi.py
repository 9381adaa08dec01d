"""Both languages say the same: enumerations and structs of core_api.h against their Python counterparts."""

from __future__ import annotations

import dataclasses
import re
from enum import Enum

import pytest

from fakes.fake_core import CONSTANTS, CORE_API, FFI_OF_API
from pydrbd.core import engine, facts
from pydrbd.model import effects, policies


def c_enum(name: str) -> dict[str, int]:
    return {text: number for number, text in FFI_OF_API.typeof(f"enum {name}").elements.items()}


@pytest.mark.parametrize(
    ("c_name", "prefix", "python"),
    [
        ("core_io", "CORE_IO_", engine.Io),
        ("core_digest", "CORE_DIGEST_", engine.Digest),
        ("core_resync", "CORE_RESYNC_", engine.ResyncEnd),
        ("core_fact_type", "CORE_FACT_", facts.FactType),
        ("core_lost", "CORE_LOST_", facts.LostReason),
        ("core_disk_op", "CORE_DISK_", facts.DiskOperation),
        ("core_socket", "CORE_SOCKET_", facts.Socket),
        ("core_replication", "CORE_REPLICATE_", effects.Replication),
        ("core_reads", "CORE_READS_", effects.Reads),
        ("core_read_balancing", "CORE_BALANCE_", policies.ReadBalancing),
        ("core_gate", "CORE_GATE_", effects.Gate),
    ],
)
def test_an_enumeration_has_the_same_names_and_numbers(c_name: str, prefix: str, python: type[Enum]):
    assert c_enum(c_name) == {prefix + member.name: member.value for member in python}


@pytest.mark.parametrize(
    ("c_name", "python"),
    [
        ("core_options", engine.Options),
        ("core_disk", engine.Disk),
        ("core_peer", engine.Peer),
        ("core_counters", engine.Counters),
    ],
)
def test_a_struct_has_the_same_fields_in_the_same_order(c_name: str, python: type):
    c_fields = [name for name, _ in FFI_OF_API.typeof(f"struct {c_name}").fields]
    assert c_fields == [field.name for field in dataclasses.fields(python)]


def test_a_fact_has_room_for_the_largest_control_packet():
    assert FFI_OF_API.sizeof("struct core_fact") == 44 + CONSTANTS.CORE_PAYLOAD_MAX + 4


def test_every_order_of_the_header_has_its_method():
    declared = set(
        re.findall(r"^int (core_\w+)\(core_engine \*engine", CORE_API.read_text(encoding="utf-8"), re.MULTILINE)
    )
    direct = {"core_engine_start", "core_engine_stop", "core_engine_event_fd"}
    methods = {f"core_{name}" for name in vars(engine.Engine)}
    assert declared - direct <= methods


def test_the_compiled_core_has_the_constants_of_the_header():
    core = pytest.importorskip("pydrbd.core._core", exc_type=ImportError, reason="the core is not built")
    for name in dir(core.lib):
        if name.startswith("CORE_"):
            assert getattr(core.lib, name) == getattr(CONSTANTS, name)
