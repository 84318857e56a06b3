"""Frames as scapy packets, with what the capture knows of them beside, as scapy's own reader hands them out."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.taps.frames import FrameFile

__all__ = ["Dissector", "Packet", "exact_time"]

Packet = Any  # scapy.packet.Packet: scapy takes half a second to import

#: Frames of which is read at a time what their packets are to know.
_STRETCH = 4096
_KNOWN = ("time_ns", "length", "direction", "interface", "comment_offset")


@cache
def _layers() -> Any:
    """The configuration of scapy, once all the layers that it loads by default are known to it."""
    import scapy.layers.all  # noqa: F401 - each registers its link types and what it carries
    from scapy.config import conf

    return conf


def exact_time(time_ns: int) -> Any:
    """Seconds since 1970 as scapy's ``EDecimal``, which keeps the nanoseconds and compares with floats."""
    from scapy.utils import EDecimal

    return EDecimal(time_ns) / 1_000_000_000


class Dissector:
    """Makes packets of the frames of a file, one at a time."""

    def __init__(self, frames: FrameFile) -> None:
        self._frames = frames
        self._first, self._known = 0, frames.columns(*_KNOWN, stop=0)

    def packet(self, number: int) -> Packet:
        """The packet of frame `number`, from 0, dissected from its link layer on.

        Bytes of a link type that scapy does not know become ``Raw``, as do those that break its dissector (unless
        ``conf.debug_dissector`` asks to see why).
        """
        conf = _layers()
        known = self._of(number)
        source = self._frames.sources[known["interface"]]
        data = bytes(self._frames.frame_bytes(number))
        try:
            packet = conf.l2types.num2layer.get(source.link_type, conf.raw_layer)(data)
        except Exception:  # whatever a dissector raises
            if conf.debug_dissector:
                raise
            packet = conf.raw_layer(data)
        packet.time = exact_time(known["time_ns"])
        packet.wirelen = known["length"]
        packet.direction = known["direction"] or None
        packet.sniffed_on = source.name or None
        comment = self._frames.comment(number) if known["comment_offset"] else None
        packet.comments = None if comment is None else [comment.encode()]
        return packet

    def _of(self, number: int) -> dict[str, int]:
        """What is known of a frame, by the names of its fields."""
        if not 0 <= number - self._first < len(self._known["time_ns"]):
            self._first = number // _STRETCH * _STRETCH
            self._known = self._frames.columns(*_KNOWN, start=self._first, stop=self._first + _STRETCH)
        return {name: int(values[number - self._first]) for name, values in self._known.items()}
