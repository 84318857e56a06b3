"""A tracepoint's records, read by perf_event_open(2): of some processes and all that they start, or of the machine.

Rules: all that the kernel holds for us hangs on descriptors, so that nothing is left of it however we end. A ring for
each CPU, as a CPU writes to its own only; one event for each thread and CPU, which share that ring. A full ring loses
records, and never in silence: the kernel counts each hit of the tracepoint, whether or not its record had room, and
what was hit but not read was lost. (It also writes PERF_RECORD_LOST, but only in front of a later record that had room
again: the last loss would stay untold.)

Who may read while the kernel writes: the kernel moves ``data_head`` behind a record that is complete, we move
``data_tail`` behind what we have copied, and each of the two is one load or store, as struct does it with the format
"@Q". Neither may change places with the loads of the records themselves (struct perf_event_mmap_page in
linux/perf_event.h). x86 would see to that by itself; other machines need a barrier between, which Python has not, but
membarrier(2): with MEMBARRIER_CMD_GLOBAL_EXPEDITED it is a full one for the thread that calls it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import platform
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lab.errors import Unavailable, UsageError
from lab.managed import Managed

__all__ = ["RING_PAGES", "PerfRings", "Sample", "samples_in", "unwrap"]

#: Pages of a ring by default, a power of two: 128 KiB, some 1,600 records of ``skb/kfree_skb``.
RING_PAGES = 32

#: perf_event_open(2) and membarrier(2), which no C library wraps, by machine (asm/unistd.h).
_CALLS = {
    "x86_64": (298, 324), "aarch64": (241, 283), "riscv64": (241, 283), "loongarch64": (241, 283),
    "ppc64le": (319, 365), "s390x": (331, 356),
}  # fmt: skip
_MEMBARRIER_CMD_GLOBAL_EXPEDITED = 2  # linux/membarrier.h

# linux/perf_event.h
_TYPE_TRACEPOINT = 2
_SAMPLE_TID, _SAMPLE_TIME, _SAMPLE_CPU, _SAMPLE_RAW = 1 << 1, 1 << 2, 1 << 7, 1 << 10
_FLAG_FD_CLOEXEC = 8
_IOC_ENABLE, _IOC_DISABLE, _IOC_SET_OUTPUT, _IOC_SET_FILTER = 0x2400, 0x2401, 0x2405, 0x40082406
_HEAD_AT, _TAIL_AT, _DATA_AT = 1024, 1032, 1040  # in perf_event_mmap_page; at the last: where the records begin
_WORD = struct.Struct("@Q")
_HEADER = struct.Struct("@IHH")  # perf_event_header: type, misc, bytes with it
_RECORD_SAMPLE = 9
_SAMPLE = struct.Struct("@IIQIxxxxI")  # process, thread; time; CPU; bytes of the tracepoint's own record

_libc = ctypes.CDLL(None, use_errno=True)
_ONLINE = Path("/sys/devices/system/cpu/online")
_FIX = (
    "It takes root on the machine itself (or CAP_PERFMON, or sysctl kernel.perf_event_paranoid=-1), and Linux 4.16 or "
    "newer with CONFIG_PERF_EVENTS; in a container, --privileged"
)
_MANY_FIX = "It takes a descriptor for each CPU and thread: allow more (ulimit -n), or watch the whole machine"


class _Attributes(ctypes.Structure):
    """perf_event_attr, as of Linux 4.1; bit fields, as their order differs between machines."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("disabled", ctypes.c_uint64, 1),
        ("inherit", ctypes.c_uint64, 1),
        ("flags_2_to_24", ctypes.c_uint64, 23),
        ("use_clockid", ctypes.c_uint64, 1),
        ("flags_26_to_63", ctypes.c_uint64, 38),
        ("wakeup_events", ctypes.c_uint32),
        ("bp_type", ctypes.c_uint32),
        ("config1", ctypes.c_uint64),
        ("config2", ctypes.c_uint64),
        ("branch_sample_type", ctypes.c_uint64),
        ("sample_regs_user", ctypes.c_uint64),
        ("sample_stack_user", ctypes.c_uint32),
        ("clockid", ctypes.c_int32),
    )


class Sample(NamedTuple):
    """One hit of a tracepoint.

    time_ns: CLOCK_MONOTONIC. cpu: where. pid, tid: the process and the thread that ran there, 0 for none, or for one
    outside our pid namespace. raw: the tracepoint's record, in which its fields lie.
    """

    time_ns: int
    cpu: int
    pid: int
    tid: int
    raw: bytes


class _Ring(Managed):
    """The ring of one CPU, and the events that write to it. Its methods raise OSError with the name of the call."""

    def __init__(self, cpu: int, pages: int) -> None:
        #: How often the tracepoint was hit, by the last look.
        self.hits = 0
        self._cpu, self._pages = cpu, pages
        self._events: list[int] = []
        self._opened = contextlib.ExitStack()

    def add(self, number: int, thread: int, condition: str) -> None:
        """An event that is not enabled yet. thread: -1 for all; else that one and all that it starts from now on."""
        event = _open_event(number, thread, self._cpu)
        self._opened.callback(os.close, event)
        if condition:
            with _named("ioctl(PERF_EVENT_IOC_SET_FILTER)"):
                fcntl.ioctl(event, _IOC_SET_FILTER, condition.encode() + b"\0")
        if self._events:
            with _named("ioctl(PERF_EVENT_IOC_SET_OUTPUT)"):
                fcntl.ioctl(event, _IOC_SET_OUTPUT, self._events[0])
        else:
            with _named("mmap(perf_event)"):
                self._map = self._opened.enter_context(mmap.mmap(event, (1 + self._pages) * mmap.PAGESIZE))
        self._events.append(event)

    def start(self) -> None:
        for event in self._events:
            with _named("ioctl(PERF_EVENT_IOC_ENABLE)"):
                fcntl.ioctl(event, _IOC_ENABLE, 0)

    def stop(self) -> None:
        for event in self._events:
            with _named("ioctl(PERF_EVENT_IOC_DISABLE)"):
                fcntl.ioctl(event, _IOC_DISABLE, 0)

    def take(self) -> list[Sample]:
        """What was hit since it was last taken; the ring has its room again."""
        if not self._events:  # all threads had ended before
            return []
        # First: what was hit by now is in the ring, or lost.
        self.hits = sum(int.from_bytes(os.read(event, _WORD.size), sys.byteorder) for event in self._events)
        (head,) = _WORD.unpack_from(self._map, _HEAD_AT)
        (tail,) = _WORD.unpack_from(self._map, _TAIL_AT)
        (begin,) = _WORD.unpack_from(self._map, _DATA_AT)
        _barrier()  # no record is loaded before the head
        with memoryview(self._map) as whole, whole[begin:] as ring:
            data = unwrap(ring, tail, head)
        _barrier()  # nor after its room is given away
        _WORD.pack_into(self._map, _TAIL_AT, head)
        return list(samples_in(data))

    def close(self) -> None:
        self._opened.close()


class PerfRings(Managed):
    """The hits of a tracepoint, of any network, from when it is made until it is stopped.

    number: the tracepoint's. what: for whom it is, in an error's text. pids: processes whose hits count, and those of
    all that they start from now on; None: everybody's. condition: what the tracepoint's fields must be, as in
    "protocol == 0x800"; the rest is no hit. pages: of a ring, a power of two.
    Raises Unavailable; UsageError for a process that there is not.
    """

    def __init__(
        self, number: int, *, what: str, pids: Iterable[int] | None, condition: str = "", pages: int = RING_PAGES
    ) -> None:
        with contextlib.ExitStack() as opened:
            try:
                _barrier()  # or it would be missed only when something was to be read
                self._rings = [opened.enter_context(_Ring(cpu, pages)) for cpu in _online()]
                for thread in [-1] if pids is None else [thread for pid in pids for thread in _threads(pid)]:
                    for ring in self._rings:
                        with contextlib.suppress(ProcessLookupError):  # it has ended
                            ring.add(number, thread, condition)
                for ring in self._rings:
                    ring.start()
            except OSError as error:
                fix = _MANY_FIX if error.errno == errno.EMFILE else _FIX
                raise Unavailable(f"{what}: {error.filename}", errno=error.errno, fix=fix) from error
            self._opened = opened.pop_all()

    @property
    def hits(self) -> int:
        """How often it was hit, by the last look; exact once stopped, else there may be one whose record is late."""
        return sum(ring.hits for ring in self._rings)

    def take(self) -> list[Sample]:
        """What was hit since it was last taken, in the order of time."""
        return sorted((sample for ring in self._rings for sample in ring.take()), key=lambda sample: sample.time_ns)

    def stop(self) -> None:
        """No hit is counted from now on."""
        for ring in self._rings:
            ring.stop()

    def close(self) -> None:
        self._opened.close()


def unwrap(ring: memoryview | bytes, tail: int, head: int) -> bytes:
    """What lies between two positions in a ring, which count bytes on and on; a record may go on at the ring's start.

    ring: its data alone, a power of two bytes.
    """
    size = len(ring)
    begin, length = tail % size, head - tail
    return bytes(ring[begin : begin + length]) + bytes(ring[: max(0, begin + length - size)])


def samples_in(data: bytes) -> Iterator[Sample]:
    """The samples among whole records; all others are about the ring itself and say nothing that its count does not."""
    at = 0
    while at < len(data):
        kind, _misc, length = _HEADER.unpack_from(data, at)
        if kind == _RECORD_SAMPLE:
            pid, tid, time_ns, cpu, raw_bytes = _SAMPLE.unpack_from(data, at + _HEADER.size)
            begin = at + _HEADER.size + _SAMPLE.size
            yield Sample(time_ns, cpu, pid, tid, data[begin : begin + raw_bytes])
        at += length


def _open_event(number: int, thread: int, cpu: int) -> int:
    """The descriptor of an event that is not enabled yet: every hit on that CPU, each with a record."""
    attributes = _Attributes(
        type=_TYPE_TRACEPOINT,
        size=ctypes.sizeof(_Attributes),
        config=number,
        sample_period=1,
        sample_type=_SAMPLE_TID | _SAMPLE_TIME | _SAMPLE_CPU | _SAMPLE_RAW,
        disabled=1,
        inherit=thread >= 0,
        use_clockid=1,
        clockid=time.CLOCK_MONOTONIC,
    )
    return _call(0, "perf_event_open(2)", ctypes.addressof(attributes), thread, cpu, -1, _FLAG_FD_CLOEXEC)


def _barrier() -> None:
    _call(1, "membarrier(2)", _MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0)


def _call(which: int, name: str, *arguments: int) -> int:
    """A system call by its place in ``_CALLS``. Raises OSError with its name."""
    machine = platform.machine()
    if machine not in _CALLS:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), f"{name} on {machine}")
    _libc.syscall.restype = ctypes.c_long
    result = _libc.syscall(*map(ctypes.c_long, (_CALLS[machine][which], *arguments)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return int(result)


def _threads(pid: int) -> list[int]:
    try:
        return sorted(int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        raise UsageError(f"no process {pid}: name one that is running") from None


@contextlib.contextmanager
def _named(call: str) -> Iterator[None]:
    """Gives an OSError the name of the call that it came from."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, call) from None


def _online(path: Path = _ONLINE) -> list[int]:
    """The CPUs that are on; the file has "0-3", or "0,2-5" where some are not."""
    bounds = (part.partition("-") for part in path.read_text().strip().split(","))
    return [cpu for first, _, last in bounds for cpu in range(int(first), int(last or first) + 1)]
