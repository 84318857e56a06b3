"""Counts what arrives, by a tap that keeps nothing: its queue is full at once, and the kernel counts what it drops."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from lab.injector.rows import rows_of
from lab.injector.source import Source
from lab.injector.survey import Survey
from lab.injector.towards import LOOPBACK, Towards
from lab.managed import Managed
from lab.taps.filters import EVERYTHING, NOTHING, Instruction, attach, compile_filter

__all__ = ["Counter", "open_counter"]

# linux/if_packet.h, linux/if_ether.h, linux/bpf_common.h
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING = 263, 6, 23
_ETH_P_ALL, _ETH_P = 3, {4: 0x0800, 6: 0x86DD}
_LOAD_WORD, _JUMP_IF_EQUAL = 0x20, 0x15
_MARK = 0xFFFFF000 + 20  # SKF_AD_OFF + SKF_AD_MARK
_RAW = 101  # LINKTYPE_RAW
_DISCOVERY = tuple(range(133, 138))  # router and neighbour solicitations and advertisements, redirects (RFC 4861)
_NO_DISCOVERY = "not ip6 multicast and not (icmp6 and ip6[40] >= 133 and ip6[40] <= 137)"
_MULTICAST = 0xFF  # the first byte of an IPv6 address
_COMPARED = ("family", "protocol", "source", "destination", "icmp_type")
_LOOK_S = 0.002

#: A value a column.
Common = dict[str, npt.NDArray[Any]]


class Counter(Managed):
    """A tap where packets arrive. Raises OSError."""

    def __init__(self, receiver: socket.socket, device: str, program: Iterable[Instruction], ethertype: int) -> None:
        """receiver: a packet socket there of type SOCK_DGRAM, so that frames begin at the network layer. program: of
        what is counted. ethertype: of all of it, ETH_P_ALL if there are several.
        """
        self._socket, self._count = receiver, 0
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        receiver.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        attach(receiver, tuple(program))
        receiver.bind((device, ethertype))
        self.count()
        self._count = 0

    def count(self) -> int:
        """What has arrived so far."""
        seen, _dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self._count += seen
        return self._count

    def settle(self, expected: int, patience_s: float, interrupted: threading.Event) -> int:
        """The count once all that is expected has arrived, or nothing more has for so long, or it was interrupted."""
        count, since_s = self.count(), time.monotonic()
        while count < expected and time.monotonic() - since_s < patience_s and not interrupted.wait(_LOOK_S):
            if (now := self.count()) > count:
                count, since_s = now, time.monotonic()
        return count

    def close(self) -> None:
        self._socket.close()


def open_counter(to: Towards, source: Source, survey: Survey, mark: int) -> Counter | None:
    """A counter of what this injection has arrive; None where that is not known. Raises Unavailable, OSError.

    On lo, packets keep the mark of the socket that sent them. Elsewhere they are told by what they have in common.
    """
    if to.receiver is None or to.far_device is None:
        return None
    expression, ethertype = describe_arrivals(source, survey)
    program: tuple[Instruction, ...]
    if to.hardware == LOOPBACK:
        head = (Instruction(_LOAD_WORD, 0, 0, _MARK), Instruction(_JUMP_IF_EQUAL, 1, 0, mark))
        program = (*head, *NOTHING, *EVERYTHING)
    else:
        program = compile_filter(expression, _RAW) if expression else EVERYTHING
    receiver = to.receiver(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    try:
        return Counter(receiver, to.far_device, program, ethertype)
    except BaseException:
        receiver.close()
        raise


def describe_arrivals(source: Source, survey: Survey) -> tuple[str, int]:
    """What all frames that are sent have in common, as a filter of IP packets, and as an ethertype.

    It leaves out what the kernel itself sends on a link: ARP and neighbour discovery, unless they are of that kind.
    """
    common, discovery, foreign = _common(source, survey)
    family = int(common.get("family", 0))
    if family not in _ETH_P:
        rest = [] if foreign else ["(ip or ip6)"]
        return " and ".join(rest if discovery else [*rest, f"(not ip6 or ({_NO_DISCOVERY}))"]), _ETH_P_ALL
    domain, size = (socket.AF_INET, 4) if family == 4 else (socket.AF_INET6, 16)
    told = ["ip" if family == 4 else f"ip6 and {'ip6' if discovery else _NO_DISCOVERY}"]
    for name, word in (("source", "src"), ("destination", "dst")):
        if name in common:
            told.append(f"{word} host {socket.inet_ntop(domain, common[name].tobytes()[:size])}")
    if family == 4 and "protocol" in common:
        told.append(f"ip proto {int(common['protocol'])}")
    return " and ".join(told), _ETH_P[family]


def _common(source: Source, survey: Survey) -> tuple[Common, bool, bool]:
    """What is the same in all frames that are sent, by column; whether some are neighbour discovery; or not IP."""
    common: Common | None = None
    first, discovery, foreign = 0, False, False
    for batch in rows_of(source):
        sent = survey.ways[first : first + len(batch)] != 0
        first += len(sent)
        if not sent.any():
            continue
        rows = {name: batch[name][sent] for name in _COMPARED}
        if common is None:
            common = {name: values[0].copy() for name, values in rows.items()}
        varied = [name for which, name in enumerate(("source", "destination")) if batch.varies_address(which)]
        common = {name: value for name, value in common.items() if name not in varied and (rows[name] == value).all()}
        message = (rows["protocol"] == socket.IPPROTO_ICMPV6) & np.isin(rows["icmp_type"], _DISCOVERY)
        multicast = rows["destination"][:, 0] == _MULTICAST
        discovery |= bool(((rows["family"] == 6) & (message | multicast)).any())
        foreign |= bool((rows["family"] == 0).any())
    return common or {}, discovery, foreign
