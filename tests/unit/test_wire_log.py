"""What the wire's log shows, also while it is overwritten, and our probes in it."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from lab.native.wire import Impairment
from lab.records import WIRE_EVENT
from lab.wire import dropped_probes, probe_numbers

# ---- the log ----


def test_the_log_keeps_the_newest_and_says_how_many_are_gone(line):
    made = line(log_size=64)
    made.carry([made.frame(number) for number in range(100)])
    log = made.wire.events()
    assert log.overwritten == 36
    assert log.events["number"].tolist() == list(range(36, 100))
    mark = made.wire.logged
    made.carry([made.frame(number) for number in range(10)])
    since = made.wire.events(since=mark)
    assert since.overwritten == 0
    assert since.events["number"].tolist() == list(range(100, 110))


def test_reading_while_it_is_overwritten_shows_whole_events_only(line):
    made = line(wait="spin", log_size=32)
    seen, read = -1, 0
    made.far.setblocking(False)
    for burst in range(200):
        for number in range(16):
            made.near.send(struct.pack("!14xQ", burst * 16 + number) * 5)
        while made.wire.logged < (burst + 1) * 16:
            log = made.wire.events()
            made.drain(made.far)
            numbers = log.events["number"]
            stamped = log.events["snap"][:, 14:22].copy().view(">u8").ravel()
            assert (numbers == stamped).all()
            assert (np.diff(numbers) == 1).all()
            if len(numbers):
                assert numbers[0] == log.overwritten
                assert numbers[-1] >= seen
                seen, read = numbers[-1], read + 1
    assert read


# ---- probes in the log ----

NONCE = 0xFEDCBA9876543210


def packet(family, probe, seq, *, nonce=NONCE, options=0, ip_options=0):
    """Headers of a probe as far as decoding looks at them, and the head of its payload."""
    head = struct.pack("=QQ", nonce, seq) + bytes(16)
    tcp = bytes(12) + bytes([(5 + options) << 4]) + bytes(7 + 4 * options)
    transport = tcp if probe == "tcp" else bytes(8)
    protocol = {"udp": 17, "tcp": 6, "icmp": 1 if family == 4 else 58}[probe]
    if family == 4:
        ip = bytes([0x45 + ip_options]) + bytes(8) + bytes([protocol]) + bytes(10 + 4 * ip_options)
    else:
        ip = b"\x60" + bytes(5) + bytes([protocol]) + bytes(33)
    return ip + transport + head


@pytest.mark.parametrize("header_bytes", [0, 14])
@pytest.mark.parametrize("probe", ["icmp", "udp", "tcp"])
def test_probes_are_found_in_the_log(line, family, probe, header_bytes):
    made = line(header_bytes=header_bytes)
    link = bytes(12) + (b"\x08\x00" if family == 4 else b"\x86\xdd") if header_bytes else b""
    option_words = range(11) if probe == "tcp" else [0]
    sent = [link + packet(family, probe, 1000 + words, options=words) for words in option_words]
    made.carry([*sent, link + packet(family, probe, 5, nonce=1), link + packet(family, probe, 2**63 + 1)])
    ours, seq = probe_numbers(made.wire.events().events, NONCE, header_bytes)
    assert ours.tolist() == [True] * len(sent) + [False, True]
    assert seq[ours].tolist() == [*(1000 + words for words in option_words), 2**63 + 1]


def test_ipv4_options_are_stepped_over(line):
    made = line(header_bytes=0)
    made.carry([packet(4, "udp", words, ip_options=words) for words in range(11)])
    ours, seq = probe_numbers(made.wire.events().events, NONCE, 0)
    assert seq[ours].tolist() == list(range(11))


def test_bytes_that_are_no_probe_are_none_of_ours(line):
    generator = np.random.default_rng(1)
    made = line(header_bytes=0)
    frames = [generator.bytes(length) for length in range(1, 150)]
    cut = [packet(6, "icmp", 1)[:length] for length in range(1, 64)]
    made.carry([*frames, *cut])
    ours, _seq = probe_numbers(made.wire.events().events, NONCE, 0)
    assert not ours.any()
    assert probe_numbers(np.zeros(0, WIRE_EVENT), NONCE)[0].shape == (0,)


def test_dropped_probes_are_those_that_did_not_arrive(line, family):
    made = line(Impairment(loss=0.2), Impairment(), seed=6, header_bytes=0)
    arrived = made.carry([packet(family, "udp", seq) for seq in range(500)])
    out, back = made.wire.dropped_probes(NONCE)
    came = {struct.unpack_from("=Q", each, len(each) - 24)[0] for each in arrived}
    assert set(out.tolist()) == set(range(500)) - came
    assert len(out) > 50
    assert back.tolist() == []


def test_a_probe_that_was_sent_again_is_not_dropped():
    events = np.zeros(4, WIRE_EVENT)
    events["snapped"] = 136
    for row, seq in zip(events, (1, 2, 1, 2**63), strict=True):
        bytes_ = packet(4, "tcp", seq)
        row["snap"][: len(bytes_)] = np.frombuffer(bytes_, np.uint8)
    events["flags"] = [1, 1, 0, 1]
    assert [way.tolist() for way in dropped_probes(events, NONCE, 0)] == [[2], []]
