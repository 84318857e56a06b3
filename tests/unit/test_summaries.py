"""The table, with answers worked out by hand."""

from __future__ import annotations

import json

import pytest

import lab
from lab.studies import Study
from lab.summaries import HEADINGS, cells
from lab.tables import counts

FIVE = [[1_000 * r + d for d in (-10, 0, 10)] for r in (1, 2, 3, 4, 5)]


def row(summary, link, family=4):
    return next(r for r in summary.rows if (r["link"], r["family"]) == (link, family))


def test_the_difference_is_taken_within_each_round(study):
    """lo drifts by a factor of five; veth is 300 ns above it in each round, so the difference knows no drift."""
    veth = [[d + 300 for d in rtts] for rtts in FIVE]
    summary = study({("lo", 4, "icmp"): FIVE, ("veth", 4, "icmp"): veth}).summary()
    found = row(summary, "veth")
    assert found["p50_ns"] == 3_300
    assert found["p50_minus_lo_ns"] == 300
    assert found["p50_minus_lo_ci_ns"] == [300, 300]
    low, high = found["p50_ci_ns"]
    assert 1_300 <= low < 3_300 < high <= 5_300


def test_lo_has_no_difference_to_itself(study):
    found = row(study({("lo", 4, "icmp"): FIVE}).summary(), "lo")
    assert found["p50_minus_lo_ns"] is None
    assert found["p50_minus_lo_ci_ns"] is None


def test_no_difference_across_families_or_without_lo(study):
    summary = study({("lo", 4, "icmp"): FIVE, ("veth", 6, "icmp"): FIVE}).summary()
    assert row(summary, "veth", 6)["p50_minus_lo_ns"] is None


def test_under_five_rounds_there_is_no_interval_and_a_warning(study):
    summary = study({("lo", 4, "icmp"): FIVE[:4]}).summary()
    assert row(summary, "lo")["p50_ci_ns"] is None
    assert row(summary, "lo")["p50_ns"] == 2_500
    assert summary.warnings == ["4 rounds: no intervals below 5; give --rounds 10 or more"]


def test_under_ten_rounds_there_is_an_interval_and_a_warning(study):
    summary = study({("lo", 4, "icmp"): FIVE}).summary()
    assert row(summary, "lo")["p50_ci_ns"] is not None
    assert "5 rounds: intervals hold the truth too seldom" in summary.warnings[0]


def test_ten_rounds_pass_without_a_warning(study):
    assert study({("lo", 4, "icmp"): FIVE * 2}).summary().warnings == []


def test_a_round_in_which_nothing_came_back_is_no_number(study):
    lost = [[None, None]]
    summary = study({("lo", 4, "icmp"): FIVE + lost, ("veth", 4, "icmp"): lost + FIVE}).summary()
    found = row(summary, "lo")
    assert (found["rounds"], found["sent"], found["received"], found["lost"]) == (6, 17, 15, 2)
    assert found["p50_ns"] == 3_000
    assert row(summary, "veth")["p50_minus_lo_ns"] == pytest.approx(-1_000)  # the rounds that both have: 2 to 5


def test_nothing_came_back_at_all(study):
    found = row(study({("lo", 4, "icmp"): [[None]] * 5}).summary(), "lo")
    assert (found["p50_ns"], found["p99_ns"], found["p50_ci_ns"], found["lost"]) == (None, None, None, 5)
    assert "–" in cells(found)


def test_the_json_has_the_keys_that_others_rest_on(study):
    skip = {"link": "veth", "family": None, "probe": None, "reason": "r", "errno": 1, "fix": "f"}
    document = study({("lo", 4, "icmp"): FIVE}, skipped=[skip], warnings=["w"]).summary().to_json()
    assert document == json.loads(json.dumps(document))
    assert document["format"] == 1
    assert document["skipped"] == [skip]
    assert document["warnings"][0] == "w"
    wanted = {
        "link", "family", "probe", "size", "wait", "placement", "arrivals", "rounds", "sent", "received", "lost",
        "p50_ns", "p50_ci_ns", "p90_ns", "p90_ci_ns", "p99_ns", "p99_ci_ns", "p999_ns", "p999_ci_ns",
        "p50_minus_lo_ns", "p50_minus_lo_ci_ns", "period_ns", "think_ns", "stages",
        "response_p50_ns", "response_p50_ci_ns", "response_p99_ns", "response_p99_ci_ns",
    }  # fmt: skip
    assert set(document["rows"][0]) == wanted


def test_text_and_html_say_the_same(study):
    summary = study({("lo", 4, "icmp"): FIVE, ("lo", 6, "icmp"): FIVE}, warnings=["a <b> & c"]).summary()
    text, html = str(summary), summary._repr_html_()
    assert text.splitlines()[0].split() == " ".join(HEADINGS).split()
    for cell in cells(summary.rows[0]):
        assert cell in text
        assert f"<td>{cell}</td>" in html
    assert "a &lt;b&gt; &amp; c" in html
    assert len(summary.to_polars()) == len(summary.to_pandas()) == 2


def test_the_table_fits_eighty_columns(study, capsys):
    from lab.terminal import print_summary

    slow = [[d * 60 for d in rtts] for rtts in FIVE * 2]
    summary = study({("lo", 4, "tcp"): FIVE * 2, ("veth", 4, "tcp"): slow}).summary()
    for found in summary.rows:
        found.update(placement="cross-cpu", lost=1_000)
    print_summary(summary)
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("study: ")]
    assert max(map(len, lines)) <= 80
    assert not [word for line in lines for word in line.split() if word.endswith("…")]
    assert "block, cross-cpu" in "\n".join(lines)


def test_wide_numbers_widen_the_table_rather_than_lose_a_digit(study, capsys):
    from lab.terminal import print_summary

    slow = [[d * 60_000 for d in rtts] for rtts in FIVE * 2]
    summary = study({("lo", 4, "tcp"): FIVE * 2, ("veth", 4, "tcp"): slow}).summary()
    print_summary(summary)
    out = capsys.readouterr().out
    for row in summary.rows:
        for cell in cells(row):
            assert cell in out


def test_too_few_answered_rounds_are_said_though_all_were_run(study):
    lost = [[None, None]]
    summary = study({("lo", 4, "icmp"): FIVE[:4] + lost * 6}).summary()
    assert row(summary, "lo")["rounds"] == 10
    assert row(summary, "lo")["p50_ci_ns"] is None
    assert summary.warnings == ["4 rounds: no intervals below 5; give --rounds 10 or more"]


def test_doubts_come_from_the_study_itself(study):
    from lab.doubts import doubts

    links = {"veth": {"mtu": 60}}
    summary = study({("veth", 4, "icmp"): FIVE * 2}, world={"links": links}).summary()
    assert summary.warnings == doubts("veth", 4, "icmp", 56, mtu=60, unsent=0, foreign=0)
    assert "leave in fragments (MTU 60); -s 32 fits" in summary.warnings[0]


def test_numpy_columns(study):
    veth = [[d + 300 for d in rtts] for rtts in FIVE]
    columns = study({("lo", 4, "icmp"): FIVE, ("veth", 4, "icmp"): veth}).summary().to_numpy()
    assert columns["p50_ci_ns"].shape == (2, 2)
    assert columns["p50_minus_lo_ns"].tolist()[1] == 300
    assert columns["p50_minus_lo_ns"][0] != columns["p50_minus_lo_ns"][0]  # NaN


def test_a_schedule_is_in_the_title_and_its_response_in_the_rows(tmp_path, records):
    made = Study.create(tmp_path / "study", {"experiment": {}, "seed": 1, "skipped": [], "warnings": []})
    condition = lab.Condition(probe="udp", arrivals="poisson", period_ns=50_000, stages=True)
    for number, rtts in enumerate(FIVE, 1):
        rows = records(rtts)
        rows["due_ns"] -= 250  # each left so late
        info = {"round": number, **counts(rows), "period_ns": 50_000, "think_ns": 0, "stages": True}
        made.add_run(condition, rows, info)
    summary = made.summary()
    assert list(summary.sections()) == ["udp: block, inline, 56 bytes, poisson 20,000/s, stages"]
    assert (summary.rows[0]["p50_ns"], summary.rows[0]["response_p50_ns"]) == (3_000, 3_250)
    low, high = summary.rows[0]["response_p50_ci_ns"]
    assert low < 3_250 < high


def test_a_closed_loop_has_no_response(study):
    found = row(study({("lo", 4, "icmp"): FIVE}).summary(), "lo")
    assert found["response_p50_ns"] is found["response_p99_ci_ns"] is None


def test_a_drift_over_the_study_is_told_once(study):
    rising = [[1000 + 20 * i + offset for offset in (0, 3, 5)] for i in range(10)]
    steady = [[1000 + 7 * (i % 2) + offset for offset in (0, 3, 5)] for i in range(10)]
    said = "p50 rose by 16% over the study: differences hold, figures alone may not; measure again"
    both = {("lo", 4, "icmp"): rising, ("veth", 4, "icmp"): rising}
    assert study(both, name="both").summary().warnings == [said]
    falling = {("lo", 4, "icmp"): rising[::-1]}
    assert "p50 fell by 16%" in study(falling, name="falling").summary().warnings[0]
    assert study({("lo", 4, "icmp"): steady}, name="steady").summary().warnings == []
    short = study({("lo", 4, "icmp"): rising[:5]}, name="short").summary().warnings
    assert not any("p50 rose" in text for text in short)


def test_doubts_about_the_machine_are_told_again(study):
    made = study({("lo", 4, "icmp"): FIVE * 2}, host={"cpus_allowed": [3]})
    assert [text[:25] for text in made.summary().warnings] == ["CPU 3 is the only one tha"]
