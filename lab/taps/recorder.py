"""The capturer: a process that writes what a tap sees to a pcapng file, until the one that started it lets go or dies.

Started by ``Recorder`` as ``python -m lab.taps.recorder TAP FILE``, both descriptors. Its standard input is a pipe
that nobody writes to: its end is the word to finish, and comes however the starter ends. What was recorded is told
as JSON on standard output. It needs no rights: the tap was opened for it.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import BinaryIO

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


@dataclass(frozen=True)
class Recording:
    """What came of it. frames: written. dropped: by the kernel, as the ring was full. error: why it ended early."""

    frames: int = 0
    dropped: int = 0
    error: str | None = None


class Recorder:
    """Records an interface of the current network namespace from now on. Raises Unavailable.

    file: open for writing; written to, and not closed.
    """

    def __init__(self, interface: str, file: BinaryIO) -> None:
        start_ns = time.time_ns()
        with ring.open_tap(interface) as tap:
            descriptors = (tap.fileno(), file.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "lab.taps.recorder", interface, str(start_ns), *map(str, descriptors)],
                pass_fds=descriptors,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # what the terminal sends is not for it
            )

    def finish(self) -> Recording:
        """Has what was seen so far written, and the process ended."""
        told, _ = self._process.communicate()
        if not told:
            return Recording(error=f"its process ended with {self._process.returncode}")
        return Recording(**json.loads(told))


def _flags(frame: ring.Frame) -> int:
    flags = _FLAGS_OF_KIND.get(frame.kind, 0)
    for status, flag in _FLAGS_OF_STATUS:
        if frame.status & status:
            flags |= flag
    return flags


def _record(interface: str, start_ns: int, tap: socket.socket, file: BinaryIO, stop: int) -> Recording:
    """Writes frames until `stop` is readable, and then what the tap had seen by that time."""
    from importlib.metadata import version  # slow to import, and Recorder is in a hurry

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


def main() -> None:
    """Records until standard input ends."""
    interface, start_ns, tap, out = sys.argv[1], *map(int, sys.argv[2:])
    file = os.fdopen(out, "wb", _BUFFER_BYTES)
    try:
        recording = _record(interface, start_ns, socket.socket(fileno=tap), file, sys.stdin.fileno())
    except OSError as error:
        recording = Recording(error=error.strerror)
    print(json.dumps(asdict(recording)), flush=True)
    os._exit(0)  # closing the file would try once more to write what could not be written


if __name__ == "__main__":
    main()
