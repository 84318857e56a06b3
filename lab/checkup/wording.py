"""A rule of nf_tables in the words of nft(8), as near as its expressions tell."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from lab.checkup.rules import Chain, Expression, Rule, Rules, Set
from lab.texts import printable

__all__ = ["deletion", "rule_text"]

_META = {
    0: "meta length", 1: "meta protocol", 3: "meta mark", 4: "iif", 5: "oif", 6: "iifname", 7: "oifname",
    8: "iiftype", 9: "oiftype", 10: "meta skuid", 11: "meta skgid", 15: "meta nfproto", 16: "meta l4proto",
    19: "meta pkttype", 20: "meta cpu", 23: "meta cgroup",
}  # fmt: skip
_NUMBERS_OF_HOST = {"meta length", "meta mark", "iif", "oif", "iiftype", "oiftype", "meta skuid", "meta skgid"}
_NAMES = {"iifname", "oifname"}
_PROTOCOLS = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 132: "sctp"}
_NFPROTOS = {2: "ipv4", 10: "ipv6"}
_ICMP = {0: "echo-reply", 3: "destination-unreachable", 8: "echo-request", 11: "time-exceeded"}
_ICMPV6 = {1: "destination-unreachable", 128: "echo-request", 129: "echo-reply", 135: "nd-neighbor-solicit"}
_STATES = {1: "invalid", 2: "established", 4: "related", 8: "new", 64: "untracked"}
_OPERATORS = {0: "", 1: "!= ", 2: "< ", 3: "<= ", 4: "> ", 5: ">= "}
#: What stands where in the headers: (offset, bytes) by protocol.
_NETWORK = {
    "ip": {(9, 1): "protocol", (12, 4): "saddr", (16, 4): "daddr", (8, 1): "ttl", (2, 2): "length"},
    "ip6": {(6, 1): "nexthdr", (8, 16): "saddr", (24, 16): "daddr", (7, 1): "hoplimit"},
}
_PORTS = {(0, 2): "sport", (2, 2): "dport"}
_TRANSPORT = {
    "tcp": {**_PORTS, (13, 1): "flags"},
    "udp": _PORTS,
    "sctp": _PORTS,
    "icmp": {(0, 1): "type", (1, 1): "code"},
    "ipv6-icmp": {(0, 1): "type", (1, 1): "code"},
}
_NFT_NAMES = {"ipv6-icmp": "icmpv6"}
_PROHIBITED = "admin-prohibited"
_REJECT_CODES = {
    "icmp": {
        0: "net-unreachable",
        1: "host-unreachable",
        2: "prot-unreachable",
        3: "port-unreachable",
        13: _PROHIBITED,
    },
    "icmpv6": {0: "no-route", 1: _PROHIBITED, 3: "addr-unreachable", 4: "port-unreachable"},
    "icmpx": {0: "no-route", 1: "port-unreachable", 2: "host-unreachable", 3: _PROHIBITED},
}
_UNITS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}
_AT_MOST = 3
_BY_RESET, _BY_ANY_ICMP = 1, 2  # NFT_REJECT_*
_MAX_SHOWN = 8


def rule_text(rules: Rules, chain: Chain, rule: Rule) -> str:
    """Such as "ip protocol icmp drop"."""
    return printable(" ".join(_Words(rules, chain).of(rule)))


def deletion(chain: Chain, rule: Rule) -> str:
    """The command that takes a rule out."""
    return f"nft delete rule {chain.place} handle {rule.handle}"


class _Words:
    """The words of one rule; what each register holds, in words, while it is read."""

    def __init__(self, rules: Rules, chain: Chain) -> None:
        self._rules, self._chain = rules, chain
        self._holds: dict[int, str] = {}
        self._masks: dict[int, bytes] = {}
        self._protocol = ""
        self._family = {"ip": "ip", "ip6": "ip6"}.get(chain.family, "")
        self._said: list[str] = []

    def of(self, rule: Rule) -> list[str]:
        for expression in rule.expressions:
            said = self._one(expression)
            if said:
                self._said.append(said)
        return self._said

    def _one(self, expression: Expression) -> str:
        name, number, text = expression.name, expression.number, expression.text
        if name in ("meta", "payload", "ct", "fib", "exthdr", "rt"):
            self._holds[number(1)] = self._what(expression)
            self._masks.pop(number(1), None)
            return ""
        if name in ("bitwise", "byteorder"):
            self._holds[number(2)] = self._holds.get(number(1), "?")
            if name == "bitwise":
                self._masks[number(2)] = expression.data(4)
            return ""
        if name == "cmp":
            return self._compared(number(1), number(2), expression.data(3))
        if name == "range":
            what = self._holds.get(number(1), "?")
            span = f"{self._value(what, expression.data(3))}-{self._value(what, expression.data(4))}"
            return f"{self._said_of(what)} {_OPERATORS[number(2)]}{span}"
        if name == "lookup":
            what = self._holds.get(number(2), "?")
            kind = "vmap " if 3 in expression.parts else "!= " if number(5) & 1 else ""
            return f"{self._said_of(what)} {kind}{self._set(what, text(1))}"
        if name == "immediate":
            verdict = expression.verdict(2)
            if verdict:
                return f"{verdict.name} {verdict.chain}".strip()
            self._holds[number(1)] = str(int.from_bytes(expression.data(2), "big"))
            return ""
        if name == "reject":
            return f"reject with {self._rejected(number(1), number(2))}"
        if name == "redir":
            return f"redirect to :{self._holds.get(number(1), '?')}"
        if name == "limit":
            unit = _UNITS.get(number(2), f"{number(2)} s")
            return f"limit rate {'over ' if number(5) & 1 else ''}{number(1)}/{unit}"
        if name in ("match", "target"):
            return f"{'match' if name == 'match' else 'jump'} {text(1)} (of iptables)"
        return name

    def _rejected(self, kind: int, code: int) -> str:
        if kind == _BY_RESET:
            return "tcp reset"
        name = "icmpx" if kind == _BY_ANY_ICMP else "icmpv6" if self._family == "ip6" else "icmp"
        return f"{name} {_REJECT_CODES[name].get(code, code)}"

    def _what(self, expression: Expression) -> str:
        """What an expression takes out of the packet."""
        number = expression.number
        if expression.name == "meta":
            return _META.get(number(2), f"meta {number(2)}")
        if expression.name == "ct":
            return "ct state" if number(2) == 0 else f"ct {number(2)}"
        if expression.name != "payload":
            return expression.name
        base, at, size = number(2), number(3), number(4)
        if base == 1:
            for family in (self._family,) if self._family else ("ip", "ip6"):
                whole = 4 if family == "ip" else 16
                starts = {where: field for (where, length), field in _NETWORK[family].items() if length == whole}
                if (at, size) in _NETWORK[family]:
                    return f"{family} {_NETWORK[family][at, size]}"
                if at in starts and size < whole:  # a prefix, of whole bytes
                    return f"{family} {starts[at]}"
        field = _TRANSPORT.get(self._protocol, {}).get((at, size)) if base == 2 else None
        if field:
            return f"{_NFT_NAMES.get(self._protocol, self._protocol)} {field}"
        if base == 2 and not self._protocol and (at, size) in _PORTS:
            return f"th {_PORTS[at, size]}"
        return f"@{ {0: 'll', 1: 'nh', 2: 'th'}.get(base, base) },{8 * at},{8 * size}"

    def _said_of(self, what: str) -> str:
        """Its name; what was asked before to make sure of it is left out, as nft does."""
        subject = what.split()[0]
        if subject in ("tcp", "udp", "icmp", "icmpv6"):
            self._leave_out(_IMPLIED)
        if subject in ("ip", "ip6", "icmp", "icmpv6"):
            self._leave_out(("meta nfproto ",))
        return what

    def _leave_out(self, beginnings: tuple[str, ...]) -> None:
        if self._said and self._said[-1].startswith(beginnings):
            self._said.pop()

    def _compared(self, register: int, operator: int, value: bytes) -> str:
        what = self._holds.get(register, "?")
        if what in ("meta l4proto", "ip protocol", "ip6 nexthdr") and operator == 0:
            self._protocol = _PROTOCOLS.get(value[0], "")
        if what == "meta nfproto" and operator == 0:
            self._family = {2: "ip", 10: "ip6"}.get(value[0], "")
        mask = self._masks.pop(register, None)
        name = self._said_of(what)
        if mask is None and operator == _AT_MOST and self._said and self._said[-1].startswith(f"{name} >= "):
            return f"{name} {self._said.pop().split()[-1]}-{self._value(what, value)}"
        if mask is None:
            length = f"/{8 * len(value)}" if what.endswith("addr") and len(value) not in (4, 16) else ""
            return f"{name} {_OPERATORS[operator]}{self._value(what, value)}{length}"
        if what == "ct state":  # what is left of the bits that were asked for, compared with none
            return f"ct state {'' if operator == 1 else '!= '}{_states(mask)}"
        if what.endswith("addr"):
            ones = int.from_bytes(mask, "big").bit_count()
            return f"{name} {_OPERATORS[operator]}{self._value(what, value)}/{ones}"
        return f"{name} & 0x{mask.hex()} {_OPERATORS[operator] or '== '}0x{value.hex()}"

    def _value(self, what: str, value: bytes) -> str:
        if what in _NAMES:
            return f'"{value.rstrip(bytes(1)).decode(errors="replace")}"' + ("" if len(value) == 16 else "*")
        if what in ("ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr"):
            size = 16 if what.startswith("ip6") else 4
            return socket.inet_ntop(socket.AF_INET6 if size == 16 else socket.AF_INET, value.ljust(size, b"\0")[:size])
        number = int.from_bytes(value, "big")
        named: dict[str, dict[int, str]] = {
            "meta l4proto": _PROTOCOLS, "ip protocol": _PROTOCOLS, "ip6 nexthdr": _PROTOCOLS, "meta nfproto": _NFPROTOS,
            "icmp type": _ICMP, "icmpv6 type": _ICMPV6,
        }  # fmt: skip
        if what in named:
            return named[what].get(number, str(number))
        if what == "ct state":
            return _states(value)
        if what in ("iif", "oif") and len(value) == 4:
            return "lo" if struct.unpack("=I", value)[0] == 1 else str(struct.unpack("=I", value)[0])
        if what in _NUMBERS_OF_HOST:
            return str(int.from_bytes(value, "little" if struct.pack("=H", 1)[0] else "big"))
        return str(number) if len(value) <= 2 else f"0x{value.hex()}"

    def _set(self, what: str, name: str) -> str:
        found = self._rules.sets.get((self._chain.family, self._chain.table, name))
        if not name.startswith("__"):
            return f"@{name}"
        return "{ " + ", ".join(self._elements(what, found)) + " }"

    def _elements(self, what: str, found: Set | None) -> Iterable[str]:
        elements = found.elements if found else None
        if elements is None:
            yield "…"
            return
        for low, high, verdict in elements[:_MAX_SHOWN]:
            span = self._value(what, low) if low == high else f"{self._value(what, low)}-{self._value(what, high)}"
            yield f"{span} : {verdict.name} {verdict.chain}".rstrip() if verdict else span
        if len(elements) > _MAX_SHOWN:
            yield "…"


#: What nft(8) leaves out, where what follows is asked of one protocol only.
_IMPLIED = ("meta l4proto ", "ip protocol ", "ip6 nexthdr ")


def _states(value: bytes) -> str:
    (bits,) = struct.unpack("=I", value)
    return ",".join(name for bit, name in _STATES.items() if bits & bit) or str(bits)
