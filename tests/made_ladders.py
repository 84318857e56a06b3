"""Ladders made by hand and by chance, for tests of what draws them."""

from __future__ import annotations

import random

from lab.flow.ladder.ladders import Fold, Ladder, Participant, Step

STATES = (
    "SYN-SENT",
    "SYN-RECEIVED",
    "ESTABLISHED",
    "FIN-WAIT-1",
    "CLOSE-WAIT",
    "TIME-WAIT",
    "SYN-SENT → SYN-RECEIVED",
    None,
    None,
    None,
    None,
)
MARKS = ("retransmission", "out of order", "reset", "zero window", "keep-alive", "window probe", "duplicate ACK",
         "12 segments in one frame", "bad checksum", "cut to 96", "after 3 lost")  # fmt: skip
#: What files that somebody else wrote may hold; none of it may break a line, a figure, or a terminal.
NASTY = ("$x_1$ and $\\frac{", "<b>bold</b> & <script>", "tab\there", "bell\a escape\x1b[31mred", "two\nlines\r\n",
         "emoji \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f \U0001f1e9\U0001f1ea",
         "日本語のテキスト" * 9, "שלום \u202eעולם", "e\u0301" * 50, "x" * 300,
         "\ud800", "\u115f\u1160", "\ufeff")  # fmt: skip
NAMES = ("127.0.0.1:8080", "[2001:db8::1234:5678]:65535", "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535", "curl 1234",
         "198.51.100.1", "a process with a name that is much too long for any column 4194304", "日本語 77")  # fmt: skip
START_NS = 1_790_000_000_123_456_789


def step(number, source=0, target=1, title="ACK", time_ns=0, **more):
    """A packet so long after the start."""
    known = {"flow": 0, "protocol": "tcp", "length": 66} | more
    return Step(number=number, time_ns=START_NS + time_ns, source=source, target=target, title=title, **known)


def ladder(*rows, names=("127.0.0.1:43210", "127.0.0.1:8080"), title="TCP 127.0.0.1:43210 → 127.0.0.1:8080", **more):
    """A ladder of these rows; participants with their notes are separated by "|"."""
    participants = tuple(
        Participant(
            name=name.split("|")[0], note="".join(name.split("|")[1:]), kind="device" if name == "lo" else "endpoint"
        )
        for name in names
    )
    return Ladder(participants=participants, rows=tuple(rows), title=title, start_ns=START_NS, **more)


def handshake(**more):
    """Three segments, a reset, and all else that is told of a packet."""
    return ladder(
        step(1, title="SYN", facts=("seq 0", "MSS 65495"), states=("SYN-SENT", "SYN-RECEIVED")),
        step(3, 1, 0, "SYN ACK", 12_400, facts=("seq 0", "ack 1"), states=(None, "ESTABLISHED")),
        step(5, 0, 1, "ACK", 24_000, facts=("seq 1", "ack 1"), states=(None, "ESTABLISHED")),
        step(7, 0, 1, "PSH ACK", 36_000, facts=("seq 1", "ack 1", "len 77"), payload="GET / HTTP/1.1", other_copy=6,
             transit_ns=411),
        fold(1_234, 36_000, 3_436_000, ((0, 1, 1_200, 1_200_000), (1, 0, 34, 12))),
        step(2_000, 1, 0, "RST", 900_000_000, marks=("reset",), states=("CLOSED", "CLOSED")),
        **more,
    )  # fmt: skip


def fold(packets, start_ns, end_ns, ways):
    """Packets that are left out, from and to so long after the start."""
    return Fold(packets=packets, start_ns=START_NS + start_ns, end_ns=START_NS + end_ns, ways=ways)


def by_chance(seed, **more):
    """A ladder drawn by a seed: 2 to 8 participants, 1 to 40 rows, some of them folds, texts long and nasty."""
    chance = random.Random(seed)
    count, time_ns, rows = chance.randint(2, 8), 0, []
    texts = (*NASTY, "", "", "", "GET / HTTP/1.1", "A? www.example.org.")
    for number in range(1, chance.randint(1, 40) + 1):
        time_ns += int(chance.lognormvariate(10, 3))
        source, target = chance.sample(range(count), 2)
        if chance.random() < 0.1:
            length = chance.randint(0, 10**9)
            ways = {tuple(chance.sample(range(count), 2)) for _ in range(chance.randint(1, 12))}
            rows.append(fold(12_345, time_ns, time_ns + length, tuple((*way, 1_234, 10**6) for way in sorted(ways))))
            time_ns += length
            continue
        way = {"other_copy": number, "transit_ns": chance.randint(1, 10**6)} if chance.random() < 0.3 else {}
        rows.append(
            step(
                number, source, target, chance.choice(("SYN", "PSH ACK", "fragmentation needed", *NASTY[:3])), time_ns,
                flow=chance.randint(0, 3),
                facts=("seq 4294967295", "ack 4294967295", "len 65495")[: chance.randint(0, 3)],
                payload=chance.choice(texts), marks=tuple(chance.sample(MARKS, chance.choice((0, 0, 0, 1, 2)))),
                states=(chance.choice(STATES), chance.choice(STATES)), **way,
            )
        )  # fmt: skip
    names = [
        f"{chance.choice(NAMES + NASTY[:4])}|{chance.choice(('', 'python3 77', *NASTY[:2]))}" for _ in range(count)
    ]
    if count > 2 and chance.random() < 0.5:
        names[1] = "lo"
    warnings = tuple(chance.sample(NASTY, chance.randint(0, 3)))
    return ladder(*rows, names=names, title=chance.choice(("TCP", *NASTY)), warnings=warnings, **more)
