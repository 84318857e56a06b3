"""Which bits of a frame a field is, and which checksums cover them: found by having scapy build it.

A field is set to some values, one after the other. What that changes in the frame must be as many bits in a row, and
the checksums over them by what those bits add. Whatever else would happen when it varies is found that way, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lab.errors import UsageError
from lab.injector.building import built, dissected
from lab.injector.variations import Numbers
from lab.native.injection import Sum
from lab.taps.packets import Packet

__all__ = ["Bits", "Subject"]

#: Where in their headers layers have their Internet checksum (RFC 1071), and its name.
_CHECKSUMS = {"IP": ("chksum", 10), "TCP": ("chksum", 16), "UDP": ("chksum", 6), "ICMP": ("chksum", 2)}
_ICMPV6, _ICMPV6_CHECKSUM = "ICMPv6", ("cksum", 2)
#: Fields that scapy sets by the rest of a packet.
_TOLD = ("chksum", "cksum", "ihl", "len", "plen")
_IS_TOLD = "is told by the rest of the packet: let that vary"
_INSTEAD = "let bytes of the payload vary, such as payload[0:8]"
_MOST_BYTES = 8
#: Values of 64 bits: none, all, every other one, bytes that all differ, and the last.
_NONE, _ALL, *_SOME = 0, (1 << 64) - 1, 0x5555_5555_5555_5555, 0x0123_4567_89AB_CDEF, 1


@dataclass(frozen=True)
class Bits:
    """A number in a frame, in network order.

    size: bytes that it shares in; behind it, there are `shift` bits of the last of them. mask: its bits. sums: the
    checksums that cover it, by number.
    """

    offset: int
    size: int
    shift: int
    mask: int
    sums: tuple[int, ...] = ()

    def changed(self, frame: bytes, value: int, sums: Sequence[Sum]) -> bytes:
        """The frame with that value, and with the checksums of `sums` as right as they were."""
        other = bytearray(frame)
        place = slice(self.offset, self.offset + self.size)
        old = frame[place]
        kept = int.from_bytes(old) & ~(self.mask << self.shift)
        new = (kept | (value & self.mask) << self.shift).to_bytes(self.size)
        other[place] = new
        for each in (sums[number] for number in self.sums):
            at = slice(each.at, each.at + 2)
            total = 0xFFFF - int.from_bytes(frame[at])
            for position, (before, after) in enumerate(zip(old, new, strict=True), self.offset):
                total += (after - before) * (1 if (position - each.start) % 2 else 256)
            checksum = 0xFFFF - (total % 0xFFFF or 0xFFFF)  # only what is all zeros adds up to 0
            other[at] = (checksum or (0xFFFF if each.udp else 0)).to_bytes(2)
        return bytes(other)

    def place(self) -> str:
        """Which bytes of the frame they are, from 0."""
        last = self.offset + self.size - 1
        part = "" if self.mask == _ALL >> 64 - 8 * self.size else ", in part"
        return f"{self.offset}{f'-{last}' if self.size > 1 else ''}{part}"


class Subject:
    """A packet of scapy's, of which one field at a time is set to other values.

    frame: its bytes. link_type: LINKTYPE_*. sums: its checksums that are right; the others stay as they are.
    """

    def __init__(self, packet: Packet) -> None:
        """packet: one that stands for itself only. Raises UsageError if scapy can't build it."""
        self.frame, self.link_type, _time_ns, length = built(packet)
        if length > len(self.frame):
            raise UsageError(f"{length - len(self.frame):,} bytes of this packet were cut off: capture all of it")
        self._packet = _explicit(packet)
        if built(self._packet).data != self.frame:
            raise UsageError(
                "scapy takes this packet apart, and can't build it again: build it of layers, such as IP()"
            )
        self.sums: tuple[Sum, ...] = ()
        self._released: list[tuple[int, str]] = []
        for depth, layer in enumerate(self.layers()):
            self._release(depth, layer)

    def layers(self) -> list[Packet]:
        """From the outermost one on."""
        return list(self._packet.iterpayloads())

    def numbers(self, name: str, depth: int, field: str) -> Numbers:
        """What a field of the layer at that depth can be. Raises UsageError if it can't vary."""
        from scapy.fields import IP6Field, IPField, MACField

        layer = self.layers()[depth]
        names = [each.name for each in layer.fields_desc]
        if field not in names:
            raise UsageError(f"{name}: there is no such field; {type(layer).__name__} has {', '.join(names)}")
        if field in _TOLD:
            raise UsageError(f"{name} {_IS_TOLD}")
        described = _description(layer, field)
        kinds = {IPField: "IPv4", IP6Field: "IPv6", MACField: "MAC"}
        address = next((said for kind, said in kinds.items() if isinstance(described, kind)), None)
        bits = round(8 * described.sz)
        if not 1 <= bits <= (128 if address else 64):
            raise UsageError(f"{name} is no number: {_INSTEAD}")
        return Numbers(name=name, bits=bits, address=address)

    def set(self, depth: int, field: str, value: int | str) -> None:
        """Changes a field for good."""
        self._packet = _with(self._packet, depth, field, value)
        self.frame = built(self._packet).data

    def field_bits(self, numbers: Numbers, depth: int, field: str, upper: int | None = None) -> Bits:
        """The bits of a field; the low ones, below what is `upper`, of one with more than 64.

        Raises UsageError if it is more than just some bits in a row, and checksums.
        """
        above = 0 if upper is None else upper << 64

        def build(value: int) -> bytes:
            return built(_with(self._packet, depth, field, numbers.written(above | value))).data

        return self._locate(numbers.name, min(numbers.bits, 64), build)

    def payload_bits(self, name: str, first: int, last: int) -> Bits:
        """Those bytes of what the packet carries. Raises UsageError if it has none there."""
        depth, field, load = self._payload()
        _check_slice(name, first, last, len(load))

        def build(value: int) -> bytes:
            other = load[:first] + value.to_bytes(last - first) + load[last:]
            return built(_with(self._packet, depth, field, other)).data

        return self._locate(name, 8 * (last - first), build)

    def frame_bits(self, name: str, first: int, last: int) -> Bits:
        """Those bytes of the frame. Raises UsageError if there are none, or if they decide what the others mean."""
        _check_slice(name, first, last, len(self.frame))
        if any(first < each.at + 2 and each.at < last for each in self.sums):
            raise UsageError(f"{name} {_IS_TOLD}")

        def build(value: int) -> bytes:
            frame = self.frame[:first] + value.to_bytes(last - first) + self.frame[last:]
            packet = _explicit(dissected(frame, self.link_type))
            layers = list(packet.iterpayloads())
            for depth, checksum in self._released:
                if len(layers) <= depth or type(layers[depth]) is not type(self.layers()[depth]):
                    return b""  # these bytes decide what the packet is
                packet = _with(packet, depth, checksum, None)
            return built(packet).data

        return self._locate(name, 8 * (last - first), build)

    def _payload(self) -> tuple[int, str, bytes]:
        """Depth, field and value of the innermost bytes that scapy left as they are: of ``Raw``, or of an echo."""
        from scapy.packet import Padding

        innermost = 0, "", b""
        for depth, layer in enumerate(self.layers()):
            for each in layer.fields_desc[-1:]:
                value = layer.getfieldval(each.name)
                if isinstance(value, bytes) and value and not isinstance(layer, Padding):
                    innermost = depth, each.name, value
        return innermost

    def _release(self, depth: int, layer: Packet) -> None:
        """If a layer has a checksum that is right, lets scapy keep it so."""
        kind = type(layer).__name__
        field, place = _CHECKSUMS.get(kind, _ICMPV6_CHECKSUM)
        if kind not in _CHECKSUMS and not (kind.startswith(_ICMPV6) and field in layer.default_fields):
            return
        released = _with(self._packet, depth, field, None)
        if built(released).data != self.frame:
            return
        at = self._locate(
            f"{kind}.{field}", 16, lambda value: built(_with(self._packet, depth, field, value)).data
        ).offset
        self._packet = released
        self._released.append((depth, field))
        self.sums += (Sum(at=at, start=at - place, udp=kind == "UDP"),)

    def _locate(self, name: str, width: int, build: Callable[[int], bytes]) -> Bits:
        """The bits that a value has of that width, by frames with some values."""
        values = [value & _ALL >> 64 - width for value in (_NONE, _ALL, *_SOME)]
        try:
            frames = [build(value) for value in values]
        except UsageError:
            raise UsageError(f"{name} is no number: {_INSTEAD}") from None
        more = f"{name} varies more than itself, and checksums of this packet: let another field vary"
        if not frames[0] or len(set(map(len, frames))) > 1:
            raise UsageError(more)
        bits = _without(self.sums, frames[0]) ^ _without(self.sums, frames[1])
        if not bits:
            raise UsageError(f"{name} is not there in this packet: let another field vary")
        end, behind = len(frames[0]), (bits & -bits).bit_length() - 1
        first, last = end - 1 - (bits.bit_length() - 1) // 8, end - 1 - behind // 8
        covering = [
            i for i, each in enumerate(self.sums) if len({frame[each.at : each.at + 2] for frame in frames}) > 1
        ]
        found = Bits(first, last - first + 1, behind % 8, values[1], tuple(covering))
        if found.size > _MOST_BYTES or any(
            found.changed(frames[0], value, self.sums) != frame
            for frame, value in zip(frames[1:], values[1:], strict=True)
        ):
            raise UsageError(more)
        return found


def _without(sums: Sequence[Sum], frame: bytes) -> int:
    """A frame as a number, without its checksums."""
    rest = bytearray(frame)
    for each in sums:
        rest[each.at : each.at + 2] = bytes(2)
    return int.from_bytes(rest)


def _check_slice(name: str, first: int, last: int, size: int) -> None:
    if not 1 <= last - first <= _MOST_BYTES:
        raise UsageError(f"{name}: give 1 to {_MOST_BYTES} bytes")
    if last > size:
        raise UsageError(f"{name}: there are only {size:,} bytes; give some of those")


def _explicit(packet: Packet) -> Packet:
    """A copy that keeps none of the bytes it was dissected from, and has all addresses that scapy would choose."""
    from scapy.fields import IP6Field, IPField, MACField

    copy = packet.copy()
    copy.clear_cache()
    for layer in copy.iterpayloads():
        for each in layer.fields_desc:
            kind = isinstance(_description(layer, each.name), (IPField, IP6Field, MACField))
            if kind and layer.getfieldval(each.name) is None:
                layer.setfieldval(each.name, getattr(layer, each.name))
        layer.explicit = 1
    return copy


def _with(packet: Packet, depth: int, field: str, value: Any) -> Packet:
    """A copy with another value in a field of the layer at that depth; None: what scapy sets there."""
    copy = packet.copy()
    layer = list(copy.iterpayloads())[depth]
    layer.setfieldval(field, value)
    layer.explicit = 1
    return copy


def _description(layer: Packet, name: str) -> Any:
    """What scapy knows of a field, out of what wraps it."""
    from scapy.fields import MultipleTypeField

    described = layer.get_field(name)
    while hasattr(described, "fld"):
        if isinstance(described, MultipleTypeField):
            described, _value = described._find_fld_pkt_val(layer, layer.getfieldval(name))
        else:
            described = described.fld
    return described
