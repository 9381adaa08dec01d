"""Each mistake that a user makes gets its sentence, with the right line and drbdadm's exit code."""

import pytest

from helpers.configurations import R0, SEED
from pydrbd.config import ConfigError, parse

INVALID = 10
SYNTAX = 2


def message(text: str, exit_code: int = INVALID) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.exit_code == exit_code
    return str(caught.value).removeprefix("drbd.conf:")


def in_seed(old: str, new: str, exit_code: int = INVALID) -> str:
    assert old in SEED
    return message(SEED.replace(old, new), exit_code)


def in_pollux(old: str, new: str, exit_code: int = INVALID) -> str:
    """Replace in the seed's second `on` section only."""
    before, after = SEED.split("  on pollux")
    assert old in after
    return message(f"{before}  on pollux{after.replace(old, new, 1)}", exit_code)


def in_r0(old: str, new: str, exit_code: int = INVALID) -> str:
    assert old in R0
    return message(R0.replace(old, new, 1), exit_code)


def with_r0(statement: str, exit_code: int = INVALID) -> str:
    """Put a statement on line 2 of r0."""
    return message(R0.replace("{\n", "{\n" + statement + "\n", 1), exit_code)


def test_a_misspelt_key_is_answered_with_the_nearest_one() -> None:
    assert in_seed("protocol", "protokol") == "2: unknown key 'protokol' in resource drbd0; did you mean 'protocol'?"
    assert in_pollux("address", "adress") == (
        "15: unknown key 'adress' in section on pollux of resource drbd0; did you mean 'address'?"
    )
    assert with_r0("net { time-out 60; }") == (
        "2: unknown key 'time-out' in section net of resource r0; did you mean 'timeout'?"
    )


def test_an_unknown_key_that_is_like_none_is_just_unknown() -> None:
    assert in_seed("fsckcmd", "xyzzy") == "3: unknown key 'xyzzy' in resource drbd0"


def test_a_key_in_the_wrong_section_is_told_where_it_belongs() -> None:
    assert with_r0("al-extents 257;") == "2: unknown key 'al-extents' in resource r0; it belongs in section disk"


def test_a_key_of_an_on_section_in_the_resource() -> None:
    assert in_seed("fsckcmd = /usr/bin/true", "disk = /dev/md3") == (
        "3: 'disk' does not belong in resource drbd0; it belongs in section on"
    )


def test_a_duplicate_key_names_the_first() -> None:
    assert (
        in_pollux("port    = 7788", "port = 7788\n    port = 7789")
        == "17: 'port' is given twice; the first is on line 16"
    )
    assert with_r0("protocol C; net { protocol C; }") == "2: 'protocol' is given twice; the first is on line 2"
    assert in_r0("meta-disk internal;", "meta-disk internal; flexible-meta-disk /dev/x;") == (
        "4: 'flexible-meta-disk' is given twice; the first is on line 4"
    )


@pytest.mark.parametrize("key", ["device", "disk", "address"])
def test_a_missing_key_is_named_with_its_section(key: str) -> None:
    before, after = SEED.split("  on pollux")
    lines = [line for line in after.split("\n") if key not in line]
    assert (
        message(before + "  on pollux" + "\n".join(lines)) == f"12: section on pollux of resource drbd0 has no '{key}'"
    )


def test_the_protocol_is_required_in_the_dialect_of_06() -> None:
    assert in_seed("  protocol = C\n", "") == "1: resource drbd0 has no 'protocol'; it is A, B or C"


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("net { protocol D; }", "2: 'D' is not a value of protocol: it is C, A or B"),
        ("net { ko-count 300; }", "2: ko-count 300 is out of range; it is a number from 0 to 200"),
        ("net { timeout 0; }", "2: timeout 0 is out of range; it is a number from 1 to 600, in 0.1 s"),
        ("net { timeout 6s; }", "2: '6s' is not a value of timeout; it is a number from 1 to 600, in 0.1 s"),
        ("net { timeout; }", "2: timeout has no value; it is a number from 1 to 600, in 0.1 s"),
        ("net { use-rle maybe; }", "2: 'maybe' is not a value of use-rle: it is yes or no"),
        ("disk { c-max-rate 5G; }", "2: c-max-rate 5G is out of range; it is from 0 to 4194304 KiB/s"),
        ("disk { resync-rate 3s; }", "2: resync-rate 3s is not a multiple of 1024 bytes"),
        (
            "disk { size 1x; }",
            "2: '1x' is not a value of size; it is a number from 1 to 2199023255552, in sectors of 512 bytes, with",
        ),
        (
            "net { fencing resource; }",
            "2: 'resource' is not a value of fencing: it is dont-care, resource-only or resource-and-stonith; did",
        ),
        ("disk { no-disk-flushes yes; }", "2: no-disk-flushes takes no value, but has 'yes'"),
        ('net { shared-secret ""; }', "2: shared-secret is empty"),
        ("attach loop;", "2: 'loop' is not a value of attach: it is auto, nbd, ublk, fuse or none"),
        ("net { ping-int 5 6; }", "2: ping-int has a word too many: '6'; quote a value that has blanks in it"),
        (f"net {{ shared-secret {'x' * 65}; }}", "2: shared-secret is longer than 64 characters"),
        ("net { cram-hmac-alg sha1; }", "2: cram-hmac-alg needs a shared-secret"),
        ("net { fencing resource-and-stonith; protocol A; }", "2: fencing resource-and-stonith needs protocol B or C"),
        ("net { on-congestion pull-ahead; }", "2: on-congestion pull-ahead needs protocol A"),
        (
            "net { timeout 100; }",
            "2: timeout 100 is not less than connect-int 10; timeout counts in 0.1 s, the other in s",
        ),
        (
            "net { allow-two-primaries yes; }",
            "2: allow-two-primaries 'yes' is not supported: one node is primary at a time; it can only be no",
        ),
        (
            "net { allow-two-primaries; }",
            "2: allow-two-primaries is not supported: one node is primary at a time; it can only be no",
        ),
        (
            "net { after-sb-0pri discard-node-kastor; }",
            "2: after-sb-0pri: 'kastor' is no host of resource r0; its hosts are castor and pollux; did you mean",
        ),
        (
            "startup { become-primary-on both; }",
            "2: become-primary-on both is not supported: one node is primary at a time",
        ),
    ],
)
def test_a_wrong_value_is_told_what_is_right(statement: str, sentence: str) -> None:
    assert with_r0(statement).startswith(sentence)


def test_ranges_of_06_are_told_in_its_own_units() -> None:
    assert in_seed("  fsckcmd", "  net {\n  sndbuf-size = 1G\n  }\n  fsckcmd") == (
        "4: sndbuf-size 1G is out of range; it is from 0 to 131072 KiB"
    )


def test_sync_min_must_not_exceed_sync_max() -> None:
    text = "  net {\n  sync-max = 100\n  sync-min = 200\n  }\n  fsckcmd"
    assert in_seed("  fsckcmd", text) == "5: sync-min is more than sync-max"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("10.0.0.1:7788", "10.0.0.1", "5: '10.0.0.1' is not an address with a port; it is ADDRESS:PORT, for example "),
        ("10.0.0.1:7788", "castor:7788", "5: 'castor' is not an IP address; host names are not looked up"),
        ("10.0.0.1:7788", "10.0.0.1:77880", "5: '77880' is not a port; it is a number from 1 to 65535"),
        ("10.0.0.1:7788", "0.0.0.0:7788", "5: '0.0.0.0' is not the address of one host"),
        ("10.0.0.1:7788", "ipv6 10.0.0.1:7788", "5: '10.0.0.1' is not an address of family ipv6"),
        ("10.0.0.1:7788", "sdp 10.0.0.1:7788", "5: address family sdp is not supported; it is ipv4 or ipv6, over TCP"),
        ("10.0.0.1:7788", "[fd00::1]:7788", "6: castor and pollux have addresses of different families in resource r0"),
        ("10.0.0.1:7788", "10.0.0.2:7788", "6: castor and pollux have the same address and port in resource r0"),
        ("/dev/vdb", "vdb", "3: disk 'vdb' is not an absolute path"),
        ("/dev/vdb", "none", "3: disk none is not supported; each of the two nodes has a disk"),
        ("/dev/vdb", "/a/../b", "3: disk '/a/../b' names no device or file"),
        ("device /dev/drbd0", "device", "2: device needs a path; for example /dev/drbd0"),
        ("/dev/drbd0", "/dev/drbd0 minor x", "2: 'x' is not a minor number; it is from 0 to 1048575"),
        ("internal", "/dev/sdc[x]", "4: meta-disk '/dev/sdc[x]' has no valid index; a shared device has slots"),
        (
            "internal",
            "sdc",
            "4: meta-disk 'sdc' is no place for metadata; it is internal, file, DEVICE or DEVICE[index]",
        ),
        ("on pollux", "on castor", "6: host castor is given twice in resource r0; the first is on line 5"),
        ("on pollux", "on pol/lux", "6: 'pol/lux' is not a host name"),
        ("on pollux", "on pollux castor", "6: an 'on' section names one host, not 2"),
        ("resource r0", "resource r/0", "1: 'r/0' is not a name for a resource"),
        ("resource r0", "resource ../r0", "1: '../r0' is not a name for a resource"),
        ("resource r0", "resource all", "1: no resource can be called 'all'; commands mean every resource by it"),
        ("resource r0", "resource", "1: a resource has one name, not none; resource NAME { ... }"),
    ],
)
def test_wrong_hosts_devices_and_names(old: str, new: str, sentence: str) -> None:
    assert in_r0(old, new).startswith(sentence)


def test_an_address_with_a_port_in_the_dialect_of_06() -> None:
    assert in_seed("= 10.0.0.1", "= 10.0.0.1:7788") == (
        "8: '10.0.0.1:7788' is not an address; the port is a key of its own: port = 7788"
    )


def test_two_hosts_are_needed() -> None:
    one = R0.replace("  on pollux { address 10.0.0.2:7788; }\n", "")
    assert message(one) == "1: resource r0 needs two hosts, two 'on' sections; it has only castor"
    assert (
        message("resource r0 { device minor 0; }") == "1: resource r0 needs two hosts, two 'on' sections; it has none"
    )


def test_more_than_two_hosts_are_refused() -> None:
    text = R0.replace("  on pollux", "  on leda { address 10.0.0.3:7788; }\n  on pollux")
    assert message(text) == "7: resource r0 has more than two hosts: castor, leda and pollux; data is kept on two nodes"


def second_resource(**changes: str) -> str:
    text = (
        R0.replace("r0", "r1")
        .replace("/dev/drbd0", "/dev/drbd1")
        .replace("/dev/vdb", "/dev/vdc")
        .replace("7788", "7789")
    )
    for old, new in changes.items():
        text = text.replace({"device": "/dev/drbd1", "disk": "/dev/vdc", "port": "7789", "meta": "internal"}[old], new)
    return text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"device": "/dev/drbd0"}, "9: device /dev/drbd0 is used by resource r0 and by resource r1 on host castor"),
        ({"device": "/dev/d minor 0"}, "9: minor 0 is used by resource r0 and by resource r1 on host castor"),
        ({"disk": "/dev/vdb"}, "10: disk /dev/vdb is used by resource r0 and by resource r1 on host castor"),
        ({"disk": "/dev//vdb/"}, "10: disk /dev/vdb is used by resource r0 and by resource r1 on host castor"),
        ({"port": "7788"}, "12: address 10.0.0.1:7788 is used by resource r0 and by resource r1 on host castor"),
        ({"meta": "/dev/vdb"}, "11: disk /dev/vdb is used by resource r0 and by resource r1 on host castor"),
        ({"meta": "/dev/vdc"}, "11: disk /dev/vdc is used twice in resource r1 on host castor"),
        ({"meta": "/dev/vdb[0]"}, "11: disk /dev/vdb is used by resource r0 and by indexed metadata on host castor"),
    ],
)
def test_what_is_used_twice_on_a_host_is_refused(changes: dict[str, str], sentence: str) -> None:
    assert message(R0 + second_resource(**changes)) == sentence


def test_indexed_metadata_shares_a_device_but_not_a_slot() -> None:
    first = R0.replace("internal", "/dev/sdc[0]")
    parse(first + second_resource(meta="/dev/sdc[1]"))
    assert message(first + second_resource(meta="/dev/sdc[0]")) == (
        "11: disk /dev/sdc[0] is used by resource r0 and by resource r1 on host castor"
    )


def test_a_resource_given_twice() -> None:
    assert message(R0 + R0) == "8: resource r0 is given twice; the first is at drbd.conf:1"


def test_sections_in_the_wrong_place() -> None:
    assert (
        with_r0("resource r1 { }")
        == "2: section 'resource r1' does not belong in resource r0; it belongs at the top of the file"
    )
    assert in_r0("on castor {", "on castor { net { }") == (
        "5: section 'net' does not belong in section on castor of resource r0; it belongs in resource or common"
    )
    assert (
        message("net { timeout 5; }")
        == "1: section 'net' does not belong in the file; it belongs in resource or common"
    )


def test_sections_that_are_misspelt_twice_or_not_supported() -> None:
    assert message("ressource r0 { x; }") == "1: unknown section 'ressource' in the file; did you mean 'resource'?"
    assert with_r0("net { }\nnet { }") == "3: section net is given twice in resource r0; the first is at drbd.conf:2"
    assert with_r0("floating 10.0.0.1:7788 { disk /dev/x; }") == (
        "2: section 'floating' is not supported; name the host: on HOST { address ...; }"
    )
    assert message("common { }\ncommon { x; }") == "2: section common is given twice; the first is at drbd.conf:1"


def test_volumes_must_be_the_same_on_both_hosts() -> None:
    text = R0.replace("on castor {", "on castor { volume 1 { device minor 1; disk /dev/x; }").replace(
        "  device /dev/drbd0;\n  disk /dev/vdb;\n  meta-disk internal;\n",
        "  volume 0 { device minor 0; disk /dev/vdb; }\n",
    )
    assert message(text) == "4: pollux has no volume 1 in resource r0, castor has"


def test_a_disk_beside_volumes_is_refused() -> None:
    assert with_r0("volume 0 { device minor 1; }") == (
        "3: 'device' stands outside of the 'volume' sections; move it into one of them"
    )
    assert in_r0("on castor {", "on castor { disk /dev/x; volume 0 { }") == (
        "5: 'disk' stands outside of the 'volume' sections; move it into one of them"
    )


def test_an_unclosed_brace_is_reported_where_it_was_opened() -> None:
    assert in_seed("    port    = 7788\n  }\n\n  on pollux", "    port    = 7788\n\n  on pollux", SYNTAX) == (
        "5: section 'on castor' is not closed: '}' is missing; put it before 'on pollux' on line 11"
    )
    assert (
        message(SEED.rstrip().removesuffix("}"), SYNTAX) == "1: section 'resource drbd0' is not closed: '}' is missing"
    )
    assert message(R0.rstrip().removesuffix("}"), SYNTAX) == "1: section 'resource r0' is not closed: '}' is missing"


def test_a_brace_swallowed_by_a_value_is_explained() -> None:
    trap = "; in the dialect of 0.6 it needs a line of its own"
    assert (
        in_pollux("port    = 7788\n  }", "port = 7788 }", SYNTAX)
        == f"16: '}}' on a 'key = value' line is part of the value{trap}"
    )
    assert in_seed("  fsckcmd", "  net { timeout = 50 }\n  fsckcmd", SYNTAX).startswith(
        "3: '{' on a 'key = value' line is part of the value"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (SEED + "}\n", "19: '}' closes no section; one '}' too many, or a '{' is missing above"),
        (R0.replace("/dev/vdb;", "/dev/vdb; ;"), "3: ';' ends nothing here"),
        (R0.replace("resource r0 ", ""), "1: '{' opens a section that has no name"),
        (R0.replace("7788; }\n  on p", "7788 }\n  on p"), "5: ';' is missing after 'address 10.0.0.1:7788'"),
        ('resource r0 {\n  fsckcmd "x;\n}\n', "2: a quote is not closed on its line"),
        (
            SEED.replace("= C", "= C;"),
            "2: ';' at the end of 'protocol = C;' is part of the value; write 'key = value' (0.6) or",
        ),
        (SEED.replace("= C", "="), "2: 'protocol' has no value after '='"),
        (SEED.replace("protocol", ""), "2: '=' without a key before it"),
        ("a {" * 9 + "b;" + "}" * 9, "1: sections are nested deeper than 8"),
        ("resource r0\n", "1: ';' is missing after 'resource r0'; a section's name needs its '{'"),
    ],
)
def test_syntax_errors(text: str, sentence: str) -> None:
    assert message(text, SYNTAX).startswith(sentence)


def test_a_missing_semicolon_is_seen_by_the_words_that_follow() -> None:
    assert in_r0("disk /dev/vdb;", "disk /dev/vdb", SYNTAX) == "3: ';' is missing after 'disk /dev/vdb'"
    assert with_r0("protocol C", SYNTAX) == "2: ';' is missing after 'protocol C'"
    assert (
        in_r0("meta-disk internal;\n", "meta-disk internal\n", SYNTAX) == "4: ';' is missing after 'meta-disk internal'"
    )


@pytest.mark.parametrize("text", ["", "\n\n  \n"])
def test_an_empty_file_is_told(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "/etc/drbd.conf")
    assert str(caught.value) == "/etc/drbd.conf: the file is empty: no resource is configured"


def test_a_file_without_a_resource_is_told() -> None:
    with pytest.raises(ConfigError, match=r"^drbd.conf: no resource is configured$"):
        parse("# nothing yet\nglobal { usage-count no; }")


def test_a_key_outside_of_any_section() -> None:
    assert message("protocol C;\n" + R0) == "1: 'protocol' stands outside of any section"


def test_the_column_is_that_of_the_culprit() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(SEED.replace("= C", "= D"))
    assert (caught.value.line, caught.value.column) == (2, 14)


def test_what_a_file_says_cannot_disturb_the_terminal() -> None:
    text = message(R0.replace("device", "\x1b[31m" + "x" * 200))
    assert text == "2: unknown key '?[31m" + "x" * 52 + "...' in resource r0"


def in_order(**disks: str) -> str:
    """Return resources of these names, in this order, each with its `disk` section on the second line of four."""
    text = ""
    for index, (name, disk) in enumerate(disks.items()):
        one = R0.replace("{\n", f"{{\ndisk {{ {disk} }}\n", 1).replace("resource r0", f"resource {name}")
        text += one.replace("drbd0", f"drbd{index}").replace("vdb", f"vd{index}").replace(":7788", f":{7800 + index}")
    return text


def test_a_resync_after_that_names_no_resource_is_answered_with_the_nearest_one() -> None:
    assert message(in_order(home="resync-after rooot/0;", root="")) == (
        "2: resync-after: no resource 'rooot' is configured; there are home and root; did you mean 'root'?"
    )
    assert message(in_order(home="resync-after root/1;", root="")) == "2: resync-after: resource root has no volume 1"
    assert message(in_order(home="resync-after root/a;", root="")) == (
        "2: resync-after 'root/a' is not RESOURCE or RESOURCE/VOLUME"
    )


def test_an_order_of_resyncs_that_leads_back_to_itself_is_refused_with_the_way() -> None:
    own = "2: resync-after: home would wait for its own resync"
    assert message(in_order(home="resync-after home;", root="")) == own
    assert message(in_order(home="resync-after root;", root="resync-after logs/0;", logs="resync-after home;")) == (
        "2: resync-after makes a cycle: home waits for root, root waits for logs and logs waits for home"
    )
    assert message(in_order(home="resync-after root; sync-group 1;", root="sync-group 2;")) == (
        "2: resync-after makes a cycle: home waits for root and root waits for home; "
        "a resource of a higher sync-group waits for all those of lower ones"
    )
    # In `common` it is everybody's, so also that of the resource that it names.
    text = "common { syncer { after home; } }\n" + in_order(home="", root="")
    assert message(text) == "1: resync-after: home would wait for its own resync"


def test_a_volume_may_come_after_another_one_of_its_resource() -> None:
    volumes = "volume 0 { device minor 0; disk /dev/a; } volume 1 { device minor 1; disk /dev/b; disk { AFTER } }"
    text = f"resource r0 {{\n{volumes}\n{R0.partition('meta-disk internal;')[2]}"
    first, second = parse(text.replace("AFTER", "resync-after r0/0;")).resource("r0").hosts[0].volumes
    assert (first.options.resync_after, second.options.resync_after) == (None, "r0/0")
    assert message(text.replace("AFTER", "resync-after r0/1;")) == (
        "2: resync-after: r0/1 would wait for its own resync"
    )
