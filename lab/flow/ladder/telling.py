"""What is told of a packet on its arrow: what it is above all, numbers, marks, and what it says."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from lab.taps.conversations import ACK, SYN, VLAN_NUMBER
from lab.taps.frames import HAS
from lab.taps.lines import flaws, protocol_name
from lab.taps.names import flag_names, icmp_name
from lab.taps.packets import Packet

__all__ = ["COLUMNS", "said", "told"]

#: What ``told`` reads of a frame.
COLUMNS = (
    "has", "vlan", "ethertype", "family", "protocol", "fragment_id", "fragment_offset", "more_fragments", "icmp_type",
    "icmp_code", "icmp_id", "icmp_seq", "tcp_flags", "tcp_mss", "payload_length", "payload_offset", "length",
    "captured", "dropped", "checksum",
)  # fmt: skip

#: Bytes of a payload that are looked at, and letters of it that are told.
_LOOKED_AT, _LETTERS = 200, 80
#: Bytes of the headers of UDP and ICMP.
_HEADER = 8
_UNPRINTABLE = re.compile(r"[^ -~\u00a0-\U0010ffff]+")
_WORD = re.compile(r"[ -~\u00a0-\U0010ffff]{4}")

Row = Mapping[str, Any]


def told(
    row: Row, seq: int, ack: int, marks: Sequence[str], segments: int
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Title, facts and marks of a frame. seq, ack: relative, of TCP; marks: those that its stream gives it.

    segments: that it is of TCP, each as long as both ends agreed on.
    """
    title, facts = protocol_name(row["protocol"], None).upper(), []
    if _has(row, "tcp"):
        flags = row["tcp_flags"]
        title = flag_names(flags) or "no flags"
        facts = [f"seq {seq}", *([f"ack {ack}"] if flags & ACK else [])]
        if flags & SYN and _has(row, "mss"):
            facts.append(f"MSS {row['tcp_mss']}")
    elif _has(row, "icmp"):
        title = icmp_name(row["family"], row["icmp_type"], row["icmp_code"])
        facts = [f"id {row['icmp_id']}", f"seq {row['icmp_seq']}"] if _has(row, "echo") else []
    if _has(row, "fragment"):
        title = "fragment" if row["fragment_offset"] else f"{title} fragment"
        facts += _fragment(row)
    elif _has(row, "payload") and row["payload_length"] and not (_has(row, "icmp") and not _has(row, "echo")):
        facts.append(f"len {row['payload_length']}")
    if _has(row, "vlan"):
        facts.append(f"vlan {row['vlan'] & VLAN_NUMBER}")
    several = [f"{segments} segments in one frame"] if segments > 1 else []
    return title, tuple(facts), (*marks, *several, *flaws(row))


def _fragment(row: Row) -> list[str]:
    """Which, and which bytes of the whole packet it has, counted from behind the IP header."""
    first, size = row["fragment_offset"], row["payload_length"]
    if not first and (_has(row, "icmp") or row["protocol"] == socket.IPPROTO_UDP):
        size += _HEADER
    known = first or not _has(row, "tcp")  # whose header's length is not at hand
    place = [f"bytes {first} to {first + size - 1}"] if known else []
    return [f"IP id {row['fragment_id']}", *place, "more follow" if row["more_fragments"] else "the last"]


def _has(row: Row, layer: str) -> bool:
    return bool(row["has"] & HAS[layer])


def said(packet: Packet) -> str:
    """What a packet of scapy's says, as far as that is text; "" if it is none."""
    from scapy.layers.dns import DNS
    from scapy.layers.inet import ICMP, TCP, UDP
    from scapy.packet import Padding, Raw

    if DNS in packet:
        return _dns(packet[DNS])
    last = packet.lastlayer()
    if isinstance(last, Padding):
        last = last.underlayer
    if isinstance(last, Raw):
        return "" if ICMP in packet or not (TCP in packet or UDP in packet) else _text(bytes(last.load))
    if not (TCP in packet or UDP in packet):
        return ""
    summary = last.mysummary()  # some layers say, too, which others need not be told then
    return _flat(str(summary[0] if isinstance(summary, tuple) else summary))


def _text(data: bytes) -> str:
    """The beginning of bytes, where they hold a word; what is not printable becomes a dot."""
    text = data[:_LOOKED_AT].decode(errors="replace").replace("\N{REPLACEMENT CHARACTER}", "\0")
    line = text.split("\r\n", 1)[0] if text[:1].isprintable() else text
    return _flat(line) if _WORD.search(line) else ""


def _flat(text: str) -> str:
    """In one line, without what would steer a terminal."""
    flat = "".join(each if each.isprintable() else "\0" for each in _UNPRINTABLE.sub("\0", text))
    flat = re.sub("\0+", "·", flat).strip()
    return flat if len(flat) <= _LETTERS else flat[: _LETTERS - 1] + "…"


def _dns(dns: Any) -> str:
    """``A? example.org.`` of a query, ``A 192.0.2.1`` of an answer; what can't be read as either is left out."""
    from scapy.layers.dns import DNSQR, dnstypes

    def name(record: Any, field: str) -> str:
        return str(dnstypes.get(getattr(record, field), getattr(record, field)))

    def text(value: Any) -> str:
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    questions = [f"{name(each, 'qtype')}? {text(each.qname)}" for each in dns.qd or [] if isinstance(each, DNSQR)]
    if not dns.qr:
        return _flat(", ".join(questions))
    records = [each for each in dns.an or [] if hasattr(each, "type")]
    answers = [f"{name(each, 'type')} {text(getattr(each, 'rdata', ''))}".strip() for each in records]
    code = dns.sprintf("%DNS.rcode%")
    return _flat(", ".join(answers) or (questions[0] if questions else "") + f" {code}")
