"""The capturer: a process that writes what a tap sees to a pcapng file, until the one that started it lets go or dies.

It is forked rather than executed, so that it reads the tap within a millisecond: what a program sends in the time in
which Python starts would fill any ring. A pipe that nobody writes to tells it to finish: its end comes however the
starter ends. It needs no rights, as the tap was opened for it, and belongs to no terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from lab.taps import pcapng, ring

__all__ = ["Recorder", "Recording"]

_STDERR = 2
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
        with ring.open_tap(interface) as tap:
            stop, self._stop = os.pipe()
            self._told, tell = os.pipe()
            self._process = os.fork()
            if self._process == 0:
                try:
                    _detach(keep={_STDERR, tap.fileno(), file.fileno(), stop, tell})
                    recording = _attempt(interface, start_ns, tap, file, stop)
                    os.write(tell, json.dumps(asdict(recording)).encode())
                except Exception:
                    sys.excepthook(*sys.exc_info())
                finally:
                    os._exit(0)
        os.close(stop)
        os.close(tell)

    def finish(self) -> Recording:
        """Has what was seen so far written, and the process ended."""
        os.close(self._stop)
        with os.fdopen(self._told) as told:
            text = told.read()
        _, status = os.waitpid(self._process, 0)
        return Recording(**json.loads(text)) if text else Recording(error=f"the capturer ended with status {status}")


def _detach(keep: set[int]) -> None:
    """Leaves the terminal, and lets go of every descriptor but these: whoever waits for their end shall see it."""
    os.setsid()
    for entry in Path("/proc/self/fd").iterdir():
        descriptor = int(entry.name)
        if descriptor not in keep:
            with contextlib.suppress(OSError):  # the folder's own is closed already
                os.close(descriptor)


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
        events = dict(ready.poll())
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
