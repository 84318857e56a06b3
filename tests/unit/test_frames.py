"""Capture files as columns: files made by hand by the drafts, and frames as other tools write and print them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import CaptureError, UsageError
from lab.taps import frames
from lab.taps.frames import FRAME, FrameFile, Source

SECTION, INTERFACE, PACKET, SIMPLE, NAMES, STATISTICS, ENHANCED = 0x0A0D0D0A, 1, 2, 3, 4, 5, 6
ORDERS = ("<", ">")
TIME_NS = 1_800_000_000_123_456_789
RAW = 101


class Pcapng:
    """Blocks in either byte order, one after the other."""

    def __init__(self, order="<"):
        self.order, self.bytes = order, bytearray()

    def pack(self, layout, *values):
        return struct.pack(self.order + layout, *values)

    def block(self, kind, body, length=None, trailer=None):
        body += bytes(-len(body) % 4)
        length = len(body) + 12 if length is None else length
        self.bytes += self.pack("II", kind, length) + body + self.pack("I", length if trailer is None else trailer)
        return self

    def options(self, *options, end=True):
        values = [self.pack("HH", code, len(value)) + value + bytes(-len(value) % 4) for code, value in options]
        return b"".join(values) + (bytes(4) if end and options else b"")

    def section(self, *options, version=1, length=-1):
        return self.block(SECTION, self.pack("IHHq", 0x1A2B3C4D, version, 0, length) + self.options(*options))

    def interface(self, *options, link_type=1, snaplen=0):
        return self.block(INTERFACE, self.pack("HHI", link_type, 0, snaplen) + self.options(*options))

    def frame(self, data, ticks=0, *options, interface=0, length=None, captured=None, end=True):
        captured, length = len(data) if captured is None else captured, len(data) if length is None else length
        head = self.pack("5I", interface, ticks >> 32, ticks & 0xFFFFFFFF, captured, length)
        return self.block(ENHANCED, head + data + bytes(-len(data) % 4) + self.options(*options, end=end))

    def statistics(self, *options, interface=0):
        return self.block(STATISTICS, self.pack("3I", interface, 0, 0) + self.options(*options))

    def begun(self):
        return self.section().interface((9, b"\x09"))


def pcap(records, order="<", magic=0xA1B23C4D, link_type=1, version=(2, 4), more=b""):
    """records: (seconds, fraction, data, length on the wire). more: what a modified record has behind its header."""
    head = struct.pack(order + "IHHiIII", magic, *version, 0, 0, 262144, link_type)
    made = [struct.pack(order + "4I", s, f, len(data), length) + more + data for s, f, data, length in records]
    return head + b"".join(made)


@pytest.fixture
def opened(tmp_path):
    """Writes bytes to a file and opens it as a capture."""
    made = []

    def open_(contents, **more):
        path = tmp_path / f"{len(made)}.capture"
        path.write_bytes(contents)
        made.append(FrameFile(path, **more))
        return made[-1]

    yield open_
    for each in made:
        each.close()


def times(file):
    return file.columns("time_ns")["time_ns"].tolist()


def contents(file):
    return [bytes(file.frame_bytes(number)) for number in range(len(file))]


# ---- pcapng by hand ----


@pytest.mark.parametrize("order", ORDERS)
def test_a_frame_with_all_that_can_be_said_of_it(opened, order):
    made = Pcapng(order)
    made.section((1, b"of the section"), (4, "lab µ".encode()))
    filter_ = b"\0icmp"
    made.interface((2, b"lo"), (3, b"loopback"), (1, b"of lo"), (9, b"\x09"), (11, filter_), link_type=1, snaplen=96)
    options = ((1, b"first"), (1, b"second"), (2, made.pack("I", 0b10)), (4, made.pack("Q", 7)), (5, made.pack("Q", 9)))
    made.frame(b"abcdef", TIME_NS, *options, length=1500)
    counts = [(code, made.pack("Q", count)) for code, count in ((4, 90), (5, 80), (6, 70), (7, 60), (8, 50))]
    made.statistics((1, b"of the end"), *counts)
    file = opened(made.bytes)
    assert (file.format, file.application, len(file), file.fault) == ("pcapng", "lab µ", 1, None)
    assert file.comments == ("of the section", "of lo", "of the end")
    assert file.sources == (Source("lo", "loopback", "icmp", 1, 96, 0, 90, 80, 70, 60, 50),)
    names = ("time_ns", "packet_id", "dropped", "length", "captured", "interface", "flags", "direction")
    assert [file.columns(*names)[name].tolist() for name in names] == [[n] for n in (TIME_NS, 9, 7, 1500, 6, 0, 2, 2)]
    assert contents(file) == [b"abcdef"]
    assert file.comment(0) == "first"


@pytest.mark.parametrize("order", ORDERS)
def test_simple_and_obsolete_packets(opened, order):
    made = Pcapng(order).section().interface((9, b"\x09"), snaplen=4)
    made.block(SIMPLE, made.pack("I", 9) + b"abcd")
    made.block(PACKET, made.pack("HH4I", 0, 3, TIME_NS >> 32, TIME_NS & 0xFFFFFFFF, 3, 8) + b"xyz\0")
    made.block(PACKET, made.pack("HH4I", 0, 0xFFFF, 0, 1, 1, 1) + b"u\0\0\0" + made.options((2, made.pack("I", 1))))
    file = opened(made.bytes)
    assert contents(file) == [b"abcd", b"xyz", b"u"]
    assert times(file) == [0, TIME_NS, 1]
    columns = file.columns("length", "dropped", "direction")
    assert [columns[name].tolist() for name in columns] == [[9, 8, 1], [0, 3, 0], [0, 0, 1]]


def test_sections_each_have_their_byte_order_and_their_interfaces(opened):
    first = Pcapng("<").section((1, b"one")).interface((2, b"a")).interface((2, b"b")).frame(b"1", interface=1)
    second = Pcapng(">").section((1, b"two"), length=12).interface((2, b"c")).frame(b"2", interface=0)
    third = Pcapng("<").begun().frame(b"3")
    file = opened(first.bytes + second.bytes + third.bytes)
    assert contents(file) == [b"1", b"2", b"3"]
    assert file.columns("interface")["interface"].tolist() == [1, 2, 3]
    assert [(source.name, source.section) for source in file.sources] == [("a", 0), ("b", 0), ("c", 1), ("", 2)]
    assert file.comments == ("one", "two")


def test_more_comments_than_anybody_makes_room_for(opened):
    texts = [f"comment {i}" for i in range(1000)]
    file = opened(Pcapng().section(*((1, text.encode()) for text in texts)).interface((1, b"one more")).bytes)
    assert file.comments == (*texts, "one more")


def test_what_is_not_known_is_skipped(opened):
    made = Pcapng().section((7777, b"?")).block(0x0BAD, b"custom").interface((2988, b"\0\0\0\0pen"), (9, b"\x09"))
    made.block(NAMES, b"\x01\0\x08\0\x7f\0\0\x01me\0\0" + bytes(4)).block(10, b"secrets").block(0x80000001, b"")
    made.frame(b"a", 5, (2989, b"\0\0\0\0pen"), (3, b"hash"), (2, b"too long"), (99, b"")).statistics(interface=9)
    made.interface((9, b"")).interface((11, b"")).interface((11, b"\x01bytecode"))
    file = opened(made.bytes)
    assert (contents(file), times(file), file.fault) == ([b"a"], [5], None)
    assert [source.filter for source in file.sources] == [None] * 4


@pytest.mark.parametrize(
    ("resolution", "ticks", "expected_ns"),
    [
        (None, 1_500_000, 1_500_000_000),
        (0, 3, 3_000_000_000),
        (3, 1_234, 1_234_000_000),
        (6, 2**64 - 1, 2**63 - 1),
        (9, 2**63 - 1, 2**63 - 1),
        (9, 2**63, 2**63 - 1),
        (12, 1_999, 1),
        (19, 2**64 - 1, 1_844_674_407),
        (0x80, 3, 3_000_000_000),
        (0x80 | 10, 1025, 1_000_976_562),
        (0x80 | 32, 2**63 + 2**31, 2**31 * 10**9 + 500_000_000),
        (0x80 | 63, 2**64 - 1, 1_999_999_999),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_every_resolution(opened, order, resolution, ticks, expected_ns):
    made = Pcapng(order).section()
    made.interface(*(((9, bytes([resolution])),) if resolution is not None else ())).frame(b"x", ticks)
    file = opened(made.bytes)
    assert times(file) == [expected_ns]
    assert file.clamped == (ticks in (2**63, 2**64 - 1) and resolution in (6, 9))


@given(
    st.sampled_from(ORDERS),
    st.one_of(st.integers(0, 19), st.integers(0x80, 0x80 + 63)),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**64 - 1),
)
def test_times_are_those_of_exact_arithmetic(tmp_path_factory, order, resolution, offset_s, ticks):
    made = Pcapng(order).section()
    made.interface((9, bytes([resolution])), (14, made.pack("q", offset_s))).frame(b"x", ticks)
    path = tmp_path_factory.mktemp("times") / "x"
    path.write_bytes(made.bytes)
    units = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
    exact = ticks * 10**9 // units + offset_s * 10**9
    kept = max(-(2**63), min(2**63 - 1, exact))
    with FrameFile(path) as file:
        assert (times(file), file.clamped) == ([kept], kept != exact)


def test_times_before_1970(opened):
    made = Pcapng().section().interface((9, b"\x09"), (14, struct.pack("<q", -3))).frame(b"x", 1)
    assert times(opened(made.bytes)) == [-2_999_999_999]


# ---- pcap by hand ----


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("magic", "unit_ns"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1), (0xA1B2CD34, 1000)])
def test_pcap(opened, order, magic, unit_ns):
    more = bytes(8) if magic == 0xA1B2CD34 else b""
    records = [(1, 2, b"abc", 3), (2**32 - 1, 999_999, b"", 60), (5, 0, b"x" * 70_000, 70_000)]
    file = opened(pcap(records, order, magic, RAW | 0x2400_0000, more=more))
    assert (file.format, file.application, file.comments, file.fault) == ("pcap", None, (), None)
    assert file.sources == (Source("", "", None, RAW, 262144, 0, None, None, None, None, None),)
    assert contents(file) == [data for _s, _f, data, _length in records]
    assert times(file) == [s * 10**9 + f * unit_ns for s, f, _data, _length in records]
    assert file.columns("length", "direction")["length"].tolist() == [3, 60, 70_000]


@given(
    st.sampled_from(ORDERS),
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 10**9 - 1), st.binary(max_size=80))),
)
def test_pcap_round_trip(tmp_path_factory, order, records):
    path = tmp_path_factory.mktemp("pcap") / "x"
    path.write_bytes(pcap([(s, f, data, len(data)) for s, f, data in records], order))
    with FrameFile(path) as file:
        assert contents(file) == [data for _s, _f, data in records]
        assert times(file) == [s * 10**9 + f for s, f, _data in records]


# ---- finding frames ----


@pytest.fixture
def many(opened, monkeypatch):
    """A file of 1,000 frames, frame i with i in its first two bytes, its time and its comment, and marks every 64."""
    monkeypatch.setattr(frames, "_STRETCH", 64)
    made = Pcapng().begun()
    for i in range(1000):
        made.frame(struct.pack("!H", i) + bytes(60), i, (1, b"%d" % i))
        if i % 100 == 50:
            made.interface((2, b"%d" % i))
    return lambda **more: opened(made.bytes, **more)


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, None), (0, 0), (0, 1), (63, 65), (64, 128), (999, 1000), (-3, None), (10, -980), (5, 9999), (9, 3)],
)
def test_columns_of_some_frames(many, start, stop):
    assert many().columns("time_ns", start=start, stop=stop)["time_ns"].tolist() == list(range(1000))[start:stop]


@pytest.mark.parametrize("sizes", [(2_000, 10), (10, 2_000), (500, 500)])
def test_all_columns_in_one_pass(opened, monkeypatch, sizes):
    """However wrong the first frames let it guess how many are to come; and any frame is found afterwards."""
    monkeypatch.setattr(frames, "_STRETCH", 64)
    made = Pcapng().begun()
    for i in range(1_024):
        made.frame(struct.pack("!H", i) + bytes(sizes[i > 500]), i)
    file = opened(made.bytes)
    columns = file.columns("time_ns", "captured", "source")
    assert columns["time_ns"].tolist() == list(range(1_024))
    assert columns["captured"].tolist() == [2 + sizes[i > 500] for i in range(1_024)]
    assert columns["source"].shape == (1_024, 16)
    assert len(file) == 1_024
    for number in (1_023, 0, 64, 700):
        assert bytes(file.frame_bytes(number)[:2]) == struct.pack("!H", number)


def test_no_more_is_read_than_is_asked_for(opened):
    made = Pcapng().begun()
    for i in range(40_000):
        made.frame(b"x", i)
    file = opened(made.bytes)
    assert file.columns("time_ns", stop=3)["time_ns"].tolist() == [0, 1, 2]
    assert file._count < 40_000 == len(file)


def test_frames_that_are_longer_together_than_what_is_read_at_once(opened):
    made = Pcapng().begun()
    for i in range(20):
        made.frame(bytes([i]) * 2_000_000, i)
    assert times(opened(made.bytes)) == list(range(20))
    assert times(opened(made.bytes, filter="ether[0] = 19")) == [19]


def test_any_frame_is_found_again_in_any_order(many):
    file = many()
    for number in (999, 0, 500, 63, 64, 128, 999):
        assert bytes(file.frame_bytes(number)[:2]) == struct.pack("!H", number)
        assert file.comment(number) == str(number)
    for number in (-1, 1000, 1024, 99999):
        with pytest.raises(IndexError, match="among 1,000"):
            file.frame_bytes(number)


@pytest.mark.parametrize("rows", [1, 7, 1000, 1001])
def test_batches_hold_every_frame_once(many, rows):
    sizes, seen = [], []
    for batch in many().batches("time_ns", "source", rows=rows):
        assert batch["source"].shape == (len(batch["time_ns"]), 16)
        sizes.append(len(batch["time_ns"]))
        seen += batch["time_ns"].tolist()
    assert seen == list(range(1000))
    assert max(sizes) <= rows
    assert all(size == rows for size in sizes[:-1])


def test_a_filter_numbers_the_frames_that_match(many):
    file = many(filter="ether[0:2] >= 900 and ether[1] & 1 = 1")
    expected = [number for number in range(900, 1000) if number % 2]
    assert len(file) == 50
    assert times(file) == expected
    assert file.comment(49) == "999"
    assert [time for batch in file.batches("time_ns", rows=8) for time in batch["time_ns"].tolist()] == expected


def test_an_unknown_column_is_refused(many):
    with pytest.raises(UsageError, match="no column 'size': give some of time_ns, offset"):
        many().columns("size")
    with pytest.raises(UsageError, match="no column 'size'"):
        next(many().batches("size"))


# ---- filters and link types ----

IP_ICMP = bytes.fromhex("45000014000000004001000001020304 05060708".replace(" ", ""))


def test_a_filter_is_compiled_for_each_link_type(opened):
    made = Pcapng().section()
    for link_type in (RAW, 1, 147):
        made.interface((9, b"\x09"), link_type=link_type)
    made.frame(IP_ICMP, 1).frame(bytes(12) + b"\x08\0" + IP_ICMP, 2, interface=1).frame(IP_ICMP, 3, interface=1)
    made.frame(IP_ICMP, 4, interface=2)  # of a link type that libpcap can't tell IP of
    assert times(opened(made.bytes, filter="icmp")) == [1, 2]
    assert times(opened(made.bytes, filter="ip6")) == []
    assert times(opened(made.bytes, filter="")) == [1, 2, 3, 4]


def test_a_filter_that_does_not_compile_is_refused_with_libpcaps_words(opened):
    for contents_ in (b"", Pcapng().section().bytes, Pcapng().begun().bytes):
        with pytest.raises(UsageError, match=r"filter 'icpm': can't parse .*pcap-filter\(7\)"):
            opened(contents_, filter="icpm", growing=True)
    with pytest.raises(UsageError, match="a filter with a loop, as of 'protochain', could run for ever: say"):
        opened(Pcapng().begun().bytes, filter="ip6 protochain 58")
    with pytest.raises(UsageError, match="filter 'ether host ::1'"):
        opened(Pcapng().section().interface(link_type=RAW).bytes, filter="ether host ::1")


# ---- growing files ----


GROWING = {
    "pcapng": Pcapng().begun().frame(b"abc", 1).frame(b"de", 2).statistics().bytes,
    "pcap": pcap([(0, 1, b"abc", 3), (0, 2, b"de", 2)]),
}


@pytest.mark.parametrize("format_", GROWING)
def test_a_file_that_grows_byte_by_byte(tmp_path, format_):
    whole, path = GROWING[format_], tmp_path / "growing"
    path.touch()
    seen = set()
    with FrameFile(path, growing=True) as file, path.open("ab", buffering=0) as writer:
        assert (len(file), file.format, file.fault) == (0, None, None)
        for byte in whole:
            writer.write(bytes([byte]))
            file.refresh()
            assert times(file) == [1, 2][: len(file)]
            assert contents(file) == [b"abc", b"de"][: len(file)]
            assert file.fault is None
            seen.add(len(file))
        assert seen == {0, 1, 2}
        file.growing = False
        assert file.fault is None


def test_what_was_read_before_a_refresh_stays(many, tmp_path):
    file = many()
    assert len(file) == 1000
    with Path(file.path).open("ab") as writer:
        writer.write(Pcapng().frame(b"new", 5).bytes)
    assert len(file) == 1000
    file.refresh()
    assert len(file) == 1001
    assert bytes(file.frame_bytes(1000)) == b"new"


def test_a_file_that_is_cut_while_open_is_an_error_and_no_crash(many):
    file = many()
    assert len(file) == 1000
    os.truncate(file.path, 100)
    for attempt in (
        lambda: file.columns("time_ns"),
        lambda: file.frame_bytes(999),
        lambda: list(file.batches("time_ns")),
        file.refresh,
    ):
        with pytest.raises(CaptureError, match="made shorter while it was read; open it again"):
            attempt()


# ---- where it comes from ----


def test_a_descriptor_stays_its_owners(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(Pcapng().begun().frame(b"x").bytes)
    with path.open("rb") as mine:
        with FrameFile(mine.fileno()) as file:
            assert len(file) == 1
        assert mine.read(4) == b"\x0a\x0d\x0d\x0a"


def through_pipe(contents_):
    """The reading end of a pipe that somebody writes to."""
    reading, writing = os.pipe()

    def write():
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(contents_)

    threading.Thread(target=write).start()
    return reading


def test_a_pipe_is_read_to_its_end(many, tmp_path):
    whole = Pcapng().begun().frame(b"x" * 300_000, 7).bytes
    reading = through_pipe(whole)
    with FrameFile(reading) as file:
        assert times(file) == [7]
    os.close(reading)


def test_standard_input(tmp_path):
    code = "from lab.taps.frames import FrameFile; f = FrameFile('-'); print(f.path, len(f))"
    done = subprocess.run([sys.executable, "-c", code], input=Pcapng().begun().frame(b"x").bytes, capture_output=True)
    assert (done.stdout, done.stderr) == (b"standard input 1\n", b"")


def test_a_pipe_of_something_else_is_not_read_to_its_end(tmp_path):
    reading, writing = os.pipe()  # nobody closes the writing end
    os.write(writing, b"y\n" * 100)
    with pytest.raises(CaptureError, match="is neither pcap nor pcapng"):
        FrameFile(reading)
    os.close(reading)
    os.close(writing)


# ---- bad input ----


@pytest.mark.parametrize(
    ("contents_", "text"),
    [
        (b"", "is no capture, of 0 bytes; give a whole one"),
        (b"\x0a\x0d\x0d", "is no capture, of 3 bytes"),
        (
            b"hello world, this is text",
            "neither pcap nor pcapng; give a file that lab capture, tcpdump or Wireshark wrote",
        ),
        (b"\x1f\x8b\x08\0" * 9, "neither pcap nor pcapng; gunzip it first"),
        (b"\x0a\x0d\x0d\x0a" * 9, "neither pcap nor pcapng"),
        (pcap([])[:20], "is no capture, of 20 bytes"),
        (pcap([], version=(2, 2)), "neither pcap 2.4 nor pcapng 1.x; convert it with editcap"),
        (Pcapng().section(version=2).bytes, "neither pcap 2.4 nor pcapng 1.x"),
    ],
)
def test_what_is_no_capture(opened, contents_, text):
    with pytest.raises(CaptureError, match=text) as caught:
        opened(contents_)
    assert caught.value.exit_code == 1


def test_what_cannot_be_opened(tmp_path):
    for path, text in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory|neither a file nor a pipe")):
        with pytest.raises((CaptureError, UsageError), match=text):
            FrameFile(path)
    with pytest.raises(UsageError, match="/dev/zero is neither a file nor a pipe: give a capture file"):
        FrameFile("/dev/zero")


CONTRADICTS = "the block at byte 96 contradicts itself about what is how long"
UNDESCRIBED = "the frame at byte 96 is of an interface that the file does not describe"


def one():
    return Pcapng().begun().frame(b"good", 1)


@pytest.mark.parametrize(
    ("contents_", "text"),
    [
        (one().bytes[:-1], "the file ends within what begins at byte 60: it was cut short, or is still being written"),
        (one().block(77, b"", length=2**32 - 4).bytes, "the file ends within what begins at byte 96: "),
        (one().block(ENHANCED, b"", length=0).bytes, "the block at byte 96 says it has 0 bytes"),
        (one().block(77, bytes(4), length=8).bytes, "the block at byte 96 says it has 8 bytes"),
        (one().block(77, bytes(4), length=14, trailer=14).bytes, "the block at byte 96 says it has 14 bytes"),
        (one().block(77, bytes(4), trailer=20).bytes, CONTRADICTS),
        (one().frame(b"abc", captured=5).bytes, CONTRADICTS),
        (one().frame(b"abc", captured=2**32 - 1).bytes, CONTRADICTS),
        (one().block(ENHANCED, bytes(16)).bytes, CONTRADICTS),
        (one().block(PACKET, bytes(16)).bytes, CONTRADICTS),
        (one().block(INTERFACE, bytes(4)).bytes, CONTRADICTS),
        (one().block(STATISTICS, bytes(4)).bytes, CONTRADICTS),
        (one().block(SIMPLE, b"").bytes, CONTRADICTS),
        (one().block(SIMPLE, struct.pack("<I", 9) + bytes(4)).bytes, CONTRADICTS),
        (one().block(SECTION, struct.pack("<I", 0x1A2B3C4D) + bytes(4)).bytes, CONTRADICTS),
        (one().block(SECTION, bytes(16)).bytes, "the section at byte 96 does not say what byte order it has"),
        (one().section(version=3).bytes, "the section at byte 96 is of a version that is not 1.x"),
        (one().frame(b"x", interface=1).bytes, UNDESCRIBED),
        (one().frame(b"x", interface=2**32 - 1).bytes, UNDESCRIBED),
        (one().section().frame(b"x").bytes, "the frame at byte 124 is of an interface that the file does not describe"),
        (one().section().block(SIMPLE, bytes(8)).bytes, "the frame at byte 124 is of an interface"),
        (one().block(INTERFACE, bytes(8) + struct.pack("<HH", 2, 9)).bytes, "the block at byte 96 has an option"),
        (one().frame(b"", 0, (1, b""), end=False).bytes[:-6] + b"\x99" * 6, CONTRADICTS),
        (one().interface((9, b"\x14")).bytes, "the interface at byte 96 has times of a resolution beyond 64 bits"),
        (one().interface((9, b"\xff")).bytes, "the interface at byte 96 has times of a resolution beyond 64 bits"),
    ],
)  # fmt: skip
def test_a_fault_says_where_and_what_and_leaves_the_frames_before_it(opened, contents_, text):
    file = opened(contents_)
    assert times(file) == ([] if "byte 60" in text else [1])
    assert f"{len(file)} frames read, then: {text}" in file.fault


def test_options_without_an_end_are_whole(opened):
    assert opened(one().frame(b"x", 2, (1, b"last"), end=False).bytes).comment(1) == "last"


def test_more_interfaces_than_anybody_has(opened):
    made = Pcapng().section()
    interface = Pcapng().interface().bytes
    file = opened(made.bytes + interface * 65_537)
    assert "is one too many: 65,536 are enough" in file.fault
    assert len(file.sources) == 65_536


def test_a_billion_frames_that_are_not_there_take_no_memory(opened, tmp_path):
    """A sparse file whose one frame says that it has 4 GB."""
    head = Pcapng().begun()
    with (tmp_path / "sparse").open("wb") as file:
        file.write(head.bytes + struct.pack("<7I", ENHANCED, 2**32 - 4, 0, 0, 0, 2**32 - 64, 2**32 - 64))
        file.truncate(len(head.bytes) + 2**32 - 8)
        file.seek(0, os.SEEK_END)
        file.write(struct.pack("<I", 2**32 - 4))
    with FrameFile(tmp_path / "sparse") as file:
        assert file.columns("length")["length"].tolist() == [2**32 - 64]


def test_a_frame_longer_than_it_says_had_at_least_what_is_there(opened):
    assert opened(Pcapng().begun().frame(b"abcd", length=2).bytes).columns("length")["length"].tolist() == [4]


@given(st.binary(max_size=300), st.sampled_from([b"", one().bytes, pcap([(1, 1, b"x", 1)])]))
def test_no_bytes_are_too_strange(tmp_path_factory, strange, before):
    path = tmp_path_factory.mktemp("strange") / "x"
    path.write_bytes(before + strange)
    try:
        with FrameFile(path) as file:
            assert len(file) == len(file.columns(*FRAME.names)["time_ns"]) == len(contents(file))
            assert isinstance(file.comments, tuple)
            assert file.fault is None or "frames read, then: " in file.fault
    except CaptureError:
        assert not before


# ---- other people's tools ----

#: Commands that copy a file, `{}`, to the path that follows them.
WRITERS = {
    "pcap": ("editcap", "-F", "pcap", "{}"),
    "nsecpcap": ("editcap", "-F", "nsecpcap", "{}"),
    "modpcap": ("editcap", "-F", "modpcap", "{}"),
    "pcapng": ("editcap", "-F", "pcapng", "{}"),
    "tcpdump": ("tcpdump", "-r", "{}", "-w"),
    "tcpdump-ns": ("tcpdump", "--nano", "-r", "{}", "-w"),
    "dumpcap": ("dumpcap", "-i", "-", "-w"),
    "dumpcap-pcap": ("dumpcap", "-P", "-i", "-", "-w"),
}


@pytest.fixture
def printed_by_tshark(tool):
    def fields(path, *names):
        command = [tool("tshark"), "-r", str(path), "-T", "fields", *(f"-e{name}" for name in names)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    return fields


@pytest.mark.parametrize("writer", WRITERS)
def test_what_others_write_is_read_as_tshark_prints_it(tool, printed_by_tshark, tmp_path, writer):
    original, written = tmp_path / "original", tmp_path / "written"
    sent = [(1_800_000_000 + i, i * 1_000_003, bytes(12) + b"\x08\0" + IP_ICMP + bytes(i), 60 + i) for i in range(50)]
    original.write_bytes(pcap(sent))
    name, *arguments = WRITERS[writer]
    command = [tool(name), *(argument.format(original) for argument in arguments), str(written)]
    with original.open("rb") as file:
        subprocess.run(command, stdin=file, check=True, capture_output=True, timeout=60)
    with FrameFile(written) as file:
        assert contents(file) == [data for _s, _ns, data, _length in sent]
        columns = file.columns("time_ns", "length", "captured")
        rows = zip(*(columns[name].tolist() for name in columns), strict=True)
        assert [
            f"{ns // 10**9}.{ns % 10**9:09}\t{length}\t{captured}" for ns, length, captured in rows
        ] == printed_by_tshark(written, "frame.time_epoch", "frame.len", "frame.cap_len")
        assert file.fault is None


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_made_by_hand_is_read_as_tshark_prints_it(opened, printed_by_tshark, order):
    made = Pcapng(order).section()
    resolutions = (0x80 | 20, 3, 9, 12)
    for number, resolution in enumerate(resolutions):
        made.interface((2, b"if%d" % number), (9, bytes([resolution])), (14, made.pack("q", number)))
    for number in range(40):
        said = ((1, b"frame %d" % number), (2, made.pack("I", number % 3)), (5, made.pack("Q", number)))
        made.frame(bytes(12) + b"\x08\0" + IP_ICMP, 10**12 + 12_345 * number, *said, interface=number % 4)
    file = opened(made.bytes)
    columns = file.columns("time_ns", "interface", "flags", "packet_id")
    rows = zip(*(columns[name].tolist() for name in columns), strict=True)
    ours = [
        (f"{ns // 10**9}.{ns % 10**9:09}", f"if{interface}", flags, packet_id, file.comment(packet_id))
        for ns, interface, flags, packet_id in rows
    ]
    names = ("time_epoch", "interface_name", "packet_flags", "packet_id", "comment")
    theirs = [line.split("\t") for line in printed_by_tshark(file.path, *(f"frame.{name}" for name in names))]
    assert [(time, name, int(flags, 0), int(id_), said) for time, name, flags, id_, said in theirs] == ours
