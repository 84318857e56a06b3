"""Filters as libpcap reads them, compiled to classic BPF: what the kernel runs for a tap, and C for a file."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from lab.errors import UsageError

__all__ = ["EVERYTHING", "NOTHING", "SNAPLEN", "Instruction", "attach", "compile_filter", "one_way"]

#: Bytes of a frame that are kept: all, as the largest on lo have 65,549; so a program's "keep all" is this.
SNAPLEN = 262_144

#: libpcap's own numbers (DLT_*) of those link types whose number in files (LINKTYPE_*) is another (pcap-linktype(7)).
_AS_LIBPCAP_HAS_IT = {100: 11, 101: 12}  # LLC/SNAP over ATM; IP without a link layer

_SO_ATTACH_FILTER = 26
_LOAD_BYTE, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x15, 0x06  # linux/bpf_common.h: LD|B|ABS, JMP|JEQ|K, RET|K
_PACKET_TYPE = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE


class Instruction(NamedTuple):
    """``struct sock_filter``."""

    code: int
    if_true: int
    if_false: int
    k: int


#: Lets no frame through.
NOTHING = (Instruction(_RETURN, 0, 0, 0),)
#: Lets all through.
EVERYTHING = (Instruction(_RETURN, 0, 0, SNAPLEN),)


def compile_filter(text: str, link_type: int = 1) -> tuple[Instruction, ...]:
    """The program of an expression such as ``"icmp or udp port 53"`` (pcap-filter(7)); of ``""``, one that takes all.

    link_type: LINKTYPE_*, 1 for Ethernet and lo. Raises UsageError with libpcap's own message.
    """
    import cypcap

    try:
        number = _AS_LIBPCAP_HAS_IT.get(link_type, link_type)
        program = cypcap.compile(number, SNAPLEN, text, True, cypcap.NETMASK_UNKNOWN)
    except (cypcap.Error, ValueError, UnicodeError) as error:
        why = error.args[-1] if isinstance(error, cypcap.Error) else f"{error}"
        raise UsageError(
            f"filter {text!r}: {why}; see pcap-filter(7), or try 'icmp', 'udp port 53', 'host ::1'"
        ) from None
    return tuple(Instruction(*each) for each in program)


def one_way(program: Sequence[Instruction], *, outgoing: bool) -> tuple[Instruction, ...]:
    """The program for a socket that shall take, of the frames that match, those that go out, or those that come in."""
    head = (
        Instruction(_LOAD_BYTE, 0, 0, _PACKET_TYPE),
        Instruction(_JUMP_IF_EQUAL, int(outgoing), int(not outgoing), socket.PACKET_OUTGOING),
        *NOTHING,
    )
    return (*head, *program)


def attach(tap: socket.socket, program: Sequence[Instruction]) -> None:
    """Has the kernel run it on every frame from now on, in place of the program before. Raises OSError."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    filter_program = struct.pack("@HP", len(program), ctypes.addressof(code))
    tap.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_program)
