"""Drop reasons from made bytes: the kernel's texts about a tracepoint, symbols, a ring that wraps, and what is kept."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lab
from lab.taps import drops, perf
from lab.taps.drops import Drop, watch_drops
from lab.taps.kallsyms import functions_at
from lab.taps.perf import PerfRings, Sample, samples_in, unwrap
from lab.taps.tracepoints import Field, Tracepoint, parse_format

# As Linux 6.18 has it, shortened.
FORMAT = """\
name: kfree_skb
ID: 2310
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:void * skbaddr;\toffset:8;\tsize:8;\tsigned:0;
\tfield:void * location;\toffset:16;\tsize:8;\tsigned:0;
\tfield:unsigned short protocol;\toffset:32;\tsize:2;\tsigned:0;
\tfield:enum skb_drop_reason reason;\toffset:36;\tsize:4;\tsigned:0;

print fmt: "skbaddr=%p reason: %s", REC->skbaddr, __print_symbolic(REC->reason, { 2, "NOT_SPECIFIED" }, \
{ 3, "NO_SOCKET" }, { 91, "IP_LOCALNET" })
"""
LOST, THROTTLE, SAMPLE = 2, 5, 9


def record(kind, body):
    body += bytes(-len(body) % 8)
    return struct.pack("@IHH", kind, 0, 8 + len(body)) + body


def sample(time_ns=0, cpu=0, pid=1, tid=1, raw=b""):
    """A record as the kernel writes it: that of the tracepoint is padded, and its length told with the padding."""
    raw += bytes(-(len(raw) + 4) % 8)
    return record(SAMPLE, struct.pack("@IIQII", pid, tid, time_ns, cpu, 0) + struct.pack("@I", len(raw)) + raw)


def hit(reason, *, location=0x1010, protocol=0x0800):
    return struct.pack("@HxxiQQQHxxI", 2310, 7, 0xDEAD, location, 0, protocol, reason)


class TestFormat:
    def test_fields_lie_where_the_kernel_says(self):
        fields, symbols = parse_format(FORMAT)
        assert fields == {
            "common_type": Field(0, 2, False),
            "common_pid": Field(4, 4, True),
            "skbaddr": Field(8, 8, False),
            "location": Field(16, 8, False),
            "protocol": Field(32, 2, False),
            "reason": Field(36, 4, False),
        }
        assert symbols == {"reason": {2: "NOT_SPECIFIED", 3: "NO_SOCKET", 91: "IP_LOCALNET"}}
        raw = hit(91)
        assert [fields[name].read(raw) for name in ("reason", "location", "protocol")] == [91, 0x1010, 0x0800]

    def test_they_move_with_the_format(self):
        fields, _symbols = parse_format(FORMAT.replace("offset:36", "offset:40"))
        assert fields["reason"].read(bytes(40) + struct.pack("@I", 5)) == 5

    def test_arrays_and_signs(self):
        fields, symbols = parse_format('\tfield:char name[16];\toffset:8;\tsize:16;\tsigned:1;\n\nprint fmt: "%s"')
        assert fields == {"name": Field(8, 16, True)}
        assert symbols == {}
        assert Field(0, 4, True).read((-2).to_bytes(4, sys.byteorder, signed=True)) == -2

    def test_values_as_kernels_write_them(self):
        text = 'print fmt: "%s %s", __print_symbolic(REC->a, { 0x10, "A" }, { -1, "B" }, { 7UL, "C" }, { NAME, "D" }), \
            __print_symbolic(REC->b, { 1, "E, {F}" })'
        assert parse_format(text)[1] == {"a": {16: "A", -1: "B", 7: "C"}, "b": {1: "E, {F}"}}

    def test_a_kernel_without_reasons_says_so(self):
        tracepoint = Tracepoint("skb/kfree_skb", 1, {}, {})
        with pytest.raises(lab.Unavailable, match=r"skb/kfree_skb has no reason.*newer kernel"):
            tracepoint.field("reason")


class TestSymbols:
    def write(self, tmp_path, text):
        path = tmp_path / "kallsyms"
        path.write_text(text)
        return path

    def test_an_address_lies_in_the_function_before_it(self, tmp_path):
        path = self.write(
            tmp_path,
            "ffffffff81001000 T ip_rcv\n"
            "ffffffff81001100 t local_alias\nffffffff81001100 T udp_rcv\n"
            "ffffffff81001180 d some_data\n"
            "ffffffffc0000000 t nft_do_chain\t[nf_tables]\n"
            "ffffffff81001200 t in_no_order\n",
        )
        base = 0xFFFFFFFF81001000
        addresses = {base - 1, base, base + 0xFF, base + 0x1FF, base + 0x210, 0xFFFFFFFFC0000010}
        assert functions_at(addresses, path) == {
            base - 1: None,
            base: "ip_rcv",
            base + 0xFF: "ip_rcv",
            base + 0x1FF: "udp_rcv",
            base + 0x210: "in_no_order",
            0xFFFFFFFFC0000010: "nft_do_chain",
        }

    @pytest.mark.parametrize("text", ["", "0000000000000000 T ip_rcv\n0000000000000000 t nft_do_chain\t[nf_tables]\n"])
    def test_hidden_ones_have_no_name(self, text, tmp_path):
        assert functions_at([0xFFFFFFFF81001000], self.write(tmp_path, text)) == {0xFFFFFFFF81001000: None}

    def test_nothing_is_read_for_nothing(self):
        assert functions_at([], Path("/nonexistent")) == {}


class TestRing:
    def test_samples_among_other_records(self):
        data = (
            sample(5, cpu=1, pid=10, tid=11, raw=hit(3))
            + record(LOST, struct.pack("@QQ", 1, 70))
            + record(THROTTLE, bytes(24))
            + sample(6, raw=b"")
        )
        first, second = samples_in(data)
        assert first[:4] == (5, 1, 10, 11)
        assert first.raw[:40] == hit(3)
        assert second.time_ns == 6
        assert not any(second.raw)

    @given(st.lists(st.lists(st.integers(0, 60), max_size=5), max_size=20), st.integers(0, 200))
    def test_records_go_on_at_its_start(self, batches, start):
        """Written byte by byte, as the kernel does around the end, and read a batch at a time."""
        ring = bytearray(512)  # a batch has 5 × 96 bytes at most
        tail = head = start * 8
        for number, lengths in enumerate(batches):
            data = b"".join(sample(number, raw=os.urandom(length)) for length in lengths)
            for byte in data:
                ring[head % len(ring)] = byte
                head += 1
            assert unwrap(memoryview(ring), tail, head) == data
            assert [(each.time_ns, len(each.raw)) for each in samples_in(data)] == [
                (number, length + -(length + 4) % 8) for length in lengths
            ]
            tail = head

    def test_a_full_ring_is_read_whole(self):
        ring = bytes(range(8))
        assert unwrap(ring, 8, 16) == ring
        assert unwrap(ring, 13, 21) == bytes([5, 6, 7, 0, 1, 2, 3, 4])
        assert unwrap(ring, 13, 13) == b""

    @pytest.mark.parametrize(("text", "cpus"), [("0\n", [0]), ("0-3\n", [0, 1, 2, 3]), ("0,2-4,7\n", [0, 2, 3, 4, 7])])
    def test_cpus_that_are_on(self, text, cpus, tmp_path):
        path = tmp_path / "online"
        path.write_text(text)
        assert perf._online(path) == cpus


class TestOpening:
    """What the kernel refuses is told with its name and remedy, and leaves nothing open."""

    def refuse(self, monkeypatch, number):
        def call(_which, name, *_arguments):
            if name == "membarrier(2)":
                return 0
            raise OSError(number, os.strerror(number), name)

        monkeypatch.setattr(perf, "_call", call)

    def test_attributes_lie_where_the_kernel_reads_them(self):
        """struct perf_event_attr of linux/perf_event.h, PERF_ATTR_SIZE_VER3."""
        attributes = perf._Attributes
        assert ctypes.sizeof(attributes) == 96
        assert [getattr(attributes, name).offset for name in ("config", "sample_type", "clockid")] == [8, 24, 92]
        if sys.byteorder == "little":
            bits = bytes(perf._Attributes(disabled=1, inherit=1, use_clockid=1))[40:48]
            assert int.from_bytes(bits, "little") == 1 | 1 << 1 | 1 << 25

    @pytest.mark.parametrize(
        ("number", "fix"),
        [(errno.EACCES, "It takes root"), (errno.ENOSYS, "Linux 4.16"), (errno.EMFILE, r"ulimit -n")],
    )
    def test_refusals(self, number, fix, monkeypatch):
        self.refuse(monkeypatch, number)
        with pytest.raises(lab.Unavailable, match=rf"cannot see: perf_event_open.*{fix}") as caught:
            PerfRings(1, what="cannot see", pids=None)
        assert caught.value.errno == number

    def test_on_a_machine_whose_numbers_are_not_known(self, monkeypatch):
        monkeypatch.setattr(perf.platform, "machine", lambda: "vax")
        with pytest.raises(lab.Unavailable, match=r"membarrier\(2\) on vax: ENOSYS"):
            PerfRings(1, what="cannot see", pids=None)

    def test_nothing_stays_open_when_the_ring_is_refused(self, monkeypatch):
        monkeypatch.setattr(perf, "_open_event", lambda *_arguments: os.open("/dev/null", os.O_RDWR))
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(lab.Unavailable, match=r"cannot see: mmap\(perf_event\)"):
            PerfRings(1, what="cannot see", pids=None)
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    def test_a_process_that_has_ended(self, monkeypatch):
        self.refuse(monkeypatch, errno.ESRCH)
        with PerfRings(1, what="cannot see", pids=[os.getpid()]) as rings:  # its threads ended in between
            assert rings.take() == []
        with pytest.raises(lab.UsageError, match="no process 999999999"):
            PerfRings(1, what="cannot see", pids=[999_999_999])

    def test_pages(self):
        with pytest.raises(lab.UsageError, match=r"pages=3: .* power of two"):
            watch_drops(pages=3)


class FakeRings:
    """What the kernel would have told: each look takes the next of `looks`."""

    def __init__(self, looks, hits):
        self.looks, self.hits, self.closed = list(looks), hits, False

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.closed = True

    def take(self):
        assert not self.closed
        return self.looks.pop(0) if self.looks else []

    def stop(self):
        assert not self.closed


class TestDrops:
    @pytest.fixture
    def watch(self, monkeypatch):
        def watch(*looks, hits=None):
            rings = FakeRings(looks, sum(map(len, looks)) if hits is None else hits)
            monkeypatch.setattr(drops, "find_tracepoint", lambda name: Tracepoint(name, 2310, *parse_format(FORMAT)))
            monkeypatch.setattr(drops, "PerfRings", lambda *_arguments, **_options: rings)
            monkeypatch.setattr(drops, "functions_at", lambda new: {each: f"function_{each:x}" for each in new})
            return watch_drops()

        return watch

    def test_what_is_told_of_a_drop(self, watch):
        with watch([Sample(5, 1, 42, 43, hit(91))]) as watched:
            pass
        assert watched.seen == (
            Drop(time_ns=5, reason="IP_LOCALNET", protocol=0x0800, function="function_1010", cpu=1, pid=42),
        )
        assert str(watched.seen[0]) == "IP_LOCALNET in function_1010()"
        assert watched.seen[0].to_json() == {
            "time_ns": 5, "reason": "IP_LOCALNET", "protocol": 2048, "function": "function_1010", "cpu": 1, "pid": 42,
        }  # fmt: skip

    def test_a_reason_without_a_name_is_its_number(self, watch):
        with watch([Sample(5, 1, 42, 43, hit(0x10002))]) as watched:
            assert [drop.reason for drop in watched.seen] == ["65538"]

    def test_where_functions_cannot_be_looked_up(self, watch, monkeypatch):
        def refuse(_new):
            raise FileNotFoundError

        with watch([Sample(5, 1, 42, 43, hit(3))]) as watched:
            monkeypatch.setattr(drops, "functions_at", refuse)
            assert [(drop.function, str(drop)) for drop in watched.seen] == [(None, "NO_SOCKET")]

    def test_looks_add_up_in_the_order_of_time(self, watch):
        with watch([Sample(7, 0, 1, 1, hit(3))], [Sample(6, 1, 1, 1, hit(2))]) as watched:
            assert [drop.time_ns for drop in watched.seen] == [7]
            assert [drop.time_ns for drop in watched.seen] == [6, 7]
        watched.close()
        assert [drop.time_ns for drop in watched.seen] == [6, 7]

    def test_finding(self, watch):
        samples = [
            Sample(10, 0, 1, 1, hit(3)),
            Sample(20, 0, 2, 2, hit(3, protocol=0x86DD)),
            Sample(30, 0, 1, 1, hit(3, protocol=0x86DD)),
        ]
        with watch(samples) as watched:
            pass

        def times(**wanted):
            return [drop.time_ns for drop in watched.find(**wanted)]

        assert times() == [10, 20, 30]
        assert times(pid=1) == [10, 30]
        assert times(protocol=0x86DD) == [20, 30]
        assert times(since_ns=20) == [20, 30]
        assert times(until_ns=20) == [10]
        assert times(pid=1, protocol=0x86DD, since_ns=11, until_ns=31) == [30]

    def test_what_had_no_room_is_counted(self, watch, monkeypatch):
        monkeypatch.setattr(drops, "LIMIT", 3)
        looks = [[Sample(time_ns, 0, 1, 1, hit(3)) for time_ns in times] for times in ((1, 2), (3, 4), (5,))]
        with watch(*looks, hits=12) as watched:
            assert len(watched.seen) == 2
            assert [drop.time_ns for drop in watched.seen] == [1, 2, 3]
        assert len(watched.seen) == 3
        assert watched.lost == 9
