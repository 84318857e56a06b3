"""The columns of files that tcpdump and dumpcap write, against what tshark prints of them: every field of every frame.

What is in the files is made here: all that two ends of a world say to each other over lo and over a veth pair, and what
no program would send, made by scapy and put on the link as it is.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import subprocess

import pytest

from lab.taps.filters import NOTHING, attach
from lab.taps.frames import CHECKSUMS, HAS, FrameFile

SO_DETACH_FILTER, SO_MEMINFO, MEMINFO_DROPS = 27, 55, 8
COUNT = 20
GOODBYE = b"the last datagram of all"
WRONG = b"its checksum is wrong"

#: All headers but those of IPv6's extensions are whole in so many bytes: of a header that is cut, tshark prints what is
#: left, where nothing is told of it here.
HEADERS = 14 + 40 + 60

#: What is recorded at once: by which program, and of which devices.
RECORDERS = {
    "tcpdump of veth": ("tcpdump", "-i", "veth", "--time-stamp-precision=nano", "-U"),
    "tcpdump of veth, cut": ("tcpdump", "-i", "veth", "-s", f"{HEADERS}", "-U", "ip or arp or icmp6 or tcp or udp"),
    "tcpdump of lo": ("tcpdump", "-i", "lo", "-U"),
    "tcpdump of any, cooked": ("tcpdump", "-i", "any", "--time-stamp-precision=nano", "-y", "LINUX_SLL", "-U"),
    "tcpdump of any, cooked anew": ("tcpdump", "-i", "any", "-y", "LINUX_SLL2", "-U"),
    # Of several interfaces dumpcap holds 1,000 frames at most until they are written, unless told otherwise.
    "dumpcap of both": ("dumpcap", "-i", "lo", "-i", "veth", "-N", "1000000"),
    "dumpcap of veth, as pcap": ("dumpcap", "-i", "veth", "-P"),
}


# ---- traffic ----


def family_of(family):
    return socket.AF_INET if family == 4 else socket.AF_INET6


def stream_pair(world, link, family):
    """A TCP connection over a link: its near and its far socket."""
    with world.socket(family_of(family), socket.SOCK_STREAM, end=link.far_end) as listener:
        listener.bind((link.far[family], 0))
        listener.listen()
        near = world.socket(family_of(family), socket.SOCK_STREAM)
        near.connect(listener.getsockname())
        far, _address = listener.accept()
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


def talk_tcp(world, link, family):
    """A handshake, data in large segments, a reset; and a connection that is refused."""
    near, far = stream_pair(world, link, family)
    with near, far:
        sent = bytes(100_000)
        near.settimeout(10)
        far.settimeout(10)
        for _ in range(10):
            near.sendall(sent)
            left = len(sent)
            while left:
                left -= len(far.recv(left))
        far.sendall(b"enough")
        near.recv(100)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with world.socket(family_of(family), socket.SOCK_STREAM) as refused, contextlib.suppress(ConnectionRefusedError):
        refused.connect((link.far[family], 9))


def lose_a_segment(world, link, family, wait_until):
    """What comes behind a lost segment is acknowledged in a SACK block."""
    near, far = stream_pair(world, link, family)
    with near, far:
        far.settimeout(10)
        near.sendall(b"first")
        far.recv(5)
        attach(far, NOTHING)
        near.sendall(b"lost")

        def drops():
            counts = far.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)
            return struct.unpack("9I", counts)[MEMINFO_DROPS]

        wait_until(drops, "the segment was dropped")
        far.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        near.sendall(b"third")
        assert far.recv(9, socket.MSG_WAITALL) == b"lostthird"


def talk(world, family, wait_until):
    for name, link in world.links.items():
        for probe in ("icmp", "udp", "tcp"):
            assert world.rtt(name, family=family, probe=probe, count=COUNT).received == COUNT
        world.rtt(name, family=family, size=4000, count=COUNT)  # fragments, where the MTU is 1500
        with world.socket(family_of(family), socket.SOCK_DGRAM) as out:
            out.sendto(bytes(4000), (link.far[family], 9))  # port unreachable, and fragments
        talk_tcp(world, link, family)
        lose_a_segment(world, link, family, wait_until)


def made_by_scapy():
    """Frames that no program here would send; nobody is there to answer them."""
    from scapy import all as scapy

    def ether():
        return scapy.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")

    def ip4(**fields):
        return scapy.IP(src="192.0.2.1", dst="192.0.2.2", **fields)

    def ip6(**fields):
        return scapy.IPv6(src="2001:db8::1", dst="2001:db8::2", **fields)

    udp = scapy.UDP(sport=4000, dport=5000) / b"some data"
    tcp = scapy.TCP(sport=4000, dport=5000, seq=2**32 - 1, ack=2**31, flags="A", window=999) / b"more"
    options = [("MSS", 1460), ("NOP", None), ("WScale", 14), ("SAckOK", b""), ("Timestamp", (2**32 - 1, 2**31))]
    segments = scapy.IPv6ExtHdrSegmentRouting(addresses=["2001:db8::9", "2001:db8::2"], segleft=1, lastentry=1)
    extensions = {
        "hop by hop": scapy.IPv6ExtHdrHopByHop(options=[scapy.PadN(optdata=bytes(4))]),
        "destination": scapy.IPv6ExtHdrDestOpt(options=[scapy.PadN(optdata=bytes(12))]),
        "routing": scapy.IPv6ExtHdrRouting(addresses=["2001:db8::3"], segleft=0),
        "segments": segments,
        "whole fragment": scapy.IPv6ExtHdrFragment(id=7),
    }
    every = ip6() / extensions["hop by hop"] / extensions["routing"] / extensions["destination"]
    made = [
        *(ether() / ip6(hlim=9) / extension / udp for extension in extensions.values()),
        *(ether() / ip6(fl=5) / extension / tcp for extension in extensions.values()),
        ether() / every / extensions["whole fragment"] / extensions["destination"] / tcp,
        ether() / every / scapy.ICMPv6EchoRequest(id=1, seq=2, data=b"echo"),
        ether() / every / scapy.IPv6ExtHdrFragment(id=8, offset=11, m=1, nh=17) / bytes(64),
        ether() / ip6(nh=59),
        ether() / ip6() / scapy.AH(nh=17, payloadlen=4, spi=1, seq=1, icv=bytes(12)) / udp,
        ether() / scapy.Dot1Q(vlan=100, prio=5) / ip4() / udp,
        ether() / scapy.Dot1Q(vlan=4095, dei=1) / ip6() / tcp,
        ether() / scapy.Dot1AD(vlan=7, prio=1) / scapy.Dot1Q(vlan=8) / ip4() / tcp,
        ether() / scapy.Dot1Q(vlan=1) / scapy.ARP(pdst="192.0.2.9"),
        ether() / ip4(options=[scapy.IPOption_RR(routers=["0.0.0.0"] * 3), scapy.IPOption_EOL()]) / udp,
        ether() / ip4(proto=253) / b"for experiments",
        ether() / ip4(frag=100, flags="MF", id=77, proto=17) / bytes(64),
        ether() / ip4() / scapy.UDP(chksum=0) / b"no checksum",
        ether() / ip4() / scapy.UDP(chksum=0x1234) / WRONG,
        ether() / ip6() / scapy.TCP(chksum=0x1234) / WRONG,
        ether() / ip4() / scapy.ICMP(chksum=0x1234) / WRONG,
        ether() / ip4() / scapy.TCP(flags=0x1FF, options=options),
        ether() / ip6() / scapy.TCP(options=[("SAck", (1, 2, 3, 4, 5, 6, 7, 8)), ("NOP", None), ("NOP", None)]),
        ether() / ip4() / scapy.ICMP(type=13, id=5, seq=6),
        scapy.Dot3(dst="01:80:c2:00:00:00", src="02:00:00:00:00:01") / scapy.LLC() / scapy.STP(),
        scapy.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=0x88B5) / b"for experiments, too",
    ]
    return [bytes(frame).ljust(60, b"\0") for frame in made]


# ---- recording ----


@pytest.fixture(scope="module")
def recordings(world, tool, wait_until, tmp_path_factory):
    """The files of RECORDERS, all of the same traffic."""
    files, running = {}, []
    folder = tmp_path_factory.mktemp("recordings")
    for name, (program, *arguments) in RECORDERS.items():
        files[name] = folder / f"{len(files)}.cap"
        with files[name].open("wb") as out, files[name].with_suffix(".txt").open("wb") as log:
            running.append(world.popen([tool(program), "-w", "-", *arguments], stdout=out, stderr=log))
    try:
        with world.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:

            def everybody_records(word):
                """Of each device that it records: a program may write those of one before those of the other."""
                told = {device: word + f" on {device}".encode() for device in ("veth", "lo")}
                for device, text in told.items():
                    out.sendto(text, (world.links[device].far[4], 9))
                written = {name: path.read_bytes() for name, path in files.items()}
                return all(
                    text in written[name]
                    for name, arguments in RECORDERS.items()
                    for device, text in told.items()
                    if {device, "any"} & {*arguments}
                )

            wait_until(lambda: everybody_records(b"hello"), "all record")
            for family in (4, 6):
                talk(world, family, wait_until)
            with world.socket(socket.AF_PACKET, socket.SOCK_RAW) as tap:
                for frame in made_by_scapy():
                    tap.sendto(frame, ("veth", 0))
            wait_until(lambda: everybody_records(GOODBYE), "all have recorded everything")
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
        ended = [process.wait(30) for process in running]
    assert not any(ended), [path.with_suffix(".txt").read_text() for path in files.values()]
    return files


# ---- what tshark prints ----

PREFERENCES = (
    "ip.defragment:FALSE", "ipv6.defragment:FALSE", "tcp.desegment_tcp_streams:FALSE", "tcp.check_checksum:TRUE",
    "udp.check_checksum:TRUE", "tcp.relative_sequence_numbers:FALSE",
)  # fmt: skip
FIELDS = (
    "frame.time_epoch", "frame.len", "frame.cap_len", "frame.protocols", "frame.interface_name",
    "eth.type", "sll.etype", "sll.pkttype", "ieee8021ad.priority", "ieee8021ad.dei", "ieee8021ad.id", "vlan.etype",
    "vlan.priority", "vlan.dei", "vlan.id",
    "ip.src", "ip.dst", "ip.proto", "ip.ttl", "ip.id", "ip.flags.mf", "ip.frag_offset",
    "ipv6.src", "ipv6.dst", "ipv6.nxt", "ipv6.hlim", "ipv6.hopopts.nxt", "ipv6.routing.nxt", "ipv6.dstopts.nxt",
    "ipv6.fraghdr.nxt", "ipv6.fraghdr.ident", "ipv6.fraghdr.offset", "ipv6.fraghdr.more", "ah.next_header",
    "icmp.type", "icmp.code", "icmp.ident", "icmp.seq", "icmp.checksum.status",
    "icmpv6.type", "icmpv6.code", "icmpv6.echo.identifier", "icmpv6.echo.sequence_number", "icmpv6.checksum.status",
    "tcp.srcport", "tcp.dstport", "tcp.flags", "tcp.seq_raw", "tcp.ack_raw", "tcp.window_size_value", "tcp.len",
    "tcp.options.mss_val", "tcp.options.wscale.shift", "tcp.options.sack_perm", "tcp.options.sack_le",
    "tcp.options.sack_re", "tcp.options.timestamp.tsval", "tcp.options.timestamp.tsecr", "tcp.checksum.status",
    "tcp.payload", "udp.srcport", "udp.dstport", "udp.length", "udp.checksum.status", "udp.payload", "data.len",
    "data.data",
)  # fmt: skip
EXTENSIONS = {
    0: "ipv6.hopopts.nxt", 43: "ipv6.routing.nxt", 44: "ipv6.fraghdr.nxt", 51: "ah.next_header", 60: "ipv6.dstopts.nxt",
}  # fmt: skip
#: A wrong one (0) is left to the device, but for those that we made: tshark does not tell the two apart.
CHECKSUM_STATUS = {"": "none", "0": "left", "1": "good", "2": "none", "3": "absent", "4": "bad"}


def printed(tshark, path):
    """tshark's fields of each frame: lists of texts, those of outer headers before those of inner ones."""
    preferences = [each for preference in PREFERENCES for each in ("-o", preference)]
    fields = [each for field in FIELDS for each in ("-e", field)]
    command = [tshark, "-n", "-r", path, *preferences, "-T", "fields", *fields]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    for line in done.stdout.splitlines():
        yield {name: text.split(",") if text else [] for name, text in zip(FIELDS, line.split("\t"), strict=True)}


def number(texts, base=0):
    """The first of a field's values as a number; None if it has none."""
    return int(texts[0], base) if texts else None


def network_by_tshark(row):
    """The columns of the outermost IP header and of IPv6's extensions."""
    names = row["frame.protocols"][0].split(":")
    if "ip" not in names and "ipv6" not in names:
        return {}
    if "ipv6" not in names or ("ip" in names and names.index("ip") < names.index("ipv6")):
        offset, more = number(row["ip.frag_offset"]) * 8, number(row["ip.flags.mf"])
        found = {
            "family": 4, "source": row["ip.src"][0], "destination": row["ip.dst"][0],
            "protocol": number(row["ip.proto"]), "ttl": number(row["ip.ttl"]),
        }  # fmt: skip
        return found | ({"fragment": (number(row["ip.id"]), offset, more)} if offset or more else {})
    found = {
        "family": 6, "source": row["ipv6.src"][0], "destination": row["ipv6.dst"][0],
        "protocol": number(row["ipv6.nxt"]), "ttl": number(row["ipv6.hlim"]),
    }  # fmt: skip
    chain = {number: iter(row[name]) for number, name in EXTENSIONS.items()}
    while found["protocol"] in chain and (after := next(chain[found["protocol"]], None)):
        if found["protocol"] == 44:
            places = (row["ipv6.fraghdr.ident"], row["ipv6.fraghdr.offset"], row["ipv6.fraghdr.more"])
            ident, offset, more = map(number, places)
            found["fragment"] = (ident, offset * 8, more)
        found["protocol"] = int(after)
    return found


def tcp_by_tshark(row):
    first = {
        "mss": "tcp.options.mss_val", "window_scale": "tcp.options.wscale.shift",
        "flags": "tcp.flags", "seq": "tcp.seq_raw", "ack": "tcp.ack_raw", "window": "tcp.window_size_value",
        "ts_value": "tcp.options.timestamp.tsval", "ts_echo": "tcp.options.timestamp.tsecr", "payload": "tcp.len",
    }  # fmt: skip
    found = {name: number(row[field]) for name, field in first.items()}
    edges = zip(map(int, row["tcp.options.sack_le"]), map(int, row["tcp.options.sack_re"]), strict=True)
    return found | {"sack_permitted": bool(row["tcp.options.sack_perm"]), "sacks": list(edges)}


def by_tshark(row):
    """The columns of a frame as tshark has them, under our names; None or not there: it has no such layer."""
    time_s, _point, fraction = row["frame.time_epoch"][0].partition(".")
    types = row["eth.type"] + row["sll.etype"] + row["vlan.etype"]
    if types and types[-1] == "0x88a8":  # tshark has no field for what comes behind such a tag
        types = ["0x86dd" if "ipv6" in row["frame.protocols"][0].split(":") else "0x0800"]
    found = {
        "time_ns": int(time_s) * 10**9 + int(fraction), "length": number(row["frame.len"]),
        "captured": number(row["frame.cap_len"]), "ethertype": int(types[-1], 16) if types else None,
        "interface": row["frame.interface_name"][:1],
    }  # fmt: skip
    tag = next((tag for tag in ("ieee8021ad", "vlan") if row[f"{tag}.id"]), None)
    if tag:
        priority, drop_eligible, vlan = (number(row[f"{tag}.{name}"]) for name in ("priority", "dei", "id"))
        found["vlan"] = priority << 13 | drop_eligible << 12 | vlan
    if row["sll.pkttype"]:
        found["direction"] = 2 if row["sll.pkttype"] == ["4"] else 1
    found |= network_by_tshark(row)
    if found.get("fragment", (0, 0, 0))[1]:
        return found
    name = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}.get(found.get("protocol"))
    if name is None:
        return found
    if name in ("tcp", "udp"):
        found["ports"] = (number(row[f"{name}.srcport"]), number(row[f"{name}.dstport"]))
    if name == "tcp":
        found |= tcp_by_tshark(row) if row["tcp.flags"] else {}  # the header may be cut
    elif name == "udp":
        whole = "fragment" not in found and row["udp.checksum.status"]  # the end of the header
        found["payload"] = number(row["udp.length"]) - 8 if whole else None
    else:
        found["icmp"] = (number(row[f"{name}.type"]), number(row[f"{name}.code"]))
        ident, seq = ("ident", "seq") if name == "icmp" else ("echo.identifier", "echo.sequence_number")
        if found["icmp"][0] in ((0, 8) if name == "icmp" else (128, 129)):
            found["echo"] = (number(row[f"{name}.{ident}"]), number(row[f"{name}.{seq}"]))
            found["payload"] = number(row["data.len"]) if found["captured"] == found["length"] else None
    found["checksum"] = CHECKSUM_STATUS["".join(row[f"{name}.checksum.status"][:1])]
    if WRONG.hex() in row["udp.payload"] + row["tcp.payload"] + row["data.data"]:
        found["checksum"] = "bad"
    found["bytes"] = (row[f"{name}.payload"] or [None])[0] if name in ("tcp", "udp") else None
    return found


# ---- the same by us ----

#: Columns under our names, by the bit of ``has`` that speaks of them.
OURS = {
    None: ("time_ns", "length", "captured"),
    "vlan": ("vlan",),
    "ethertype": ("ethertype",),
    "ip": ("family", "protocol", "ttl"),
    "tcp": ("tcp_flags", "tcp_seq", "tcp_ack", "tcp_window"),
    "mss": ("tcp_mss",),
    "window_scale": ("tcp_window_scale",),
    "timestamps": ("tcp_ts_value", "tcp_ts_echo"),
}
TOGETHER = {
    "ports": ("source_port", "destination_port"),
    "icmp": ("icmp_type", "icmp_code"),
    "echo": ("icmp_id", "icmp_seq"),
    "fragment": ("fragment_id", "fragment_offset", "more_fragments"),
}
OTHERS = (
    "has", "source", "destination", "tcp_sack", "tcp_sacks", "checksum", "direction", "interface", "payload_offset",
    "payload_length",
)  # fmt: skip


def by_us(file):
    names = [*OTHERS, *(name for names in (*OURS.values(), *TOGETHER.values()) for name in names)]
    columns = file.columns(*names)
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    for index, row in enumerate(rows):
        has = {bit for bit, value in HAS.items() if row["has"] & value} | {None}
        found = {n.removeprefix("tcp_"): int(row[n]) for bit, names in OURS.items() if bit in has for n in names}
        found |= {bit: tuple(int(row[n]) for n in names) for bit, names in TOGETHER.items() if bit in has}
        if "ip" in has:
            kind, size = (socket.AF_INET, 4) if row["family"] == 4 else (socket.AF_INET6, 16)
            for end in ("source", "destination"):
                found[end] = socket.inet_ntop(kind, row[end].tobytes()[:size])
        if "tcp" in has:
            edges = [tuple(map(int, pair)) for pair in row["tcp_sack"].reshape(4, 2)]
            found |= {"sack_permitted": "sack_permitted" in has, "sacks": edges[: row["tcp_sacks"]]}
        if "payload" in has:
            begin = int(row["payload_offset"])
            found["payload"] = int(row["payload_length"])
            found["bytes"] = file.frame_bytes(index)[begin : begin + found["payload"]].hex() or None
        found |= {"checksum": CHECKSUMS[row["checksum"]], "direction": int(row["direction"]) or None}
        name = file.sources[row["interface"]].name
        yield found | {"interface": [name] if name else []}


# ---- both ----

#: What tshark has no field for, or none for some protocols.
UNTOLD = {"payload", "bytes"}


def differences(theirs, ours):
    """The columns in which they differ, with both values."""
    wanted = {name for name, value in theirs.items() if value is not None}
    told = {name for name, value in ours.items() if value is not None} - UNTOLD - {"checksum"}
    return {name: (theirs.get(name), ours.get(name)) for name in wanted | told if theirs.get(name) != ours.get(name)}


@pytest.mark.parametrize("name", RECORDERS)
def test_every_field_of_every_frame_is_what_tshark_prints(recordings, tool, name):
    rows = list(printed(tool("tshark"), recordings[name]))
    with FrameFile(recordings[name]) as file:
        found = list(by_us(file))
        assert file.fault is None
    assert len(found) == len(rows) > 0
    for number, (row, ours) in enumerate(zip(rows, found, strict=True), 1):
        assert not differences(by_tshark(row), ours), (name, number, row)


def test_all_that_is_to_be_compared_was_recorded(recordings):
    with FrameFile(recordings["dumpcap of both"]) as file:
        columns = file.columns("has", "family", "length", "protocol", "checksum", "tcp_flags", "tcp_sacks", "icmp_type")
    frames = [dict(zip(columns, map(int, row), strict=True)) for row in zip(*columns.values(), strict=True)]
    for family in (4, 6):
        of_family = [frame for frame in frames if frame["family"] == family]
        assert {bit for bit, value in HAS.items() if any(frame["has"] & value for frame in of_family)} == set(HAS)
        assert {CHECKSUMS[frame["checksum"]] for frame in of_family} >= {"none", "good", "bad", "left"}
        assert any(frame["tcp_flags"] & 4 for frame in of_family)
        assert any(frame["tcp_sacks"] for frame in of_family)
        assert any(frame["length"] > 10_000 for frame in of_family), "segments left to the device"
        assert sum(bool(frame["has"] & HAS["fragment"]) for frame in of_family) > COUNT
        assert {frame["icmp_type"] for frame in of_family} >= ({0, 3, 8} if family == 4 else {1, 128, 129})
    assert any(CHECKSUMS[frame["checksum"]] == "absent" for frame in frames)
    assert {0, 6, 17, 253} <= {frame["protocol"] for frame in frames}
