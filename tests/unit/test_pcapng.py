"""What the writer writes, as two other readers see it: one in conftest.py that follows the draft, and tshark."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.taps.pcapng import CHECKSUM_NOT_READY, INBOUND, MULTICAST, OUTBOUND, TCP_SEGMENTS_LEFT, UNICAST, Writer

LARGEST_ON_LO = 65_549
TIME_NS = 1_800_000_000_123_456_789  # beyond 32 bits in each half


@pytest.fixture
def written(tmp_path):
    """Writes a file of the given frames, each (time_ns, data, flags); returns its path."""

    def write(frames):
        path = tmp_path / "x.pcapng"
        with path.open("wb") as file:
            writer = Writer(file)
            writer.section(hardware="µ-machine", system="Linux 6", application="test")
            writer.interface("lo", description="for a test", system="Linux 6", snaplen=262_144)
            for time_ns, data, flags in frames:
                writer.packet(time_ns, data, flags=flags)
            writer.statistics(start_ns=TIME_NS, end_ns=TIME_NS + 1, received=9, dropped=2, written=7)
        return path

    return write


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 60, LARGEST_ON_LO])
def test_frames_come_back_whole_whatever_their_length(written, read_pcapng, size):
    data = bytes(i % 251 for i in range(size))
    frames = read_pcapng(written([(TIME_NS, data, INBOUND), (TIME_NS + 1, data[::-1], OUTBOUND)])).frames
    assert [(f.time_ns, f.data, f.length, f.flags) for f in frames] == [
        (TIME_NS, data, size, 1),
        (TIME_NS + 1, data[::-1], size, 2),
    ]


def test_header_interface_and_statistics(written, read_pcapng):
    file = read_pcapng(written([]))
    assert file.section == {2: "µ-machine".encode(), 3: b"Linux 6", 4: b"test"}
    ((link_type, snaplen, options),) = file.interfaces
    assert (link_type, snaplen) == (1, 262_144)
    assert options == {2: b"lo", 3: b"for a test", 9: b"\x09", 12: b"Linux 6"}
    assert file.statistics == {"start_ns": TIME_NS, "end_ns": TIME_NS + 1, 4: 9, 6: 9, 7: 2, 8: 7}


def test_a_frame_that_is_cut_keeps_its_length(tmp_path, read_pcapng):
    path = tmp_path / "cut.pcapng"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.section(hardware="", system="", application="")
        writer.interface("lo", description="", system="", snaplen=4)
        writer.packet(0, b"abcd", length=1_500)
    (frame,) = read_pcapng(path).frames
    assert (frame.data, frame.length) == (b"abcd", 1_500)


@given(times=st.lists(st.integers(0, 2**63 - 1)))
def test_no_nanosecond_is_lost(times, tmp_path_factory, read_pcapng):
    path = tmp_path_factory.mktemp("times") / "x.pcapng"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.section(hardware="", system="", application="")
        writer.interface("lo", description="", system="", snaplen=4)
        for time_ns in times:
            writer.packet(time_ns, b"x")
    assert [frame.time_ns for frame in read_pcapng(path).frames] == times


def test_tshark_reads_the_same(written, tool):
    fields = ("frame.time_epoch", "frame.len", "frame.interface_name", "frame.packet_flags")
    sent = [
        (TIME_NS, b"x" * 61, INBOUND | MULTICAST),
        (TIME_NS + 7, b"y" * LARGEST_ON_LO, OUTBOUND | UNICAST),
        (TIME_NS + 9, b"z", INBOUND | CHECKSUM_NOT_READY | TCP_SEGMENTS_LEFT),
    ]
    command = [tool("tshark"), "-r", str(written(sent)), "-T", "fields", *(f"-e{field}" for field in fields)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == [f"1800000000.{ns}" for ns in (123456789, 123456796, 123456798)]
    assert [row[1:3] for row in rows] == [["61", "lo"], [str(LARGEST_ON_LO), "lo"], ["1", "lo"]]
    assert [int(row[3], 0) for row in rows] == [0b1001, 0b0110, 0b1010_0000_0001]
