"""The anatomy of a packet: its bytes, field by field. This module says what it is made of, and how it shows itself.

``dissecting`` makes one of a packet of scapy's; ``text``, ``figure`` and ``page`` draw it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lab.checks import check_count
from lab.errors import UsageError
from lab.flow.drawn import Drawn

if TYPE_CHECKING:
    from lab.figures.shown import ShownFigure
    from lab.taps.packets import Packet

__all__ = ["PAYLOADS", "Anatomy", "Comparison", "Field", "Layer", "Pair", "anatomy"]


def anatomy(packet: Packet, *, large: bool = False) -> Anatomy:
    """The anatomy of a packet of scapy's, such as one of a capture: ``lab.anatomy(capture[0])``.

    large: with letters for a projector. A packet that was built, not captured, is taken as scapy would send it; for a
    hardware address that was left open, scapy asks the network then.
    Raises UsageError for what is no packet, or none that scapy can build.
    """
    from lab.flow.anatomy.dissecting import take_apart

    return take_apart(packet, large=large)


#: Fields that are what a packet carries.
PAYLOADS = ("load", "data")


class NoSuchField(UsageError, KeyError):  # noqa: N818 - it says what it is, as Unavailable does
    """A field that a packet does not have."""

    __str__ = Exception.__str__  # a KeyError would show it in quotes


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

    @property
    def empty(self) -> bool:
        """Whether there is nothing of it in this packet, neither bits nor a value; then it is not shown."""
        sized = isinstance(self.value, str | bytes | list | tuple)
        return not self.bits and (self.value is None or (sized and not self.value))

    def to_json(self) -> dict[str, Any]:
        """It as a document, without what a blank one does not show."""
        shown = replace(self, value=None, text="?", meaning="", verdict="") if self.blank else self
        return shown.__dict__ | {"value": _plain(shown.value, shown.text)}


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

    @property
    def shown(self) -> tuple[Field, ...]:
        """The fields that are not empty."""
        return tuple(field for field in self.fields if not field.empty)

    def hex(self) -> list[str]:
        """Its bytes, two digits each; "··" for those of which a blank field has bits."""
        digits = [f"{each:02x}" for each in self.data]
        for field in self.fields:
            if field.blank and field.bits:
                first, last = field.offset // 8, (field.offset + field.bits - 1) // 8
                digits[first : last + 1] = ["··"] * (last + 1 - first)
        return digits

    def to_json(self) -> dict[str, Any]:
        """It as a document: its bytes in hexadecimal."""
        return {
            "name": self.name,
            "title": self.title,
            "offset": self.offset,
            "data": "".join(self.hex()),
            "fields": [field.to_json() for field in self.fields],
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class Anatomy(Drawn):
    """One packet by field.

    title: scapy's summary; if fields are blank, the names of layers, as it could tell more, and `summary` has it.
    layers: outermost first. length: of the packet on the wire, in bytes; more than its layers have if it was cut.
    warnings: what could not be told, and why. large: with letters for a projector.
    """

    title: str
    layers: tuple[Layer, ...]
    length: int
    warnings: tuple[str, ...] = ()
    large: bool = False
    summary: str = ""

    def lines(self) -> list[str]:
        """It as text, for 80 columns."""
        from lab.flow.anatomy.text import anatomy_lines

        return anatomy_lines(self)

    def figure(self) -> ShownFigure:
        """It as a matplotlib figure: a diagram like those of RFCs, with the bytes beside it."""
        from lab.flow.anatomy.figure import draw_anatomy

        return draw_anatomy(self)

    def page(self) -> str:
        """It as an HTML page that needs nothing else; the solution of blank fields is folded away in it."""
        from lab.flow.anatomy.page import anatomy_page

        return anatomy_page(self)

    def __getitem__(self, name: str) -> Field:
        """A field: "IP.ttl", that of the second IP layer "IP[2].ttl", or "ttl" of the first layer that has one.

        Raises UsageError, which is a KeyError here too, if there is none.
        """
        layer, field = self._find(name)
        return self.layers[layer].fields[field]

    def _find(self, name: str) -> tuple[int, int]:
        """Which layer, and which field of it."""
        numbers = list(_numbers(self.layers))
        for i, layer in enumerate(self.layers):
            for j, field in enumerate(layer.fields):
                if name in (field.name, f"{layer.name}.{field.name}", f"{layer.name}[{numbers[i]}].{field.name}"):
                    return i, j
        kind, dot, _rest = str(name).partition(".")
        inside = [each for each in self.layers if dot and each.name == kind] or self.layers
        known = ", ".join(f"{each.name}.{field.name}" for each in inside for field in each.fields)
        raise NoSuchField(f"there is no field {name!r} in this packet: choose from {known}")

    def blank(self, *names: str, count: int | None = None, seed: int = 0) -> Anatomy:
        """The same with some fields left out as an exercise: those of these names, or so many drawn by `seed`.

        Drawn are fields that have a place, and are no payload. Raises UsageError for a field that is not there, and
        for more than there are.
        """
        places = {self._find(name) for name in names}
        if count is None and not names:
            raise UsageError("nothing to leave out: name fields, such as blank('IP.ttl'), or say how many: count=3")
        if count is not None:
            left = [
                (i, j)
                for i, layer in enumerate(self.layers)
                for j, field in enumerate(layer.fields)
                if field.bits and field.name not in PAYLOADS and (i, j) not in places
            ]
            if not left:
                raise UsageError("this packet has no field that can be drawn: name one, such as blank('load')")
            check_count("count", count, high=len(left))
            places |= set(random.Random(seed).sample(left, count))  # noqa: S311 - an exercise
        return self._with_blanks(places)

    def _with_blanks(self, places: Collection[tuple[int, int]]) -> Anatomy:
        """The same with these fields blank, by layer and number, and those only."""
        layers = (
            replace(
                layer,
                fields=tuple(replace(field, blank=(i, j) in places) for j, field in enumerate(layer.fields)),
            )
            for i, layer in enumerate(self.layers)
        )
        summary = self.summary or self.title
        title = " / ".join(layer.name for layer in self.layers) if places else summary
        return replace(self, layers=tuple(layers), title=title, summary=summary if places else "")

    @property
    def solution(self) -> Anatomy:
        """The same with nothing left out."""
        return self._with_blanks(())

    def beside(self, other: Anatomy | Packet) -> Comparison:
        """It and another, field by field: IPv4 beside IPv6, or a request beside its reply."""
        from lab.flow.anatomy.comparing import compare

        return compare(self, other if isinstance(other, Anatomy) else anatomy(other, large=self.large))

    def to_json(self) -> dict[str, Any]:
        """The document of ``lab anatomy --json``, format 1; bytes in hexadecimal, places in bits."""
        return {
            "format": 1,
            "title": self.title,
            "length": self.length,
            "layers": [layer.to_json() for layer in self.layers],
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A field of the one and that of the other which means the same; None where there is none. layers: their names."""

    layers: tuple[str, str]
    fields: tuple[Field | None, Field | None]

    @property
    def names(self) -> tuple[str, str]:
        """What each calls its field, such as "IP.ttl" and "IPv6.hlim"; "" where there is none."""
        left, right = (
            f"{layer}.{field.name}" if field else "" for layer, field in zip(self.layers, self.fields, strict=True)
        )
        return left, right

    @property
    def same(self) -> bool:
        """Whether both are there, and have the same value."""
        left, right = self.fields
        return left is not None and right is not None and bool(left.value == right.value)


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Drawn):
    """Two packets field by field. both: the packets. pairs: their fields, in the order of the first's.

    A field of only one of them is in a pair with None; the layers of a pair are named as far as they are there.
    """

    both: tuple[Anatomy, Anatomy]
    pairs: tuple[Pair, ...]
    large: bool = False

    @property
    def differing(self) -> tuple[str, ...]:
        """The fields that both have, with other values, as the first calls them: "IP.ttl"."""
        return tuple(pair.names[0] for pair in self.pairs if all(pair.fields) and not pair.same)

    @property
    def shown(self) -> tuple[Pair, ...]:
        """The pairs of which a field is not empty."""
        return tuple(pair for pair in self.pairs if any(field and not field.empty for field in pair.fields))

    @property
    def only(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The fields that the first has alone, and those that the other has; without those that take no bits."""
        left, right = (
            tuple(
                pair.names[mine]
                for pair in self.pairs
                if (field := pair.fields[mine]) and field.bits and pair.fields[1 - mine] is None
            )
            for mine in (0, 1)
        )
        return left, right

    def lines(self) -> list[str]:
        """It as text, for 80 columns."""
        from lab.flow.anatomy.text import comparison_lines

        return comparison_lines(self)

    def figure(self) -> ShownFigure:
        """It as a matplotlib figure: both diagrams, and what differs."""
        from lab.flow.anatomy.figure import draw_comparison

        return draw_comparison(self)

    def page(self) -> str:
        """It as an HTML page that needs nothing else."""
        from lab.flow.anatomy.page import comparison_page

        return comparison_page(self)

    def to_json(self) -> dict[str, Any]:
        """The document of ``lab anatomy --json`` for two packets, format 1. fields: null where there is none."""
        left, right = (each.to_json() for each in self.both)
        pairs = [
            {
                "layers": list(pair.layers),
                "fields": [each and each.to_json() for each in pair.fields],
                "same": pair.same,
            }
            for pair in self.pairs
        ]
        return {"format": 1, "left": left, "right": right, "pairs": pairs}


def _numbers(layers: Collection[Layer]) -> Iterator[int]:
    """Of each layer, how many of its name there are up to it."""
    seen: Counter[str] = Counter()
    for layer in layers:
        seen[layer.name] += 1
        yield seen[layer.name]


def _plain(value: Any, text: str) -> Any:
    """A value as JSON has it: bytes in hexadecimal, flags as their number, and scapy's own objects as `text`."""
    if isinstance(value, (list, tuple)):
        plain = all(each is None or isinstance(each, (int, float, str, bytes)) for each in value)
        return [_plain(each, text) for each in value] if plain else text
    if value is None or isinstance(value, (int, float, str)):
        return value
    if isinstance(value, bytes):
        return value.hex()
    return int(value) if hasattr(value, "flagrepr") else text
