"""A packet socket with a ring (TPACKET_V3, packet(7) and the kernel's packet_mmap.rst), read in Python.

A ring, as an unprivileged packet socket's own queue holds a few hundred small frames and no more. The kernel writes
frames into blocks of memory that it shares with us, and hands a block over when it is full or has waited 20 ms.
"""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Generator
from typing import NamedTuple

from lab.errors import Unavailable
from lab.taps.filters import Instruction, attach
from lab.taps.places import SocketAt

__all__ = ["BLOCKS", "BLOCK_BYTES", "Frame", "Ring", "add_ring", "open_tap"]

#: Bytes of a ring's block, which the longest frame must fit; and how many a ring has by default.
BLOCK_BYTES, BLOCKS = 1 << 20, 64

# linux/if_packet.h
_SOL_PACKET = 263
_PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION, _PACKET_IGNORE_OUTGOING = 5, 6, 10, 23
_TPACKET_V3 = 2
_USER, _VLAN_VALID = 0x1, 0x10

_ETH_P_ALL = 3
_RETIRE_MS = 20
_SLOT_BYTES = 2048  # only checked against the block's size: frames are packed one after another
_BLOCK = struct.Struct("=8x3I")  # tpacket_block_desc: status, frames, offset of the first
_STATUS_AT = 8
# tpacket3_hdr, then sockaddr_ll: next, sec, nsec, snaplen, len, status, mac, tci, tpid, and the packet type
_HEADER = struct.Struct("=6IH2x4xIH2x8x10xB")
_ETHERNET_ADDRESSES = 12


class Frame(NamedTuple):
    """A frame in the ring. ``data`` is a view into it, gone when the next frame is asked for."""

    time_ns: int  # CLOCK_REALTIME, when the tap saw it
    data: memoryview | bytes
    length: int  # bytes on the wire
    status: int  # TP_STATUS_*
    kind: int  # socket.PACKET_HOST, …


def open_tap(
    interface: str,
    *,
    protocol: int = _ETH_P_ALL,
    outgoing: bool = False,
    program: tuple[Instruction, ...] = (),
    socket_at: SocketAt = socket.socket,
) -> socket.socket:
    """A packet socket that sees every frame that comes in on an interface of the current network namespace.

    protocol: the ethertype that it is bound to. outgoing: it sees those that go out, too; on lo a frame passes both
    ways. program: a filter that they must match. socket_at: opens the socket, in whichever namespace the interface is.
    It is bound last, as a frame that came before would have passed neither the options nor the filter.
    Raises Unavailable.
    """
    tap = socket_at(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        tap.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, not outgoing)
        if program:
            attach(tap, program)
        add_ring(tap, BLOCKS)
        tap.bind((interface, protocol))
    except OSError as error:
        tap.close()
        fix = f"It takes Linux 4.20 or newer and {BLOCKS * BLOCK_BYTES >> 20} MiB of free memory"
        raise Unavailable(f"cannot tap {interface}", errno=error.errno, fix=fix) from error
    return tap


def add_ring(tap: socket.socket, blocks: int) -> None:
    """Has the kernel put a packet socket's frames into a ring of so many blocks, to be mapped. Raises OSError."""
    tap.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
    slots = blocks * BLOCK_BYTES // _SLOT_BYTES
    request = struct.pack("=7I", BLOCK_BYTES, blocks, _SLOT_BYTES, slots, _RETIRE_MS, 0, 0)
    tap.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)


class Ring:
    """The reader of a tap's ring."""

    def __init__(self, tap: socket.socket) -> None:
        self._tap = tap
        self._memory = mmap.mmap(tap.fileno(), BLOCKS * BLOCK_BYTES)
        self._block = 0
        self._received = self._dropped = 0

    def frames(self) -> Generator[Frame]:
        """The frames of the blocks that the kernel has handed over, each block given back when it is read."""
        memory = memoryview(self._memory)
        while True:
            start = self._block * BLOCK_BYTES
            status, count, first = _BLOCK.unpack_from(memory, start)
            if not status & _USER:
                return
            at = start + first
            for _ in range(count):
                step, sec, nsec, kept, length, bits, mac, tci, tpid, kind = _HEADER.unpack_from(memory, at)
                data: memoryview | bytes = memory[at + mac : at + mac + kept]
                if bits & _VLAN_VALID:  # the kernel has taken the tag out of the frame
                    tag = struct.pack("!HH", tpid, tci)
                    data = b"".join((data[:_ETHERNET_ADDRESSES], tag, data[_ETHERNET_ADDRESSES:]))
                    length += len(tag)
                yield Frame(sec * 1_000_000_000 + nsec, data, length, bits, kind)
                at += step
            struct.pack_into("=I", memory, start + _STATUS_AT, 0)
            self._block = (self._block + 1) % BLOCKS

    def close(self) -> None:
        """Lets go of the ring, whose frames are gone with it."""
        self._memory.close()

    def counts(self) -> tuple[int, int]:
        """Frames that the tap has seen so far, and how many of them the kernel dropped as the ring was full."""
        packed = self._tap.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 12)
        received, dropped, _ = struct.unpack("=3I", packed)  # since the last call; `received` counts the dropped, too
        self._received += received
        self._dropped += dropped
        return self._received, self._dropped
