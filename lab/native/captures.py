"""A capture's threads, of ``native/capture.c``: rings in, a file out. Times are CLOCK_REALTIME in int64 nanoseconds.

Imports nothing slow: the capturer of ``lab exec`` must be at work before its rings are full.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from lab._native import ffi, lib
from lab.errors import Unavailable

__all__ = [
    "LARGEST_PIECES",
    "LONGEST_NS",
    "PIECE_BYTES",
    "Counts",
    "Interface",
    "InterfaceCounts",
    "Recording",
    "RingPlan",
]

#: The longest that a capture may be told to last.
LONGEST_NS = int(lib.LAB_MAX_CAPTURE_NS)
#: What is written at once; and how many of these may wait.
PIECE_BYTES, LARGEST_PIECES = int(lib.LAB_WRITE_BYTES), int(lib.LAB_MAX_PIECES)


@dataclass(frozen=True, kw_only=True)
class Interface:
    """``struct lab_interface``: how the file describes it. loopback: link the two copies of each packet."""

    name: str
    description: str = ""
    filter: str = ""
    link_type: int = 1
    loopback: bool = False


@dataclass(frozen=True, kw_only=True)
class RingPlan:
    """``struct lab_ring``: a bound socket with its ring, and which of the interfaces it is on."""

    fd: int
    interface: int
    block_bytes: int
    blocks: int


@dataclass(frozen=True, kw_only=True)
class InterfaceCounts:
    """``struct lab_interface_counts``."""

    received: int
    frames: int
    refused: int
    dropped: int
    freezes: int
    truncated: int
    linked: int
    unlinked: int
    down: int
    gone: int


@dataclass(frozen=True, kw_only=True)
class Counts:
    """``struct lab_capture_counts``, and those of each interface."""

    frames: int
    bytes: int
    file_bytes: int
    disordered: int
    given_up: int
    error: int
    ended: int
    interfaces: tuple[InterfaceCounts, ...]


class Recording:
    """Frames of some rings on their way to a file, until closed.

    file: a descriptor, of a file at its beginning or of a pipe; direct: the same file with O_DIRECT, or None; ready: an
    eventfd that is written to whenever there is more to be read. All stay the caller's, and open until ``close``. The
    same holds for the rings' sockets. pieces: of 4 MiB, that may wait to be written. limit: ends after so many frames;
    limit_ns: after so long. program: a filter to be run here. hosts: names of addresses, "ADDRESS NAME" each.
    Raises Unavailable.
    """

    def __init__(
        self,
        rings: Sequence[RingPlan],
        interfaces: Sequence[Interface],
        *,
        file: int,
        direct: int | None,
        ready: int,
        seekable: bool,
        pieces: int,
        limit: int = 0,
        limit_ns: int = 0,
        program: Sequence[tuple[int, int, int, int]] | None = None,
        hosts: Sequence[str] = (),
        application: str = "",
    ) -> None:
        uname = os.uname()
        keep: list[Any] = []  # what the plan points to, until the call is over

        def text(value: str) -> Any:
            keep.append(ffi.new("char[]", value.encode(errors="surrogateescape").replace(b"\0", b"")))
            return keep[-1]

        def array(kind: str, rows: Sequence[Any]) -> Any:
            keep.append(ffi.new(f"{kind}[]", rows))
            return keep[-1]

        described = [
            (text(each.name), text(each.description), text(each.filter), each.link_type, each.loopback)
            for each in interfaces
        ]
        plan = ffi.new("struct lab_capture_plan *")
        plan.rings = array("struct lab_ring", [(r.fd, r.interface, r.block_bytes, r.blocks) for r in rings])
        plan.interfaces = array("struct lab_interface", described)
        plan.ring_count, plan.interface_count = len(rings), len(interfaces)
        if program is not None:
            plan.program, plan.program_length = array("struct lab_instruction", program), len(program)
        plan.hosts, plan.host_count = array("char *", [text(each) for each in hosts]), len(hosts)
        plan.file_fd, plan.direct_fd, plan.ready_fd = file, -1 if direct is None else direct, ready
        plan.pieces = pieces
        plan.seekable, plan.limit, plan.limit_ns = seekable, limit, limit_ns
        plan.hardware, plan.system = text(uname.machine), text(f"{uname.sysname} {uname.release}")
        plan.application = text(application)
        error = ffi.new("int32_t *")
        self._capture: Any = lib.lab_capture_start(plan, error)
        if not self._capture:
            fix = "Give a smaller --buffer, or close what uses the memory"
            raise Unavailable("cannot start the capture", errno=-error[0], fix=fix)
        self._interfaces = len(interfaces)

    def counts(self) -> Counts:
        """At this moment. After a stop was waited for: final."""
        counts = ffi.new("struct lab_capture_counts *")
        interfaces = ffi.new("struct lab_interface_counts[]", self._interfaces)
        lib.lab_capture_counts(self._capture, counts, interfaces)
        numbers = {each.name: int(getattr(counts, each.name)) for each in fields(Counts) if each.name != "interfaces"}
        return Counts(**numbers, interfaces=tuple(map(_of_interface, interfaces)))

    def flush(self) -> int:
        """Has all written that the taps have seen by now. Returns a ticket for ``wait``."""
        return int(lib.lab_capture_flush(self._capture))

    def ports(self) -> bytes:
        """Which ports of TCP and UDP were seen so far: 65,536 bits, the lowest of the first byte is port 0."""
        bits = bytearray(lib.LAB_PORT_BYTES)
        lib.lab_capture_ports(self._capture, ffi.from_buffer("unsigned char[]", bits, require_writable=True))
        return bytes(bits)

    def stop(self, comments: Sequence[str], drops: Sequence[int]) -> int:
        """Lets no further frame in, and has the file completed. Returns a ticket for ``wait``.

        drops: by each interface itself meanwhile; -1: not known. comments: lines that the statistics will carry; what
        is beyond 20,000 lines or 4 MB is left out.
        """
        texts = [ffi.new("char[]", each.encode()) for each in comments]
        return int(lib.lab_capture_stop(self._capture, ffi.new("char *[]", texts), len(texts), list(drops)))

    def wait(self, ticket: int, timeout_ns: int) -> bool:
        """Whether that was done within the time. Raises OSError if the file can't be written."""
        result = int(lib.lab_capture_wait(self._capture, ticket, timeout_ns))
        if result < 0 and result != -errno.ETIME:
            raise OSError(-result, os.strerror(-result))
        return result == 0

    def close(self) -> None:
        """Frees it; a capture that was not stopped ends with the block that was written last."""
        capture, self._capture = self._capture, None
        if capture:
            lib.lab_capture_close(capture)


def _of_interface(row: Any) -> InterfaceCounts:
    return InterfaceCounts(**{each.name: int(getattr(row, each.name)) for each in fields(InterfaceCounts)})
