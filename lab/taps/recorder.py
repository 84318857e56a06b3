"""The capturer: a process that writes what a tap sees to a pcapng file, until it is dismissed or its starter dies.

It is forked rather than executed, so that it reads the tap within milliseconds: what a program sends in the time in
which Python starts would fill any ring. It needs no rights, as the tap was opened for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from dataclasses import asdict, dataclass
from typing import BinaryIO

from lab.processes import Attendant
from lab.taps import pcapng, ring

__all__ = ["Recorder", "Recording"]

_FLAGS_OF_KIND = {
    socket.PACKET_HOST: pcapng.INBOUND | pcapng.UNICAST,
    socket.PACKET_BROADCAST: pcapng.INBOUND | pcapng.BROADCAST,
    socket.PACKET_MULTICAST: pcapng.INBOUND | pcapng.MULTICAST,
    socket.PACKET_OTHERHOST: pcapng.INBOUND | pcapng.PROMISCUOUS,
    socket.PACKET_OUTGOING: pcapng.OUTBOUND,
}
_FLAGS_OF_STATUS = (
    (ring.CHECKSUM_NOT_READY, pcapng.CHECKSUM_NOT_READY),
    (ring.CHECKSUM_VALID, pcapng.CHECKSUM_VALID),
    (ring.GSO_TCP, pcapng.TCP_SEGMENTS_LEFT),
)
_BUFFER_BYTES = 1 << 20
_LAST_MS = 1_000  # the kernel hands a block over within 20 ms


@dataclass(frozen=True)
class Recording:
    """What came of it. frames: written. dropped: by the kernel, as the ring was full. error: why it ended early."""

    frames: int = 0
    dropped: int = 0
    error: str | None = None


class Recorder:
    """Records an interface of the current network namespace from now on. Raises Unavailable.

    file: open for writing; written to, and not closed. The calling process must have one thread.
    """

    def __init__(self, interface: str, file: BinaryIO) -> None:
        start_ns = time.time_ns()
        self._told, tell = os.pipe()

        def work(stop: int) -> None:
            recording = _attempt(interface, start_ns, tap, file, stop)
            with contextlib.suppress(BrokenPipeError):  # whom we would tell is gone
                os.write(tell, json.dumps(asdict(recording)).encode())

        with ring.open_tap(interface) as tap:
            self._process = Attendant(work, keep=(tap.fileno(), file.fileno(), tell))
        os.close(tell)

    def finish(self) -> Recording:
        """Has what was seen so far written, and the process ended."""
        self._process.dismiss()
        with os.fdopen(self._told) as told:
            text = told.read()
        return Recording(**json.loads(text)) if text else Recording(error="the capturer ended early")


def _attempt(interface: str, start_ns: int, tap: socket.socket, file: BinaryIO, stop: int) -> Recording:
    out = os.fdopen(file.fileno(), "wb", _BUFFER_BYTES)
    try:
        return _record(interface, start_ns, tap, out, stop)
    except OSError as error:
        return Recording(error=error.strerror)


def _flags(frame: ring.Frame) -> int:
    flags = _FLAGS_OF_KIND.get(frame.kind, 0)
    for status, flag in _FLAGS_OF_STATUS:
        if frame.status & status:
            flags |= flag
    return flags


def _record(interface: str, start_ns: int, tap: socket.socket, file: BinaryIO, stop: int) -> Recording:
    """Writes frames until `stop` is readable, and then what the tap had seen by that time."""
    from importlib.metadata import version  # slow to import, and the starter is in a hurry

    uname = os.uname()
    system = f"{uname.sysname} {uname.release}"
    writer = pcapng.Writer(file)
    writer.section(hardware=uname.machine, system=system, application=f"loopback-lab {version('loopback-lab')}")
    writer.interface(interface, description="in a private world", system=system, snaplen=ring.SNAPLEN)
    reader = ring.Ring(tap)
    ready = select.poll()
    ready.register(tap, select.POLLIN)
    ready.register(stop, select.POLLIN)
    written, wanted = 0, None
    while wanted is None or written < wanted:
        events = dict(ready.poll(None if wanted is None else _LAST_MS))
        if not events:
            break
        if events.get(tap.fileno(), 0) & select.POLLERR:
            tap.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # the interface went down; it may come up again
        if stop in events:
            ready.unregister(stop)
            received, dropped = reader.counts()
            wanted = received - dropped
        for frame in reader.frames():
            writer.packet(frame.time_ns, frame.data, length=frame.length, flags=_flags(frame))
            written += 1
        file.flush()
    received, dropped = reader.counts()
    writer.statistics(start_ns=start_ns, end_ns=time.time_ns(), received=received, dropped=dropped, written=written)
    file.flush()
    return Recording(written, dropped)
