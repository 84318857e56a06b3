"""What can be injected, as frames of a file: packets of scapy's, bytes, files, captures and parts of them."""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import sys
from contextlib import contextmanager

import pytest

import lab
from lab.errors import CaptureError, UsageError
from lab.injector import memory
from lab.injector.memory import Frame, frames_in_memory
from lab.injector.sources import open_source
from lab.taps.frames import FrameFile

ETHERNET, RAW, COOKED = 1, 101, 113
TIME_NS = 1_800_000_000_123_456_789


@pytest.fixture(scope="module")
def scapy():
    import scapy.all as names

    return names


@pytest.fixture
def packet(scapy, family):
    """A datagram in either family, from its network layer on."""
    ip = scapy.IP(src="127.0.0.1", dst="127.0.0.2") if family == 4 else scapy.IPv6(src="::1", dst="::1")
    return ip / scapy.UDP(sport=7, dport=9) / b"hello"


@pytest.fixture
def ether(scapy, packet):
    """The same in an Ethernet frame."""
    return scapy.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet


@pytest.fixture
def file(tmp_path):
    """Writes frames (bytes, link type, time, length) to a file of their own."""

    def write(*frames):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.pcapng"
        with frames_in_memory(Frame(*frame) for frame in frames) as made:
            path.write_bytes(bytes(made.contents()))
        return path

    return write


def contents(source):
    """Of each frame its bytes, link type and time."""
    links = [each.link_type for each in source.frames.sources]
    columns = source.frames.columns("interface", "time_ns")
    rows = zip(columns["interface"].tolist(), columns["time_ns"].tolist(), strict=True)
    return [(bytes(source.frames.frame_bytes(n)), links[link], time_ns) for n, (link, time_ns) in enumerate(rows)]


@contextmanager
def refused(kind, text):
    with pytest.raises(kind, match=text) as caught:
        yield
    assert "\n" not in str(caught.value)


# ---- what somebody made ----


def test_packets_and_bytes_of_all_links_in_their_order(scapy, packet, ether):
    cooked = scapy.CookedLinux() / packet
    mixed = [packet, ether, bytes(packet), bytearray(bytes(ether)), memoryview(b"?" * 20), cooked, scapy.Raw(b"raw")]
    links = [RAW, ETHERNET, RAW, ETHERNET, ETHERNET, COOKED, ETHERNET]
    with open_source(mixed) as source:
        assert contents(source) == [(bytes(each), link, 0) for each, link in zip(mixed, links, strict=True)]
        assert (source.name, source.timed, source.fields, source.sums) == ("7 packets", False, (), ())


def test_a_single_packet_and_single_bytes(packet):
    for one in (packet, bytes(packet)):
        with open_source(one) as source:
            assert contents(source) == [(bytes(packet), RAW, 0)]
            assert source.name == "1 packet"


@pytest.mark.parametrize("kind", [list, tuple, iter], ids=["list", "tuple", "generator"])
def test_any_iterable_of_packets(scapy, packet, kind):
    with open_source(kind([packet, packet])) as source:
        assert len(source.frames) == 2
    with open_source(scapy.PacketList([packet] * 3)) as source:
        assert len(source.frames) == 3


def test_a_packet_that_stands_for_several_is_all_of_them(scapy):
    packet = scapy.IP(src="127.0.0.1", dst="127.0.0.0/30") / scapy.UDP(dport=(1, 3))
    with open_source([packet, b"x"]) as source:
        assert [data for data, *_ in contents(source)] == [*map(bytes, packet), b"x"]
        assert len(source.frames) == 13


def test_a_packet_with_random_fields_is_drawn_once(scapy):
    packet = scapy.IP(src="127.0.0.1", dst="127.0.0.1") / scapy.UDP(sport=scapy.RandShort())
    with open_source([packet] * 20) as source:
        ports = {data[20:22] for data, *_ in contents(source)}
    assert len(ports) > 1


def test_bytes_are_an_ip_packet_only_if_their_length_is_in_it(packet, family):
    data = bytes(packet)
    for other in (data + b"\0", data[:-1], data[:10], b"\x4f" + data[1:], b"\x41" + data[1:]):
        with open_source(other) as source:
            assert contents(source) == [(other, ETHERNET, 0)]


def test_a_packet_that_was_captured_keeps_its_bytes_its_time_and_its_length(scapy, packet, file):
    broken = bytes(packet)[:-6] + b"\0" * 6  # a checksum that is wrong, and stays so
    path = file((broken, RAW, TIME_NS), (broken[:-2], RAW, TIME_NS + 1, len(broken)))
    with lab.read(path) as capture, open_source(list(capture)) as source:
        assert contents(source) == [(broken, RAW, TIME_NS), (broken[:-2], RAW, TIME_NS + 1)]
        assert source.timed
        assert source.frames.columns("length")["length"].tolist() == [len(broken)] * 2
    with lab.read(path) as capture:
        shortened = capture[0]
        shortened[scapy.Raw].load = b"h"
        with open_source([shortened, packet]) as source:
            assert not source.timed
            columns = source.frames.columns("length", "captured")
            assert columns["length"].tolist() == columns["captured"].tolist() == [len(broken) - 4, len(broken)]
            assert contents(source)[0][2] == TIME_NS
        changed = capture[0]
        changed.src = changed.dst
        with open_source(changed) as source:
            assert (source.timed, contents(source)[0][2]) == (True, TIME_NS)


def test_packets_are_bounded_in_memory(monkeypatch, packet):
    monkeypatch.setattr(memory, "_MOST_BYTES", 1 << 20)
    with refused(UsageError, "write them to a file"), open_source(itertools.repeat(bytes(packet))):
        pass


# ---- files and captures ----


def test_a_file_is_opened_as_it_is(file, packet):
    path = file((bytes(packet), RAW, TIME_NS), (b"other", ETHERNET, TIME_NS + 5))
    for given in (path, str(path)):
        with open_source(given) as source:
            assert contents(source) == [(bytes(packet), RAW, TIME_NS), (b"other", ETHERNET, TIME_NS + 5)]
            assert (source.name, source.timed) == (str(path), True)


def test_a_file_that_scapy_wrote(scapy, packet, tmp_path):
    scapy.wrpcap(str(tmp_path / "f.pcap"), [packet] * 3)
    with open_source(tmp_path / "f.pcap") as source:
        assert [data for data, *_ in contents(source)] == [bytes(packet)] * 3


def test_a_file_on_standard_input(file):
    code = "from lab.injector.sources import open_source\nwith open_source('-') as s: print(s.name, len(s.frames))"
    with file((b"one", ETHERNET, 1), (b"two", ETHERNET, 2)).open("rb") as stream:
        done = subprocess.run(
            [sys.executable, "-c", code], input=stream.read(), stdout=subprocess.PIPE, check=True, timeout=60
        )
    assert done.stdout == b"standard input 2\n"


def test_a_capture_shares_its_file_and_stays_open(file, packet):
    path = file((b"other" * 4, ETHERNET, 1), (bytes(packet), RAW, 2))
    with lab.read(path, filter="udp") as capture:
        with open_source(capture) as source:
            assert source.frames is capture.frames
            assert contents(source) == [(bytes(packet), RAW, 2)]
        assert len(capture.to_scapy()) == 1


def test_a_capture_that_goes_on_is_taken_as_it_is_now(file):
    path = file((b"one", ETHERNET, 1))
    with lab.Capture(FrameFile(path, growing=True)) as capture, open_source(capture) as source:
        path.write_bytes(path.read_bytes() + path.read_bytes())
        capture.frames.refresh()
        assert len(capture) == 2
        assert contents(source) == [(b"one", ETHERNET, 1)]


@pytest.mark.parametrize("part", [slice(1, 4), slice(None, None, -2), slice(-1, None)], ids=str)
def test_a_slice_of_a_capture_is_copied_as_it_is(file, part):
    frames = [(bytes([n]) * (n + 1), (ETHERNET, RAW)[n % 2], TIME_NS + n, 10 * (n % 2)) for n in range(5)]
    with lab.read(file(*frames)) as capture, open_source(capture[part]) as source:
        chosen = frames[part]
        assert contents(source) == [frame[:3] for frame in chosen]
        assert source.timed
        lengths = [frame[3] or len(frame[0]) for frame in chosen]
        assert source.frames.columns("length")["length"].tolist() == lengths


# ---- what can't be ----


def test_what_holds_no_packets_is_refused(file, tmp_path):
    for nothing in ([], iter(()), ()):
        with refused(UsageError, "no packets to inject"), open_source(nothing):
            pass
    path = file()
    with refused(CaptureError, "has no frames; give"), open_source(path):
        pass
    path = file((b"?" * 20, ETHERNET, 1))
    with lab.read(path, filter="udp") as capture, refused(CaptureError, "no frames that match"), open_source(capture):
        pass
    with lab.read(path) as capture, refused(CaptureError, "has no frames; give"), open_source(capture[5:]):
        pass
    (tmp_path / "empty").touch()
    for name, text in (("empty", "of 0 bytes"), ("missing", "can't be read")):
        with refused(CaptureError, text), open_source(tmp_path / name):
            pass


def test_a_broken_file_is_read_as_far_as_it_goes(file):
    path = file((b"one", ETHERNET, 1), (b"two", ETHERNET, 2))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with open_source(path) as source:
        assert contents(source) == [(b"one", ETHERNET, 1)]
        assert source.frames.fault
    path.write_bytes(whole[:70])
    with refused(CaptureError, "0 frames read, then: .* give a whole file"), open_source(path):
        pass


def test_frames_that_were_all_cut_short_are_refused(file):
    path = file((b"one", ETHERNET, 1, 4), (b"two", ETHERNET, 2, 1500))
    with refused(CaptureError, r"each was cut short; capture all of them \(tcpdump -s 0\)"), open_source(path):
        pass
    with open_source(file((b"one", ETHERNET, 1, 4), (b"two", ETHERNET, 2))) as source:
        assert len(source.frames) == 2


@pytest.mark.parametrize("thing", [None, 3, 3.5, len], ids=str)
def test_what_is_no_packet_is_refused(thing):
    with refused(UsageError, f"{type(thing).__name__} can't be injected: give a packet"), open_source(thing):
        pass
    with refused(UsageError, f"a {type(thing).__name__} is no packet: give"), open_source([b"packet", thing]):
        pass
    with refused(UsageError, "a str is no packet: give"), open_source({"file": thing}):
        pass


def test_what_scapy_cannot_build_is_refused(scapy):
    cases = (
        (scapy.IP(ttl=300) / scapy.UDP(), r"scapy can't build IP / UDP: .*'ttl'.*; mend that field"),
        (scapy.UDP(), r"UDP can't be a packet's first layer: put it in one, such as IP\(\) / UDP\(\)"),
        (scapy.Raw(b""), "without a single byte"),
        (b"", "without a single byte"),
    )
    for packet, text in cases:
        with refused(UsageError, text), open_source([b"packet", packet]):
            pass


def test_nothing_is_left_open(file, packet):
    path = file((b"one", ETHERNET, 1))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for given in (packet, [packet, b"bytes"], path, [3]):
        try:
            with open_source(given) as source:
                assert len(source.frames)
        except UsageError:
            assert given == [3]
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_bytes_and_files_need_no_scapy(file):
    path = file((b"one", ETHERNET, 1))
    code = f"""
import sys
from lab.injector.sources import open_source
for given in ({str(path)!r}, [b"bytes"]):
    with open_source(given) as source:
        assert len(source.frames) == 1
print("scapy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_frames_in_memory_are_a_file_by_the_draft():
    with frames_in_memory([Frame(b"abcde", RAW, TIME_NS), Frame(b"f" * 300, ETHERNET), Frame(b"", RAW, 0, 9)]) as made:
        data = bytes(made.contents())
    blocks, at = [], 0
    while at < len(data):
        kind, total = struct.unpack_from("<II", data, at)
        assert total % 4 == 0
        assert struct.unpack_from("<I", data, at + total - 4) == (total,)
        blocks.append((kind, data[at + 8 : at + total - 4]))
        at += total
    section, raw, first, ethernet, second, third = blocks
    assert section == (0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    nanoseconds = struct.pack("<HHB3xI", 9, 1, 9, 0)
    assert raw == (1, struct.pack("<HHI", RAW, 0, 0) + nanoseconds)
    assert ethernet == (1, struct.pack("<HHI", ETHERNET, 0, 0) + nanoseconds)
    assert first == (6, struct.pack("<5I", 0, TIME_NS >> 32, TIME_NS & 0xFFFFFFFF, 5, 5) + b"abcde\0\0\0")
    assert second == (6, struct.pack("<5I", 1, 0, 0, 300, 300) + b"f" * 300)
    assert third == (6, struct.pack("<5I", 0, 0, 0, 0, 9))
