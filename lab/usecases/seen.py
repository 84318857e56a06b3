"""What a capture tells of the steps of a use case: the conversations that each began, packet by packet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab.taps.conversations import COLUMNS, find_conversations
from lab.taps.names import flag_names, icmp_name

if TYPE_CHECKING:
    from lab.taps.captures import Capture

__all__ = ["Packet", "Seen", "Talk", "look"]

_PARTS = ("payload_offset", "payload_length", "captured", "time_ns", "tcp_flags", "icmp_type", "icmp_code")
_DNS = 53


@dataclass(frozen=True)
class Packet:
    """One packet of a conversation.

    number: of its frame, from 1. what: its TCP flags, what an ICMP message is, or its protocol.
    """

    number: int
    time_ns: int
    to_server: bool
    what: str
    payload: bytes = field(repr=False)


@dataclass(frozen=True)
class Talk:
    """A conversation. flow: its number in ``Capture.flows()``; row: what that table has of it."""

    flow: int
    row: dict[str, Any] = field(repr=False)
    packets: tuple[Packet, ...] = field(repr=False)

    @property
    def server(self) -> str:
        """The address that was asked."""
        return str(self.row["server"])

    @property
    def port(self) -> int | None:
        """The port that was asked; None: there is none, as of ICMP."""
        return None if self.row["server_port"] is None else int(self.row["server_port"])

    @property
    def protocol(self) -> str:
        """Such as "tcp", "udp", "icmp"."""
        return str(self.row["protocol"])

    @property
    def state(self) -> str:
        """Of TCP, as ``lab.taps.flows`` has it; "" of others."""
        return str(self.row["state"] or "")

    @property
    def before_data(self) -> tuple[Packet, ...]:
        """The packets before the first one that carries something; all, if none does."""
        first = next((at for at, packet in enumerate(self.packets) if packet.payload), len(self.packets))
        return self.packets[:first]

    @property
    def first_words(self) -> Packet | None:
        """The first packet that carries something."""
        return next((packet for packet in self.packets if packet.payload), None)

    def carrying(self, *, to_server: bool) -> tuple[Packet, ...]:
        """The packets of one direction that carry something."""
        return tuple(packet for packet in self.packets if packet.payload and packet.to_server == to_server)

    def said(self, *, to_server: bool) -> str:
        """All that went in one direction, as text: what is none looks odd, one character a byte."""
        return b"".join(packet.payload for packet in self.carrying(to_server=to_server)).decode("latin-1")

    def opening(self, most: int = 3) -> str:
        """Its first packets in words: "SYN →, ← SYN ACK, ACK →"; an ICMP error is a way of its own."""
        if self.protocol.startswith("icmp"):
            return ", ".join(packet.what for packet in self.packets[:most])
        return ", ".join(
            f"{packet.what} →" if packet.to_server else f"← {packet.what}" for packet in self.packets[:most]
        )


@dataclass(frozen=True)
class Seen:
    """All conversations of a capture, in the order in which they began."""

    talks: tuple[Talk, ...]

    def between(self, begin_ns: int, end_ns: int | None) -> tuple[Talk, ...]:
        """Those that began within a time; end_ns: None is the end of the capture."""
        return tuple(
            talk
            for talk in self.talks
            if begin_ns <= talk.packets[0].time_ns and (end_ns is None or talk.packets[0].time_ns < end_ns)
        )

    @property
    def lookups(self) -> int:
        """Packets to and from name servers."""
        return sum(len(talk.packets) for talk in self.talks if talk.port == _DNS)


def look(capture: Capture) -> Seen:
    """The conversations of a capture that has ended."""
    columns = capture.frames.columns(*{*COLUMNS, *_PARTS})
    found = find_conversations(columns)
    rows = capture.flows().table.to_dicts()
    talks = []
    for number, row in enumerate(rows):
        stretch = slice(found.first[number], found.first[number + 1])
        both = zip(found.rows[stretch].tolist(), found.from_client[stretch].tolist(), strict=True)
        packets = [_packet(capture, columns, at, by_client, row) for at, by_client in both]
        packets.sort(key=lambda packet: packet.time_ns)  # two CPUs may have written them
        talks.append(Talk(number, row, tuple(packets)))
    return Seen(tuple(talks))


def _packet(capture: Capture, columns: Any, at: int, to_server: bool, row: dict[str, Any]) -> Packet:
    start, length = int(columns["payload_offset"][at]), int(columns["payload_length"][at])
    what = str(row["protocol"]).upper()
    if row["protocol"] == "tcp":
        what = flag_names(int(columns["tcp_flags"][at]))
    elif row["protocol"].startswith("icmp"):
        what = icmp_name(row["family"], int(columns["icmp_type"][at]), int(columns["icmp_code"][at]))
    payload = bytes(capture.frames.frame_bytes(at)[start : start + length])
    return Packet(at + 1, int(columns["time_ns"][at]), to_server, what, payload)
