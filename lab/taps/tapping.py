"""Opens taps: packet sockets with rings (TPACKET_V3, packet(7)), one a CPU, that share an interface's frames.

A tap's frames of one CPU are in one ring, in the order in which they passed (PACKET_FANOUT_CPU): that links the two
copies of a packet on lo. Until all of an interface's sockets are together, each would see all of its frames; so they
are bound with a filter that lets none through, and get theirs at the end. From then on no frame is missed. The filter
chooses the direction, too: a group of sockets does not honour PACKET_IGNORE_OUTGOING (seen on Linux 6.18).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import Unavailable
from lab.native.captures import LARGEST_PIECES, PIECE_BYTES, RingPlan
from lab.taps import rtnetlink
from lab.taps.filters import NOTHING, Instruction, attach, one_way
from lab.taps.places import SocketAt
from lab.taps.ring import BLOCK_BYTES, BLOCKS, add_ring

__all__ = ["DIRECTIONS", "Tap", "blocks_for", "link_type_of", "open_tap", "pieces_for", "rings_of_all_cpus"]

#: What of an interface is seen.
DIRECTIONS = ("in", "out", "inout")

_LEAST_BLOCKS, _LEAST_PIECES = 4, 4
_ALL_BLOCKS = 512

#: "0-3", or "0,2-5" where some are offline.
_ONLINE = Path("/sys/devices/system/cpu/online")

# linux/if_packet.h, linux/if_ether.h, linux/sockios.h, linux/if_arp.h
_SOL_PACKET, _PACKET_FANOUT, _PACKET_IGNORE_OUTGOING = 263, 18, 23
_FANOUT_CPU, _FANOUT_UNIQUE, _FANOUT_MOST = 2, 0x2000, 256
_ETH_P_ALL = 3
_SIOCGIFHWADDR = 0x8927
_ETHERNET_DEVICE, _LOOPBACK = 1, 772
_ETHERNET, _RAW = 1, 101
#: Devices without a header of the link layer (ARPHRD_NONE, TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE, RAWIP).
_BARE = (65534, 768, 769, 776, 778, 823, 519)


@dataclass(frozen=True, kw_only=True)
class Tap:
    """The sockets of one interface.

    channel: to ask its network for its statistics. dropped: by the interface itself, before. link_type: LINKTYPE_* of
    its frames. loopback: it is a loopback device.
    """

    interface: str
    sockets: tuple[socket.socket, ...]
    channel: socket.socket
    dropped: int
    blocks: int
    link_type: int
    loopback: bool

    def rings(self, index: int) -> list[RingPlan]:
        """What C needs of them; index: the interface's number in the file."""
        return [
            RingPlan(fd=each.fileno(), interface=index, block_bytes=BLOCK_BYTES, blocks=self.blocks)
            for each in self.sockets
        ]

    def drops(self) -> int:
        """What the interface itself has dropped since it was tapped; -1 where that is not known."""
        with contextlib.suppress(Unavailable):
            if (now := _drops(self.channel, self.interface)) is not None:
                return now - self.dropped
        return -1

    def close(self) -> None:
        for each in (*self.sockets, self.channel):
            each.close()


def blocks_for(interfaces: int, rings: int, buffer_bytes: int | None = None) -> int:
    """How many blocks each ring gets: so that those of an interface hold `buffer_bytes`; or a default."""
    if buffer_bytes is None:
        return max(_LEAST_BLOCKS, min(BLOCKS, _ALL_BLOCKS // (rings * interfaces)))
    return max(_LEAST_BLOCKS, -(-buffer_bytes // (BLOCK_BYTES * rings)))


def pieces_for(blocks: int, rings: int) -> int:
    """How many pieces of 4 MiB may wait to be written: as much memory as the rings of one interface have."""
    return max(_LEAST_PIECES, min(LARGEST_PIECES, blocks * rings * BLOCK_BYTES // PIECE_BYTES))


def rings_of_all_cpus() -> int:
    """One for each number that a CPU has, as the kernel goes by these, up to the last one that is online."""
    last = int(_ONLINE.read_text().strip().replace("-", ",").rpartition(",")[2])
    return min(last + 1, _FANOUT_MOST)


def open_tap(
    interface: str,
    *,
    program: Callable[[int], Sequence[Instruction]],
    direction: str = "inout",
    both_copies: bool = False,
    blocks: int = BLOCKS,
    rings: int = 1,
    socket_at: SocketAt = socket.socket,
) -> Tap:
    """Taps an interface: every frame that passes it from the return of this call on, and matches.

    program: gives the filter for a link type. direction: "in", "out" or "inout"; on a loopback device the last keeps
    one copy of each packet, that which comes in, unless both_copies. blocks: of each ring. rings: a CPU's
    frames are all in one of them. socket_at: opens sockets in
    the network namespace of the interface. Raises Unavailable.
    """
    with contextlib.ExitStack() as opened:
        try:
            first = opened.enter_context(_open(socket_at))
            type_ = _hardware_type(first, interface)
            loopback = type_ == _LOOPBACK
            link_type = link_type_of(type_)
            if link_type is None:
                fix = "Name others; it does Ethernet, lo, and tunnels without a link layer"
                raise Unavailable(
                    f"cannot tap {interface}: its frames are of a kind unknown to lab", errno=None, fix=fix
                )
            channel = opened.enter_context(socket_at(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE))
            wanted = tuple(program(link_type))
            if direction != "inout" or (loopback and not both_copies):
                wanted = one_way(wanted, outgoing=direction == "out")
            sockets = [first, *(opened.enter_context(_open(socket_at)) for _ in range(rings - 1))]
            for each in sockets:
                _set_up(each, interface, blocks)
            if rings == 1 and loopback and not both_copies and direction == "inout":
                first.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)  # which spares the kernel a copy to filter
            _join(sockets)
            for each in sockets:
                attach(each, wanted)
        except Unavailable:
            raise  # which is an OSError, and whoever opens sockets knows best
        except OSError as error:
            fix = f"It takes Linux 4.20 or newer, and {rings * blocks} MiB of free memory"
            raise Unavailable(f"cannot tap {interface}", errno=error.errno, fix=fix) from error
        opened.pop_all()
    return Tap(
        interface=interface,
        sockets=tuple(sockets),
        channel=channel,
        dropped=_drops(channel, interface) or 0,
        blocks=blocks,
        link_type=link_type,
        loopback=loopback,
    )


def link_type_of(hardware: int) -> int | None:
    """LINKTYPE_* of the frames of an interface of this type (ARPHRD_*); None: they are neither Ethernet nor bare IP."""
    if hardware in (_ETHERNET_DEVICE, _LOOPBACK):
        return _ETHERNET
    return _RAW if hardware in _BARE else None


def _drops(channel: socket.socket, interface: str) -> int | None:
    return rtnetlink.drops(lambda *_: channel.dup(), interface)


def _open(socket_at: SocketAt) -> socket.socket:
    """Unbound, and of no protocol: so nothing reaches it."""
    return socket_at(socket.AF_PACKET, socket.SOCK_RAW, 0)


def _hardware_type(tap: socket.socket, interface: str) -> int:
    request = struct.pack("16s24x", os.fsencode(interface)[:15])
    return int(struct.unpack_from("16xH", fcntl.ioctl(tap, _SIOCGIFHWADDR, request))[0])


def _set_up(tap: socket.socket, interface: str, blocks: int) -> None:
    add_ring(tap, blocks)
    attach(tap, NOTHING)
    tap.bind((interface, _ETH_P_ALL))


def _join(sockets: Sequence[socket.socket]) -> None:
    """Has each see the frames of its CPU only. The kernel chooses a number that no other group has."""
    if len(sockets) == 1:
        return
    first, *others = sockets
    first.setsockopt(_SOL_PACKET, _PACKET_FANOUT, (_FANOUT_CPU | _FANOUT_UNIQUE) << 16)
    group = first.getsockopt(_SOL_PACKET, _PACKET_FANOUT) & 0xFFFF
    for each in others:
        each.setsockopt(_SOL_PACKET, _PACKET_FANOUT, _FANOUT_CPU << 16 | group)
