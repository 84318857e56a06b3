"""Figures draw what the study holds, and nothing that it does not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import lab
from lab.figures import KINDS, save

RNG = np.random.default_rng(5)
RUNS = {
    (link, family, probe): [list((RNG.lognormal(0, 0.3, 200) * base).astype(int)) for _ in range(3)]
    for link, base in (("lo", 5_000), ("veth", 8_000))
    for family in (4, 6)
    for probe in ("icmp", "udp")
}


@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_is_cut_or_overlaps(study, kind):
    figure = study(RUNS).plot(kind)
    figure.draw_without_rendering()
    canvas = figure.bbox
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = [tick.label1 for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
        labels = [t for t in (*ticks, axes.title, axes.xaxis.label, axes.yaxis.label) if t.get_text()]
        boxes = [label.get_window_extent() for label in labels]
        assert all(box.x0 >= canvas.x0 and box.x1 <= canvas.x1 and box.y0 >= canvas.y0 for box in boxes)
        drawn = sorted((tick.get_window_extent() for tick in ticks), key=lambda box: box.x0)
        assert len(drawn) >= 2
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(drawn))


def test_a_study_with_nothing_in_it_is_an_error(study):
    with pytest.raises(lab.StudyError, match="nothing to draw"):
        study({("lo", 4, "icmp"): [[None]]}).plot()
    with pytest.raises(lab.StudyError, match="no finished run"):
        study({}, name="empty").plot()


def test_an_unknown_figure_is_refused(study):
    with pytest.raises(lab.UsageError, match="choose from ecdf, ccdf"):
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
