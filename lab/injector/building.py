"""Packets that somebody made, with scapy or as bytes, as frames."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain
from types import NoneType
from typing import Any

from lab.errors import UsageError
from lab.injector.memory import Frame
from lab.taps.packets import Packet

__all__ = ["built", "dissected", "each_packet", "frame_of", "is_packet"]

#: LINKTYPE_* of frames that begin with an Ethernet header, or with that of IPv4 or IPv6.
_ETHERNET, _RAW = 1, 101

_SINGLE = (int, float, str, bytes, NoneType)
_IPV4_HEADER, _IPV6_HEADER = 20, 40


def is_packet(thing: object) -> bool:
    """Whether it is a packet of scapy's; if it is, scapy is loaded already."""
    scapy = sys.modules.get("scapy.packet")
    return scapy is not None and isinstance(thing, scapy.Packet)


def each_packet(packet: Packet) -> Iterator[Packet]:
    """The packets that one of scapy's stands for, such as those of ``IP(dst="127.0.0.0/30") / UDP(dport=(1, 3))``.

    What stands for itself is marked so while it is built: to find that out, scapy copies it, which takes longer.
    """
    implicit, layer = [], packet
    while layer:
        if not layer.explicit:
            implicit.append(layer)
        layer = layer.payload
    if not all(map(_is_single, implicit)):
        for each in packet:
            each.original = packet.original  # which copies forget
            yield each
        return
    for layer in implicit:
        layer.explicit = 1
    try:
        yield packet
    finally:
        for layer in implicit:
            layer.explicit = 0


def _is_single(layer: Packet) -> bool:
    """Whether its fields have one value each for sure."""
    from scapy.fields import FlagValue
    from scapy.volatile import VolatileValue

    for name, value in layer.fields.items():
        if not (isinstance(value, (*_SINGLE, FlagValue)) or layer.get_field(name).islist):
            return False
    made = chain(layer.default_fields.values(), layer.overloaded_fields.values())
    return not any(isinstance(value, VolatileValue) for value in made)


def built(packet: Packet) -> Frame:
    """A single packet of scapy's as a frame; as it was captured, if it was, with its time and all of its length.

    Raises UsageError if scapy can't build it, or knows no link that begins with its first layer.
    """
    link_type = _link_type_of(packet)
    try:
        data = bytes(packet)
    except Exception as error:  # whatever the fields of a layer raise
        layers = " / ".join(layer.__name__ for layer in packet.layers())
        why = str(error).partition("\n")[0] or type(error).__name__
        raise UsageError(f"scapy can't build {layers}: {why}; mend that field") from error
    frame = frame_of(data, link_type)
    if link_type is None or not packet.original:  # its time is that at which it was made
        return frame
    cut = packet.wirelen if packet.original == data else None
    return frame._replace(time_ns=max(0, int(packet.time * 1_000_000_000)), length=max(cut or 0, len(data)))


def frame_of(data: bytes, link_type: int | None = None) -> Frame:
    """Bytes as a frame. Raises UsageError if there are none.

    link_type: None: they are an IP packet if they begin with a header of IPv4 or IPv6 that gives their length, else an
    Ethernet frame.
    """
    if not data:
        raise UsageError("a packet without a single byte can't be injected: leave it out")
    if link_type is None:
        link_type = _RAW if _begins_as_ip(data) else _ETHERNET
    return Frame(data, link_type)


def dissected(data: bytes, link_type: int) -> Packet:
    """Bytes as a packet of scapy's; ``Raw`` if scapy knows no layer that frames of that link begin with."""
    import scapy.layers.all  # noqa: F401 - each registers its link types and what it carries
    from scapy.config import conf

    return conf.l2types.num2layer.get(link_type, conf.raw_layer)(data)


def _link_type_of(packet: Packet) -> int | None:
    """LINKTYPE_* by the first layer; None for ``Raw``, of which only its bytes can tell.

    Raises UsageError for a layer that can't come first.
    """
    from scapy.config import conf
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    if isinstance(packet, conf.raw_layer):
        return None
    if isinstance(packet, (IP, IPv6)):
        return _RAW
    known: dict[Any, int] = conf.l2types.layer2num
    found = next((known[layer] for layer in type(packet).__mro__ if layer in known), None)
    if found is None:
        first = type(packet).__name__
        raise UsageError(f"{first} can't be a packet's first layer: put it in one, such as IP() / {first}()")
    return found


def _begins_as_ip(data: bytes) -> bool:
    version = data[0] >> 4
    if version == 4 and len(data) >= _IPV4_HEADER:
        return _IPV4_HEADER <= 4 * (data[0] & 15) <= int.from_bytes(data[2:4]) == len(data)
    return version == 6 and _IPV6_HEADER + int.from_bytes(data[4:6]) == len(data)
