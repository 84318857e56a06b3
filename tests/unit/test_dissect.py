"""The columns of frames that scapy made and wrote, against scapy's own fields."""

from __future__ import annotations

import random
import socket

import pytest
from scapy import all as scapy

from lab.taps.frames import CHECKSUMS, HAS, FrameFile

FRAMES = 300
TIME_NS = 1_795_405_850_789_045_123

TCP_OPTIONS = [
    ("MSS", 1460), ("WScale", 7), ("SAckOK", b""), ("Timestamp", (2**32 - 1, 12345)), ("SAck", (1, 2, 2**32 - 2, 5)),
    ("NOP", None),
]  # fmt: skip
EXTENSIONS = [
    scapy.IPv6ExtHdrHopByHop(options=[scapy.PadN(optdata=bytes(4))]),
    scapy.IPv6ExtHdrDestOpt(options=[scapy.PadN(optdata=bytes(20))]),
    scapy.IPv6ExtHdrRouting(addresses=["2001:db8::3"], segleft=0),
    scapy.IPv6ExtHdrFragment(id=99),
]


def payload(rng):
    return scapy.Raw(rng.randbytes(rng.choice([1, 2, 63, 1400])))


def transport(rng, family):
    ports = {"sport": rng.randrange(1024, 65536), "dport": rng.randrange(1024, 65536)}
    kind = rng.choice(["udp", "tcp", "icmp"])
    if kind == "udp":
        return scapy.UDP(**ports) / payload(rng)
    if kind == "tcp":
        options = rng.sample(TCP_OPTIONS, rng.randrange(4))
        numbers = {"seq": rng.randrange(2**32), "ack": rng.randrange(2**32), "window": rng.randrange(65536)}
        return scapy.TCP(**ports, **numbers, flags=rng.randrange(512), options=options) / payload(rng)
    numbers = {"id": rng.randrange(65536), "seq": rng.randrange(65536)}
    if family == 4:
        return scapy.ICMP(type=rng.choice([0, 8]), **numbers) / payload(rng)
    return rng.choice([scapy.ICMPv6EchoRequest, scapy.ICMPv6EchoReply])(**numbers, data=payload(rng).load)


def network(rng, family):
    ttl = rng.randrange(1, 256)
    if family == 4:
        options = [scapy.IPOption_Router_Alert()] * rng.randrange(3)
        return scapy.IP(src=f"10.0.0.{ttl}", dst="10.1.2.3", ttl=ttl, options=options) / transport(rng, 4)
    packet = scapy.IPv6(src=f"2001:db8::{ttl:x}", dst="2001:db8:1:2:3:4:5:6", hlim=ttl)
    for extension in rng.sample(EXTENSIONS, rng.randrange(4)):
        packet /= extension.copy()
    return packet / transport(rng, 6)


def frames(family):
    rng = random.Random(family)
    for _ in range(FRAMES):
        frame = scapy.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        for _tag in range(rng.choice([0, 0, 1, 2])):
            frame /= scapy.Dot1Q(vlan=rng.randrange(4096), prio=rng.randrange(8), dei=rng.randrange(2))
        yield scapy.Ether(bytes(frame / network(rng, family)))


def expected(frame):
    """The columns by scapy's fields; only those of layers that the frame has."""
    found = {"ethertype": (frame.getlayer(scapy.Dot1Q, frame.layers().count(scapy.Dot1Q)) or frame).type}
    if scapy.Dot1Q in frame:
        tag = frame[scapy.Dot1Q]
        found["vlan"] = tag.prio << 13 | tag.dei << 12 | tag.vlan
    ip = frame[scapy.IP] if scapy.IP in frame else frame[scapy.IPv6]
    found |= {"family": ip.version, "ttl": ip.ttl if ip.version == 4 else ip.hlim}
    data = b""
    for kind, number in ((scapy.UDP, 17), (scapy.TCP, 6)):
        if kind in frame:
            layer = frame[kind]
            found |= {"protocol": number, "source_port": layer.sport, "destination_port": layer.dport}
            data = bytes(layer.payload)
    if scapy.TCP in frame:
        found |= expected_tcp(frame[scapy.TCP])
    for kind in (scapy.ICMP, scapy.ICMPv6EchoRequest, scapy.ICMPv6EchoReply):
        if kind in frame:
            layer = frame[kind]
            found |= {"protocol": 1 if kind is scapy.ICMP else 58, "icmp_type": layer.type, "icmp_code": layer.code}
            found |= {"icmp_id": layer.id, "icmp_seq": layer.seq}
            data = bytes(layer.payload) if kind is scapy.ICMP else layer.data
    if scapy.IPv6ExtHdrFragment in frame:
        found["fragment_id"] = frame[scapy.IPv6ExtHdrFragment].id
    return found | {"payload_length": len(data), "payload_offset": len(frame) - len(data)}


def expected_tcp(tcp):
    found = {"tcp_seq": tcp.seq, "tcp_ack": tcp.ack, "tcp_window": tcp.window, "tcp_flags": int(tcp.flags)}
    options = dict(tcp.options)
    if "MSS" in options:
        found["tcp_mss"] = options["MSS"]
    if "WScale" in options:
        found["tcp_window_scale"] = options["WScale"]
    if "Timestamp" in options:
        found["tcp_ts_value"], found["tcp_ts_echo"] = options["Timestamp"]
    if "SAck" in options:
        found |= {"tcp_sacks": 2, "tcp_sack": [*options["SAck"], 0, 0, 0, 0]}
    return found


#: Which bit of ``has`` speaks of a column; those of the others are 0 where there is nothing to tell.
SPEAKS = {
    "vlan": "vlan", "ethertype": "ethertype", "family": "ip", "protocol": "ip", "ttl": "ip", "source_port": "ports",
    "destination_port": "ports", "icmp_type": "icmp", "icmp_code": "icmp", "icmp_id": "echo", "icmp_seq": "echo",
    "tcp_flags": "tcp", "tcp_seq": "tcp", "tcp_ack": "tcp", "tcp_window": "tcp", "tcp_mss": "mss",
    "tcp_window_scale": "window_scale", "tcp_ts_value": "timestamps", "tcp_ts_echo": "timestamps",
    "fragment_id": "fragment", "payload_length": "payload", "payload_offset": "payload",
}  # fmt: skip


@pytest.fixture
def written(family, tmp_path):
    """Frames, and the file that scapy wrote of them."""
    made = list(frames(family))
    for index, frame in enumerate(made):
        frame.time = scapy.EDecimal(TIME_NS + index) / 10**9
    path = str(tmp_path / "made.pcap")
    with scapy.PcapWriter(path, nano=True) as writer:
        writer.write(made)
    return made, path


def test_every_column_is_what_scapy_says(written):
    made, path = written
    with FrameFile(path) as file:
        columns = file.columns("time_ns", "has", "source", "destination", "tcp_sack", "tcp_sacks", "checksum", *SPEAKS)
    assert columns["time_ns"].tolist() == [TIME_NS + index for index in range(FRAMES)]
    for index, frame in enumerate(made):
        row = {name: column[index].tolist() for name, column in columns.items()}
        told = {name: row[name] for name, bit in SPEAKS.items() if row["has"] & HAS[bit]}
        if row["tcp_sacks"]:
            told |= {"tcp_sacks": row["tcp_sacks"], "tcp_sack": row["tcp_sack"]}
        assert told == expected(frame), (index, frame.summary())
        assert CHECKSUMS[row["checksum"]] == "good"
        ip = frame[scapy.IP] if scapy.IP in frame else frame[scapy.IPv6]
        for name, address in (("source", ip.src), ("destination", ip.dst)):
            packed = socket.inet_pton(socket.AF_INET if ip.version == 4 else socket.AF_INET6, address)
            assert bytes(row[name]) == packed.ljust(16, b"\0")
