"""What types, codes and flags of packets are called, in the words of their RFCs."""

from __future__ import annotations

__all__ = ["flag_names", "icmp_name"]

#: By bit, from the lowest (RFC 9293, 3.1; RFC 9768 for AE), in the order in which people say them.
_TCP_FLAGS = {"SYN": 1, "FIN": 0, "RST": 2, "PSH": 3, "ACK": 4, "URG": 5, "ECE": 6, "CWR": 7, "AE": 8}
#: By IP version and type (RFC 792, 4443, 4861, 2710, 3810).
_ICMP = {
    (4, 0): "echo reply", (4, 4): "source quench", (4, 5): "redirect", (4, 8): "echo request",
    (4, 11): "time exceeded", (4, 12): "parameter problem", (4, 13): "timestamp request", (4, 14): "timestamp reply",
    (6, 2): "packet too big", (6, 3): "time exceeded", (6, 4): "parameter problem", (6, 128): "echo request",
    (6, 129): "echo reply", (6, 130): "listener query", (6, 131): "listener report", (6, 132): "listener done",
    (6, 133): "router solicitation", (6, 134): "router advertisement", (6, 135): "neighbor solicitation",
    (6, 136): "neighbor advertisement", (6, 137): "redirect", (6, 143): "listener report",
}  # fmt: skip
#: What is unreachable, by code (RFC 792, 1812, 4443).
_UNREACHABLE = {
    (4, 3): {0: "network", 1: "host", 2: "protocol", 3: "port", 9: "prohibited network", 10: "prohibited host"},
    (6, 1): {1: "prohibited", 2: "out-of-scope", 3: "address", 4: "port"},
}
_SAID_OTHERWISE = {
    (4, 3, 4): "fragmentation needed", (4, 3, 13): "communication prohibited", (6, 1, 0): "no route to destination",
}  # fmt: skip


def flag_names(flags: int) -> str:
    """``"SYN ACK"``; of TCP's twelve bits."""
    return " ".join(name for name, bit in _TCP_FLAGS.items() if flags >> bit & 1)


def icmp_name(family: int, kind: int, code: int) -> str:
    """``"echo request"``, ``"port unreachable"``, ``"type 42 code 1"``."""
    if (family, kind, code) in _SAID_OTHERWISE:
        return _SAID_OTHERWISE[family, kind, code]
    if (family, kind) in _UNREACHABLE:
        what = _UNREACHABLE[family, kind].get(code)
        return f"{what} unreachable" if what else f"unreachable code {code}"
    name = _ICMP.get((family, kind), f"type {kind}")
    return f"{name} code {code}" if code else name
