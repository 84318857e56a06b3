"""The rules of nf_tables that this network has, read from the kernel (linux/netfilter/nf_tables.h).

Those of ``iptables`` are among them where it is the nf_tables variant (``iptables -V`` tells).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from lab.taps.netlink import attributes, dump, each_attribute
from lab.taps.nftables import NETLINK_NETFILTER
from lab.taps.places import SocketAt

__all__ = ["FAMILIES", "HOOKS", "Chain", "Expression", "Rule", "Rules", "Set", "Verdict", "read_rules"]

#: What nft(8) calls the families of tables (linux/netfilter.h, NFPROTO_*).
FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
#: And the hooks, by family; those of the other families are numbered as inet's.
HOOKS = {"netdev": ("ingress", "egress")}
_INET_HOOKS = ("prerouting", "input", "forward", "output", "postrouting", "ingress")

_NFTABLES = 10
_GETTABLE, _GETCHAIN, _GETRULE, _GETSET, _GETSETELEM = (_NFTABLES << 8 | number for number in (1, 4, 7, 10, 13))
_TABLE_F_DORMANT, _TABLE_F_OWNER, _CHAIN_DROP = 0x1, 0x2, 0
_SET_INTERVAL, _SET_MAP = 0x4, 0x8
_ELEMENT_END, _ELEMENT_CATCHALL = 0x1, 0x2
_GENERIC = struct.Struct("!BBH")  # nfgenmsg: family, version, resource
#: A set of more is not looked through.
_MAX_ELEMENTS = 1 << 14


@dataclass(frozen=True)
class Verdict:
    """name: accept, drop, jump, goto, return, continue or queue. chain: where it jumps."""

    name: str
    chain: str = ""


_VERDICTS = {0: "drop", 1: "accept", 3: "queue", -1: "continue", -2: "break", -3: "jump", -4: "goto", -5: "return"}


@dataclass(frozen=True)
class Expression:
    """One step of a rule: its name in the kernel, and its attributes by number, as they came."""

    name: str
    parts: dict[int, bytes]

    def number(self, kind: int, default: int = 0) -> int:
        """A number in network byte order, as nearly all are."""
        return int.from_bytes(self.parts[kind], "big") if kind in self.parts else default

    def text(self, kind: int) -> str:
        return self.parts.get(kind, b"").rstrip(b"\0").decode(errors="replace")

    def data(self, kind: int) -> bytes:
        """The value within an attribute of the type NFTA_DATA."""
        return attributes(self.parts.get(kind, b"")).get(1, b"")

    def verdict(self, kind: int) -> Verdict | None:
        return _verdict(self.parts.get(kind, b""))


@dataclass(frozen=True)
class Rule:
    """A rule of a chain; handle: its number, by which it can be deleted."""

    handle: int
    expressions: tuple[Expression, ...]


@dataclass
class Chain:
    """Rules in order. hook: where packets come to it, None if only other chains lead there.

    kind: filter, nat or route. policy: accept or drop, what comes of packets that no rule decides on. devices: of
    netdev. owned: whether its table goes with the program that made it, and nobody else may change it.
    """

    family: str
    table: str
    name: str
    handle: int
    hook: str | None = None
    priority: int = 0
    kind: str = ""
    policy: str = "accept"
    devices: tuple[str, ...] = ()
    owned: bool = False
    rules: list[Rule] = field(default_factory=list)

    @property
    def place(self) -> str:
        """As a command of nft(8) names it."""
        return f"{self.family} {self.table} {self.name}"

    def __str__(self) -> str:
        return f"table {self.family} {self.table}, chain {self.name}"


@dataclass(frozen=True)
class Set:
    """Its elements: first and last key of each, and the verdict, if it is a map to verdicts. None: can't be told."""

    elements: tuple[tuple[bytes, bytes, Verdict | None], ...] | None


@dataclass(frozen=True)
class Rules:
    """All chains, by family, table and name; and all sets likewise."""

    chains: dict[tuple[str, str, str], Chain]
    sets: dict[tuple[str, str, str], Set]

    def at(self, family: int, hook: str, device: str) -> list[Chain]:
        """The chains that packets of an IP family (4 or 6) pass at a hook, in order."""
        own = "ip" if family == 4 else "ip6"
        found = [
            chain
            for chain in self.chains.values()
            if chain.hook == hook
            and (chain.family in ("inet", own) or (chain.family == "netdev" and device in chain.devices))
        ]
        return sorted(found, key=lambda chain: chain.priority)


def read_rules(socket_at: SocketAt) -> Rules:
    """Asks for them over a socket of the network that they are of. Raises OSError: EPERM without CAP_NET_ADMIN."""
    with socket_at(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as channel:
        tables = {(family, table.text(1)): table.number(2) for family, table in _all(channel, _GETTABLE)}
        chains = {}
        for family, told in _all(channel, _GETCHAIN):
            flags = tables.get((family, told.text(1)), 0)
            if not flags & _TABLE_F_DORMANT:
                chain = _chain(family, told)
                chain.owned = bool(flags & _TABLE_F_OWNER)
                chains[family, chain.table, chain.name] = chain
        for family, told in _all(channel, _GETRULE):
            home = chains.get((family, told.text(1), told.text(2)))
            if home:
                home.rules.append(Rule(told.number(3), tuple(_expressions(told.parts.get(4, b"")))))
        sets = list(_all(channel, _GETSET))
        return Rules(chains, {(family, one.text(1), one.text(2)): _set(channel, family, one) for family, one in sets})


def _all(channel: socket.socket, kind: int, family: int = 0, request: bytes = b"") -> list[tuple[str, Expression]]:
    """The family and the attributes of all objects of a kind."""
    found = []
    for message in dump(channel, kind, _GENERIC.pack(family, 0, 0) + request):
        own = FAMILIES.get(message[0], str(message[0]))
        found.append((own, Expression("", attributes(message[_GENERIC.size :]))))
    return found


def _chain(family: str, told: Expression) -> Chain:
    chain = Chain(family, told.text(1), told.text(3), told.number(2))
    if 4 in told.parts:
        hook = Expression("", attributes(told.parts[4]))
        names = HOOKS.get(family, _INET_HOOKS)
        number = hook.number(1)
        chain.hook = names[number] if number < len(names) else str(number)
        (chain.priority,) = struct.unpack("!i", hook.parts[2])
        devices = [name for _, name in each_attribute(hook.parts.get(4, b""))] or [hook.parts.get(3, b"")]
        chain.devices = tuple(name.rstrip(b"\0").decode(errors="replace") for name in devices)
        chain.kind = told.text(7)
        chain.policy = "drop" if 5 in told.parts and told.number(5) == _CHAIN_DROP else "accept"
    return chain


def _expressions(data: bytes) -> Iterable[Expression]:
    for _, element in each_attribute(data):
        told = attributes(element)
        yield Expression(told[1].rstrip(b"\0").decode(errors="replace"), attributes(told.get(2, b"")))


def _verdict(data: bytes) -> Verdict | None:
    """data: an attribute of the type NFTA_DATA; None if it is a value."""
    told = attributes(data).get(2)
    if told is None:
        return None
    parts = attributes(told)
    (code,) = struct.unpack("!i", parts[1])
    return Verdict(_VERDICTS.get(code, "queue"), parts.get(2, b"").rstrip(b"\0").decode(errors="replace"))


def _set(channel: socket.socket, family: str, one: Expression) -> Set:
    """A set's elements. In an interval set they are limits: where one starts, and where it has ended."""
    number = next(number for number, name in FAMILIES.items() if name == family)
    request = b"".join(_text(kind, one.parts[kind]) for kind in (1, 2))
    flags = one.number(3)
    found: list[tuple[bytes, bytes | None, Verdict | None, int]] = []
    for _, listed in _all(channel, _GETSETELEM, number, request):
        for _, element in each_attribute(listed.parts.get(3, b"")):
            told = Expression("", attributes(element))
            end = told.data(10) if 10 in told.parts else None
            found.append((told.data(1), end, told.verdict(2), told.number(3)))
        if len(found) > _MAX_ELEMENTS:
            return Set(None)
    if any(end for _, end, _, _ in found):  # several fields, each with limits of its own
        return Set(None)
    values = flags & _SET_MAP and any(verdict is None for _, _, verdict, flag in found if not flag)
    if values or any(flag & _ELEMENT_CATCHALL for *_, flag in found):
        return Set(None)
    if flags & _SET_INTERVAL:
        return Set(tuple(_intervals(found)))
    return Set(tuple((key, key, verdict) for key, _, verdict, _ in found))


def _intervals(
    found: list[tuple[bytes, bytes | None, Verdict | None, int]],
) -> Iterable[tuple[bytes, bytes, Verdict | None]]:
    """From limits to intervals; the last is open if nothing ends it."""
    limits = sorted((key, not flags & _ELEMENT_END, verdict) for key, _, verdict, flags in found)
    for number, (key, starts, verdict) in enumerate(limits):
        if starts:
            later = limits[number + 1 :][:1]
            last = int.from_bytes(later[0][0], "big") - 1 if later else (1 << 8 * len(key)) - 1
            yield key, last.to_bytes(len(key), "big"), verdict


def _text(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
