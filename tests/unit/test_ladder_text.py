"""A ladder as text says what happened, and never needs more than 80 columns."""

from __future__ import annotations

import re

import pytest
from made_ladders import MARKS, NASTY, by_chance, fold, handshake, ladder, step
from rich.cells import cell_len

from lab.flow.ladder import words
from lab.flow.ladder.cells import Line, plain, shorten, wrap


def test_a_handshake_is_told_line_by_line():
    lines = handshake().lines()
    assert lines[2:9] == [
        "                127.0.0.1:43210                            127.0.0.1:8080",
        "                       │                                          │",
        "      0 ns             │ SYN  seq 0, MSS 65495                    │",
        "              SYN-SENT ├─────────────────────────────────────────▶│ SYN-RECEIVED",
        "   12.4 µs             │ SYN ACK  seq 0, ack 1                    │",
        "  +12.4 µs ESTABLISHED │◀─────────────────────────────────────────┤",
        "   24.0 µs             │ ACK  seq 1, ack 1                        │",
    ]
    assert lines[-1] == "1,234 packets are folded, 5 are shown"


def test_a_packet_is_found_by_what_it_says_and_by_what_went_wrong():
    lines = handshake().lines()
    (said,) = [line for line in lines if "GET / HTTP/1.1" in line]
    assert all(each in said for each in ("36.0 µs", "PSH ACK", "len 77", "transit 411 ns"))
    (reset,) = [line for line in lines if "✗ reset" in line]
    assert "900.000 ms" in reset
    (left_out,) = [line for line in lines if "⋮" in line]
    assert "⋮ 1,234 packets, 3.40 ms: → 1,200 (1.20 MB), ← 34 (12 bytes)" in left_out


def test_a_long_gap_has_a_line_of_its_own_in_which_lifelines_are_broken():
    lines = ladder(*(step(n, n % 2, 1 - n % 2, time_ns=t) for n, t in enumerate((0, 10, 20, 30, 500)))).lines()
    (broken,) = [line for line in lines if "┊" in line]
    assert broken.split() == ["+470", "ns", "┊", "┊"]
    assert sum("+10 ns" in line for line in lines) == 3


@pytest.mark.parametrize("count", [2, 3, 6, 8, 12])
def test_an_arrow_leads_from_its_source_to_its_target(count):
    pairs = [(source, target) for source in range(count) for target in range(count) if source != target]
    rows = [step(n, *pair, time_ns=n * 1000, title=f"packet {n}") for n, pair in enumerate(pairs)]
    lines = ladder(*rows, names=[f"10.0.0.{n}:80" for n in range(count)]).lines()
    lifelines = [at for at, each in enumerate(lines[-1]) if each == "│"]
    assert len(lifelines) == count
    arrows = [line for line in lines if "▶" in line or "◀" in line]
    assert len(arrows) == len(pairs)
    for line, (source, target) in zip(arrows, pairs, strict=True):
        begin, end = ("├", "▶") if source < target else ("┤", "◀")
        assert line.index(begin) == lifelines[source]
        assert abs(line.index(end) - lifelines[target]) == 1
        assert line.count("┼") == abs(source - target) - 1


@pytest.mark.parametrize(
    ("names", "numbered"),
    [(["127.0.0.1:1", "127.0.0.1:2|python 77", "[::1]:3"], False), (["[2001:db8::1234:5678]:65535"] * 4, True)],
)
def test_names_without_room_are_listed_and_their_columns_numbered(names, numbered):
    text = str(ladder(step(1, 0, 2), names=names))
    assert all(each.split("|")[0] in text for each in names)
    assert bool(re.search(r"^1 \S", text, re.MULTILINE)) == numbered
    assert bool(re.search(r"^ +1 +2 +3", text, re.MULTILINE)) == numbered


def test_directions_of_a_fold_are_told_by_numbers_where_arrows_would_not_do():
    made = ladder(fold(30, 0, 9, ((0, 1, 10, 500), (2, 0, 20, 0))), names=("a:1", "b:2", "c:3"))
    assert "⋮ 30 packets, 9 ns: 1→2 10 (500 bytes), 3→1 20 (0 bytes)" in str(made)
    assert "3 c:3" in made.lines()


def test_conversations_between_the_same_columns_are_told_apart():
    assert "flow" not in str(ladder(step(1, flow=0), step(2, 1, 0, flow=0)))
    assert "flow 1" in str(ladder(step(1, flow=0), step(2, 1, 0, flow=1)))


def test_the_way_by_a_device_is_told_once():
    rows = (step(1, 0, 1, transit_ns=411, other_copy=2), step(2, 1, 2, transit_ns=411, other_copy=1, time_ns=411))
    assert str(ladder(*rows, names=("a", "lo", "b"))).count("411 ns") == 3  # time, gap, transit


@pytest.mark.parametrize("seed", range(80))
def test_no_line_is_wider_than_80_cells_and_none_is_broken(seed):
    made = by_chance(seed)
    lines = made.lines()
    assert max(map(cell_len, lines)) <= 80
    assert all(line.isprintable() for line in lines)
    assert sum(line.count("▶") + line.count("◀") for line in lines) == len(made.steps)


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_text_from_files_is_harmless_on_a_terminal(text):
    lines = ladder(
        step(1, payload=text, title=text), names=(f"{text}|{text}", "b"), title=text, warnings=(text,)
    ).lines()
    assert all(line.isprintable() and cell_len(line) <= 80 for line in lines)
    assert len([line for line in lines if "▶" in line]) == 1


def test_every_mark_has_a_sign_and_those_of_trouble_differ():
    told = [words.marked(mark) for mark in MARKS]
    assert all(re.fullmatch(rf"[^\w\s] {mark}", text) for mark, text in zip(MARKS, told, strict=True))
    signs = [text[0] for mark, text in zip(MARKS, told, strict=True) if words.trouble(mark)]
    assert len(set(signs)) == len(signs) >= 7
    assert not words.trouble("12 segments in one frame")


def test_a_line_of_cells_keeps_its_width():
    line = Line(10).put(0, "│").put(2, "日本語").put(8, "long")
    assert str(line) == "│ 日本語l…"
    assert cell_len(str(line)) == 10


def test_what_has_no_width_is_left_out_and_what_is_not_printable_has_a_sign():
    assert plain("e\u0301a\u0301\u0302 \u2764\ufe0f\t\x1b[1m") == "éá \u2764 \ufffd[1m"


@pytest.mark.parametrize(("width", "short"), [(6, "日本語"), (5, "日本…"), (4, "日…"), (1, "…"), (0, "")])
def test_a_text_is_shortened_by_cells(width, short):
    assert shorten("日本語", width) == short


def test_words_are_wrapped_and_a_long_one_is_shortened():
    assert wrap("one two " + "x" * 12 + " three", 9, "  ") == ["one two", "  xxxxxx…", "  three"]
