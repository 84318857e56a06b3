"""Captures as packets, tables and text: on files made here by the format's own description, and read by scapy, too."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import numpy as np
import pytest

import lab
from lab.taps.lines import DESCRIBED, describe_frames, frame_lines
from lab.taps.packets import Dissector
from lab.taps.tables import COLUMNS, address_texts

START_NS = 1_700_000_000_123_456_789
ETHERNET, RAW, LINUX_SLL, UNKNOWN = 1, 101, 113, 147
IN, OUT = 1, 2


def block(kind, body):
    size = 12 + len(body)
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


def option(code, value):
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def time(ns):
    return struct.pack("<II", ns >> 32, ns & 0xFFFFFFFF)


def pcapng(frames, *, link_type=ETHERNET, name="lo", statistics=None):
    """A pcapng file; frames: dicts of data and what else an Enhanced Packet Block can tell."""
    text = option(2, name.encode()) + option(9, b"\x09") if name else option(9, b"\x09")
    file = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    file += block(1, struct.pack("<HHI", link_type, 0, 0) + text + option(0, b""))
    for number, frame in enumerate(frames):
        data = frame["data"]
        options = option(2, struct.pack("<I", frame["flags"])) if "flags" in frame else b""
        options += option(4, struct.pack("<Q", frame["dropped"])) if "dropped" in frame else b""
        options += option(5, struct.pack("<Q", frame["packet_id"])) if "packet_id" in frame else b""
        options += option(1, frame["comment"].encode()) if "comment" in frame else b""
        time_ns = frame.get("time_ns", START_NS + number * 1001)
        sizes = struct.pack("<II", len(data), frame.get("length", len(data)))
        body = struct.pack("<I", 0) + time(time_ns) + sizes + data + bytes(-len(data) % 4)
        file += block(6, body + (options and options + option(0, b"")))
    if statistics is not None:
        dropped = option(5, struct.pack("<Q", statistics))
        file += block(5, struct.pack("<I", 0) + time(START_NS) + dropped + option(0, b""))
    return file


@pytest.fixture
def capture(tmp_path):
    """Reads a pcapng file of such frames."""
    opened = []

    def build(frames, **more):
        path = tmp_path / f"{len(opened)}.pcapng"
        path.write_bytes(pcapng(frames, **more))
        opened.append(lab.read(path))
        return opened[-1]

    yield build
    for each in opened:
        each.close()


@pytest.fixture(scope="module")
def scapy():
    """Its names, and frames of several kinds made with it."""
    import scapy.all as names
    from scapy.layers.l2 import CookedLinux

    no_macs = {"src": "00:00:00:00:00:00", "dst": "00:00:00:00:00:00"}
    ether4, ether6 = names.Ether(type=0x0800, **no_macs), names.Ether(type=0x86DD, **no_macs)
    ip, ipv6 = names.IP(src="127.0.0.1", dst="127.0.0.5"), names.IPv6(src="::1", dst="fe80::1")
    tcp = names.TCP(sport=43210, dport=8080, flags="PA", seq=1, ack=2, options=[("SAckOK", b""), ("MSS", 1460)])
    packets = {
        "echo": ether4 / ip / names.ICMP(id=7, seq=3) / (b"x" * 56),
        "echo6": ether6 / ipv6 / names.ICMPv6EchoReply(id=8, seq=4),
        "tcp": ether4 / ip / tcp / b"hello",
        "udp6": ether6 / ipv6 / names.UDP(sport=1, dport=53) / b"?",
        "arp": names.Ether(**no_macs) / names.ARP(psrc="127.0.0.1", pdst="127.0.0.2"),
        "fragment": ether4
        / names.IP(src="127.0.0.1", dst="127.0.0.1", proto=17, id=9, frag=185, flags="MF")
        / (b"f" * 8),
        "whole": ether4 / ip / names.UDP(sport=1, dport=2) / bytes(65_507),
    }
    frames = {name: bytes(packet) for name, packet in packets.items()}
    return SimpleNamespace(
        all=names, frames=frames, CookedLinux=CookedLinux, ip=bytes(ip / names.ICMP()), ipv6=bytes(ipv6)
    )


def rows(scapy, *names, **more):
    return [{"data": scapy.frames[name], **more} for name in names]


KINDS = ("echo", "echo6", "tcp", "udp6", "arp", "fragment")


def test_packets_are_those_that_scapy_reads_of_the_same_file(capture, scapy):
    frames = rows(scapy, *KINDS)
    for number, frame in enumerate(frames):
        frame["flags"] = (IN, OUT)[number % 2]
    frames[2] |= {"comment": "who spoke", "length": len(frames[2]["data"]) + 100}
    cap = capture(frames)
    theirs = scapy.all.rdpcap(cap.path)
    assert len(cap) == len(theirs) == len(KINDS)
    for ours, other in zip(cap, theirs, strict=True):
        assert ours == other
        assert bytes(ours) == bytes(other)
        for name in ("time", "wirelen", "direction", "sniffed_on", "comments"):
            assert getattr(ours, name) == getattr(other, name), name
    assert [int(packet.time * 1_000_000_000) for packet in cap] == [START_NS + 1001 * n for n in range(len(KINDS))]
    assert cap[2].comments == [b"who spoke"]
    assert [packet.direction for packet in cap] == [IN, OUT] * 3
    assert cap[4].sniffed_on == "lo"
    assert cap[2].wirelen == len(cap[2]) + 100


def test_a_frame_larger_than_scapys_mtu_stays_whole(capture, scapy):
    cap = capture(rows(scapy, "whole"))
    assert bytes(cap[0]) == scapy.frames["whole"]
    assert len(cap[0]) == 65_549 > len(scapy.all.rdpcap(cap.path)[0])


def test_direction_and_interface_that_the_file_does_not_tell_are_none(capture, scapy):
    packet = capture(rows(scapy, "echo"), name="")[0]
    assert (packet.direction, packet.sniffed_on, packet.comments) == (None, None, None)


@pytest.mark.parametrize(
    "part",
    [slice(None), slice(2, 5), slice(-2, None), slice(None, None, -1), slice(5, 1, -2), slice(3, 3), slice(0, 99, 4)],
    ids=str,
)
def test_slices_are_those_of_a_list_and_dissect_nothing(capture, scapy, part, monkeypatch):
    cap = capture(rows(scapy, *KINDS))
    all_of_them = list(cap)
    touched = []
    dissect = Dissector.packet
    monkeypatch.setattr(Dissector, "packet", lambda self, number: touched.append(number) or dissect(self, number))
    sliced = cap[part]
    assert len(sliced) == len(all_of_them[part])
    assert str(sliced)
    assert sliced._repr_html_()
    assert not touched
    assert list(sliced) == all_of_them[part]
    assert len(touched) == len(all_of_them[part])
    assert sliced.to_polars("number")["number"].to_list() == [n + 1 for n in range(len(KINDS))[part]]
    assert sliced.to_polars("length")["length"].to_list() == [len(packet) for packet in all_of_them[part]]


def test_indices_are_those_of_a_list(capture, scapy):
    cap = capture(rows(scapy, *KINDS))
    assert bytes(cap[-1]) == scapy.frames[KINDS[-1]]
    assert bytes(cap[1:][1:][0]) == scapy.frames[KINDS[2]]
    for number in (len(KINDS), -len(KINDS) - 1):
        with pytest.raises(IndexError):
            cap[number]


def test_to_scapy_gives_its_packet_list(capture, scapy):
    cap = capture(rows(scapy, *KINDS))
    packets = cap[1:4].to_scapy()
    assert isinstance(packets, scapy.all.PacketList)
    assert [bytes(packet) for packet in packets] == [scapy.frames[name] for name in KINDS[1:4]]
    assert len(cap.to_scapy().filter(lambda packet: scapy.all.TCP in packet)) == 1


def test_link_types_are_those_that_scapy_knows(capture, scapy):
    def first(link_type, data):
        return capture([{"data": data}], link_type=link_type)[0]

    assert type(first(RAW, scapy.ip)) is scapy.all.IP
    assert type(first(RAW, scapy.ipv6)) is scapy.all.IPv6
    cooked = bytes(scapy.CookedLinux(proto=0x0800)) + scapy.ip
    assert type(first(LINUX_SLL, cooked)) is scapy.CookedLinux
    assert scapy.all.ICMP in first(LINUX_SLL, cooked)
    assert first(UNKNOWN, b"what is this?") == scapy.all.Raw(b"what is this?")


def test_what_breaks_a_dissector_is_raw_unless_scapy_is_told_to_raise(capture, scapy, monkeypatch):
    def broken(self, data):
        raise struct.error("too short")

    cap = capture(rows(scapy, "echo"))
    monkeypatch.setattr(scapy.all.Ether, "do_dissect", broken)
    monkeypatch.setattr(scapy.all.conf, "debug_dissector", False)
    assert cap[0].load == scapy.frames["echo"]
    monkeypatch.setattr(scapy.all.conf, "debug_dissector", True)
    with pytest.raises(struct.error):
        cap[0]


def test_a_filter_chooses_frames(capture, scapy, tmp_path):
    cap = capture(rows(scapy, *KINDS))
    with lab.read(cap.path, filter="icmp6 or tcp") as some:
        assert [bytes(packet) for packet in some] == [scapy.frames["echo6"], scapy.frames["tcp"]]
    with pytest.raises(lab.UsageError, match="syntax error"):
        lab.read(cap.path, filter="icmp or")


# ---- tables ----


def test_the_table_has_null_where_a_frame_has_no_such_layer(capture, scapy):
    table = capture(rows(scapy, *KINDS)).to_polars()
    assert tuple(table.columns) == COLUMNS
    echo, echo6, tcp, udp6, arp, fragment = table.to_dicts()
    assert (echo["source"], echo["destination"], echo["ttl"]) == ("127.0.0.1", "127.0.0.5", 64)
    assert (echo["icmp_type"], echo["icmp_id"], echo["icmp_seq"], echo["payload_length"]) == (8, 7, 3, 56)
    assert (echo6["family"], echo6["source"], echo6["destination"]) == (6, "::1", "fe80::1")
    assert (tcp["source_port"], tcp["destination_port"], tcp["tcp_flags"], tcp["tcp_mss"]) == (43210, 8080, 0x18, 1460)
    assert (tcp["tcp_sack_permitted"], tcp["tcp_sacks"], tcp["tcp_window_scale"]) == (True, [], None)
    assert (udp6["destination_port"], udp6["tcp_sack_permitted"], udp6["icmp_type"]) == (53, None, None)
    assert (fragment["fragment_id"], fragment["fragment_offset"], fragment["more_fragments"]) == (9, 1480, True)
    assert (fragment["source_port"], echo["more_fragments"]) == (None, None)
    there = {name for name, value in arp.items() if value is not None}
    always = {"number", "time_ns", "interface", "length", "captured", "ethertype", "checksum", "dropped"}
    assert there - {"payload_length", "payload_offset"} == always
    assert table["checksum"].to_list() == ["good", "good", "good", "good", "none", "none"]


def test_selective_acknowledgements_are_lists_of_pairs(capture, scapy):
    edges = [(10, 20), (30, 40)]
    tcp = scapy.all.TCP(flags="A", options=[("NOP", None), ("NOP", None), ("SAck", sum(edges, ()))])
    data = bytes(scapy.all.Ether(src="0:0:0:0:0:0", dst="0:0:0:0:0:0") / scapy.all.IP(dst="127.0.0.1") / tcp)
    table = capture([{"data": data}, *rows(scapy, "echo", "tcp")]).to_polars("tcp_sacks")
    assert table["tcp_sacks"].to_list() == [[list(pair) for pair in edges], None, []]


def test_what_only_pcapng_tells_is_in_the_table(capture, scapy):
    frames = rows(scapy, "echo", flags=OUT, packet_id=2**40) + rows(scapy, "echo", flags=IN, dropped=3, comment="ʘ")
    table = capture([*frames, *rows(scapy, "echo")])
    table = table.to_polars("direction", "packet_id", "dropped", "comment", "interface").to_dict(as_series=False)
    assert table["direction"] == ["out", "in", None]
    assert table["packet_id"] == [2**40, None, None]
    assert table["dropped"] == [0, 3, 0]
    assert table["comment"] == [None, "ʘ", None]
    assert table["interface"] == ["lo"] * 3


def test_pandas_and_numpy_have_the_same_columns(capture, scapy):
    cap = capture(rows(scapy, *KINDS))
    arrays = cap.to_numpy("time_ns", "source", "tcp_seq")
    assert arrays["time_ns"].dtype == np.int64
    assert arrays["source"].tolist() == ["127.0.0.1", "::1", "127.0.0.1", "::1", None, "127.0.0.1"]
    assert np.isnan(arrays["tcp_seq"]).tolist() == [True, True, False, True, True, True]
    assert list(cap.to_pandas().columns) == list(COLUMNS)


def test_a_capture_of_nothing_has_a_table_and_a_display(capture):
    cap = capture([])
    assert cap.to_polars().shape == (0, len(COLUMNS))
    assert cap.to_polars().schema == capture([{"data": b"x" * 60}]).to_polars().schema
    assert len(cap.to_scapy()) == 0
    assert "0 frames" in str(cap)
    assert "0 frames" in cap._repr_html_()


def test_a_column_that_is_not_there_is_named(capture):
    with pytest.raises(lab.UsageError, match="unknown column 'flags': choose from number, time_ns"):
        capture([]).to_polars("flags")


def test_addresses_become_text_in_their_own_order():
    rng = np.random.default_rng(1)
    addresses = rng.integers(0, 3, (5000, 16), np.uint8)
    families = rng.choice(np.array([0, 4, 6], np.uint8), 5000)
    addresses[families == 4, 4:] = 0
    import ipaddress

    classes = {4: lambda raw: str(ipaddress.IPv4Address(raw[:4])), 6: lambda raw: str(ipaddress.IPv6Address(raw))}
    expected = [
        classes[family](address.tobytes()) if family else None
        for address, family in zip(addresses, families.tolist(), strict=True)
    ]
    assert address_texts(addresses, families).to_list() == expected


# ---- at a glance ----


def test_counts_say_what_is_there_and_what_is_missing(capture, scapy):
    frames = rows(scapy, "echo", "echo", packet_id=5) + rows(scapy, "tcp", "arp")
    frames[2]["length"] = 5000
    cap = capture(frames, statistics=4)
    assert (cap.dropped, cap.truncated, cap.lossless) == (4, 1, False)
    assert cap.overview.protocols == {"icmp": 2, "tcp": 1, "arp": 1}
    assert cap.overview.unlinked == 2
    assert cap.overview.bytes == 2 * len(scapy.frames["echo"]) + 5000 + len(scapy.frames["arp"])
    assert cap.overview.end_ns - cap.overview.start_ns == 3 * 1001
    assert str(cap).splitlines()[:3] == [
        "0.pcapng: 4 frames, 5,238 bytes in 3.00 µs on lo",
        "icmp 2, tcp 1, arp 1",
        "4 dropped, 1 cut short, 2 without their other copy",
    ]


@pytest.mark.parametrize(
    ("statistics", "noted", "dropped", "lossless"),
    [(None, 0, None, None), (0, 0, 0, True), (None, 7, 7, False), (2, 7, 7, False)],
)
def test_only_a_file_that_says_so_is_lossless(capture, scapy, statistics, noted, dropped, lossless):
    cap = capture(rows(scapy, "echo", dropped=noted), statistics=statistics)
    assert (cap.dropped, cap.lossless) == (dropped, lossless)


def test_a_file_that_is_cut_short_is_shown_up_to_there(capture, scapy, tmp_path):
    path = tmp_path / "cut.pcapng"
    path.write_bytes(pcapng(rows(scapy, *KINDS), statistics=0)[:-70])
    with lab.read(path) as cap:
        assert 0 < len(cap) < len(KINDS)
        assert cap.lossless is False
        assert f"{len(cap)} frames read, then:" in str(cap)


def test_lines_tell_who_spoke_to_whom_and_what(capture, scapy):
    frames = rows(scapy, *KINDS)
    frames[0] |= {"flags": OUT, "dropped": 2}
    frames[3]["length"] = 1000
    lines = str(capture(frames)).splitlines()[-len(KINDS) :]
    assert [" ".join(line.split()) for line in lines] == [
        "1 0.000000000 out 127.0.0.1 > 127.0.0.5 icmp 98 request id 7 seq 3, after 2 lost",
        "2 0.000001001 ::1 > fe80::1 icmp6 62 reply id 8 seq 4",
        "3 0.000002002 127.0.0.1:43210 > 127.0.0.5:8080 tcp 67 PSH ACK, 5 bytes",
        "4 0.000003003 [::1]:1 > [fe80::1]:53 udp 1000 1 bytes, cut to 63",
        "5 0.000004004 arp 42",
        "6 0.000005005 127.0.0.1 > 127.0.0.1 udp 42 fragment 9 from byte 1480, more follow",
    ]


def test_lines_of_lo_fit_into_a_terminal(capture, scapy):
    lines = str(capture(rows(scapy, "echo", "echo6", "tcp", "udp6", "arp", flags=OUT))).splitlines()
    assert max(map(len, lines)) <= 80
    assert len({line.index(" out ") for line in lines if " out " in line}) == 1


def test_times_count_from_the_first_frame_also_backwards(capture, scapy):
    cap = capture([*rows(scapy, "echo", time_ns=5_000_000_000), *rows(scapy, "echo", time_ns=4_999_999_999)])
    columns = cap.frames.columns(*DESCRIBED)
    cells = describe_frames(columns, [1, 2], 5_000_000_000)
    assert [row[1] for row in cells] == ["0.000000000", "-0.000000001"]
    assert len(frame_lines(cells)) == 2


def test_only_the_first_frames_are_shown(capture, scapy):
    cap = capture(rows(scapy, *["echo"] * 25))
    assert str(cap).endswith("and 15 more")
    assert cap._repr_html_().count("<tr>") == 1 + 10


def test_names_from_a_file_steer_neither_terminal_nor_page(capture, scapy):
    cap = capture(rows(scapy, "echo"), name="\x1b[2J<script>alert(1)</script>")
    assert "\x1b" not in str(cap)
    assert "<script>" not in cap._repr_html_()
    assert "&lt;script&gt;" in cap._repr_html_()
