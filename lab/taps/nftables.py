"""A rule of nf_tables that keeps the kernel's own TCP resets in, for as long as the socket is open that made it.

As nft(8) would have it::

    table inet lab_no_rst_… {
        flags owner
        chain output {
            type filter hook output priority 0
            meta skuid >= 0 accept
            oifname "veth" tcp sport 40000 tcp flags rst drop
        }
    }

A table with an owner goes with the netlink socket that it was made by, also when its process is killed (Linux 5.12).
What a program sends has a socket, which is some user's (skuid), and passes, also a reset that is sent by hand; a
reset by which the kernel refuses what no socket waits for has none. A mark would not tell one from the other, as the
kernel may give its answers that of the question (fwmark_reflect).
"""

from __future__ import annotations

import secrets
import socket
import struct

from lab.taps.netlink import NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, transact

__all__ = ["NETLINK_NETFILTER", "drop_resets"]

NETLINK_NETFILTER = 12  # linux/netlink.h
_NLA_F_NESTED = 0x8000
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type

# linux/netfilter/nfnetlink.h: a change is a batch of messages, of which all are carried out, or none
_NFGENMSG = struct.Struct("!BBH")  # family, version, subsystem (of a batch's begin and end)
_BATCH_BEGIN, _BATCH_END, _NFTABLES = 0x10, 0x11, 10
_NEWTABLE, _NEWCHAIN, _NEWRULE = (_NFTABLES << 8 | number for number in (0, 3, 6))

# linux/netfilter.h, linux/netfilter/nf_tables.h; numbers of attributes stand where they are used, as in its enums
_NFPROTO_INET, _LOCAL_OUT, _DROP, _ACCEPT = 1, 3, 0, 1
_TABLE_F_OWNER = 0x2
_VERDICT, _REGISTER = 0, 1
_EQUAL, _NOT_EQUAL, _AT_LEAST = 0, 1, 5
_OIFNAME, _SKUID, _L4PROTO = 7, 10, 16
_TRANSPORT_HEADER = 2

_NAME_BYTES = 16  # IFNAMSIZ
_FLAGS_AT, _RST = 13, bytes([0x04])  # in a TCP header


def drop_resets(channel: socket.socket, device: str, port: int) -> None:
    """Drops the kernel's own resets that would leave by `device` from this TCP port, in both families.

    channel: a ``NETLINK_NETFILTER`` socket (AF_NETLINK, SOCK_RAW); the rule is one of its network, and ends with it.
    Raises OSError.
    """
    table = _text(1, f"lab_no_rst_{secrets.token_hex(4)}")
    hook = _nested(4, _number(1, _LOCAL_OUT), _number(2, 0))
    of_a_program = [*_meta(_SKUID, _AT_LEAST, bytes(4)), _verdict(_ACCEPT)]
    reset = [
        *_meta(_OIFNAME, _EQUAL, device.encode().ljust(_NAME_BYTES, b"\0")),
        *_meta(_L4PROTO, _EQUAL, bytes([socket.IPPROTO_TCP])),
        _load(0, 2),
        _compare(_EQUAL, struct.pack("!H", port)),
        _load(_FLAGS_AT, 1),
        _and(_RST),
        _compare(_NOT_EQUAL, bytes(1)),
        _verdict(_DROP),
    ]
    inet = _NFGENMSG.pack(_NFPROTO_INET, 0, 0)
    batch = _NFGENMSG.pack(socket.AF_UNSPEC, 0, _NFTABLES)
    rule = inet + table + _text(2, "output")
    transact(
        channel,
        [
            (_BATCH_BEGIN, 0, batch),
            (_NEWTABLE, NLM_F_CREATE, inet + table + _number(2, _TABLE_F_OWNER)),
            (_NEWCHAIN, NLM_F_CREATE, inet + table + _text(3, "output") + hook + _text(7, "filter")),
            (_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, rule + _nested(4, *of_a_program)),
            (_NEWRULE, NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK, rule + _nested(4, *reset)),
            (_BATCH_END, 0, batch),
        ],
    )


def _meta(key: int, comparison: int, value: bytes) -> list[bytes]:
    """Goes on with packets of which this (NFT_META_*) compares so with `value`; not with those that have none."""
    return [_expression("meta", _number(1, _REGISTER), _number(2, key)), _compare(comparison, value)]


def _load(offset: int, size: int) -> bytes:
    """Takes bytes of the TCP header."""
    where = [_number(2, _TRANSPORT_HEADER), _number(3, offset), _number(4, size)]
    return _expression("payload", _number(1, _REGISTER), *where)


def _and(mask: bytes) -> bytes:
    """Keeps these bits of what was taken."""
    registers = [_number(1, _REGISTER), _number(2, _REGISTER), _number(3, len(mask))]
    return _expression(
        "bitwise", *registers, _nested(4, _attribute(1, mask)), _nested(5, _attribute(1, bytes(len(mask))))
    )


def _compare(comparison: int, value: bytes) -> bytes:
    """Goes on with packets of which what was taken compares so with `value`, byte by byte."""
    return _expression("cmp", _number(1, _REGISTER), _number(2, comparison), _nested(3, _attribute(1, value)))


def _verdict(code: int) -> bytes:
    return _expression("immediate", _number(1, _VERDICT), _nested(2, _nested(2, _number(1, code))))


def _expression(name: str, *attributes: bytes) -> bytes:
    """An element of a rule's list."""
    return _nested(1, _text(1, name), _nested(2, *attributes))


def _nested(kind: int, *attributes: bytes) -> bytes:
    return _attribute(_NLA_F_NESTED | kind, b"".join(attributes))


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("!I", value))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)
