"""What is injected: frames of a capture file, or one packet whose fields vary."""

from __future__ import annotations

from dataclasses import dataclass

from lab.native.injection import Field, Sum
from lab.taps.frames import FrameFile

__all__ = ["Source"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Frames as a file has them, which may be one in memory.

    name: what messages call it, such as "web.pcapng" or "3 packets". fields, sums: what varies of its only frame, and
    the checksums over that. timed: its frames have times of their own, so they can be sent as they once passed.
    """

    name: str
    frames: FrameFile
    fields: tuple[Field, ...] = ()
    sums: tuple[Sum, ...] = ()
    timed: bool = False
