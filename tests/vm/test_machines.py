"""Goal: the machines are what the cases believe them to be."""

import pytest

from vm.couple import Couple


def test_both_boot_debian_with_its_kernel_and_see_each_other(couple: Couple) -> None:
    for machine in couple.machines:
        assert machine.run("uname -r").startswith("6.12.")
        assert machine.run("cat /etc/debian_version").startswith("12.")
    couple.castor.run("ping -c 1 -W 10 pollux")


@pytest.mark.parametrize("module", ["nbd", "ublk_drv", "raid1", "dm_flakey", "drbd"])
def test_the_kernel_has_the_module(couple: Couple, module: str) -> None:
    couple.castor.run(f"modprobe {module}")
    assert module in couple.castor.run("cut -d' ' -f1 /proc/modules").split()


def test_the_kernels_drbd_is_8_4_11(couple: Couple) -> None:
    couple.pollux.run("modprobe drbd")
    assert "version: 8.4.11 (api:1/proto:86-101)" in couple.pollux.run("cat /proc/drbd")


def test_pydrbd_is_installed_as_its_wheel_says(couple: Couple) -> None:
    assert "pydrbd, version" in couple.castor.run("pydrbd --version")


def test_a_cut_wire_carries_nothing_until_it_is_mended(couple: Couple) -> None:
    couple.castor.cut_link()
    assert couple.castor.try_run("ping -c 1 -W 2 pollux").code != 0
    couple.castor.mend_link()
    couple.castor.run("ping -c 3 -i 1 -W 10 pollux")
