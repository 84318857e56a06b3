"""A ladder's figure: nothing is written over anything else or cut off, and arrows are where they belong."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from figure_texts import assert_legible, written
from made_ladders import NASTY, START_NS, by_chance, fold, handshake, ladder, step
from matplotlib.colors import to_hex
from matplotlib.patches import Polygon

from lab.errors import UsageError
from lab.flow.ladder.layout import Scale, axis_marks, shift_into, spread
from lab.flow.ladder.sheet import Run, fitting, width_of
from lab.flow.sheets import Font

MODES = [pytest.param({"to_scale": scale, "large": large}, id=f"{'to scale' if scale else 'even'}{', large' * large}")
         for scale in (False, True) for large in (False, True)]  # fmt: skip


def arrows(figure):
    """From where to where each arrow leads, and its colour, in the order in which they were drawn."""
    heads = [each for each in figure.axes[0].patches if isinstance(each, Polygon) and len(each.get_xy()) == 4]
    shafts = [line for line in figure.axes[0].lines if line.get_solid_capstyle() == "butt" and line.get_zorder() > 2.5]
    return [
        ((line.get_xdata()[0], line.get_ydata()[0]), tuple(head.get_xy()[0]), to_hex(head.get_facecolor()))
        for head, line in zip(heads, shafts, strict=True)
    ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(8))
def test_no_text_lies_upon_another_or_outside(seed, mode):
    assert_legible(by_chance(seed, **mode).figure())


@pytest.mark.parametrize("mode", MODES)
def test_eight_participants_with_long_names_and_forty_packets_of_one_instant(mode):
    names = [f"[2001:db8:1234:5678:9abc:def0:1234:{n:x}]:65535|a-process-with-a-long-name 4194304" for n in range(8)]
    pairs = itertools.islice(itertools.cycle(itertools.permutations(range(8), 2)), 40)
    rows = [
        step(n, *pair, "PSH ACK", facts=("seq 4294967295", "ack 4294967295", "len 65495"), payload="GET / HTTP/1.1" * 5,
             marks=("retransmission", "12 segments in one frame"), states=("SYN-RECEIVED", "ESTABLISHED"))
        for n, pair in enumerate(pairs)
    ]  # fmt: skip
    figure = ladder(*rows, names=names, **mode).figure()
    assert_legible(figure)
    shown = "".join(text for text in written(figure))
    assert shown.count(":65535") == 8


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("198.51.100.1:65535", ["198.51.100.1", ":65535"]),
        ("[2001:db8::1]:65535", ["[2001:db8::1]", ":65535"]),
        ("198.51.100.1", ["198.51.100.1"]),
        ("2001:db8::1", ["2001:db8::1"]),
    ],
)
def test_a_name_without_room_goes_on_in_the_next_line_and_its_port_begins_one(name, lines):
    heads = [
        text.get_text()
        for text in ladder(step(1), names=[name] * 8).figure().axes[0].texts
        if text.get_weight() == "bold"
    ]
    assert [heads.count(line) for line in lines] == [8] * len(lines)


@pytest.mark.parametrize("to_scale", [False, True])
@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_text_from_files_is_harmless(text, to_scale):
    names = (f"{text}|{text}", "b")
    made = ladder(
        step(1, payload=text, title=text, facts=(text,)), names=names, title=text, warnings=(text,), to_scale=to_scale
    )
    figure = made.figure()
    assert_legible(figure)
    assert made._repr_png_().startswith(b"\x89PNG")  # no glyph is missing, and no formula is read: both would warn
    assert len(arrows(figure)) == 1


def test_a_dollar_is_no_formula():
    assert "$x_1$" in written(ladder(step(1, title="$x_1$")).figure())


def test_all_that_is_known_of_a_packet_is_written():
    text = written(handshake().figure())
    for each in ("SYN", "seq 0, MSS 65495", "SYN-SENT", "SYN-RECEIVED", "12.4 µs", "+12.4 µs", "transit 411 ns",
                 '"GET / HTTP/1.1"', "✗ reset", "RST", "+897 ms"):  # fmt: skip
        assert each in text
    assert any(each.startswith("⋮ 1,234 packets, 3.40 ms: → 1,200 (1.20 MB), ← 34 (12 bytes)") for each in text)
    assert any(each.startswith("1,234 packets are folded") for each in text)


def test_rows_are_equally_apart_and_arrows_lead_from_source_to_target():
    rows = [step(n, n % 3, (n + 1) % 3, time_ns=1000 * n * n) for n in range(9)]
    figure = ladder(*rows, names=("a", "b", "c")).figure()
    found = arrows(figure)
    columns = sorted({start[0] for start, _, _ in found})
    assert len(columns) == 3
    for row, (start, tip, _) in zip(rows, found, strict=True):
        assert start[0] == columns[row.source]
        assert tip[0] == pytest.approx(columns[row.target])
        assert start[1] == pytest.approx(tip[1])
    heights = [start[1] for start, _, _ in found]
    distances = [after - before for before, after in itertools.pairwise(heights)]
    assert distances == pytest.approx([distances[0]] * 8)


def test_to_scale_heights_are_times():
    times = [0, 10_000, 15_000, 400_000, 1_000_000]
    found = arrows(ladder(*(step(n, n % 2, 1 - n % 2, time_ns=t) for n, t in enumerate(times)), to_scale=True).figure())
    heights = [tip[1] for _, tip, _ in found]
    whole = heights[-1] - heights[0]
    assert [(height - heights[0]) / whole for height in heights] == pytest.approx([t / times[-1] for t in times])


@pytest.mark.parametrize("to_scale", [False, True])
def test_an_arrow_of_two_copies_slants_and_one_of_one_does_not(to_scale):
    rows = (step(2, other_copy=1, transit_ns=400), step(3, 1, 0, time_ns=1_000))
    (start, tip, _), (level, end, _) = arrows(ladder(*rows, to_scale=to_scale).figure())
    assert start[1] < tip[1]
    assert level[1] == pytest.approx(end[1])
    if to_scale:
        assert tip[1] - start[1] == pytest.approx(0.4 * (end[1] - tip[1]))


def test_by_way_of_a_device_both_arrows_are_level_and_have_the_colour_of_the_sender():
    rows = (
        step(1, 0, 1, transit_ns=411, other_copy=2),
        step(2, 1, 2, transit_ns=411, other_copy=1, time_ns=411),
        step(3, 2, 1, time_ns=5_000),
    )
    figure = ladder(*rows, names=("a", "lo", "b")).figure()
    went, came, back = arrows(figure)
    assert all(start[1] == pytest.approx(tip[1]) for start, tip, _ in (went, came))
    assert went[2] == came[2] != back[2]
    assert written(figure).count("transit 411 ns") == 1
    assert len({line.get_linestyle() for line in figure.axes[0].lines}) == 2  # the device's lifeline is dashed


def test_what_went_wrong_is_warm_and_has_a_sign():
    rows = (
        step(1),
        step(2, time_ns=9, marks=("retransmission",)),
        step(3, time_ns=18, marks=("2 segments in one frame",)),
    )
    figure = ladder(*rows).figure()
    plain, again, unusual = (color for _, _, color in arrows(figure))
    assert plain == unusual != again
    assert "↻ retransmission" in written(figure)


def test_a_long_gap_is_a_break_and_takes_more_room():
    even = [step(n, time_ns=1_000 * n) for n in range(6)]
    late = [*even, step(6, time_ns=50_000), step(7, time_ns=51_000)]
    heights = [start[1] for start, _, _ in arrows(ladder(*late).figure())]
    distances = [after - before for before, after in itertools.pairwise(heights)]
    assert max(distances) == distances[5] > 1.2 * distances[0]
    assert any("broken" in text for text in written(ladder(*late).figure()))
    assert not any("broken" in text for text in written(ladder(*even).figure()))


def test_large_letters_are_larger_and_their_figure_is_higher():
    small, large = handshake().figure(), handshake(large=True).figure()
    sizes = [min(text.get_fontsize() for text in figure.axes[0].texts) for figure in (small, large)]
    assert sizes[1] == pytest.approx(1.6 * sizes[0])
    assert large.get_figheight() > small.get_figheight()
    assert 9 <= small.get_figwidth() <= 11


@pytest.mark.parametrize("to_scale", [False, True])
def test_a_ladder_without_rows_or_of_one_fold_is_drawn(to_scale):
    for rows in ((), (fold(9, 0, 0, ((0, 1, 9, 0),)),)):
        assert_legible(ladder(*rows, to_scale=to_scale).figure())


def test_too_many_rows_for_a_picture_are_refused():
    with pytest.raises(UsageError, match="301 rows are too many for a picture: ask for at most 300"):
        ladder(*(step(n) for n in range(301))).figure()


@pytest.mark.parametrize("seed", range(30))
def test_labels_are_spread_in_order(seed):
    chance = random.Random(seed)
    wanted = sorted(chance.uniform(0, 10) ** chance.choice((1, 3)) / 10 ** chance.choice((0, 2)) for _ in range(20))
    wanted = [min(each, 10.0) for each in wanted]
    heights = spread(wanted, 0.5, 0, 10)
    assert all(after - before >= 0.5 - 1e-9 for before, after in itertools.pairwise(heights))
    assert heights[0] >= 0
    assert heights[-1] <= 10


def test_labels_with_room_stay_where_they_want_to_be():
    assert spread([0, 3, 6, 9], 0.5, 0, 10) == [0, 3, 6, 9]


def test_labels_that_want_the_same_place_stand_around_it():
    assert spread([5, 5, 5], 1, 0, 10) == pytest.approx([4, 5, 6])
    assert spread([0, 0, 0], 1, 0, 10) == pytest.approx([0, 1, 2])
    assert spread([10, 10], 1, 0, 10) == pytest.approx([9, 10])
    assert spread([], 1, 0, 10) == []


@pytest.mark.parametrize("length", [0, 1, 7, 8, 999, 12_345_678, 10**12])
def test_marks_of_an_axis_are_round_few_and_reach_its_end(length):
    marks = axis_marks(length)
    assert 1 <= len(marks) <= 8
    assert marks[0] == 0
    assert length - marks[-1] < marks.step
    assert marks.step / 10 ** math.floor(math.log10(marks.step)) in (1, 2, 5)


def test_times_lie_on_the_axis():
    scale = Scale(START_NS, START_NS + 100, 2.0, 4.0)
    assert [scale.y(START_NS + t) for t in (0, 50, 100)] == pytest.approx([2, 3, 4])
    assert Scale(5, 5, 2.0, 4.0).y(5) == 2.0


def test_something_is_moved_no_further_than_it_must():
    assert shift_into(5, 2, 0, 10) == 4
    assert shift_into(0.5, 2, 0, 10) == 0
    assert shift_into(9.5, 2, 0, 10) == 8


def test_runs_are_shortened_with_an_ellipsis_where_they_do_not_fit():
    font = Font(9)
    runs = [Run("one", font), Run("two " * 9, font), Run("three", font)]
    whole = fitting(runs, 99, 0.1)
    assert [run for _, run in whole] == runs
    for width in (0.5, 1.0, 2.0, width_of(whole) - 0.05):
        placed = fitting(runs, width, 0.1)
        assert width_of(placed) <= width
        assert placed[-1][1].text.endswith("…")
