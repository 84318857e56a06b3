"""Where in the bytes of a layer its fields are: scapy's own dissection, one field at a time.

Each field of ``fields_desc`` takes its bits off the front of what is left (``Field.getfield``, as in scapy's
``Packet.do_dissect``); so what is taken tells the place. Some layers are read in other ways, such as those that swap
bytes beforehand: what was found is checked, and if it isn't what scapy says, no place is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from lab.taps.packets import Packet

__all__ = ["Place", "described", "find_places"]

Description = Any  # scapy.fields.Field
Rest = Any  # bytes; or bytes, and how many bits of the first are taken

_END_OF_OPTIONS, _NO_OPERATION = 0, 1


class Place(NamedTuple):
    """A field, or a part of one, and its place in bits from the beginning of the layer.

    name: as scapy would find it, such as "ttl" or "qd[0].qname"; an option of TCP is "options.MSS". key: what it is,
    whosesoever: the class that describes it, and its name there. owner: the layer, or the packet in a field, that has
    it. description: scapy's; None of a part of a field.
    """

    name: str
    key: tuple[str, str]
    owner: Packet
    description: Description | None
    value: Any
    offset: int
    bits: int


def find_places(layer: Packet, data: bytes, own: int) -> tuple[list[Place], bool]:
    """The fields of a layer, and whether their places are known; else bits is 0 of all of them.

    layer: as scapy dissected it; it is dissected anew. data: from its first byte on, to that of the last layer.
    own: how many of them its fields must fill.
    """
    fields = dict(layer.fields)
    try:
        places, rest = _walk(layer, data)
        known = _left(rest) <= 8 * (len(data) - own) and _are_bits(places, data)
        if known and _left(rest) < 8 * (len(data) - own):  # the last field gave back what became the payload
            last = places[-1]
            places[-1] = last._replace(value=fields[last.name], bits=8 * own - last.offset)
            known = places[-1].bits > 0
    except Exception:  # whatever a dissector raises that is asked in another way than it is meant to be
        known = False
    if known:
        return places, True
    layer.fields.update(fields)
    descriptions = {each.name: each for each in layer.fields_desc}
    return [
        Place(name, (type(layer).__name__, name), layer, descriptions.get(name), value, 0, 0)
        for name, value in fields.items()
    ], False


def described(description: Description, owner: Packet, value: Any) -> Description:
    """What describes a field, out of what wraps it: a condition, or a choice of types."""
    while hasattr(description, "fld"):
        if hasattr(description, "_find_fld_pkt_val"):
            description, _value = description._find_fld_pkt_val(owner, value)
        else:
            description = description.fld
    return description


def _left(rest: Rest) -> int:
    """How many bits are left."""
    return 8 * len(rest[0]) - rest[1] if isinstance(rest, tuple) else 8 * len(rest)


def _walk(owner: Packet, data: bytes, begin: int = 0, prefix: str = "") -> tuple[list[Place], Rest]:
    """The places of all fields, from bit `begin` on, and what is left of the bytes behind them.

    Raises ValueError for a value that is not what it was when the packet was dissected, or whatever a dissector raises.
    """
    places: list[Place] = []
    rest: Rest = data
    for description in owner.fields_desc:
        before = rest
        rest, value = description.getfield(owner, rest)
        if description.isconditional and value is None:
            continue
        first = owner.fields.get(description.name, value)
        if value != first and not (isinstance(value, bytes) and value.startswith(first)):
            raise ValueError("it was read otherwise")
        owner.fields[description.name] = value
        offset, bits = begin + 8 * len(data) - _left(before), _left(before) - _left(rest)
        key = type(owner).__name__, description.name
        place = Place(prefix + description.name, key, owner, description, value, offset, bits)
        places += _parts(place, before if isinstance(before, bytes) else b"")
        if not rest and (description.ismayend or (description.isconditional and description.fld.ismayend)):
            break
    return places, rest


def _parts(place: Place, data: bytes) -> Iterator[Place]:
    """A field as it is, or its parts: the options of TCP, and the fields of packets in a list. data: from it on."""
    data = data[: place.bits // 8]
    if place.bits and place.key == ("TCP", "options"):
        yield from _tcp_options(place, data)
        return
    if not place.bits and (place.value or place.value == 0):
        return  # what is in no packet, and guides scapy only
    packets = place.value if isinstance(place.value, list) else []
    if not data or not all(hasattr(each, "fields_desc") and each.raw_packet_cache for each in packets):
        packets = []
    found: list[Place] = []
    at = 0
    for number, packet in enumerate(packets):
        own = packet.raw_packet_cache
        if not data[at:].startswith(own) or packet.payload:
            break
        within, rest = _walk(packet, data[at:], place.offset + 8 * at, f"{place.name}[{number}].")
        at = len(data) - _left(rest) // 8
        found += within
    whole = bool(found) and at == len(data)
    yield from found if whole else (place,)


def _tcp_options(place: Place, data: bytes) -> Iterator[Place]:
    """One for each option (RFC 9293, 3.1), and one for the bytes behind the end of them."""
    at, seen = 0, dict[str, int]()
    for name, value in place.value:
        kind = data[at]
        size = 1 if kind in (_END_OF_OPTIONS, _NO_OPERATION) else max(2, data[at + 1])
        size = min(size, len(data) - at)
        seen[name] = seen.get(name, 0) + 1
        part = f"options.{name}"
        again = f"[{seen[name]}]" if seen[name] > 1 else ""
        yield place._replace(
            name=part + again,
            key=("TCP", part),
            description=None,
            value=value,
            offset=place.offset + 8 * at,
            bits=8 * size,
        )
        at += size
    if at < len(data):
        yield place._replace(
            name="options.padding", key=("TCP", "options.padding"), description=None, value=data[at:],
            offset=place.offset + 8 * at, bits=8 * (len(data) - at),
        )  # fmt: skip


def _are_bits(places: list[Place], data: bytes) -> bool:
    """Whether fields of some bits have the value of those bits, in network order."""
    from scapy.fields import _BitField  # what bit fields of all kinds are

    number, size = int.from_bytes(data), 8 * len(data)
    for place in places:
        if place.description is None or not isinstance(
            described(place.description, place.owner, place.value), _BitField
        ):
            continue
        if number >> size - place.offset - place.bits & (1 << place.bits) - 1 != int(place.value):
            return False
    return True
