"""Machines for the cases: booted once, given back in one piece, switched off at the end."""

import re
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from vm import image, seed_pair
from vm.couple import MIB, Couple
from vm.image import Image
from vm.kernel_pair import KernelPair

OUTPUT = Path(__file__).resolve().parent.parent.parent / "build" / "vm"


@pytest.fixture(scope="session")
def guest_image() -> Image:
    """What guests boot, made if it is missing."""
    return image.build()


@pytest.fixture(scope="session")
def couple(guest_image: Image) -> Iterator[Couple]:
    """Two machines that run."""
    with Couple.create(guest_image, 32 * MIB) as both:
        both.boot()
        yield both


@pytest.fixture(scope="session")
def snapshots() -> dict[str, bytes]:
    """The disks of a pair in sync, made by the first case that wants them."""
    return {}


@pytest.fixture(scope="session")
def large_couple(guest_image: Image) -> Iterator[Couple]:
    """Two machines that run, with three disks each, of which two can hold a file system as a mirror."""
    with Couple.create(guest_image, 96 * MIB, 3) as both:
        both.boot()
        yield both


@pytest.fixture(scope="session")
def serving(large_couple: Couple) -> Iterator[Couple]:
    """The seed's pair: castor is primary, /opt is mounted there; both in sync. The cases of several files share it."""
    seed_pair.begin(large_couple)
    yield large_couple
    for machine in large_couple.machines:
        machine.try_run("umount /opt")


@pytest.fixture
def pair(couple: Couple, snapshots: dict[str, bytes], request: pytest.FixtureRequest) -> Iterator[KernelPair]:
    """pydrbd on castor, the kernel on pollux; a case that passed ends with the disks compared."""
    name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_")).strip("-")
    one = KernelPair(couple, name, OUTPUT, snapshots)
    try:
        yield one
    finally:
        one.end()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A case of a pair ends with `finish`; one that fails says what both nodes say."""
    pair = pyfuncitem.funcargs.get("pair")
    try:
        result = yield
        if isinstance(pair, KernelPair):
            pair.finish()
    except Exception as error:
        if isinstance(pair, KernelPair):
            error.add_note(pair.report())
        raise
    return result
