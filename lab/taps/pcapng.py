"""Writes pcapng (draft-ietf-opsawg-pcapng): a section, its interfaces, packets, and statistics at the end.

Little-endian, times in nanoseconds since 1970 (CLOCK_REALTIME). A block is its type, its total length, a body padded
to 32 bits, and its total length again; an option is a code, a length and a value padded likewise.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import BinaryIO

__all__ = [
    "BROADCAST", "CHECKSUM_NOT_READY", "CHECKSUM_VALID", "ETHERNET", "INBOUND", "MULTICAST", "OUTBOUND", "PROMISCUOUS",
    "TCP_SEGMENTS_LEFT", "UNICAST", "Writer",
]  # fmt: skip

ETHERNET = 1  # LINKTYPE_ETHERNET: what lo's frames look like, too

# epb_flags: direction (bits 0–1), reception (2–4), and what the hardware would have done (9–11)
INBOUND, OUTBOUND = 1, 2
UNICAST, MULTICAST, BROADCAST, PROMISCUOUS = 1 << 2, 2 << 2, 3 << 2, 4 << 2
CHECKSUM_NOT_READY, CHECKSUM_VALID, TCP_SEGMENTS_LEFT = 1 << 9, 1 << 10, 1 << 11

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_BYTE_ORDER_MAGIC, _UNKNOWN_LENGTH = 0x1A2B3C4D, -1
_SHB_HARDWARE, _SHB_OS, _SHB_USERAPPL = 2, 3, 4
_IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL, _IF_OS = 2, 3, 9, 12
_EPB_FLAGS = 2
_ISB_START, _ISB_END, _ISB_RECEIVED, _ISB_ACCEPTED, _ISB_OS_DROPPED, _ISB_DELIVERED = 2, 3, 4, 6, 7, 8
_NANOSECONDS = 9  # if_tsresol: 10 to the power of minus so much

_PACKET_HEAD = struct.Struct("<7I")
_PACKET_TAIL = struct.Struct("<2HI2HI")  # epb_flags, the end of options, the total length again
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")  # by length modulo 4


class Writer:
    """Writes blocks to a file that is open for writing; times are int64 nanoseconds since 1970."""

    def __init__(self, file: BinaryIO) -> None:
        self._write = file.write

    def section(self, *, hardware: str, system: str, application: str) -> None:
        """The section header: where and by what it was captured. Comes first."""
        body = struct.pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, _UNKNOWN_LENGTH)
        texts = ((_SHB_HARDWARE, hardware), (_SHB_OS, system), (_SHB_USERAPPL, application))
        self._block(_SECTION, body + _options((code, text.encode()) for code, text in texts))

    def interface(self, name: str, *, description: str, system: str, snaplen: int, link_type: int = ETHERNET) -> None:
        """An interface; they are numbered from 0 in the order of these calls. snaplen: bytes of a frame at most."""
        options = (
            (_IF_NAME, name.encode()),
            (_IF_DESCRIPTION, description.encode()),
            (_IF_TSRESOL, bytes([_NANOSECONDS])),
            (_IF_OS, system.encode()),
        )
        self._block(_INTERFACE, struct.pack("<HHI", link_type, 0, snaplen) + _options(options))

    def packet(
        self, time_ns: int, data: bytes | memoryview, *, length: int | None = None, flags: int = 0, interface: int = 0
    ) -> None:
        """A frame. length: its bytes on the wire, if `data` is cut. flags: INBOUND | UNICAST | … of this module."""
        size = len(data)
        padding = _PADDING[size & 3]
        total = _PACKET_HEAD.size + size + len(padding) + _PACKET_TAIL.size
        on_wire = size if length is None else length
        self._write(_PACKET_HEAD.pack(_PACKET, total, interface, time_ns >> 32, time_ns & 0xFFFFFFFF, size, on_wire))
        self._write(data)
        self._write(padding + _PACKET_TAIL.pack(_EPB_FLAGS, 4, flags, 0, 0, total))

    def statistics(
        self, *, start_ns: int, end_ns: int, received: int, dropped: int, written: int, interface: int = 0
    ) -> None:
        """How many frames the interface had between two times, and how many of them were dropped and written.

        Dropped by the kernel for want of room in the tap's ring. The interface itself is not asked what it dropped.
        """
        counts = (
            (_ISB_RECEIVED, received),
            (_ISB_ACCEPTED, received),
            (_ISB_OS_DROPPED, dropped),
            (_ISB_DELIVERED, written),
        )
        options = [(_ISB_START, _time(start_ns)), (_ISB_END, _time(end_ns))]
        options += [(code, struct.pack("<Q", count)) for code, count in counts]
        self._block(_STATISTICS, struct.pack("<I", interface) + _time(end_ns) + _options(options))

    def _block(self, kind: int, body: bytes) -> None:
        total = len(body) + 12
        self._write(struct.pack("<II", kind, total) + body + struct.pack("<I", total))


def _time(ns: int) -> bytes:
    """The upper 32 bits come first, whatever the byte order."""
    return struct.pack("<II", ns >> 32, ns & 0xFFFFFFFF)


def _options(options: Iterable[tuple[int, bytes]]) -> bytes:
    values = [struct.pack("<HH", code, len(value)) + value + _PADDING[len(value) & 3] for code, value in options]
    return b"".join(values) + struct.pack("<HH", 0, 0)
