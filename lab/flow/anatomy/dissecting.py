"""Packets of scapy's taken apart: an ``Anatomy`` of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from lab.errors import UsageError
from lab.flow.anatomy.anatomies import Anatomy, Field, Layer
from lab.flow.anatomy.checksums import Verdict, verdict_of
from lab.flow.anatomy.meanings import meaning_of
from lab.flow.anatomy.placing import Place, described, find_places
from lab.taps.packets import Packet
from lab.texts import printable

__all__ = ["take_apart"]

_SHORT = 64  # letters of a value

#: Layers that scapy names otherwise than people do.
_TITLES = {
    "CookedLinux": "Linux cooked capture",
    "CookedLinuxV2": "Linux cooked capture, version 2",
    "Dot1Q": "VLAN tag (802.1Q)",
    "IP": "IPv4",
    "IPerror": "IPv4 of the packet that it is about",
    "IPv6ExtHdrDestOpt": "IPv6 options for the destination",
    "IPv6ExtHdrFragment": "IPv6 fragment header",
    "IPv6ExtHdrHopByHop": "IPv6 hop-by-hop options",
    "IPv6ExtHdrRouting": "IPv6 routing header",
    "IPv6ExtHdrSegmentRouting": "IPv6 segment routing header",
    "ICMPv6ND_NA": "ICMPv6 neighbor advertisement",
    "ICMPv6ND_NS": "ICMPv6 neighbor solicitation",
    "ICMPv6ND_RA": "ICMPv6 router advertisement",
    "ICMPv6ND_RS": "ICMPv6 router solicitation",
    "ICMPv6NDOptDstLLAddr": "option: the target's hardware address",
    "ICMPv6NDOptSrcLLAddr": "option: the sender's hardware address",
    "IPerror6": "IPv6 of the packet that it is about",
    "Loopback": "loopback of BSD",
    "Padding": "padding",
    "Raw": "payload",
}
_CHECKSUMS = ("chksum", "cksum")
_PORTS = ("sport", "dport")
_PACKET = "give a scapy packet, such as capture[0]"


def take_apart(packet: Packet, *, large: bool) -> Anatomy:
    """The anatomy of a packet: captured, of the bytes as they came; built, or changed since, as scapy would send it.

    Raises UsageError for what is no packet, and for a packet that scapy can't build.
    """
    import scapy.layers.all  # noqa: F401 - each registers what it carries
    from scapy.packet import Packet as ScapyPacket

    if isinstance(packet, (bytes, bytearray, memoryview)):
        raise UsageError("bytes don't say what they begin with: give Ether(data), IP(data), or what else it is")
    if not isinstance(packet, ScapyPacket):
        raise UsageError(f"the anatomy of {type(packet).__name__}: {_PACKET}")
    warnings: list[str] = []
    own, data, length = _dissected(packet, warnings)
    parts = list(_split(own, data, warnings))
    layers = [_layer(parts, number, length, warnings) for number in range(len(parts))]
    if length > len(data):
        warnings.append(f"only {len(data):,} of its {length:,} bytes were captured")
    if not data:
        warnings.append("not one byte of it is there: nothing can be told")
    title = _title(own) if data else "nothing"
    return Anatomy(title=title, layers=tuple(layers), length=length, warnings=tuple(warnings), large=large)


def _title(packet: Packet) -> str:
    try:
        return printable(packet.summary())
    except Exception:  # whatever the summary of a malformed packet raises
        return " / ".join(layer.__name__ for layer in packet.layers())


class _Part(NamedTuple):
    """A layer, where it begins, its bytes and all that follow, and how many of them are its own."""

    layer: Packet
    offset: int
    data: bytes
    own: int


def _dissected(packet: Packet, warnings: list[str]) -> tuple[Packet, bytes, int]:
    """A packet dissected anew, so that it is ours; its bytes; and how many it had on the wire."""
    data = packet.original
    if data or packet.wirelen is not None:
        own = _again(packet, data)
        if own == packet:  # not changed since it was captured
            return own, data, max(packet.wirelen or 0, len(data))
    try:
        if len(list(islice(packet, 2))) > 1:
            warnings.append("it stands for several packets: this is the first of them")
        data = bytes(packet)
    except Exception as error:  # whatever the fields of a layer raise
        layers = " / ".join(layer.__name__ for layer in packet.layers())
        why = str(error).partition("\n")[0] or type(error).__name__
        raise UsageError(f"scapy can't build {layers}: {why}; mend that field") from error
    return _again(packet, data), data, len(data)


def _again(packet: Packet, data: bytes) -> Packet:
    """Bytes dissected as a packet was, or would be; as ``Raw`` if that can't be."""
    from scapy.config import conf

    try:
        return type(packet)(data, _underlayer=packet.underlayer)
    except Exception:  # whatever a dissector raises
        return conf.raw_layer(data)


def _split(packet: Packet, data: bytes, warnings: list[str]) -> Iterator[_Part]:
    """The layers of a dissected packet that have bytes, outermost first; between them they have all of `data`."""
    from scapy.config import conf

    offset, layer = 0, packet
    while layer and offset < len(data):
        if isinstance(layer, conf.raw_layer) and not isinstance(layer, conf.padding_layer):
            warnings += _not_told(layer)
        own = min(_size(layer), len(data) - offset)
        if own:
            yield _Part(layer, offset, data[offset:], own)
        offset += own
        layer = layer.payload
        if layer and not data[offset:].startswith(layer.original):
            warnings.append(f"what {type(layer.underlayer).__name__} carries is not there as such: it was changed")
            break
    if offset < len(data):
        yield _Part(conf.raw_layer(data[offset:]), offset, data[offset:], len(data) - offset)


def _size(layer: Packet) -> int:
    """How many bytes are its own."""
    if layer.raw_packet_cache is not None:
        return len(layer.raw_packet_cache)
    carried = layer.payload.original if layer.payload else b""
    return len(layer.original) - (len(carried) if layer.original.endswith(carried) else 0)


def _not_told(layer: Packet) -> Iterator[str]:
    """Why bytes are bare, where scapy would have read them as something."""
    from scapy.config import conf

    if layer.underlayer is None:
        yield "what these bytes are could not be told: scapy has no layer that reads them"
        return
    expected = layer.underlayer.guess_payload_class(layer.original)
    if isinstance(expected, type) and not issubclass(expected, (conf.raw_layer, conf.padding_layer)):
        yield f"what should be {expected.__name__} could not be read: it is malformed, or cut"


def _layer(parts: Sequence[_Part], number: int, length: int, warnings: list[str]) -> Layer:
    part = parts[number]
    name = type(part.layer).__name__
    places, known = find_places(part.layer, part.data, part.own)
    if not known:
        warnings.append(f"where the fields of {name} are in its bytes could not be told")
    around = [(each.offset, each.layer) for each in parts]
    verdict = verdict_of(around, number, parts[0].data, length)
    return Layer(
        name=name,
        title=_TITLES.get(name, part.layer.name),
        offset=part.offset,
        data=part.data[: part.own],
        fields=tuple(_field(place, verdict) for place in places),
    )


def _field(place: Place, checksum: Verdict) -> Field:
    """checksum: what is found of that of its layer."""
    field = Field(name=place.name, offset=place.offset, bits=place.bits, value=place.value, text=_text(place))
    if place.name in _CHECKSUMS:
        return replace(field, verdict=checksum.verdict, meaning=checksum.meaning)
    return replace(field, meaning=meaning_of(place))


def _text(place: Place) -> str:
    """A value as scapy shows it; with its number where that shows a name, and bytes without their b."""
    value, description = place.value, place.description
    if not place.bits and not value and isinstance(value, (bytes, list)):
        return "none"
    if isinstance(value, bytes):
        return _shortened(repr(value[: _SHORT + 1])[1:]) if value else ""
    if place.name in _PORTS:
        return str(value)  # most that scapy has a name for are a client's
    if description is None:  # an option of TCP
        return (
            "" if value is None else _shortened(", ".join(map(str, value)) if isinstance(value, tuple) else str(value))
        )
    try:
        text = str(description.i2repr(place.owner, value))
    except Exception:  # a value that its own field can't tell, of a malformed packet
        text = str(value) if isinstance(value, (int, float, str)) else "nothing that can be shown"
    if isinstance(value, int) and not text[:1].isdigit() and not text.endswith(f"({value})"):
        hexadecimal = type(described(description, place.owner, value)).__name__.startswith("X")
        text += f" ({value:#x})" if hexadecimal else f" ({value})"
    return _shortened(text or "none")


def _shortened(text: str) -> str:
    """One line of what can be printed, not too long."""
    text = printable(text)
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"
