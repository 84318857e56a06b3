"""A wire between two descriptors, run by a thread of its own, and what its log says of our probes.

A wire joins a *near* and a *far* side: packet sockets on two Ethernet devices, or two tun or tap descriptors. What it
does to frames is decided by a seed (``native/impair.c``), and each of its deeds is in its log. Packet sockets show no
VLAN tags, so tagged frames cross it untagged.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import weakref
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lab.errors import Unavailable
from lab.managed import Managed
from lab.native.stop import Stop
from lab.native.wire import Impairment, WireLoop, WireSpec
from lab.records import WIRE_FLAGS, Records

__all__ = ["End", "Log", "Wire", "dropped_probes", "probe_numbers"]

_SOL_PACKET, _PACKET_STATISTICS = 263, 6  # linux/if_packet.h
_IP4_PROTOCOL, _IP6_NEXT_HEADER, _IP6_HEADER = 9, 6, 40
_ICMP, _TCP, _UDP, _ICMP6 = 1, 6, 17, 58
_TCP_OFFSET = 12  # of the byte whose upper half is the header's length in words
_VXLAN_PORT = (4789 >> 8, 4789 & 255)  # RFC 7348
_UDP_TO_PORT = 22  # its offset in IPv4 without options
_INSIDE_VXLAN = 50  # bytes from the outer IP header to the inner one: IP, UDP, VXLAN, Ethernet
_NEVER_LEFT = sum(WIRE_FLAGS[name] for name in ("lost", "queue", "oversize", "unsent", "discarded"))


class End(Protocol):
    """One side of a wire: a socket, or a file of a tun or tap device (``os.fdopen(fd, "r+b", 0)``)."""

    def fileno(self) -> int: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Log:
    """What the wire did: rows of ``lab.records.WIRE_EVENT``, oldest first, and how many before them are gone."""

    events: Records
    overwritten: int


class Wire(Managed):
    """Forwards frames between two sides until closed. A context manager.

    near, far: the two sides, which the wire owns from now on and sets to non-blocking. Bind packet sockets to their
    device beforehand, let them ignore outgoing frames, and keep the kernel from sending there of its own (no IPv6).
    impairments: of the frames that come from the near side, and of those that come from the far side; all pairs that
    are returned are in this order.
    seed: of all draws. wait: "block" (sleep until a frame comes or is due) or "spin" (poll without sleeping), which
    may be changed at any time. spin_ns: when blocking, stop sleeping so long before a frame is due. spare: what
    the kernel sends by itself to discover neighbours and multicast listeners, also inside VXLAN, is delayed, but never
    lost, duplicated, reordered or corrupted, and takes no draw: so a seed always loses the same probes. header_bytes:
    14 for Ethernet, 0 for bare IP packets. frame_bytes: longer frames are dropped. log_size: events that are kept.

    A frame that is still held has no event yet. Raises UsageError for a number out of range.
    """

    def __init__(
        self,
        near: End,
        far: End,
        impairments: tuple[Impairment, Impairment] = (Impairment(), Impairment()),
        *,
        seed: int = 0,
        wait: str = "block",
        spin_ns: int = 0,
        spare: bool = True,
        header_bytes: int = 14,
        frame_bytes: int = 2048,
        log_size: int = 65_536,
    ) -> None:
        self.header_bytes = header_bytes
        wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            spec = WireSpec(
                near_fd=near.fileno(),
                far_fd=far.fileno(),
                wake_fd=wake,
                wait=wait,
                frame_bytes=frame_bytes,
                header_bytes=header_bytes,
                spin_ns=spin_ns,
                seed=seed,
                spare=spare,
                log_size=log_size,
                impairments=impairments,
            )
            loop = WireLoop(spec)
            for end in (near, far):
                os.set_blocking(end.fileno(), False)
        except BaseException:
            os.close(wake)
            raise
        self._running = _Running(loop, (near, far), wake)
        # At the interpreter's exit too, and for a wire that was forgotten.
        self._end = weakref.finalize(self, self._running.end)
        self._running.thread.start()

    @property
    def wait(self) -> str:
        """How it waits for frames, "block" or "spin"; may be set while it runs."""
        return self._running.loop.wait

    @wait.setter
    def wait(self, wait: str) -> None:
        self._running.loop.wait = wait
        if self._end.alive:
            self._running.wake()

    def pin(self, cpu: int) -> None:
        """Lets the wire's thread run on this CPU only. Raises Unavailable."""
        try:
            os.sched_setaffinity(self._running.thread.native_id or -1, {cpu})
        except OSError as error:
            allowed = sorted(os.sched_getaffinity(0))
            raise Unavailable(
                f"cannot pin the wire to CPU {cpu}", errno=error.errno, fix=f"Choose one of {allowed}, while it runs"
            ) from error

    @property
    def error(self) -> BaseException | None:
        """What ended the wire before it was closed; ``close`` raises it."""
        return self._running.error

    @property
    def ports(self) -> tuple[int, int]:
        """The descriptors of its near and its far side, which stay its own. What is written there did not cross it."""
        return self._running.ports

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """Frames so far, by direction: ``struct lab_wire_counters``, and ``missed``.

        missed: frames that came while a packet socket's receive buffer was full, so that the wire never saw them.
        """
        near, far = self._running.loop.counters()
        missed = self._running.missed()
        return {**near, "missed": missed[0]}, {**far, "missed": missed[1]}

    @property
    def logged(self) -> int:
        """Events so far, to be given to ``events`` later on."""
        return self._running.loop.logged

    def events(self, since: int = 0) -> Log:
        """What the wire did, from event number `since` on, as far as the log still has it."""
        events, first = self._running.loop.events()
        return Log(events[max(since - first, 0) :], max(first - since, 0))

    def dropped_probes(self, nonce: int, since: int = 0) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """``dropped_probes`` of the log: all of them only if nothing since event number `since` was overwritten."""
        return dropped_probes(self.events(since).events, nonce, self.header_bytes)

    def close(self) -> None:
        """Stops the wire and closes its sides; raises what had ended it before, once."""
        self._end()
        error, self._running.error = self._running.error, None
        if error is not None:
            raise error


class _Running:
    """All that the thread needs. It knows no Wire, so that one which nobody refers to any more can be closed."""

    def __init__(self, loop: WireLoop, ends: tuple[End, End], wake: int) -> None:
        self.loop, self._ends, self._wake = loop, ends, wake
        self._stop = Stop()
        self._missed = [0, 0]
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._work, name="lab wire", daemon=True)

    def _work(self) -> None:
        try:
            self.loop.run(self._stop)
        except BaseException as error:  # for whoever closes the wire
            self.error = error

    @property
    def ports(self) -> tuple[int, int]:
        near, far = self._ends
        return near.fileno(), far.fileno()

    def wake(self) -> None:
        os.eventfd_write(self._wake, 1)

    def missed(self) -> tuple[int, int]:
        """Reading the kernel's count sets it back to zero, so it is added up here."""
        for i, end in enumerate(self._ends):
            if isinstance(end, socket.socket) and end.family == socket.AF_PACKET and end.fileno() >= 0:
                self._missed[i] += struct.unpack("II", end.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
        return self._missed[0], self._missed[1]

    def end(self) -> None:
        self._stop.set()
        self.wake()
        self.thread.join()
        self.missed()
        for end in self._ends:
            end.close()
        os.close(self._wake)


# ---- our probes in the log ----


def probe_numbers(
    events: Records, nonce: int, header_bytes: int = 14
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint64]]:
    """Which frames carry a message of the stream `nonce`, and its sequence number there: two arrays of shape (n,).

    events: rows of ``WIRE_EVENT``, shape (n,). ICMP, UDP and TCP over IPv4 or IPv6, as ``native/message.c`` makes
    them, also inside VXLAN over IPv4, as far as the snap reaches (all but TCP over IPv6). The top bit of the number is
    set for messages that are not recorded. Where there is none, it means nothing.
    """
    snap, rows = events["snap"], np.arange(len(events))
    ip = np.where(_is_vxlan(snap[:, header_bytes:]), header_bytes + _INSIDE_VXLAN, header_bytes)
    first = snap[rows, ip]
    four, six = first >> 4 == 4, first >> 4 == 6
    protocol = snap[rows, ip + np.where(four, _IP4_PROTOCOL, _IP6_NEXT_HEADER)]
    transport = ip + np.where(four, (first & 15).astype(np.intp) * 4, _IP6_HEADER)
    tcp_offset = np.minimum(transport + _TCP_OFFSET, snap.shape[1] - 1)  # beyond it lies no whole message anyway
    tcp_header = (snap[rows, tcp_offset] >> 4).astype(np.intp) * 4
    payload = transport + np.where(protocol == _TCP, tcp_header, 8)
    known = (four | six) & np.isin(protocol, (_ICMP, _ICMP6, _UDP, _TCP)) & (payload + 16 <= events["snapped"])
    places = np.where(known, payload, 0)[:, None] + np.arange(16)
    head = np.ascontiguousarray(snap[rows[:, None], places]).view(np.uint64)
    return known & (head[:, 0] == np.uint64(nonce)), head[:, 1]


def _is_vxlan(outer: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which IP packets, shape (n, bytes), are IPv4 without options, and UDP to VXLAN's port."""
    to_port = (outer[:, _UDP_TO_PORT : _UDP_TO_PORT + 2] == _VXLAN_PORT).all(axis=1)
    found: npt.NDArray[np.bool_] = (outer[:, 0] == 0x45) & (outer[:, _IP4_PROTOCOL] == _UDP) & to_port
    return found


def dropped_probes(
    events: Records, nonce: int, header_bytes: int = 14
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The sequence numbers of the recorded probes of which the wire let nothing through, by direction, ascending.

    A request is lost in the first direction, a reply in the second. A segment that TCP sent again and that then
    passed is not dropped; a corrupted one is not either, though its receiver will do so.
    """
    ours, seq = probe_numbers(events, nonce, header_bytes)
    ours &= seq >> np.uint64(63) == 0
    passed = events["flags"] & _NEVER_LEFT == 0
    ways = [ours & (events["direction"] == direction) for direction in (0, 1)]
    near, far = (np.setdiff1d(seq[way & ~passed], seq[way & passed]).astype(np.int64) for way in ways)
    return near, far
