"""One packet whose fields vary, so that a million packets that differ need no million objects."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lab.errors import UsageError
from lab.injector.bits import Bits, Subject
from lab.injector.building import dissected, each_packet, frame_of, is_packet
from lab.injector.variations import Numbers, Variation, read_variation
from lab.native.injection import MOST_FIELDS, MOST_SUMS, MOST_TEMPLATE_BYTES, Field, Sum
from lab.taps.findings import aligned
from lab.taps.packets import Packet

__all__ = ["Template"]

_FIELD = re.compile(r"(\w+)(?:#([1-9]\d*))?\.(\w+)")
_SLICE = re.compile(r"(payload|bytes)\[(\d+):(\d+)\]")
#: Fields that tell flows apart: addresses of these layers, and ports of any.
_IP, _ADDRESSES, _PORTS = ("IP", "IPv6"), ("src", "dst"), ("sport", "dport")
_HEADINGS = ("field", "values", "bytes")


class Template:
    """One packet, some fields of which vary from packet to packet.

    ::

        packet = IP(dst="127.0.0.1") / UDP(dport=9) / Raw(bytes(24))
        lab.Template(packet, {"UDP.sport": range(1024, 65536), "IP.src": "127.0.0.0/8", "payload[0:8]": "counter"})

    base: the frame that they vary in. link_type: LINKTYPE_* of it. fields, sums: what varies, and the checksums over
    that, which stay right. Those that are not right in `packet` stay as they are.
    """

    base: bytes
    link_type: int
    fields: tuple[Field, ...]
    sums: tuple[Sum, ...]

    def __init__(self, packet: Packet | bytes, vary: Mapping[str, Any]) -> None:
        """packet: one of scapy's, or bytes, which are an IP packet if they begin like one, else an Ethernet frame.

        vary: how, by field. A field is named "LAYER.FIELD" as scapy does ("IP.src", "ICMPv6EchoRequest.seq");
        "LAYER#2.FIELD" is that of the second such layer. "payload[0:8]" are bytes of what the packet carries
        (the innermost ``Raw``, or data of an echo), and "bytes[0:6]" of the frame, 8 at most. It varies as a range, a
        list of values or text:

        ========================  ==========================================================================
        ``"1024-65535"``          all of them in turn, as ``range(1024, 65536)``; addresses likewise
        ``"127.0.0.0/8"``         all addresses with that prefix; of IPv6, at most the low 64 bits vary
        ``"80,443"``              each in turn, as ``[80, 443]``
        ``"counter"``             from 0
        ``"random:1024-65535"``   drawn, each as likely; also of a prefix
        ``"clock"``               the time of day in ns (CLOCK_REALTIME), of 8 bytes
        ``"… every 64"``          after any but the last: each value for 64 packets in a row
        ========================  ==========================================================================

        Raises UsageError for fields that are not there, overlap, or change more than themselves and checksums.
        """
        subject = Subject(_single(packet))
        varied = [_vary(subject, name, given) for name, given in vary.items()]
        sums = sorted({number for each in varied for number in each.bits.sums})
        _check(subject, varied, sums)
        self.base, self.link_type = subject.frame, subject.link_type
        self.sums = tuple(subject.sums[number] for number in sums)
        self._varied = tuple(each.renumbered(sums) for each in varied)
        # Gaps that are drawn have seed 0: no value is drawn by the same numbers.
        self.fields = tuple(each.field(seed) for seed, each in enumerate(self._varied, 1))
        self._summary = subject.layers()[0].summary()

    def frame(self, n: int) -> bytes:
        """The n-th frame, from 0. Raises UsageError if it is not known, as with "random" and "clock"."""
        if n < 0:
            raise UsageError(f"there is no packet {n}: they are numbered from 0")
        frame = self.base
        for each in self._varied:
            frame = each.bits.changed(frame, each.variation.value(n), self.sums)
        return frame

    def packet(self, n: int) -> Packet:
        """The n-th packet, from 0, dissected by scapy. Raises UsageError if it is not known."""
        return dissected(self.frame(n), self.link_type)

    def _rows(self) -> list[tuple[str, ...]]:
        return [(each.name, each.variation.text, each.bits.place()) for each in self._varied]

    def _sentence(self) -> str:
        return f"template: {self._summary}, {len(self.base):,} bytes"

    def __str__(self) -> str:
        return "\n".join([self._sentence(), *aligned([_HEADINGS, *self._rows()], left=3)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(tag: str, cells: tuple[str, ...]) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(line("td", row) for row in self._rows())
        head = line("th", _HEADINGS)
        return f"<p>{html.escape(self._sentence())}</p><table><thead>{head}</thead><tbody>{body}</tbody></table>"


@dataclass(frozen=True)
class _Varied:
    """A field of a template. flow: it tells flows apart."""

    name: str
    variation: Variation
    bits: Bits
    flow: bool

    def renumbered(self, sums: list[int]) -> _Varied:
        """With the checksums by their places in `sums`."""
        return replace(self, bits=replace(self.bits, sums=tuple(map(sums.index, self.bits.sums))))

    def field(self, seed: int) -> Field:
        bits, how = self.bits, self.variation
        return Field(
            offset=bits.offset,
            bytes=bits.size,
            mask=bits.mask,
            shift=bits.shift,
            sums=bits.sums,
            kind=how.kind,
            first=how.first,
            step=how.step,
            count=how.count,
            every=how.every,
            values=how.values,
            seed=seed,
            flow=self.flow,
        )


def _single(packet: Packet | bytes) -> Packet:
    """Raises UsageError if it is not one packet."""
    if isinstance(packet, (bytes, bytearray, memoryview)):
        frame = frame_of(bytes(packet))
        return dissected(frame.data, frame.link_type)
    if not is_packet(packet):
        raise UsageError(f"a template is one packet of scapy's, or its bytes, not a {type(packet).__name__}")
    first, *more = itertools.islice(each_packet(packet), 2)
    if more:
        raise UsageError("a template is one packet, and this stands for several: let fields of one vary")
    return first


def _vary(subject: Subject, name: str, given: Any) -> _Varied:
    if match := _SLICE.fullmatch(name):
        first, last = int(match[2]), int(match[3])
        find = subject.payload_bits if match[1] == "payload" else subject.frame_bits
        bits = find(name, first, last)
        return _Varied(name, read_variation(given, Numbers(name=name, bits=8 * bits.size)), bits, flow=False)
    match = _FIELD.fullmatch(name)
    if not match:
        raise UsageError(f"{name!r} names no field: give LAYER.FIELD, such as UDP.sport, payload[0:8] or bytes[0:6]")
    layer, field = match[1], match[3]
    depth = _depth(subject, layer, int(match[2] or 1))
    numbers = subject.numbers(name, depth, field)
    variation = read_variation(given, numbers)
    if variation.upper is not None:
        subject.set(depth, field, numbers.written(variation.upper << 64))
    bits = subject.field_bits(numbers, depth, field, variation.upper)
    return _Varied(name, variation, bits, flow=field in _PORTS or (layer in _IP and field in _ADDRESSES))


def _depth(subject: Subject, layer: str, which: int) -> int:
    """Where in a packet its layer of that name is, by number, from 1."""
    names = [type(each).__name__ for each in subject.layers()]
    found = [depth for depth, each in enumerate(names) if each == layer]
    if len(found) < which:
        number = f" number {which}" if which > 1 else ""
        raise UsageError(f"the packet has no layer {layer}{number}: it has {', '.join(names)}")
    return found[which - 1]


def _check(subject: Subject, varied: list[_Varied], sums: list[int]) -> None:
    """Raises UsageError for fields that can't vary together."""
    if not varied:
        raise UsageError("a template without a field that varies is a packet: give that, or say what varies")
    owner = {at: "a checksum" for each in subject.sums for at in (each.at, each.at + 1)}
    for each in varied:
        for at in range(each.bits.offset, each.bits.offset + each.bits.size):
            if at in owner:
                raise UsageError(f"{each.name} shares byte {at} with {owner[at]}: let one of them vary")
            owner[at] = each.name
    for what, there, most in (
        ("fields", len(varied), MOST_FIELDS),
        ("checksums over them", len(sums), MOST_SUMS),
        ("bytes", len(subject.frame), MOST_TEMPLATE_BYTES),
    ):
        if there > most:
            raise UsageError(f"a template of {there:,} {what}: {most:,} are the most")
