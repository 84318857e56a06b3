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
    "ip[ip[1]] = ip[ip[2]] + ip[ip[3]] * ip[ip[4]]", "tcp port http or tcp port https",
]  # fmt: skip


def checked(program):
    """The program as C has it, or None if it is refused."""
    native = ffi.new("struct lab_instruction[]", program)
    return None if lib.lab_filter_check(native, len(native)) < 0 else native


def result(native, frame, length=None):
    """What it returns for a frame, of which AddressSanitizer's cousins in tests/native watch the bounds."""
    return lib.lab_filter_run(native, ffi.from_buffer("unsigned char[]", frame), len(frame), length or len(frame))


def frames(count=400):
    """Frames that have something of every layer, whole and cut, and some of nothing: (bytes, length on the wire)."""
    draw = random.Random(5)
    ports = struct.pack("!HH", 5678, 53) + b"\0\x1e" + bytes(2) + b"\x50" + bytes(15)
    for _ in range(count):
        tags = draw.choice([b"", b"\x81\0\0\x05", b"\x81\0\0\x05" * 2, b"\x88\x64\x11\0\0\x01\0\x16\0\x21"])
        protocol = draw.choice([1, 6, 17, 47, 58, 132])
        options = draw.choice([0, 4])
        four = struct.pack(
            "!BBHHHBBH4s4s", 0x45 + options // 4, draw.randrange(20), 20 + options + draw.randrange(99), 7,
            draw.choice([0, 0, 0x2000, 9]), 64, protocol, 0, b"\x7f\0\0\x01", draw.randbytes(4),
        ) + bytes(options)  # fmt: skip
        chain = draw.choice([b"", bytes([protocol, 0]) + bytes(6)])
        six = struct.pack("!IHBB", 6 << 28, 40, 0 if chain else protocol, 64) + bytes(15) + b"\x01" + draw.randbytes(16)
        kind, network = draw.choice(
            [(b"\x08\0", four), (b"\x86\xdd", six + chain), (b"\x08\x06", bytes(28)), (b"\x88\x47", four)]
        )
        transport = draw.choice([ports, draw.randbytes(24), bytes([draw.choice([8, 0, 128, 129])]) + bytes(23)])
        whole = (
            draw.choice([bytes(12), b"\xff" * 12])
            + tags
            + kind
            + network
            + transport
            + draw.randbytes(draw.randrange(60))
        )
        whole = draw.choice([whole, whole, draw.randbytes(len(whole))])
        cut = draw.choice([len(whole)] * 3 + [draw.randrange(1, len(whole))])
        yield whole[:cut], len(whole)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_filter_finds_what_libpcap_finds(expression):
    program = compile_filter(expression)
    theirs, ours = cypcap.compile(1, 262144, expression, True, cypcap.NETMASK_UNKNOWN), checked(program)
    assert ours is not None
    for frame, length in frames():
        header = cypcap.Pkthdr(0, len(frame), length)
        assert bool(result(ours, frame, length)) == theirs.offline_filter(header, frame), frame.hex()


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
    program = [*program, RETURN_A]
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
