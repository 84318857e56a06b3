"""Where the packets of each link go: seen by capture at every device that they should cross, and where they must not.

A packet of a stream is found by its addresses, in whatever it is wrapped, and told from others by its number.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import re
import socket
import struct
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

import lab
from lab.conditions import BASELINES, ECHOED, FAMILIES, LINKS
from lab.errors import errno_name
from lab.wire import probe_numbers

COUNT = 20
PROTOCOLS = {(4, "icmp"): 1, (6, "icmp"): 58, (4, "udp"): 17, (6, "udp"): 17, (4, "tcp"): 6, (6, "tcp"): 6}

ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA, PACKET_OUTGOING = 263, 8, 4
TP_STATUS_VLAN_VALID = 1 << 4


@pytest.fixture(scope="module")
def world(every_link) -> lab.World:
    return every_link


# ---- capture ----


@dataclass(frozen=True)
class Seen:
    """A packet at a device, from its network header on, and what the tap said of it."""

    packet: bytes
    outgoing: bool
    source_mac: bytes
    vlan: int | None


@dataclass(frozen=True)
class Probe:
    """One of our messages in a packet. ``offset`` is where its IP header starts: 0 if nothing is wrapped around it."""

    nonce: int
    seq: int
    ttl: int
    offset: int
    seen: Seen


class Tap:
    """A packet socket at one device: all that crosses it from now on, in both directions."""

    def __init__(self, world: lab.World, end: str, device: str) -> None:
        self._socket = world.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0, end=end)
        self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._socket.setblocking(False)
        self._socket.bind((device, ETH_P_ALL))

    def read(self) -> list[Seen]:
        """What has crossed so far; closes the tap."""
        found = []
        with self._socket, contextlib.suppress(BlockingIOError):
            while True:
                packet, extra, _flags, address = self._socket.recvmsg(65_536, 64)
                status, _length, _snap, _mac, _net, tag, _type = struct.unpack("IIIHHHH", extra[0][2])
                vlan = tag & 0xFFF if status & TP_STATUS_VLAN_VALID else None
                found.append(Seen(packet, address[2] == PACKET_OUTGOING, address[4], vlan))
        return found


def probe_between(seen: Seen, family: int, protocol: int, source: str, target: str) -> Probe | None:
    """The message in a packet from `source` to `target`; None if there is no such packet, or it carries none."""
    ends = b"".join(ipaddress.ip_address(address).packed for address in (source, target))
    offset = seen.packet.find(ends) - (12 if family == 4 else 8)
    if offset < 0:
        return None
    header, length = seen.packet[offset:], 20 if family == 4 else 40
    if header[9 if family == 4 else 6] != protocol:
        return None
    start = length + (header[length + 12] >> 4) * 4 if protocol == socket.IPPROTO_TCP else length + 8
    if len(header) < start + 56:
        return None
    nonce, seq = struct.unpack_from("QQ", header, start)
    return Probe(nonce, seq, header[8 if family == 4 else 7], offset, seen)


def probes_at(seen: list[Seen], link: lab.world.Link, family: int, probe: str) -> list[Probe]:
    """Requests and replies of a stream, in the order in which they crossed."""
    near, far = link.near[family], link.far[family]
    ways = {(near, far), (far, near)}
    found = (probe_between(s, family, PROTOCOLS[family, probe], *way) for s in seen for way in ways)
    return [p for p in found if p is not None]


# ---- what crosses what ----

# Whether each passage of one probe is outgoing, in their order: a request, then its reply.
BOTH_COPIES = [True, False, True, False]  # lo shows each packet as it leaves, and as it comes
SENDS = [True, False]
RECEIVES = [False, True]
NOTHING: list[bool] = []

LO = {("near", "lo"): BOTH_COPIES}
CROSSED = {
    "lo": LO,
    "lo-net": LO,
    "own": {**LO, ("near", "own"): NOTHING, ("far", "own"): NOTHING},
    "bridge": {("middle", "bridge-near"): RECEIVES, ("middle", "bridge-far"): SENDS},
    "router": {("middle", "router-near"): RECEIVES, ("middle", "router-far"): SENDS},
    "macvlan": {("near", "macvlan-lower"): SENDS},
    "ipvlan": {("near", "ipvlan-lower"): SENDS},
    **{
        name: {("near", f"{name}-u"): SENDS, ("far", f"{name}-u"): RECEIVES}
        for name in ("vlan", "vxlan", "gre", "ipip", "sit")
    },
    "wireguard": {("near", "wireguard-u"): NOTHING, ("far", "wireguard-u"): NOTHING},  # nothing that can be read
}


def devices_of(name: str, family: int) -> dict[tuple[str, str], list[bool]]:
    """What crosses which device of a link: its own devices at either end, and those on the way."""
    if name in ("lo", "lo-net", "own"):
        return CROSSED[name]
    device = "ipip6" if (name, family) == ("ipip", 6) else name
    return {("near", device): SENDS, ("far", device): RECEIVES, **CROSSED.get(name, {})}


@pytest.fixture
def watch(available):
    def watch(world, name, family, probe):
        """Sends a stream over a link with a tap at each device of `devices_of`. Returns it, and what each has seen."""
        link = available(world, name)
        taps = {at: Tap(world, *at) for at in devices_of(name, family)}
        stream = world.rtt(name, family=family, probe=probe, count=COUNT, warmup=0)
        seen = {at: tap.read() for at, tap in taps.items()}
        return stream, seen, {at: probes_at(packets, link, family, probe) for at, packets in seen.items()}

    return watch


@pytest.mark.parametrize("probe", ECHOED)
@pytest.mark.parametrize("name", LINKS)
def test_the_probes_cross_the_devices_of_their_link_and_no_other(world, family, name, probe, watch):
    stream, _seen, probes = watch(world, name, family, probe)
    assert stream.received == COUNT
    assert len({found.nonce for at in probes.values() for found in at}) == 1
    for at, expected in devices_of(name, family).items():
        passages = defaultdict(list)
        for found in probes[at]:
            passages[found.seq].append(found.seen.outgoing)
        assert passages == (dict.fromkeys(range(COUNT), expected) if expected else {}), at


@pytest.mark.parametrize("probe", ECHOED)
def test_a_router_takes_one_from_the_ttl(world, family, probe, watch):
    stream, _seen, probes = watch(world, "router", family, probe)
    near, far = probes["near", "router"], probes["far", "router"]
    assert [p.ttl for p in near if p.seen.outgoing] == [p.ttl for p in far if p.seen.outgoing] == [64] * COUNT
    assert [p.ttl for p in near if not p.seen.outgoing] == [p.ttl for p in far if not p.seen.outgoing] == [63] * COUNT
    assert stream.reply["ttl"] == (None if probe == "tcp" else 63)


@pytest.mark.parametrize(("name", "own_mac"), [("macvlan", True), ("ipvlan", False)])
def test_a_macvlan_has_a_mac_address_of_its_own_and_an_ipvlan_has_not(world, family, name, own_mac, watch):
    _stream, _seen, probes = watch(world, name, family, "icmp")
    far = {p.seen.source_mac for p in probes["far", name] if not p.seen.outgoing}
    assert far == {mac_of(world, name)}
    assert (far != {mac_of(world, f"{name}-lower")}) == own_mac


def mac_of(world: lab.World, device: str) -> bytes:
    """The MAC address of a device of the near namespace."""
    with world.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as probe:
        probe.bind((device, ETH_P_ALL))
        return probe.getsockname()[4]


#: The protocol of the packet around ours, and how many bytes it puts in front of ours beyond its IP header.
AROUND = {("vxlan", 4): (17, 30), ("vxlan", 6): (17, 30), ("gre", 4): (47, 4), ("gre", 6): (47, 4), ("ipip", 4): (4, 0),
          ("sit", 4): (4, 0), ("sit", 6): (41, 0)}  # fmt: skip


@pytest.mark.parametrize("probe", ECHOED)
@pytest.mark.parametrize(("name", "inner"), AROUND)
def test_a_tunnel_wraps_its_packets_in_those_of_its_underlay(world, name, inner, probe, watch):
    _stream, _seen, probes = watch(world, name, inner, probe)
    protocol, more = AROUND[name, inner]
    for end in ("near", "far"):
        assert {p.offset for p in probes[end, name]} == {0}
        for found in probes[end, f"{name}-u"]:
            outer = found.seen.packet
            assert (outer[0], outer[9], found.offset) == (0x45, protocol, 20 + more)
            addresses = {str(ipaddress.ip_address(outer[at : at + 4])) for at in (12, 16)}
            assert addresses == {f"198.19.{LINKS.index(name)}.{n}" for n in (1, 2)}
            if name == "vxlan":
                port, flags, vni = struct.unpack_from("!2xH4xB3xI", outer, 20)
                assert (port, flags, vni >> 8) == (4789, 8, 127)


def test_wireguard_shows_its_underlay_nothing_but_its_own_port(world, family, watch):
    _stream, seen, _probes = watch(world, "wireguard", family, "icmp")
    data = [s.packet for s in seen["far", "wireguard-u"] if s.packet[:1] == b"\x45" and s.packet[9] == 17]
    assert len(data) >= 2 * COUNT
    assert {struct.unpack_from("!HH", packet, 20) for packet in data} == {(51820, 51820)}


def test_a_vlan_tags_its_frames(world, family, watch):
    _stream, _seen, probes = watch(world, "vlan", family, "icmp")
    assert {p.seen.vlan for p in probes["far", "vlan-u"]} == {127}
    assert {p.seen.vlan for p in probes["far", "vlan"]} == {None}


@pytest.mark.parametrize("probe", ECHOED)
@pytest.mark.parametrize("name", ["tun", "tap"])
def test_a_tun_hands_its_packets_to_the_wire(world, wait_until, family, name, probe, watch):
    _stream, _seen, probes = watch(world, name, family, probe)
    (nonce,) = {p.nonce for p in probes["near", name]}
    assert world.links[name].wire == (0 if name == "tun" else 14)

    def crossed(direction: int) -> list[int]:
        events = world.wires[name].events().events
        ours, seq = probe_numbers(events, nonce, world.links[name].wire)
        return seq[ours & (events["direction"] == direction)].tolist()

    assert crossed(0) == list(range(COUNT))
    # The last reply may be here before the wire has noted that it wrote it.
    wait_until(lambda: crossed(1) == list(range(COUNT)), "every reply to be in the wire's log")


def test_the_first_packet_over_a_new_link_is_answered_at_once(missing, family):
    """Neighbours are asked for, but no address is still being checked: that takes the kernel a second."""
    names = ("veth", "bridge", "router", "macvlan", "vxlan")
    for name in names:
        with lab.World([name]) as fresh:
            if name == "veth" and family in fresh.links[name].missing:
                missing("this machine has no IPv6")
            stream = fresh.rtt(name, family=family, count=1, warmup=0, timeout="500ms")
        assert stream.received == 1, name


# ---- what cannot be made ----


def devices(world: lab.World, end: str) -> set[str]:
    """The names of the devices of a namespace."""
    with world.popen(["cat", "/proc/net/dev"], end=end, stdout=subprocess.PIPE, text=True) as cat:
        return set(re.findall(r"^ *([^ :]+):", cat.communicate()[0], re.MULTILINE))


def test_every_link_is_there_or_skipped_with_the_errno_of_an_attempt(world):
    skipped = {skip.link: skip for skip in world.skipped}
    assert sorted([*world.links, *skipped]) == sorted(LINKS)
    for skip in skipped.values():
        assert errno_name(skip.errno) in skip.reason
        assert re.search(r"cannot make the link: (add a device of type|open /dev/net/tun|configure) ?", skip.reason)
        assert skip.fix


def test_a_link_that_could_not_be_made_leaves_no_device_behind(world):
    if not world.skipped:
        pytest.skip("this machine can make every link")
    failed = {skip.link for skip in world.skipped}
    for end in ("near", "far", "middle"):
        left = {name for name in devices(world, end) if name.removesuffix("-u").removesuffix("-lower") in failed}
        assert left == set(), end


@pytest.mark.parametrize("name", ["tun", "tap"])
def test_a_tun_needs_its_device_file(run, world, name):
    done = run("rtt", name, faults=("no-rights", "no-tun"))
    assert done.returncode == 1
    refused = "EACCES" if Path("/dev/net/tun").exists() else "ENOENT"
    assert f"cannot make the link: open /dev/net/tun: {refused}" in done.stderr
    assert "chmod 0666 /dev/net/tun" in done.stderr


@pytest.mark.parametrize("faults", [(), ("no-rights", "no-tun")], ids=["as we are", "unprivileged"])
def test_a_comparison_of_all_has_a_row_or_a_reason_for_each(run, world, faults, everywhere):
    done = run("compare", "--links", "all", "--rounds", "1", "--count", "20", "--json", "-o", "all", faults=faults)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    rows = {(row["link"], row["family"], row["probe"]): row for row in document["rows"]}
    skipped = {(skip["link"], skip["family"], skip["probe"]): skip for skip in document["skipped"]}
    assert len(rows) == len(document["rows"])
    cells = {(link, family, probe) for link in LINKS for family in FAMILIES for probe in ECHOED}
    for cell in cells | {(baseline, None, baseline) for baseline in BASELINES}:
        skip = skipped.get(cell) or skipped.get((cell[0], None, None))
        assert (cell in rows) != (skip is not None), cell
        if skip is None:
            assert rows[cell]["received"] == rows[cell]["sent"] == 20
            assert rows[cell]["p50_ns"] > 0
        else:
            assert cell[0] not in everywhere
            assert errno_name(skip["errno"]) in skip["reason"]
            assert skip["fix"]
    if faults:
        refused = errno.EACCES if Path("/dev/net/tun").exists() else errno.ENOENT
        assert skipped["tun", None, None]["errno"] == skipped["tap", None, None]["errno"] == refused


# ---- how long it takes ----


def test_a_world_takes_only_the_time_of_its_links():
    """The best of three; what it takes here is printed (pytest -s)."""
    made_s: dict[str, float] = {}
    for _ in range(3):
        for what, names in (("lo", ["lo"]), ("veth", ["veth"]), ("all", LINKS)):
            begun = time.monotonic()
            made = lab.World(names)
            took_s, begun = time.monotonic() - begun, time.monotonic()
            made.close()
            print(f"\n{what}: made in {took_s:.3f} s, closed in {time.monotonic() - begun:.3f} s", end="")
            made_s[what] = min(took_s, made_s.get(what, took_s))
    assert made_s["lo"] < made_s["veth"] < made_s["all"]
