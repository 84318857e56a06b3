"""scapy's sockets, opened in the network that is meant, with the lab's filters and the kernel's times.

Sniffing and talking ask for different things. A sniffer must keep bursts while Python dissects a few thousand frames a
second: it has a ring of 64 MiB, whose frames come up to 20 ms late. ``sr1`` opens a socket for each call and waits for
one reply: it has a plain packet socket, which hands a frame over at once, and which the kernel opens and closes in a
quarter of the time that a ring takes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
import time
from collections.abc import Iterable
from typing import Any

from scapy.config import conf
from scapy.interfaces import resolve_iface
from scapy.supersocket import SuperSocket

from lab.errors import Unavailable, UsageError
from lab.taps.filters import SNAPLEN, Instruction, attach, compile_filter
from lab.taps.packets import Packet, exact_time
from lab.taps.ring import Ring, open_tap
from lab.taps.tapping import link_type_of

__all__ = ["L2Socket", "L3Socket", "ListenSocket"]

# linux/if_packet.h, asm-generic/socket.h, linux/if_arp.h, linux/if_ether.h, linux/in.h
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_AUXDATA, _PACKET_IGNORE_OUTGOING = 263, 1, 8, 23
_PACKET_MR_PROMISC = 1
_SO_TIMESTAMPNS = 35
_AUXDATA = struct.Struct("=I12x2H")  # tpacket_auxdata: status, …, VLAN tag, its ethertype
_SOCKADDR_LL = struct.Struct("=HHi12x")
_TIMESPEC = struct.Struct("@ll")
_VLAN_VALID = 0x10
_ARPHRD_LOOPBACK = 772
_LINKTYPE_RAW = 101
_ETH_P_ALL = 3
_ETHERNET_ADDRESSES = 12
_SCAPY_MTU = 0xFFFF  # of which scapy's functions think that no frame is longer
_RECEIVE_BYTES = 1 << 26  # as much of it as net.core.rmem_max grants

Received = tuple[type | None, bytes | None, Any]


class _LabSocket(SuperSocket):  # type: ignore[misc] # scapy has no types
    """What all three have in common."""

    _direction = 0

    @staticmethod
    def socket_at(family: int, kind: int, protocol: int) -> socket.socket:
        """Opens a socket of a network: here of this process's own, in the subclasses that ``conf`` gets of theirs."""
        return socket.socket(family, kind, protocol)

    def recv(self, x: int = _SCAPY_MTU, **options: Any) -> Packet | None:
        """The next packet, with its time to the nanosecond and its direction (1 in, 2 out); None: none yet."""
        packet = super().recv(x, **options)
        if packet is not None:
            packet.direction = self._direction
        return packet

    def _handed(self, layer: type, data: bytes, time_ns: int, kind: int, x: int) -> Received:
        """What scapy is to get of a frame. x: the bytes that it asked for; its default would cut the largest of lo."""
        self._direction = 2 if kind == socket.PACKET_OUTGOING else 1
        return layer, data if x == _SCAPY_MTU else data[:x], exact_time(time_ns)


def _link_type(interface: Any) -> int:
    """LINKTYPE_* of its frames. Raises UsageError for one that is neither Ethernet nor bare IP."""
    found = link_type_of(interface.type)
    if found is None:
        raise UsageError(f"{interface.network_name} has frames of a kind unknown to lab: name another interface")
    return found


def _program(text: str | None, nofilter: bool, link_type: int) -> tuple[Instruction, ...]:
    """The filter, and what ``conf.except_filter`` is to keep out. Raises UsageError."""
    if nofilter:
        return ()
    if conf.except_filter:
        text = f"({text}) and not ({conf.except_filter})" if text else f"not ({conf.except_filter})"
    return compile_filter(text, link_type) if text else ()


def _watch_all(tap: socket.socket, interface: Any, promisc: bool | None) -> None:
    """Lets the interface take in frames for others, for as long as the tap is open."""
    if (conf.sniff_promisc if promisc is None else promisc) and interface.type != _ARPHRD_LOOPBACK:
        request = struct.pack("@iHH8x", interface.index, _PACKET_MR_PROMISC, 0)
        tap.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)


def _bind(tap: socket.socket, protocol: int, index: int) -> None:
    """Has a packet socket receive from now on; index: of an interface, or 0 for all, which Python can't say."""
    address = _SOCKADDR_LL.pack(socket.AF_PACKET, socket.htons(protocol), index)
    if ctypes.CDLL(None, use_errno=True).bind(tap.fileno(), address, len(address)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class ListenSocket(_LabSocket):
    """Reads the frames that come in and go out on an interface; on lo, where all that goes out comes in, once."""

    desc = "the lab's ring: loses nothing in bursts, one copy on lo, times to the nanosecond"

    def __init__(
        self,
        iface: Any = None,
        type: int = _ETH_P_ALL,  # noqa: A002 - as in scapy
        promisc: bool | None = None,
        filter: str | None = None,  # noqa: A002
        nofilter: bool = False,
        monitor: Any = None,  # noqa: ARG002 - not on Linux, says scapy
    ) -> None:
        """Raises UsageError for a filter that libpcap refuses, Unavailable."""
        interface = resolve_iface(iface or conf.iface)
        link_type = _link_type(interface)
        self.iface, self.outs = interface.network_name, None
        self._layer = conf.l2types.num2layer[link_type]
        self.ins = open_tap(
            self.iface,
            protocol=type,
            outgoing=interface.type != _ARPHRD_LOOPBACK,
            program=_program(filter, nofilter, link_type),
            socket_at=self.socket_at,
        )
        _watch_all(self.ins, interface, promisc)
        self._ring = Ring(self.ins)
        self._frames = self._ring.frames()

    def recv_raw(self, x: int = _SCAPY_MTU) -> Received:
        frame = next(self._frames, None)
        if frame is None:
            self._frames = self._ring.frames()
            return None, None, None
        return self._handed(self._layer, bytes(frame.data), frame.time_ns, frame.kind, x)

    def send(self, x: Packet) -> int:  # noqa: ARG002
        raise UsageError("this socket only listens: open conf.L2socket() or conf.L3socket() to send")

    def close(self) -> None:
        if not self.closed and hasattr(self, "_ring"):
            self._frames.close()
            self._ring.close()
        super().close()


class _TalkSocket(_LabSocket):
    """Receives what comes in on an interface, at once."""

    def _open(self, iface: Any, kind: int, protocol: int, promisc: bool | None, program: Iterable[Instruction]) -> None:
        """In this order, as a frame that came before would have passed neither the options nor the filter."""
        tap = self.socket_at(socket.AF_PACKET, kind, 0)
        try:
            tap.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            tap.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            tap.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
            if program := tuple(program):
                attach(tap, program)
            if iface is not None:
                _watch_all(tap, iface, promisc)
            _bind(tap, protocol, 0 if iface is None else iface.index)
        except OSError as error:
            tap.close()
            name = "all interfaces" if iface is None else iface.network_name
            raise Unavailable(f"cannot tap {name}", errno=error.errno, fix="See lab doctor") from error
        self.ins = self.outs = tap
        self._buffer = bytearray(SNAPLEN)

    def _receive(self) -> tuple[bytes, int, Any]:
        """The next frame, its time and its address (a sockaddr_ll)."""
        size, control, _flags, address = self.ins.recvmsg_into([self._buffer], 256)
        data, time_ns = bytes(memoryview(self._buffer)[:size]), time.time_ns()
        for level, kind, value in control:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, rest_ns = _TIMESPEC.unpack(value)
                time_ns = seconds * 1_000_000_000 + rest_ns
            elif (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
                status, tag, ethertype = _AUXDATA.unpack(value)
                if status & _VLAN_VALID and self.ins.type == socket.SOCK_RAW:  # the kernel has taken the tag out
                    at = _ETHERNET_ADDRESSES
                    data = data[:at] + struct.pack("!HH", ethertype, tag) + data[at:]
        return data, time_ns, address


class L2Socket(_TalkSocket):
    """Sends frames, and receives those that come in.

    On lo, the kernel delivers frames of IPv6 whose destination MAC address is zero, and no frames of IPv4.
    """

    desc = "the lab's packet socket: one copy on lo, times to the nanosecond"

    def __init__(
        self,
        iface: Any = None,
        type: int = _ETH_P_ALL,  # noqa: A002
        promisc: bool | None = None,
        filter: str | None = None,  # noqa: A002
        nofilter: bool = False,
        monitor: Any = None,  # noqa: ARG002
    ) -> None:
        """Raises UsageError for a filter that libpcap refuses, Unavailable."""
        interface = resolve_iface(iface or conf.iface)
        link_type = _link_type(interface)
        self.iface = interface.network_name
        self._layer = conf.l2types.num2layer[link_type]
        self._open(interface, socket.SOCK_RAW, type, promisc, _program(filter, nofilter, link_type))

    def recv_raw(self, x: int = _SCAPY_MTU) -> Received:
        data, time_ns, address = self._receive()
        return self._handed(self._layer, data, time_ns, address[2], x)

    def send(self, x: Packet) -> int:
        data = bytes(x)
        _note_time(x)
        return self.ins.send(data)


class L3Socket(_TalkSocket):
    """Sends IP packets of both families, which the kernel routes and delivers, also on lo; receives packets.

    The kernel fills in the total length, the header checksum and a zero id of IPv4: send malformed headers at layer 2.
    """

    desc = "the lab's raw sockets, both families: delivered on lo, times to the nanosecond"

    def __init__(
        self,
        type: int = _ETH_P_ALL,  # noqa: A002
        filter: str | None = None,  # noqa: A002
        iface: Any = None,
        promisc: bool | None = None,
        nofilter: bool = False,
        monitor: Any = None,  # noqa: ARG002
    ) -> None:
        """iface: the one to receive from; None: all.

        Raises UsageError for a filter that libpcap refuses, Unavailable.
        """
        interface = None if iface is None else resolve_iface(iface)
        self.iface = "any" if interface is None else interface.network_name
        self._type = type
        self._raw: dict[int, socket.socket] = {}
        program = _program(filter, nofilter, _LINKTYPE_RAW)  # a SOCK_DGRAM tap's filter sees no link layer
        self._open(interface, socket.SOCK_DGRAM, type, promisc, program)

    def recv_raw(self, x: int = _SCAPY_MTU) -> Received:
        data, time_ns, address = self._receive()
        layer = conf.l3types.num2layer.get(address[1], conf.raw_layer)
        return self._handed(layer, data, time_ns, address[2], x)

    def send(self, x: Packet) -> int:
        """Raises UsageError for what is no IP packet, OSError."""
        version = getattr(x, "version", None)
        if version not in (4, 6) or not hasattr(x, "dst"):
            raise UsageError(f"{x.__class__.__name__} is no IP packet: send it at layer 2, by sendp() or srp()")
        interface = resolve_iface(x.route()[0])
        self._listen_to(interface)
        address = (x.dst, 0) if version == 4 else (x.dst, 0, 0, interface.index)
        data = bytes(x)
        _note_time(x)
        try:
            return self._out(version).sendto(data, address)
        except OSError as error:
            if not conf.auto_fragment or error.errno != errno.EMSGSIZE or version != 4:
                raise
            return sum(self._out(4).sendto(bytes(piece), address) for piece in x.fragment())

    def _listen_to(self, interface: Any) -> None:
        """Receives from all interfaces as soon as packets leave by another than the one that was named."""
        if self.iface not in ("any", interface.network_name):
            _bind(self.ins, self._type, 0)
            self.iface = "any"

    def _out(self, version: int) -> socket.socket:
        """The raw socket that packets of this version of IP leave by; they bring their own header."""
        if version not in self._raw:
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            self._raw[version] = self.socket_at(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        return self._raw[version]

    def close(self) -> None:
        for each in getattr(self, "_raw", {}).values():
            each.close()
        super().close()


def _note_time(packet: Packet) -> None:
    """Right before it is sent; bytes can't be told."""
    with contextlib.suppress(AttributeError):
        packet.sent_time = exact_time(time.time_ns())
