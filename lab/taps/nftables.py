"""Rules of nf_tables that are there for as long as the netlink socket is open that made them. Packs and unpacks only.

A table with an owner goes with the socket that it was made by, also when its process is killed (Linux 5.12,
NFT_TABLE_F_OWNER). A rule is a list of expressions, each of which takes something out of a packet, compares it, or
decides: what nft(8) writes in words. Those that are needed here stand below, by the names that the kernel gives them.
"""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from lab.taps.netlink import NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, attributes, dump, each_attribute, transact

__all__ = [
    "NAME_BYTES", "NETLINK_NETFILTER", "NETWORK", "NFPROTO", "SKUID", "TRANSPORT", "Chain", "Rule", "accept",
    "at_least", "comes_by", "count", "drop", "equal", "faster_than", "install", "leaves_by", "make_table", "meta",
    "not_equal", "of_protocol", "payload", "redirect", "refuse", "reset", "rule_counts", "translate",
]  # fmt: skip

NETLINK_NETFILTER = 12  # linux/netlink.h
_NLA_F_NESTED = 0x8000
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type

# linux/netfilter/nfnetlink.h: a change is a batch of messages, of which all are carried out, or none
_NFGENMSG = struct.Struct("!BBH")  # family, version, subsystem (of a batch's begin and end)
_BATCH_BEGIN, _BATCH_END, _NFTABLES = 0x10, 0x11, 10
_NEWTABLE, _NEWCHAIN, _NEWRULE, _GETRULE = (_NFTABLES << 8 | number for number in (0, 3, 6, 7))

# linux/netfilter.h, linux/netfilter/nf_tables.h; numbers of attributes stand where they are used, as in its enums
_NFPROTO_INET, _DROP, _ACCEPT = 1, 0, 1
_HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
_TABLE_F_OWNER = 0x2
_VERDICT, _REGISTER = 0, 1
_EQUAL, _NOT_EQUAL, _AT_LEAST = 0, 1, 5
#: What ``meta`` takes (NFT_META_*).
_IIFNAME, _OIFNAME, SKUID, NFPROTO, _L4PROTO = 6, 7, 10, 15, 16
#: The header that ``payload`` takes bytes of.
NETWORK, TRANSPORT = 1, 2
_LIMIT_BYTES, _LIMIT_INVERTED = 1, 1
NAME_BYTES = 16  # IFNAMSIZ, with the zero at its end
_REJECT_ICMP_ANY, _REJECT_RST, _PORT_UNREACHABLE = 2, 1, 1
_DESTINATION = 1  # NFT_NAT_DNAT

#: The expressions of one rule, in order.
Rule = Sequence[bytes]


@dataclass(frozen=True)
class Chain:
    """Rules at a hook: "prerouting", "input", "forward", "output" or "postrouting". kind: "filter" or "nat"."""

    hook: str
    rules: Sequence[Rule]
    kind: str = "filter"
    priority: int = 0

    @property
    def name(self) -> str:
        return f"{self.kind}_{self.hook}"


def install(channel: socket.socket, purpose: str, chains: Sequence[Chain]) -> str:
    """Makes a table for both families, and returns its name; it ends with the channel.

    channel: a ``NETLINK_NETFILTER`` socket (AF_NETLINK, SOCK_RAW) of the network that the rules are for. purpose: in
    the name. Raises OSError.
    """
    name = f"lab_{purpose}_{secrets.token_hex(4)}"
    make_table(channel, name, chains, flags=_TABLE_F_OWNER)
    return name


def make_table(channel: socket.socket, name: str, chains: Sequence[Chain], *, flags: int = 0) -> None:
    """Makes a table for both families, which stays as long as its network does. Raises OSError."""
    inet, table = _NFGENMSG.pack(_NFPROTO_INET, 0, 0), _text(1, name)
    batch = _NFGENMSG.pack(socket.AF_UNSPEC, 0, _NFTABLES)
    messages = [
        (_BATCH_BEGIN, 0, batch),
        (_NEWTABLE, NLM_F_CREATE, inet + table + _number(2, flags)),
    ]
    for chain in chains:
        hook = _nested(4, _number(1, _HOOKS[chain.hook]), _attribute(2, struct.pack("!i", chain.priority)))
        about = table + _text(3, chain.name) + hook + _text(7, chain.kind)
        messages.append((_NEWCHAIN, NLM_F_CREATE, inet + about))
    for chain in chains:
        for rule in chain.rules:
            body = inet + table + _text(2, chain.name) + _nested(4, *rule)
            messages.append((_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, body))
    kind, flags, body = messages[-1]
    messages[-1] = (kind, flags | NLM_F_ACK, body)
    transact(channel, [*messages, (_BATCH_END, 0, batch)])


def rule_counts(channel: socket.socket, table: str) -> list[int]:
    """How many packets each rule of a table of ours has counted, in order. Raises OSError."""
    request = _NFGENMSG.pack(_NFPROTO_INET, 0, 0) + _text(1, table)
    return [_counted(body[_NFGENMSG.size :]) for body in dump(channel, _GETRULE, request)]


def _counted(rule: bytes) -> int:
    for _, element in each_attribute(attributes(rule).get(4, b"")):
        expression = attributes(element)
        if expression[1].rstrip(b"\0") == b"counter":
            (packets,) = struct.unpack("!Q", attributes(expression[2])[2])
            return int(packets)
    return 0


# ---- expressions ----


def meta(key: int) -> bytes:
    """Takes what the kernel knows of the packet."""
    return _expression("meta", _number(1, _REGISTER), _number(2, key))


def payload(header: int, offset: int, size: int, mask: bytes | None = None) -> list[bytes]:
    """Takes bytes of a header, and of those what the mask leaves."""
    taken = _expression("payload", _number(1, _REGISTER), _number(2, header), _number(3, offset), _number(4, size))
    if mask is None:
        return [taken]
    registers = [_number(1, _REGISTER), _number(2, _REGISTER), _number(3, size)]
    zeros = _nested(5, _attribute(1, bytes(size)))
    return [taken, _expression("bitwise", *registers, _nested(4, _attribute(1, mask)), zeros)]


def equal(value: bytes) -> bytes:
    """Goes on with packets of which what was taken is this."""
    return _compare(_EQUAL, value)


def not_equal(value: bytes) -> bytes:
    """Goes on with packets of which what was taken is not this."""
    return _compare(_NOT_EQUAL, value)


def at_least(value: bytes) -> bytes:
    """Goes on with packets of which what was taken is this or more, byte by byte; not with those that have none."""
    return _compare(_AT_LEAST, value)


def of_protocol(number: int) -> list[bytes]:
    """Goes on with packets of this protocol (IPPROTO_*), beneath IPv6's extension headers, too."""
    return [meta(_L4PROTO), equal(bytes([number]))]


def comes_by(device: str) -> list[bytes]:
    """Goes on with packets that came in by this interface."""
    return [meta(_IIFNAME), equal(_device(device))]


def leaves_by(device: str) -> list[bytes]:
    """Goes on with packets that are about to leave by this interface."""
    return [meta(_OIFNAME), equal(_device(device))]


def _device(name: str) -> bytes:
    return name.encode().ljust(NAME_BYTES, b"\0")


def count() -> bytes:
    """Counts the packets that come so far."""
    return _expression("counter")


def faster_than(bytes_per_s: int, burst: int) -> bytes:
    """Goes on with packets that come faster than so many bytes a second, beyond a burst of so many bytes."""
    amounts = [_attribute(kind, struct.pack("!Q", value)) for kind, value in ((1, bytes_per_s), (2, 1))]
    return _expression("limit", *amounts, _number(3, burst), _number(4, _LIMIT_BYTES), _number(5, _LIMIT_INVERTED))


def drop() -> bytes:
    """Lets the packet vanish."""
    return _verdict(_DROP)


def accept() -> bytes:
    """Lets the packet pass."""
    return _verdict(_ACCEPT)


def refuse() -> bytes:
    """Answers that the port is unreachable, by the ICMP of the packet's family."""
    return _expression("reject", _number(1, _REJECT_ICMP_ANY), _attribute(2, bytes([_PORT_UNREACHABLE])))


def reset() -> bytes:
    """Answers a TCP segment by a reset, as if nobody listened."""
    return _expression("reject", _number(1, _REJECT_RST), _attribute(2, bytes(1)))


def redirect(port: int) -> list[bytes]:
    """Leads a connection to another port of this machine, in a chain of the kind "nat"."""
    value = _nested(2, _attribute(1, struct.pack("!H", port)))
    return [_expression("immediate", _number(1, _REGISTER), value), _expression("redir", _number(1, _REGISTER))]


def translate(address: bytes) -> list[bytes]:
    """Leads a connection to another address, in a chain of the kind "nat": 4 bytes for IPv4, 16 for IPv6."""
    value = _nested(2, _attribute(1, address))
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    there = _expression("nat", _number(1, _DESTINATION), _number(2, family), _number(3, _REGISTER))
    return [_expression("immediate", _number(1, _REGISTER), value), there]


def _compare(comparison: int, value: bytes) -> bytes:
    return _expression("cmp", _number(1, _REGISTER), _number(2, comparison), _nested(3, _attribute(1, value)))


def _verdict(code: int) -> bytes:
    return _expression("immediate", _number(1, _VERDICT), _nested(2, _nested(2, _number(1, code))))


def _expression(name: str, *parts: bytes) -> bytes:
    """An element of a rule's list."""
    return _nested(1, _text(1, name), _nested(2, *parts))


# ---- attributes ----


def _nested(kind: int, *parts: bytes) -> bytes:
    return _attribute(_NLA_F_NESTED | kind, b"".join(parts))


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("!I", value))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)
