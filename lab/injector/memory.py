"""Frames in memory, as a capture file that has no name."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from typing import NamedTuple

from lab.errors import UsageError
from lab.taps.frames import FrameFile

__all__ = ["Frame", "frames_in_memory"]

#: Bytes that such a file may have: memory is what they take.
_MOST_BYTES = 2 << 30
_BUFFER_BYTES = 1 << 20

# Blocks of draft-ietf-opsawg-pcapng, in this machine's byte order.
_SECTION = struct.pack("=IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
_INTERFACE = struct.Struct("=IIHHIHHB3xII")  # with the option if_tsresol, and the end of options
_PACKET = struct.Struct("=7I")
_LENGTH = struct.Struct("=I")


class Frame(NamedTuple):
    """What is written of a frame.

    link_type: LINKTYPE_*. time_ns: when it passed, since 1970; 0: it has no time. length: its bytes when it passed, of
    which some may be missing; 0: all are there.
    """

    data: bytes
    link_type: int
    time_ns: int = 0
    length: int = 0


def frames_in_memory(frames: Iterable[Frame]) -> FrameFile:
    """A pcapng file of these frames, with an interface a link type. Raises UsageError if they are more than 2 GiB."""
    fd = os.memfd_create("lab-frames", os.MFD_CLOEXEC)
    with os.fdopen(fd, "wb", _BUFFER_BYTES) as file:
        file.write(_SECTION)
        room = _MOST_BYTES
        interfaces: dict[int, int] = {}
        for data, link_type, time_ns, length in frames:
            if link_type not in interfaces:
                interfaces[link_type] = len(interfaces)
                file.write(_interface(link_type))
            captured, padding = len(data), -len(data) % 4
            total = _PACKET.size + captured + padding + _LENGTH.size
            when = (time_ns >> 32, time_ns & 0xFFFFFFFF)
            head = _PACKET.pack(6, total, interfaces[link_type], *when, captured, length or captured)
            file.write(b"".join((head, data, bytes(padding), _LENGTH.pack(total))))
            room -= total
            if room < 0:
                raise UsageError(
                    f"more than {_MOST_BYTES >> 30} GiB of packets: write them to a file and give its path, or let "
                    "the fields of a lab.Template vary"
                )
        file.flush()
        return FrameFile(fd)


def _interface(link_type: int) -> bytes:
    """Times of its frames are in nanoseconds: if_tsresol, option 9, of one byte, is 9."""
    return _INTERFACE.pack(1, _INTERFACE.size, link_type, 0, 0, 9, 1, 9, 0, _INTERFACE.size)
