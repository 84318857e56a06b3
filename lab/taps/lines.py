"""A frame in a line, made of its columns: when, from whom to whom, and what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from lab.taps.frames import CHECKSUMS, HAS
from lab.taps.names import flag_names, icmp_name
from lab.taps.tables import address_texts

__all__ = ["DESCRIBED", "HEADINGS", "describe_frames", "flaws", "frame_lines", "protocol_name"]

#: Fields that ``describe_frames`` needs.
DESCRIBED = (
    "time_ns", "direction", "length", "captured", "dropped", "has", "vlan", "ethertype", "family", "source",
    "destination", "protocol", "source_port", "destination_port", "fragment_id", "fragment_offset", "more_fragments",
    "icmp_type", "icmp_code", "icmp_id", "icmp_seq", "tcp_flags", "payload_length", "checksum",
)  # fmt: skip
HEADINGS = ("frame", "time, s", "", "from", "to", "protocol", "bytes", "")

_ICMP, _TCP, _ICMPV6 = 1, 6, 58
#: As filters call them.
_PROTOCOLS = {_ICMP: "icmp", 2: "igmp", _TCP: "tcp", 17: "udp", 47: "gre", 50: "esp", _ICMPV6: "icmp6", 132: "sctp"}
_ETHERTYPES = {0x0806: "arp", 0x0800: "ip", 0x86DD: "ip6", 0x88CC: "lldp"}
_DIRECTIONS = ("", "in", "out")
_VLAN_NUMBER = 0xFFF
#: Of frame, time, direction, ends, protocol, bytes and what else there is to tell; one long address moves its own line.
_ALIGNED = ">><<<><"
_WIDEST = 35

Row = Mapping[str, Any]
Cells = tuple[str, ...]


def describe_frames(columns: Mapping[str, npt.NDArray[Any]], numbers: Sequence[int], start_ns: int) -> list[Cells]:
    """For each frame what stands under ``HEADINGS``. columns: those of ``DESCRIBED``.

    numbers: of the frames, from 1. start_ns: what their times are counted from.
    """
    plain = {name: columns[name].tolist() for name in DESCRIBED if name not in ("source", "destination")}
    for name in ("source", "destination"):
        plain[name] = address_texts(columns[name], columns["family"]).to_list()
    rows = [dict(zip(plain, values, strict=True)) for values in zip(*plain.values(), strict=True)]
    return [
        (
            str(number),
            _seconds(row["time_ns"] - start_ns),
            _DIRECTIONS[row["direction"]],
            _end(row, "source"),
            _end(row, "destination"),
            _protocol(row),
            str(row["length"]),
            ", ".join(_info(row)),
        )
        for number, row in zip(numbers, rows, strict=True)
    ]


def frame_lines(cells: Sequence[Cells]) -> list[str]:
    """What ``describe_frames`` returns as aligned lines; of 80 columns if the addresses are short."""
    rows = [
        (number, time, direction, f"{source} > {destination}" if source else "", protocol, length, info)
        for number, time, direction, source, destination, protocol, length, info in cells
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] or [0] * len(_ALIGNED)
    aligned = zip(_ALIGNED, (min(width, _WIDEST) for width in widths), strict=True)
    form = " ".join(f"{{:{align}{width}}}" for align, width in aligned)
    return [form.format(*row).rstrip() for row in rows]


def protocol_name(protocol: int | None, ethertype: int | None) -> str:
    """What carries a frame's payload; protocol: None of what is not IP; ethertype: None where there is none."""
    if protocol is not None:
        return _PROTOCOLS.get(protocol, f"ip {protocol}")
    return "other" if ethertype is None else _ETHERTYPES.get(ethertype, f"0x{ethertype:04x}")


def _has(row: Row, layer: str) -> bool:
    return bool(row["has"] & HAS[layer])


def _seconds(time_ns: int) -> str:
    """To the nanosecond; times before the first are negative."""
    whole, rest = divmod(abs(time_ns), 1_000_000_000)
    return f"{'-' if time_ns < 0 else ''}{whole}.{rest:09}"


def _end(row: Row, name: str) -> str:
    address = row[name]
    if address is None or not _has(row, "ports"):
        return address or ""
    return f"[{address}]:{row[f'{name}_port']}" if row["family"] == 6 else f"{address}:{row[f'{name}_port']}"


def _protocol(row: Row) -> str:
    ethertype = row["ethertype"] if _has(row, "ethertype") else None
    return protocol_name(row["protocol"] if _has(row, "ip") else None, ethertype)


def _info(row: Row) -> list[str]:
    """What is worth telling of a frame beside its addresses."""
    told = []
    if _has(row, "vlan"):
        told.append(f"vlan {row['vlan'] & _VLAN_NUMBER}")
    if _has(row, "icmp"):
        told.append(_icmp(row))
    if _has(row, "tcp"):
        told.append(flag_names(row["tcp_flags"]))
    if _has(row, "fragment"):
        more = ", more follow" if row["more_fragments"] else ""
        told.append(f"fragment {row['fragment_id']} from byte {row['fragment_offset']}{more}")
    elif _has(row, "ports") and _has(row, "payload") and row["payload_length"]:
        told.append(f"{row['payload_length']} bytes")
    return told + flaws(row)


def flaws(row: Row) -> list[str]:
    """What is wrong with a frame, or with its place in the capture."""
    found = []
    if CHECKSUMS[row["checksum"]] == "bad":
        found.append("bad checksum")
    if row["captured"] < row["length"]:
        found.append(f"cut to {row['captured']}")
    if row["dropped"]:
        found.append(f"after {row['dropped']} lost")
    return found


def _icmp(row: Row) -> str:
    name = icmp_name(row["family"], row["icmp_type"], row["icmp_code"])
    if _has(row, "echo"):
        return f"{name.removeprefix('echo ')} id {row['icmp_id']} seq {row['icmp_seq']}"
    return name
