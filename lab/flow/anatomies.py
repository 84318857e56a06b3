"""The anatomy of a packet: its bytes, field by field. This module says what it is made of, and how it shows itself.

``lab.flow.dissecting`` makes one of a packet of scapy's; ``anatomy_text``, ``anatomy_figure`` and ``anatomy_page`` draw
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.flow.drawn import Drawn

if TYPE_CHECKING:
    from lab.figures.shown import ShownFigure
    from lab.taps.packets import Packet

__all__ = ["Anatomy", "Comparison", "Field", "Layer", "Pair", "anatomy"]


def anatomy(packet: Packet, *, large: bool = False) -> Anatomy:
    """The anatomy of a packet of scapy's, such as one of a capture: ``lab.anatomy(capture[0])``.

    large: with letters for a projector. A packet that was built, not captured, is taken as scapy would send it.
    Raises UsageError for what is no packet, or none that scapy can build.
    """
    from lab.flow.dissecting import take_apart

    return take_apart(packet, large=large)


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of a layer.

    name: scapy's. offset, bits: where it lies, in bits from the beginning of its layer; bits is 0, and it is not drawn,
    where that can't be told (of what scapy reads out of several places). value: as scapy has it. text: the value as it
    is written, short. meaning: what that says, "" if nothing can be said beyond. verdict: of a checksum "good", "bad",
    "left" (to the device) or "unknown"; else "". blank: to be found by the reader: neither its value, nor its meaning,
    nor its bytes are shown.
    """

    name: str
    offset: int
    bits: int
    value: Any
    text: str
    meaning: str = ""
    verdict: str = ""
    blank: bool = False


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of a packet.

    name: of scapy's class, such as "IP". title: in words. offset: of its first byte in the packet. data: its bytes,
    without those of the layers that it carries. fields: in the order of their places.
    """

    name: str
    title: str
    offset: int
    data: bytes
    fields: tuple[Field, ...]


@dataclass(frozen=True, kw_only=True, repr=False)
class Anatomy(Drawn):
    """One packet by field.

    title: scapy's summary. layers: outermost first. length: of the packet on the wire, in bytes; more than its layers
    have if it was cut. warnings: what could not be told, and why. large: with letters for a projector.
    """

    title: str
    layers: tuple[Layer, ...]
    length: int
    warnings: tuple[str, ...] = ()
    large: bool = False

    def lines(self) -> list[str]:
        """It as text, for 80 columns."""
        from lab.flow.anatomy_text import anatomy_lines

        return anatomy_lines(self)

    def figure(self) -> ShownFigure:
        """It as a matplotlib figure: a diagram like those of RFCs, with the bytes beside it."""
        from lab.flow.anatomy_figure import draw_anatomy

        return draw_anatomy(self)

    def page(self) -> str:
        """It as an HTML page that needs nothing else; the solution of blank fields is folded away in it."""
        from lab.flow.anatomy_page import anatomy_page

        return anatomy_page(self)

    def __getitem__(self, name: str) -> Field:
        """A field, such as "IP.ttl", or "ttl" of the first layer that has one. Raises KeyError (a UsageError too)."""
        raise NotImplementedError  # the anatomy helper's: finds by layer name and number ("IP[2].ttl" of the second)

    def blank(self, *names: str, count: int | None = None, seed: int = 0) -> Anatomy:
        """The same with some fields left out as an exercise: those of these names, or so many drawn by `seed`."""
        raise NotImplementedError

    @property
    def solution(self) -> Anatomy:
        """The same with nothing left out."""
        raise NotImplementedError

    def beside(self, other: Anatomy | Packet) -> Comparison:
        """It and another, field by field: IPv4 beside IPv6, or a request beside its reply."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """The document of ``lab anatomy --json``, format 1."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A field of the one and that of the other which means the same; None where there is none. layers: their names."""

    layers: tuple[str, str]
    fields: tuple[Field | None, Field | None]

    @property
    def same(self) -> bool:
        """Whether both are there, and have the same value."""
        left, right = self.fields
        return left is not None and right is not None and bool(left.value == right.value)


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Drawn):
    """Two packets field by field. both: the packets. pairs: their fields, in the order of the first's."""

    both: tuple[Anatomy, Anatomy]
    pairs: tuple[Pair, ...]
    large: bool = False
