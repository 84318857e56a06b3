"""What arrives on lo, counted twice: by the UDP socket that it is for, and by a tap.

The socket is not read while packets come: its queue fills up, and the kernel counts what finds no room. That is
delivered all the same, and costs each sender as much.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from lab.managed import Managed
from lab.taps.filters import attach, compile_filter

ADDRESSES = {4: "127.0.0.1", 6: "::1"}
PORT = 9
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
ETHERTYPES = {4: 0x0800, 6: 0x86DD}
#: Of what was read, and of what came to a socket and found no room.
COUNTERS = ("InDatagrams", "RcvbufErrors", "MemErrors")
SOL_PACKET, PACKET_STATISTICS = 263, 6  # linux/if_packet.h


class Listener(Managed):
    """A UDP socket at PORT, which nobody reads. ``delivered`` since it was opened, by the kernel's own counters."""

    def __init__(self, family: int) -> None:
        self.family = family
        self._socket = socket.socket(FAMILIES[family], socket.SOCK_DGRAM)
        self._socket.bind((ADDRESSES[family], PORT))
        self._before = udp_count(family)

    def delivered(self) -> int:
        """Reads what waits, as what is neither read nor refused is not counted yet."""
        while True:
            try:
                self._socket.recv(1, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return udp_count(self.family) - self._before

    def close(self) -> None:
        self._socket.close()


class Tap(Managed):
    """Counts the datagrams to PORT that come in on lo, and keeps none: it has no room, and the kernel counts drops.

    Bound to the type of the family's frames, as only frames that come in are given out by type.
    """

    def __init__(self, family: int) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        attach(self._socket, compile_filter(f"udp dst port {PORT}"))
        self._socket.bind(("lo", ETHERTYPES[family]))

    def delivered(self) -> int:
        """Since this was asked last; the kernel counts in 32 bits."""
        return int(struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[0])

    def close(self) -> None:
        self._socket.close()


def udp_count(family: int) -> int:
    """Datagrams that a socket of this network was given, or had no room for."""
    if family == 6:
        lines = [line.split() for line in Path("/proc/net/snmp6").read_text().splitlines()]
        found = {name.removeprefix("Udp6"): int(count) for name, count in lines if name.startswith("Udp6")}
    else:
        names, counts = [line.split()[1:] for line in Path("/proc/net/snmp").read_text().splitlines() if "Udp:" in line]
        found = dict(zip(names, map(int, counts), strict=True))
    return sum(found[name] for name in COUNTERS)
