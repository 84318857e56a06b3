"""Where packets are injected, and whether they arrive as is said of them: sent by plain sockets, and received."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

import lab
from lab.conditions import LINKS
from lab.injector.source import Source
from lab.injector.survey import Survey, survey
from lab.injector.towards import Towards, towards
from lab.native.injection import WAYS
from lab.taps import rtnetlink
from lab.taps.frames import FrameFile
from lab.world import Place, visit

LINK_ETHERNET, LINK_RAW = 1, 101
ETHERNET, LOOPBACK = 1, 772  # ARPHRD_*
SYSCTLS = ("ipv4/conf/lo/route_localnet", "ipv4/conf/lo/accept_local")
ZEROS, ELSEWHERE = "00:00:00:00:00:00", "02:00:00:00:00:99"
SOURCE = "02:00:00:00:00:01"  # zeros get past no bridge and no VXLAN
OWN = {4: "127.0.0.1", 6: "::1"}
PORT = 4747
LAST = b"the last one"


@pytest.fixture(scope="module")
def links(every_link) -> lab.World:
    return every_link


@pytest.fixture
def found(tmp_path) -> Iterator[Callable[..., tuple[FrameFile, Survey]]]:
    """Writes packets into a file, and looks at what would come of it."""
    opened = []

    def look(to: Towards, *packets: Packet | bytes, **options) -> tuple[FrameFile, Survey]:
        path, records = tmp_path / f"{len(opened)}.pcap", [bytes(each) for each in packets]
        link_type = LINK_ETHERNET if isinstance(packets[0], Ether) else LINK_RAW
        rows = b"".join(struct.pack("<4I", 1, 0, len(each), len(each)) + each for each in records)
        path.write_bytes(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, link_type) + rows)
        opened.append(FrameFile(path))
        return opened[-1], survey(Source(name="these", frames=opened[-1]), to, **{"allow_external": True, **options})

    yield look
    for each in opened:
        each.close()


def send(to: Towards, file: FrameFile, found: Survey) -> None:
    """Each frame by the way that was chosen for it."""
    memory = bytes(file.contents())
    for offset, length, way in zip(found.offsets, found.lengths, found.ways, strict=True):
        data = memory[offset : offset + length]
        if way == WAYS["tap"]:
            assert os.write(to.tap, data) == length
        elif way == WAYS["l2"]:
            with to.socket_at(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
                out.bind((to.device, 0))
                out.send(data)
        else:
            family, at, size = (socket.AF_INET, 16, 4) if way == WAYS["raw4"] else (socket.AF_INET6, 24, 16)
            with to.socket_at(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as out:
                out.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, to.device.encode())
                out.sendto(data, (socket.inet_ntop(family, data[at : at + size]), 0))


@pytest.fixture
def arrived(found) -> Callable[..., bool]:
    """Whether a datagram comes to a socket where it is to arrive, by the time that another one behind it has come."""

    def arrived(to: Towards, packet: Packet, last: Packet, **options) -> bool:
        with to.receiver(socket.AF_INET6, socket.SOCK_DGRAM, 0) as end:
            end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            end.bind(("::", PORT))
            end.settimeout(20)
            send(to, *found(to, packet, **options))
            send(to, *found(to, last))
            before = list(iter(lambda: end.recv(65536), LAST))
        assert len(before) <= 1
        return len(before) == 1

    return arrived


def ip(family: int, near: str, far: str, **more) -> Packet:
    return IP(src=near, dst=far, **more) if family == 4 else IPv6(src=near, dst=far, **more)


def datagram(payload: bytes = b"one") -> Packet:
    return UDP(sport=PORT + 1, dport=PORT) / Raw(payload)


# ---- what is there ----


def mac_in_the_middle(links: lab.World) -> bytes:
    """That of the router's device which the near end sends to."""
    with links.socket(socket.AF_PACKET, socket.SOCK_RAW, end="middle") as router:
        router.bind(("router-near", 0))
        return router.getsockname()[4]


@pytest.mark.parametrize("name", LINKS)
def test_a_link_is_known_from_both_its_ends(links, name, available):
    link, to = available(links, name), towards(links, name)
    near, far = (
        {each.name: each for each in rtnetlink.interfaces(lambda *kind, end=end: links.socket(*kind, end=end))}
        for end in ("near", link.far_end)
    )
    device = link.devices["near"]
    assert (to.name, to.device, to.ifindex) == (name, device, near[device].index)
    assert (to.hardware, to.mac.hex(":")) == (near[device].hardware, near[device].mac)
    assert to.far_device == device
    assert set(link.far.values()) <= {network.partition("/")[0] for network in to.addresses} or name == "lo-net"
    assert to.routed_in == (device == "lo")
    assert (to.tap is not None) == (name in ("tun", "tap"))
    assert to.routed == (name == "router")
    taker = mac_in_the_middle(links) if name == "router" else bytes.fromhex(far[device].mac.replace(":", ""))
    assert to.far_mac == (taker if to.hardware in (ETHERNET, LOOPBACK) else None)
    assert to.mtu == link.mtu
    if device != "lo":
        back = towards(links, f"far:{device}")
        assert (back.mac, back.far_device) == (bytes.fromhex(far[device].mac.replace(":", "")), device)


def test_of_an_impaired_tun_the_wire_is_not_passed_by(missing):
    try:
        made = lab.World(["tun"], impair="delay=1ms")
    except lab.Unavailable as error:
        missing(str(error))
    with made:
        if "tun" not in made.links:
            missing(made.skipped[0].reason)
        assert towards(made, "tun").tap is None


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("name", LINKS)
def test_a_datagram_gets_to_the_far_end_of_every_link(links, family, name, framed, arrived, available, missing):
    link, to = available(links, name), towards(links, name)
    if family in link.missing:
        missing(f"{name} has no IPv{family} here")
    if name == "ipip" and family == 6:
        to = towards(links, "near:ipip6")
    far_mac = ZEROS if to.far_mac is None else to.far_mac.hex(":")
    around = Ether(src=SOURCE, dst=far_mac) if framed else None
    one, last = (
        packet if around is None else around / packet
        for packet in (ip(family, link.near[family], link.far[family]) / datagram(each) for each in (b"one", LAST))
    )
    if (name, family, framed) == ("own", 6, False):  # a raw socket bound to lo reaches no address of another device
        with pytest.raises(OSError, match=os.strerror(errno.ENETUNREACH)):
            arrived(to, one, last)
    else:
        assert arrived(to, one, last)


def test_a_name_that_is_not_there_is_told_with_those_that_are(world):
    for where in ("nowhere", "far:nowhere", "side:veth", ""):
        with pytest.raises(lab.UsageError) as caught:
            towards(world, where)
        assert "give lo or veth" in str(caught.value)
    with visit("host", []) as (host, _), pytest.raises(lab.UsageError, match="--world new"):
        towards(host, "wireguard")


def test_an_interface_that_is_down_is_told(tool):
    asleep = subprocess.Popen(
        [tool("unshare"), "--user", "--map-root-user", "--net", "sh", "-c", "echo; read _"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with asleep:
        if not asleep.stdout.readline():
            pytest.skip("no user namespace can be made")
        with visit(asleep.pid, []) as (place, _), pytest.raises(lab.Unavailable, match="ip link set lo up"):
            towards(place, "lo")
        asleep.stdin.close()


# ---- sysctls ----


def test_a_world_delivers_frames_on_its_lo_at_all_its_ends(links):
    for end, name in itertools.product(("near", "far", "middle"), SYSCTLS):
        assert links.sysctl(name, end=end) == "1"


def test_sysctls_are_read_everywhere_and_set_in_worlds_only(world):
    name = "ipv4/ip_default_ttl"
    before = world.sysctl(name)
    assert world.sysctl(name, 33) == world.sysctl(name) == "33"
    assert world.sysctl(name, end="far") == before
    assert world.sysctl(name, before) == before
    with visit("host", []) as (host, _), visit(world.pid, []) as (joined, _):
        assert host.sysctl(name) == Path("/proc/sys/net", name).read_text().strip()
        assert joined.sysctl(SYSCTLS[0]) == "1"
        for place in (host, joined):
            with pytest.raises(lab.UsageError, match="private world"):
                place.sysctl(name, 33)
    for bad in ("", "/etc/passwd", "../kernel/hostname", "ipv4/nothing", "ipv4", "ipv4/\0", 3):
        for place in (world, host):
            with pytest.raises(lab.UsageError, match="below net/"):
                place.sysctl(bad)
    with pytest.raises(lab.UsageError, match="a value that it takes"):
        world.sysctl(name, "many")


@pytest.mark.parametrize("settings", list(itertools.product((0, 1), repeat=2)))
def test_frames_are_routed_in_where_both_sysctls_are_set(settings, arrived, missing):
    try:
        made = lab.World()
    except lab.Unavailable as error:
        missing(str(error))
    one, last = (Ether(src=SOURCE, dst=ZEROS) / ip(4, *[OWN[4]] * 2) / datagram(each) for each in (b"one", LAST))
    with made:
        for name, value in zip(SYSCTLS, settings, strict=True):
            made.sysctl(name, value)
        to = towards(made, "lo")
        assert to.routed_in == (settings == (1, 1))
        assert arrived(to, one, last)  # by whichever way is chosen
        assert arrived(to, one, last, path="l2") == to.routed_in


# ---- what is said not to arrive ----


def odd_frames(place: Place, name: str) -> Iterator[tuple[str, Packet]]:
    """Frames that a link may deliver or not, for reasons of their link layer, their header or their addresses."""
    to, link = towards(place, name), place.links[name]
    mac = to.far_mac.hex(":")

    def frame(family, near=None, far=None, around=None, **more):
        around = around or Ether(dst=mac, src=SOURCE)
        return around / ip(family, near or link.near[family], far or link.far[family], **more) / datagram()

    for family in (4, 6):
        for other in (ELSEWHERE, "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01"):
            yield f"IPv{family} to {other}", frame(family, around=Ether(dst=other, src=SOURCE))
        for tags in ((0,), (5,), (0, 5)):
            around = Ether(dst=mac, src=SOURCE)
            for tag in tags:
                around /= Dot1Q(vlan=tag)
            yield f"IPv{family} with tags {tags}", frame(family, around=around)
        yield f"IPv{family}, hop limit 0", frame(family, **{"ttl" if family == 4 else "hlim": 0})
        yield f"IPv{family}, too long", frame(family, **{"len" if family == 4 else "plen": 999})
    yield "wrong checksum", frame(4, chksum=0xBEEF)
    senders = ("127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "8.8.8.8", "240.0.0.1", link.far[4])
    for source in (*senders, "::1", "::", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", link.far[6]):
        yield f"from {source}", frame(6 if ":" in source else 4, near=source)
    for target in ("127.0.0.1", "127.9.9.9", "8.8.8.8", "::1", "2001:db8::1", "fe80::99"):
        yield f"to {target}", frame(6 if ":" in target else 4, far=target)


@pytest.mark.parametrize("name", ["lo", "veth", "bridge", "router", "macvlan", "vxlan", "tap"])
def test_what_is_said_not_to_arrive_does_not_and_all_else_does(links, name, arrived, found, available):
    link, to = available(links, name), towards(links, name)
    last = Ether(src=SOURCE, dst=to.far_mac.hex(":")) / ip(6, link.near[6], link.far[6]) / datagram(LAST)
    seen = {}
    for what, frame in odd_frames(links, name):
        _, told = found(to, frame, path="l2")
        assert told.path == "l2"
        seen[what] = (not told.undelivered, arrived(to, frame, last, path="l2"))
    assert {what: both for what, both in seen.items() if both[0] != both[1]} == {}
    assert {both[1] for both in seen.values()} == {False, True}
