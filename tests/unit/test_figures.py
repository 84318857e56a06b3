"""Figures draw what the study holds, and nothing that it does not."""

from __future__ import annotations

import io
import itertools
from dataclasses import asdict

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

import lab
from lab.conditions import BASELINES, ECHOED, LINKS, PROBES
from lab.figures import KINDS, save
from lab.figures.ridge import density
from lab.figures.stages import LOOKS
from lab.figures.style import REST, context, line_of, mark_of
from lab.impairments import Impairment
from lab.records import RECEIVED, RECORD, STAMPS
from lab.studies import Study
from lab.tables import counts

RNG = np.random.default_rng(5)
DISTRIBUTIONS = ("ecdf", "ccdf")
#: The kinds that every study has.
ALWAYS = tuple(kind for kind in KINDS if kind != "stages")
BASES = dict(zip(LINKS, (6600, 6800, 7000, 8000, 9100, 10200, 8600, 8300, 8900, 14200, 13100, 12400, 12600, 24000,
                         38000, 47000), strict=True))  # fmt: skip
FLOORS = {"unix-stream": 2800, "unix-dgram": 2600, "unix-seqpacket": 2900, "pipe": 2450, "shm": 280, "syscall": 170}


def rounds(base, number=5, count=40):
    """Delays in ns around `base`, by round."""
    return [[int(x) for x in RNG.lognormal(0, 0.05, count) * base] for _ in range(number)]


def ways(links=LINKS, families=(4, 6), probes=("icmp",), baselines=BASELINES, **more):
    """Runs of every link and baseline."""
    made = {
        (link, family, probe): rounds(BASES[link] * (1 + family / 100), **more)
        for link in links
        for family in families
        for probe in probes
    }
    return made | {(way, None, way): rounds(FLOORS[way], **more) for way in baselines}


RUNS = {
    (link, family, probe): [list((RNG.lognormal(0, 0.3, 200) * base).astype(int)) for _ in range(3)]
    for link, base in (("lo", 5_000), ("veth", 8_000))
    for family in (4, 6)
    for probe in ("icmp", "udp")
}
THREE = ("lo", "veth", "tap")
MANY = ways(number=1, count=200)
SKIPPED = [
    {"link": "gre", "family": None, "probe": None, "reason": "the kernel has none", "errno": 95, "fix": "build it"},
    *({"link": "lo", "family": 6, "probe": probe, "reason": "refused", "errno": 1, "fix": "ask"} for probe in ECHOED),
]


#: The stages of a round trip, the field that ends each, and how long they take in ns.
REFLECTED = {
    "user→qdisc": ("near_sched_real_ns", 1_370), "qdisc→device": ("near_soft_real_ns", 350),
    "device→far stack": ("far_rx_real_ns", 400), "far stack→far user": ("far_rx_ns", 2_300),
    "far user": ("far_tx_ns", 30), "far user→qdisc": ("far_sched_real_ns", 1_200),
    "far qdisc→device": ("far_soft_real_ns", 340), "device→near stack": ("near_rx_real_ns", 410),
    "near stack→user": ("rx_ns", 2_400),
}  # fmt: skip
REPLIED = {
    "user→qdisc": ("near_sched_real_ns", 1_370), "qdisc→device": ("near_soft_real_ns", 350),
    "device→reply": ("near_rx_real_ns", 1_970), "reply→user": ("rx_ns", 800),
}  # fmt: skip
OFFSET_NS = 1_790_000_000_123_456_789


@pytest.fixture
def staged(study):
    """Builds a study whose runs have stages; and what they are, in ns, by condition, round and stage."""

    def build(links, families=(4, 6), probes=ECHOED, number=5, count=40, **more):
        made, planted = study({}, **more), {}
        for link, family, probe in itertools.product(links, families, probes):
            for number_ in range(1, number + 1):
                rows, stamps = np.zeros(count, RECORD), np.zeros(count, STAMPS)
                rows["status"] = RECEIVED
                now = rows["tx_ns"] = rows["due_ns"] = 1_000_000_000 + np.arange(count) * 100_000
                for name, (end, ns) in (REPLIED if probe == "icmp" else REFLECTED).items():
                    took = (RNG.lognormal(0, 0.1, count) * ns * BASES[link] / 6600).astype(int)
                    planted.setdefault((link, family, probe), {}).setdefault(name, []).append(took)
                    now = now + took
                    if end.endswith("real_ns"):
                        stamps[end] = now + OFFSET_NS
                    else:
                        rows[end] = now
                info = {"round": number_, **counts(rows), "stages": True, "clock_offset_ns": OFFSET_NS}
                made.add_run(lab.Condition(link=link, family=family, probe=probe, stages=True), rows, info, stamps)
        return made, planted

    return build


def labelled(figure_or_axes, label, kind=LineCollection):
    """The collection of one panel that carries a label."""
    (found,) = (c for c in figure_or_axes.collections if isinstance(c, kind) and c.get_label() == label)
    return found


def rows_from_top(axes):
    return [text.get_text() for text in axes.get_yticklabels()]


def words(figure):
    """The caption as one line."""
    return " ".join(figure.get_supxlabel().split())


def drawn_texts(figure):
    """Every text that is seen, laid out."""
    figure.draw_without_rendering()
    hidden = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        seen = {tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high}
        hidden |= {text for tick in {*axis.majorTicks, *axis.minorTicks} - seen for text in (tick.label1, tick.label2)}
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text() and text not in hidden]


def luminance(color):
    """Relative luminance (WCAG 2): what a grey printer keeps."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_a_panel_for_each_probe_and_family_a_line_for_each_link(study, kind):
    figure = study(RUNS).plot(kind)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "icmp, IPv4", "icmp, IPv6", "udp, IPv4", "udp, IPv6",
    ]  # fmt: skip
    for axes in figure.axes:
        assert axes.get_xscale() == "log"
        assert [line.get_label() for line in axes.lines if not line.get_label().startswith("_")] == ["lo", "veth"]
        assert len(axes.lines) == 2 * (3 + 1)
    assert "(µs)" in figure.axes[-1].get_xlabel()
    assert "600 replies a line, 3 rounds" in figure.get_supxlabel()


def test_the_lines_are_the_data(study):
    figure = study(RUNS).plot("ecdf")
    line = next(line for line in figure.axes[0].lines if line.get_label() == "lo")
    everything = np.sort(np.concatenate(RUNS["lo", 4, "icmp"])) / 1000
    assert np.array_equal(line.get_xdata(), everything)
    assert line.get_ydata()[-1] == 1


def test_the_tail_is_drawn_to_its_last_but_one(study):
    figure = study(RUNS).plot("ccdf")
    line = next(line for line in figure.axes[0].lines if line.get_label() == "lo")
    assert figure.axes[0].get_yscale() == "log"
    assert line.get_ydata()[-1] == pytest.approx(1 / 600)


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_an_axis_has_at_least_two_numbers(study, kind):
    figure = study(RUNS).plot(kind)
    figure.draw_without_rendering()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert sum(low <= tick.get_loc() <= high for tick in axes.xaxis.get_major_ticks()) >= 2


@pytest.mark.parametrize("kind", ALWAYS)
@pytest.mark.parametrize(
    "runs",
    [
        RUNS,
        ways(probes=PROBES, number=1, count=20),
        ways(("lo",), (4,), baselines=()),
        ways(("veth", "tun"), (6,), baselines=("pipe",)),
        ways((), baselines=BASELINES),
    ],
    ids=["two links", "everything", "one link", "one family", "baselines"],
)
def test_no_text_is_cut_or_overlaps(study, runs, kind):
    assert_apart(study(runs, skipped=SKIPPED).plot(kind))


def assert_apart(figure):
    """Every text is whole, and none lies on another."""
    texts = [(text.get_text(), text.get_window_extent()) for text in drawn_texts(figure)]
    assert len(texts) > 5
    for text, box in texts:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        assert apart, f"{one!r} on {other!r}"


def test_text_is_readable_at_the_width_of_a_page(study):
    made = study(ways(probes=PROBES, number=1, count=20))
    for figure in (made.plot(kind) for kind in ALWAYS):
        assert_readable(figure)


def assert_readable(figure):
    """No text is less than nine pixels high on a page of 830."""
    pixels = 830 / (figure.get_figwidth() * 72)
    assert min(text.get_fontsize() for text in drawn_texts(figure)) * pixels >= 9


@pytest.mark.parametrize("kind", ["overview", "ridge"])
@pytest.mark.parametrize(("count", "rows"), [(1, [1]), (3, [3]), (4, [2, 2]), (5, [3, 2])])
def test_no_more_than_three_kinds_stand_beside_each_other(study, kind, count, rows):
    figure = study(ways(THREE, probes=PROBES[:count], baselines=())).plot(kind)
    assert [axes.get_title(loc="left").split(":")[0] for axes in figure.axes] == list(PROBES[:count])
    figure.draw_without_rendering()
    tops = [axes.get_position().y1 for axes in figure.axes]
    assert [len(list(row)) for _, row in itertools.groupby(tops, key=lambda top: round(top, 3))] == rows
    for axes in figure.axes:
        first = axes.get_subplotspec().is_first_col()
        assert [name for name in rows_from_top(axes) if name] == (list(THREE) if first else [])


@pytest.mark.parametrize("kind", ["overview", "ridge"])
def test_a_long_title_is_wrapped_to_its_panel(study, records, kind):
    made = study({})
    for probe in ECHOED:
        condition = lab.Condition(probe=probe, wait="yield", arrivals="poisson", period_ns=50_000, stages=True)
        rows = records([6600] * 40)
        made.add_run(condition, rows, {"round": 1, **counts(rows), "period_ns": 50_000, "stages": True})
    figure = made.plot(kind)
    assert "stages" in figure.axes[0].get_title(loc="left")
    assert_apart(figure)


# ---- overview ----


@pytest.mark.parametrize("family", [4, 6])
def test_the_overviews_marks_are_the_rows_of_the_table(study, family):
    made = study(ways(THREE, probes=("icmp", "udp")))
    figure = made.plot("overview")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["icmp: block, inline", "udp: block, inline"]
    table = made.summary().rows
    for axes, probe in zip(figure.axes, ("icmp", "udp"), strict=True):
        names = rows_from_top(figure.axes[0])
        rows = {row["link"]: row for row in table if (row["family"], row["probe"]) == (family, probe)}
        for quantile in ("p50", "p99"):
            marks = labelled(axes, f"_IPv{family} {quantile}", PathCollection).get_offsets()
            found = {names[round(y)]: x for x, y in marks}
            assert found == pytest.approx({link: row[f"{quantile}_ns"] / 1000 for link, row in rows.items()})
            intervals = labelled(axes, f"_IPv{family} {quantile} interval").get_segments()
            found = {names[round(y)]: (low, high) for (low, y), (high, _) in intervals}
            assert set(found) == set(THREE)
            for link, row in rows.items():
                assert found[link] == pytest.approx([end / 1000 for end in row[f"{quantile}_ci_ns"]])


def test_rows_are_sorted_by_p50_baselines_first(study):
    figure = study(MANY).plot("overview")
    names = rows_from_top(figure.axes[0])
    assert names == [*sorted(BASELINES, key=FLOORS.get), *sorted(LINKS, key=BASES.get)]
    assert "sorted by p50 (icmp, IPv4)" in words(figure)
    ridge = study(MANY, name="again").plot("ridge")
    assert [rows_from_top(axes) for axes in ridge.axes] == [names[len(BASELINES) :], names[: len(BASELINES)]]


def test_a_line_falls_from_each_baseline_that_is_not_far_faster(study):
    made = study(MANY)
    axes = made.plot("overview").axes[0]
    table = {row["link"]: row["p50_ns"] / 1000 for row in made.summary().rows if row["family"] is None}
    names = rows_from_top(axes)
    floors = labelled(axes, "_floor").get_segments()
    assert {names[round(y0)]: x for (x, y0), _ in floors} == pytest.approx(
        {w: table[w] for w in table if w not in ("shm", "syscall")}
    )
    assert all(end >= len(names) - 0.5 for _, (_, end) in floors)
    notes = {names[round(text.get_position()[1])]: text.get_text() for text in axes.texts if "◂" in text.get_text()}
    assert set(notes) == {"shm", "syscall"}
    assert all(f"p50 {table[way]:.2f}" in text for way, text in notes.items())


def test_without_intervals_there_are_none_and_it_says_so(study):
    figure = study(ways(("lo", "veth"), number=3)).plot("overview")
    for axes in figure.axes:
        assert not len(labelled(axes, "_IPv4 p50 interval").get_segments())
    assert "No intervals below 5 rounds" in words(figure)
    assert "95 % interval" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_marks_of_one_family_stand_in_the_middle_of_their_rows(study):
    axes = study(ways(("lo", "veth"), (6,), baselines=())).plot("overview").axes[0]
    assert set(labelled(axes, "_IPv6 p50", PathCollection).get_offsets()[:, 1]) == {0, 1}
    assert not [c for c in axes.collections if "IPv4" in c.get_label()]


@pytest.mark.parametrize("kind", ["overview", "ridge"])
def test_what_has_no_mark_says_why(study, kind):
    runs = ways(("lo", "veth"), probes=("icmp", "udp"))
    for family in (4, 6):
        runs["tap", family, "udp"] = [[None] * 40] * 5
    runs["veth", 6, "udp"] = [[None] * 40] * 5
    figure = study(runs, skipped=SKIPPED).plot(kind)
    icmp, udp = figure.axes[:2]
    names = rows_from_top(icmp)
    assert names[-1] == "tap"

    def said(axes):
        notes = [text for text in axes.texts if "◂" not in text.get_text()]
        return {
            names[round(text.get_position()[1] + (0.3 if kind == "ridge" else 0))]: text.get_text() for text in notes
        }

    assert said(icmp) == {"tap": "not measured"}
    assert said(udp) == {"tap": "no reply", "veth": "IPv6: no reply"}
    assert "Skipped: gre, lo IPv6 icmp/udp/tcp." in words(figure)


def test_a_network_card_has_a_row_behind_its_name(study, records):
    made = study(ways(("lo", "veth")))
    condition = lab.Condition(link="nic:eth0", family=4, probe="icmp", target="192.0.2.1")
    for number, delays in enumerate(rounds(180_000), 1):
        rows = records(delays)
        made.add_run(condition, rows, {"round": number, **counts(rows)})
    assert rows_from_top(made.plot("overview").axes[0])[-1] == "nic:eth0"
    assert rows_from_top(made.plot("ridge").axes[0])[-1] == "nic:eth0"
    assert "nic:eth0" in [line.get_label() for line in made.plot("ecdf").axes[0].lines]


@pytest.mark.parametrize("kind", ALWAYS)
def test_impaired_and_partial_studies_say_so(study, kind):
    impair = asdict(Impairment(delay_ns=5_000_000, loss=0.01, seed=7))
    figure = study(ways(("lo", "veth"), baselines=()), complete=False, experiment={"impair": impair}).plot(kind)
    assert "Impaired, each direction: delay=5ms,loss=1%,seed=7." in words(figure)
    assert "Partial" in words(figure)
    assert "mpaired" not in words(study(RUNS, name="plain", experiment={"impair": None}).plot(kind))


# ---- ridge ----


def test_a_ridge_for_every_link_and_family_with_its_median(study):
    made = study(MANY)
    links, baselines = made.plot("ridge").axes
    table = {(row["link"], row["family"]): row["p50_ns"] / 1000 for row in made.summary().rows}
    medians = sorted(
        line.get_xdata()[0] for axes in (links, baselines) for line in axes.lines if len(line.get_xdata()) == 1
    )
    assert medians == pytest.approx(sorted(table.values()))
    ridges = [line for axes in (links, baselines) for line in axes.lines if len(line.get_xdata()) > 1]
    assert len(ridges) == len(table)
    for axes in (links, baselines):
        names = rows_from_top(axes)
        heights = {round(line.get_ydata().max() - line.get_ydata().min(), 2) for line in axes.lines if line in ridges}
        assert max(heights) - min(heights) < 0.02, "each has the same height"
        assert len(names) == len({round(line.get_ydata().max()) for line in axes.lines if line in ridges})


def test_a_density_is_where_the_delays_are():
    x, y = density(np.random.default_rng(1).lognormal(np.log(8), 0.05, 20_000))
    assert y.max() == 1
    assert x[y.argmax()] == pytest.approx(8, rel=0.02)
    share = np.sum(y * (x < 8)) / np.sum(y)
    assert share == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("step", [0.01, 0.04])
def test_a_coarse_clock_makes_no_comb(step):
    delays = np.round(np.random.default_rng(1).lognormal(np.log(0.3), 0.15, 20_000) / step) * step
    _, y = density(delays)
    peaks = np.count_nonzero((y[1:-1] > y[:-2]) & (y[1:-1] >= y[2:]) & (y[1:-1] > 0.05))
    assert peaks == 1


@pytest.mark.parametrize("delays", [[7.0], [7.0] * 30, [1.0, 1000.0]], ids=["one", "equal", "far apart"])
def test_the_density_of_hardly_anything(delays):
    x, y = density(np.array(delays))
    assert np.isfinite(y).all()
    assert len(x) == len(y)
    assert x[0] < min(delays) <= max(delays) < x[-1]


# ---- stages ----


def bars(axes, y):
    """(stage, begin, length) of the bars in row y, from left to right."""
    parts = [(bar, str(container.get_label())) for container in axes.containers for bar in container]
    row = [(part, label) for part, label in parts if round(part.get_y() + part.get_height() / 2) == y]
    return [(label.removeprefix("_"), part.get_x(), part.get_width()) for part, label in row]


@pytest.mark.parametrize("family", [4, 6])
def test_a_bar_is_the_medians_of_the_stages_and_ends_by_the_median_round_trip(staged, family):
    made, planted = staged(("lo", "veth"))
    figure = made.plot("stages")
    assert [axes.get_title(loc="left") for axes in figure.axes] == [f"{p}: block, inline, stages" for p in ECHOED]
    p50 = {(row["link"], row["family"], row["probe"]): row["p50_ns"] / 1000 for row in made.summary().rows}
    for axes, probe in zip(figure.axes, ECHOED, strict=True):
        names = rows_from_top(axes)
        assert names == ["lo IPv4", "lo IPv6", "veth IPv4", "veth IPv6"]
        whole = {round((y0 + y1) / 2): x for line in axes.collections if line.get_label() == "_p50"
                 for (x, y0), (_, y1) in line.get_segments()}  # fmt: skip
        for link in ("lo", "veth"):
            y, stages = names.index(f"{link} IPv{family}"), planted[link, family, probe]
            drawn = bars(axes, y)
            assert [name for name, _, _ in drawn] == list(REPLIED if probe == "icmp" else REFLECTED)
            end = 0.0
            for name, begin, length in drawn:
                median = np.median([np.quantile(took, 0.5, method="inverted_cdf") for took in stages[name]]) / 1000
                assert (begin, length) == pytest.approx((end, median))
                (low, high), *_ = (
                    segment[:, 0]
                    for line in axes.collections
                    if line.get_label() == f"_{name} spread"
                    for segment in line.get_segments()
                    if round(segment[0, 1]) == y
                )
                quantiles = [
                    np.median([np.quantile(took, q, method="inverted_cdf") for took in stages[name]]) / 1000
                    for q in (0.1, 0.9)
                ]
                assert (low - begin, high - begin) == pytest.approx(quantiles)
                end = begin + length
            assert whole[y] == pytest.approx(p50[link, family, probe])


@pytest.mark.parametrize(
    ("links", "families", "probes"),
    [(("lo",), (4,), ("icmp",)), (("lo",), (6,), ("udp",)), (LINKS, (4, 6), ECHOED)],
    ids=["one", "another", "everything"],
)
def test_stages_can_be_read(staged, links, families, probes):
    made, _ = staged(links, families, probes, number=1, skipped=SKIPPED)
    figure = made.plot("stages")
    assert_apart(figure)
    assert_readable(figure)
    legend = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert set(legend[:-1]) == set(REPLIED if probes == ("icmp",) else REFLECTED)
    assert ("Thin lines" in words(figure)) == (len(links) == 1)


def test_a_number_stands_within_its_bar(staged):
    figure = staged(LINKS, number=1)[0].plot("stages")
    figure.draw_without_rendering()
    for axes in figure.axes:
        parts = [part.get_window_extent() for part in axes.patches if isinstance(part, Rectangle)]
        inside = [text.get_window_extent() for text in axes.texts if text.get_ha() == "center"]
        assert inside
        for text in inside:
            assert any(part.x0 <= text.x0 and text.x1 <= part.x1 and part.y0 <= text.y0 for part in parts)


def test_stages_are_told_apart_in_grey():
    for names in (REPLIED, REFLECTED):
        for (color, hatch), (other, its) in itertools.pairwise(LOOKS[name] for name in names):
            assert abs(luminance(color) - luminance(other)) > 0.1 or hatch != its
        looks = [(to_hex(LOOKS[name][0]), LOOKS[name][1]) for name in names]
        assert len(set(looks)) == len(looks)
        solid = sorted({luminance(LOOKS[name][0]) for name in names})
        assert min(b - a for a, b in itertools.pairwise(solid)) > 0.1


def test_what_has_no_stages_says_so(staged, records):
    made, _ = staged(("lo", "veth"), (4,), ("icmp",))
    for link, probe, stages, delays in (
        ("lo", "tcp-connect", False, [12_000] * 40),
        ("tap", "icmp", True, [None] * 40),
        ("tun", "icmp", True, [9_000] * 40),
    ):
        rows = records(delays)
        info = {"round": 1, **counts(rows), "stages": stages, "clock_offset_ns": OFFSET_NS if stages else None}
        made.add_run(lab.Condition(link=link, probe=probe, stages=stages), rows, info)
    figure = made.plot("stages")
    (axes,) = figure.axes
    names = rows_from_top(axes)
    said = {names[round(text.get_position()[1])]: text.get_text() for text in axes.texts if " " in text.get_text()}
    assert said == {"tap IPv4": "no reply", "tun IPv4": "no probe has every stamp"}
    assert "No stages: tcp-connect." in words(figure)


def test_without_stages_the_remedy_is_told_and_the_other_figures_are_drawn(study, staged):
    plain = study(RUNS, name="plain")
    with pytest.raises(lab.StudyError, match=r"has no stages: measure with lab compare --stages, or lab rtt lo --stag"):
        plain.plot("stages")
    assert [path.stem for path in staged(("lo",))[0].save_figures()] == list(KINDS)


# ---- ECDF and CCDF of many links ----


def coloured(axes):
    return {
        line.get_label() for line in axes.lines if line.get_color() != REST and not line.get_label().startswith("_")
    }


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_of_many_links_lo_and_one_other_are_in_colour(study, kind):
    made = study(MANY)
    figure = made.plot(kind)
    for axes in figure.axes:
        assert {line.get_label() for line in axes.lines} == set(LINKS)
        assert coloured(axes) == {"lo", "veth"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["lo", "veth", "others (14)"]
    assert "In overview and ridge only: unix-stream" in words(figure)
    grey = sorted({*LINKS} - {"lo", "veth"}, key=BASES.get)
    assert f"Grey, from fast to slow by p50 (icmp, IPv4): {', '.join(grey)}." in words(figure)
    assert coloured(made.plot(kind, highlight="tun").axes[0]) == {"lo", "tun"}
    assert coloured(made.plot(kind, highlight="lo").axes[0]) == {"lo"}
    lo = next(line for line in figure.axes[0].lines if line.get_label() == "lo")
    assert luminance(lo.get_color()) == 0


def test_without_veth_the_slowest_is_in_colour(study):
    made = study(ways(("lo", "router", "tun", "bridge")))
    assert coloured(made.plot("ecdf").axes[0]) == {"lo", "tun"}


def test_up_to_three_links_have_a_colour_each(study):
    axes = study(ways(("lo", "ipvlan", "tap"))).plot("ecdf").axes[0]
    lines = {line.get_label(): line.get_color() for line in axes.lines if not line.get_label().startswith("_")}
    assert len(set(lines.values())) == 3
    assert luminance(lines["lo"]) == 0


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_a_name_in_the_panel_touches_no_line(study, kind):
    figure = study(MANY).plot(kind)
    figure.draw_without_rendering()
    for axes in figure.axes:
        names = [text for text in axes.texts if text.get_text()]
        assert {"tun", "tap"} & {text.get_text() for text in names}
        for name, line in itertools.product(names, axes.lines):
            points = axes.transData.transform(line.get_xydata())
            steps = np.linspace(points[:-1], points[1:], 20).reshape(-1, 2)
            box = name.get_window_extent()
            assert not np.any([box.contains(x, y) for x, y in steps if box.x0 <= x <= box.x1])


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_baselines_alone_share_a_panel(study, kind):
    (axes,) = study(ways(())).plot(kind).axes
    assert axes.get_title(loc="left") == "no network"
    assert coloured(axes) == set(BASELINES)


def test_what_cannot_be_highlighted_is_refused(study):
    made = study(MANY)
    with pytest.raises(lab.UsageError, match="unknown link to highlight 'nic:eth0': choose from lo, lo-net"):
        made.plot("ecdf", highlight="nic:eth0")
    with pytest.raises(lab.UsageError, match="highlight is for ecdf and ccdf"):
        made.plot("overview", highlight="veth")


# ---- one language ----


def test_styles_differ_in_grey():
    for link in ("lo", "veth"):
        four, six = mark_of(link, 4), mark_of(link, 6)
        assert four.marker != six.marker
        assert luminance(six.color) - luminance(four.color) > 0.15
    shades = sorted(
        luminance(color) for color in (line_of("lo", []).color, line_of("veth", ["lo", "veth"]).color, REST)
    )
    assert min(b - a for a, b in itertools.pairwise(shades)) > 0.1
    dashes = {str(line_of(link, ["lo", "veth", "tun"]).linestyle) for link in ("lo", "veth", "tun")}
    assert len(dashes) == 3


def test_all_figures_are_drawn_from_one_reading(study, monkeypatch):
    made, reads = study(RUNS), []
    whole = Study.rtts
    monkeypatch.setattr(Study, "rtts", lambda self: reads.append(self) or whole(self))
    assert [path.name for path in made.save_figures()] == [f"{kind}.png" for kind in ALWAYS]
    assert len(reads) == 1


def test_a_study_with_nothing_in_it_is_an_error(study):
    with pytest.raises(lab.StudyError, match="nothing to draw"):
        study({("lo", 4, "icmp"): [[None]]}).plot()
    with pytest.raises(lab.StudyError, match="no finished run"):
        study({}, name="empty").plot()


def test_an_unknown_figure_is_refused(study):
    with pytest.raises(lab.UsageError, match="choose from overview, ecdf, ccdf, ridge"):
        study(RUNS).plot("pie")


def test_a_figure_is_saved_in_the_format_of_its_name(study, tmp_path):
    figure = study(RUNS).plot()
    assert save(figure, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in save(figure, tmp_path / "a.svg").read_bytes()
    with pytest.raises(lab.UsageError, match=r"must end in one of .*\.png"):
        save(figure, tmp_path / "a.txt")
    with pytest.raises(lab.StudyError, match="cannot write"):
        save(figure, tmp_path / "none" / "a.png")


def test_the_users_own_settings_change_nothing(study, tmp_path):
    import matplotlib as mpl

    figure = study(RUNS).plot()
    plain = save(figure, tmp_path / "plain.png").read_bytes()
    with mpl.rc_context({"savefig.dpi": 30, "savefig.facecolor": "red", "font.size": 30}):
        assert save(study(RUNS, name="again").plot(), tmp_path / "set.png").read_bytes() == plain
        assert study(RUNS, name="third").plot()._repr_png_().startswith(b"\x89PNG")


def test_what_a_notebook_keeps_is_small_and_looks_the_same(study, tmp_path):
    figure = study(RUNS).plot()
    shown = figure._repr_png_()
    whole = tmp_path / "whole.png"
    with context():
        figure.savefig(whole, dpi="figure")
    assert len(shown) < whole.stat().st_size / 2
    pixels, expected = (np.asarray(Image.open(each).convert("RGB"), int) for each in (io.BytesIO(shown), whole))
    assert pixels.shape == expected.shape
    differ = abs(pixels - expected)
    assert differ.max() < 32  # of 255
    assert differ.mean() < 0.5
