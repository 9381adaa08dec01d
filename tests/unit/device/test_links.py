"""The device's other names."""

from pathlib import Path

from pydrbd.device import links


def test_every_name_leads_to_the_device_and_goes_with_it(tmp_path: Path) -> None:
    names = links.names_of("drbd0", str(tmp_path / "nb0"), tmp_path / "drbd/by-res")
    assert links.make(names, "/dev/nbd0") == []
    assert [str(name.readlink()) for name in names] == ["/dev/nbd0", "/dev/nbd0"]
    assert names[1] == tmp_path / "drbd/by-res/drbd0"
    assert links.leading_to(names, "/dev/nbd0") == names
    assert links.leading_to(names, "/dev/nbd1") == ()
    links.remove(names, "/dev/nbd0")
    assert not any(name.is_symlink() for name in names)


def test_a_link_that_leads_elsewhere_is_replaced(tmp_path: Path) -> None:
    name = tmp_path / "nb0"
    name.symlink_to("/dev/loop9")
    assert links.make((name,), "/dev/nbd0") == []
    assert str(name.readlink()) == "/dev/nbd0"


def test_what_is_no_link_stays(tmp_path: Path) -> None:
    name = tmp_path / "drbd0"
    name.touch()
    assert links.make((name,), "/dev/nbd0") == [f"{name} is there already and no link; the device is /dev/nbd0"]
    links.remove((name,), "/dev/nbd0")
    assert name.is_file()


def test_somebody_elses_link_is_not_removed(tmp_path: Path) -> None:
    name = tmp_path / "nb0"
    name.symlink_to("/dev/loop9")
    links.remove((name,), "/dev/nbd0")
    assert name.is_symlink()


def test_the_devices_own_name_needs_no_link(tmp_path: Path) -> None:
    name = tmp_path / "nbd0"
    name.touch()
    assert links.make((name,), str(name)) == []


def test_names_of_a_device_that_is_gone_are_removed_and_no_others(tmp_path: Path) -> None:
    sys_block = tmp_path / "sys"
    for device, sectors in {"nbd0": "0", "loop3": "131072"}.items():
        (sys_block / device).mkdir(parents=True)
        (sys_block / device / "size").write_text(f"{sectors}\n")
    targets = {
        "disconnected": "/dev/nbd0",
        "deleted": "/dev/ublkb7",
        "in-use": "/dev/loop3",
        "kernels-drbd": "../../drbd0",
        "by-hand": "/dev/vg0/opt",
    }
    for name, target in targets.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "no-link").touch()
    names = (*(tmp_path / name for name in targets), tmp_path / "no-link", tmp_path / "not-there")
    dead = [str(tmp_path / "disconnected"), str(tmp_path / "deleted")]
    assert links.remove_dead(names, sys_block) == dead
    assert {path.name for path in tmp_path.iterdir()} == {"in-use", "kernels-drbd", "by-hand", "no-link", "sys"}
