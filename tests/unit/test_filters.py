"""Filters on a file, judged by libpcap's own interpreter; and programs that no compiler writes."""

from __future__ import annotations

import random
import struct

import cypcap
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from lab._native import ffi, lib

from lab.errors import UsageError
from lab.taps.filters import compile_filter

EXPRESSIONS = [
    "", "ip", "ip6", "arp", "icmp", "icmp6", "tcp", "udp", "udp port 53", "portrange 1000-2000", "host 127.0.0.1",
    "src net 10.0.0.0/8 and not dst port 80", "host ::1", "ip6 net fe80::/10", "vlan", "vlan 5 and udp",
    "vlan and vlan", "mpls", "pppoes and tcp", "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "tcp[13] = 2",
    "ip[0] & 0xf > 5", "icmp[icmptype] = icmp-echo", "icmp6[icmp6type] = icmp6-echoreply", "ip[6:2] & 0x1fff != 0",
    "ip proto 47", "ip6 proto 58", "greater 100", "less 64", "len = 61", "len / ip[2] > 3",
    "ether host 00:00:00:00:00:00", "ether broadcast", "ether multicast", "ether[12:2] > 1536", "ip[2:2] % 7 = 3",
    "ip[2:2] / 3 * 3 != ip[2:2]", "(ip[8] << 3) ^ ip[9] = 529", "udp[4:2] >> 2 > ip[1]", "-ip[8] & 0xff = 192",
    "ether[ether[14] & 0xf] = 0", "ether[len - 1] = 0", "sctp or (udp and not port 5678)", "ip or ip6 and icmp6",
    "ip[ip[1] & 7] > ip[ip[8] & 3] + ip[1] * ip[5]", "tcp port 80 or tcp port 443",
]  # fmt: skip


def checked(program):
    """The program as C has it, or None if it is refused."""
    native = ffi.new("struct lab_instruction[]", program)
    return None if lib.lab_filter_check(native, len(native)) < 0 else native


def result(native, frame, length=None):
    """What it returns for a frame, of `length` bytes on the wire."""
    return lib.lab_filter_run(native, ffi.from_buffer("unsigned char[]", frame), len(frame), length or len(frame))


def transport(draw, protocol):
    """A header of TCP, UDP, SCTP, ICMP or ICMPv6, or any bytes, and some payload."""
    ports = struct.pack("!HH", *draw.choices((53, 80, 443, 1500, 5678), k=2))
    headers = {
        1: bytes([draw.choice((0, 8, 3))]) + bytes(7),
        6: ports + bytes(8) + bytes([0x50, draw.choice((2, 16, 17, 18))]) + bytes(6),
        17: ports + struct.pack("!HH", draw.randrange(8, 99), 0),
        58: bytes([draw.choice((128, 129, 135))]) + bytes(7),
        132: ports + bytes(8),
    }
    return headers.get(protocol, draw.randbytes(8)) + draw.randbytes(draw.randrange(60))


def network(draw):
    """A type of Ethernet, and a packet of it."""
    kind = draw.choice((0x0800, 0x0800, 0x86DD, 0x86DD, 0x0806, 0x8847, 0x8864))
    if kind == 0x86DD:
        protocol, source = draw.choice((6, 17, 58)), draw.choice((bytes(15) + b"\1", b"\xfe\x80" + bytes(14)))
        fragment = draw.choice((b"", b"", bytes([protocol, 0]) + bytes(6)))
        head = struct.pack("!IHBB", 6 << 28, 40, 44 if fragment else protocol, 64) + source + draw.randbytes(16)
        return kind, head + fragment + transport(draw, protocol)
    protocol, words = draw.choice((1, 6, 17, 47, 132)), draw.choice((5, 5, 5, 6))
    numbers = (0x40 + words, draw.randrange(20), draw.randrange(20, 120), 7, draw.choice((0, 0, 0x2000, 9)))
    addresses = draw.choice((b"\x7f\0\0\1", b"\x0a\0\0\x09")) + draw.randbytes(4)
    head = struct.pack("!BBHHHBBH", *numbers, draw.choice((64, 65, 255)), protocol, 0) + addresses
    tags = {0x8847: b"\0\x01\x01\x40", 0x8864: b"\x11\0\0\1\0\x16\0\x21"}  # MPLS; PPPoE
    return kind, tags.get(kind, b"") + head + bytes(4 * words - 20) + transport(draw, protocol)


def frames(count=2000):
    """Frames of many kinds, some of them cut, and some of mere chance: (bytes, length on the wire)."""
    draw = random.Random(5)
    for _ in range(count):
        kind, packet = network(draw)
        tags = b"\x81\0\0\5" * draw.choice((0, 0, 0, 1, 2))
        whole = draw.choice((bytes(12), b"\xff" * 12)) + tags + struct.pack("!H", kind) + packet
        if draw.random() < 0.1:
            whole = draw.randbytes(len(whole))
        yield whole[: draw.randrange(len(whole)) if draw.random() < 0.2 else None], len(whole)


FRAMES = list(frames())


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_filter_finds_what_libpcap_finds(expression):
    program = compile_filter(expression)
    theirs, ours = cypcap.compile(1, 262144, expression, True, cypcap.NETMASK_UNKNOWN), checked(program)
    assert ours is not None
    found = 0
    for frame, length in FRAMES:
        matches = bool(result(ours, frame, length))
        assert matches == theirs.offline_filter(cypcap.Pkthdr(0, len(frame), length), frame), frame.hex()
        found += matches
    assert found, "no frame here is of that kind"


# ---- programs by hand ----

LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)
W, H, B = 0x00, 0x08, 0x10
IMM, ABS, IND, MEM, LEN, MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
K, X, A = 0x00, 0x08, 0x10
RETURN_A = (RET | A, 0, 0, 0)


def instructions():
    """Any that a program of up to 20 may hold, sound in itself or nearly so."""
    codes = [LD | size | mode for size in (W, H, B) for mode in (ABS, IND)]
    codes += [LD | IMM, LD | MEM, LD | LEN, LDX | IMM, LDX | MEM, LDX | LEN, LDX | B | MSH, ST, STX, MISC, MISC | 0x80]
    codes += [ALU | operation << 4 | source for operation in range(11) for source in (K, X)]
    codes += [JMP | operation << 4 | source for operation in range(5) for source in (K, X)]
    small = st.integers(0, 20)
    k = st.one_of(small, st.integers(0, 80), st.integers(0, 2**32 - 1))
    return st.tuples(st.sampled_from([*codes, RET | K, RET | A]), small, small, k)


@given(st.lists(instructions(), max_size=20), st.binary(max_size=80), st.integers(0, 2**31 - 1))
def test_any_program_does_what_it_does_in_libpcap(program, frame, more):
    clear = [(ST, 0, 0, word) for word in range(16)]  # libpcap doesn't, and finds there what it finds
    program = [*clear, *program, RETURN_A]
    ours = checked(program)
    assume(ours is not None)
    header = cypcap.Pkthdr(0, len(frame), len(frame) + more)
    found = cypcap.BpfProgram(program).offline_filter(header, frame)
    assert bool(result(ours, frame, len(frame) + more)) == found


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ([(LD | W | ABS, 0, 0, 0)], 0x01020304),
        ([(LD | H | ABS, 0, 0, 3)], 0x0405),
        ([(LD | B | ABS, 0, 0, 4)], 5),
        ([(LD | W | ABS, 0, 0, 2), (LD | IMM, 0, 0, 9)], 0),
        ([(LD | H | ABS, 0, 0, 4), (LD | IMM, 0, 0, 9)], 0),
        ([(LD | B | ABS, 0, 0, 5), (LD | IMM, 0, 0, 9)], 0),
        ([(LDX | IMM, 0, 0, 2**32 - 1), (LD | B | IND, 0, 0, 2), (LD | IMM, 0, 0, 9)], 0),
        ([(LDX | IMM, 0, 0, 2), (LD | B | IND, 0, 0, 2)], 5),
        ([(LD | LEN, 0, 0, 0)], 1500),
        ([(LDX | B | MSH, 0, 0, 4), (MISC | 0x80, 0, 0, 0)], 20),
        ([(LDX | B | MSH, 0, 0, 5), (LD | IMM, 0, 0, 9)], 0),
        ([(LD | IMM, 0, 0, 7), (ST, 0, 0, 15), (LDX | MEM, 0, 0, 15), (ALU | 0x20 | X, 0, 0, 0)], 49),
        ([(LD | IMM, 0, 0, 7), (ALU | 0x30 | X, 0, 0, 0), (LD | IMM, 0, 0, 9)], 0),
        ([(LD | IMM, 0, 0, 7), (ALU | 0x90 | X, 0, 0, 0), (LD | IMM, 0, 0, 9)], 0),
        ([(LDX | IMM, 0, 0, 32), (LD | IMM, 0, 0, 7), (ALU | 0x60 | X, 0, 0, 0)], 0),
        ([(LD | IMM, 0, 0, 7), (ALU | 0x80, 0, 0, 0)], 2**32 - 7),
        ([(LD | MEM, 0, 0, 3)], 0),
    ],
)
def test_what_a_program_returns(program, expected):
    assert result(checked([*program, RETURN_A]), b"\1\2\3\4\5", 1500) == expected


@pytest.mark.parametrize(
    "program",
    [
        [],
        [(LD | IMM, 0, 0, 1)],
        [RETURN_A] * 4097,
        [(JMP, 0, 0, 1), RETURN_A],
        [(JMP, 0, 0, 2**32 - 1), RETURN_A],
        [(JMP | 0x10, 1, 0, 0), RETURN_A],
        [(JMP | 0x10, 0, 1, 0), RETURN_A],
        [(JMP | 0x50, 0, 0, 0), RETURN_A],
        [(JMP | X, 0, 0, 0), RETURN_A],
        [(ST, 0, 0, 16), RETURN_A],
        [(STX, 0, 0, 2**32 - 1), RETURN_A],
        [(LD | MEM, 0, 0, 16), RETURN_A],
        [(LDX | MEM, 0, 0, 16), RETURN_A],
        [(ALU | 0x30, 0, 0, 0), RETURN_A],
        [(ALU | 0x90, 0, 0, 0), RETURN_A],
        [(ALU | 0x60, 0, 0, 32), RETURN_A],
        [(ALU | 0xB0, 0, 0, 1), RETURN_A],
        [(LD | W | ABS, 0, 0, 0xFFFFF000), RETURN_A],
        [(LD | B | ABS, 0, 0, 0xFFFFF004), RETURN_A],
        [(LD | 0x18 | ABS, 0, 0, 0), RETURN_A],
        [(LDX | B | ABS, 0, 0, 0), RETURN_A],
        [(LDX | W | MSH, 0, 0, 0), RETURN_A],
        [(0x100 | LD | IMM, 0, 0, 0), RETURN_A],
        [(RET | X, 0, 0, 0)],
        [(MISC | 0x40, 0, 0, 0), RETURN_A],
    ],
)
def test_a_program_that_could_do_harm_is_refused(program):
    assert checked(program) is None


@pytest.mark.parametrize(
    ("file_type", "name"), [(101, "raw IP"), (228, "IPv4"), (113, "Linux cooked"), (276, "cooked v2")]
)
def test_link_types_of_files_that_libpcap_numbers_otherwise_or_not(file_type, name):
    assert checked(compile_filter("udp port 53", file_type)) is not None


def test_an_unknown_link_type_is_refused():
    with pytest.raises(UsageError, match="unknown data link type 12345"):
        compile_filter("ip", 12345)
