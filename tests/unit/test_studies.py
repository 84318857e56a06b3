"""The format on disk: what is written is read again, by us and by others, and damage is said."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

import lab
from lab.records import FLAGS, STAMPS
from lab.studies import HOME, Study
from lab.tables import batches, schema

RUNS = {("lo", 4, "icmp"): [[5_000, None, 7_000, -2_000_000_000]], ("veth", 6, "udp"): [[8_000], [9_000]]}


def test_what_is_written_is_read_again(study):
    made = study(RUNS)
    again = Study.load(made.path)
    assert again.document == made.document
    assert again.complete
    assert [run["file"] for run in again.runs] == [f"probes/0000{i}.parquet" for i in range(3)]
    table = again.to_polars()
    assert dict(table.schema) == schema()
    assert table.columns == [
        "run", "link", "family", "probe", "size", "wait", "placement", "arrivals", "seq", "due_ns", "tx_ns",
        "tx_done_ns", "rx_ns", "rtt_ns", "far_rx_ns", "far_tx_ns", "user_rx_ns", "reply_ttl", "status", "flags",
        "near_sched_real_ns", "near_soft_real_ns", "far_rx_real_ns", "far_sched_real_ns", "far_soft_real_ns",
        "near_rx_real_ns", "ack_real_ns",
    ]  # fmt: skip
    assert len(table) == 6


def test_lost_and_late_probes_are_never_a_number(study):
    made = study(RUNS)
    table = made.to_polars().filter(pl.col("run") == 0)
    assert table["status"].to_list() == ["received", "lost", "received", "late"]
    assert table["rtt_ns"].to_list() == [5_000, None, 7_000, None]
    assert table["rx_ns"].is_null().to_list() == [False, True, False, False]
    assert made.rtts()[0].tolist() == [5_000, 7_000]
    assert {name: made.runs[0][name] for name in ("sent", "received", "lost", "late")} == {
        "sent": 4, "received": 2, "lost": 2, "late": 1,
    }  # fmt: skip


def test_duplicate_and_reordered_are_statuses_of_received_probes(records):
    rows = records([1, 2, 3, None])
    rows["flags"] = [0, FLAGS["duplicate"], FLAGS["reordered"] | FLAGS["duplicate"], FLAGS["duplicate"]]
    (table,) = batches(0, lab.Condition(), rows)
    assert table["status"].to_list() == ["received", "duplicate", "reordered", "lost"]
    assert table["rtt_ns"].to_list() == [1, 2, 3, None]


def test_a_long_run_is_converted_in_parts(records):
    rows = records(range(1, 26))
    parts = list(batches(3, lab.Condition(), rows, rows=10))
    assert [len(part) for part in parts] == [10, 10, 5]
    assert pl.concat(parts)["seq"].to_list() == list(range(25))


def test_conversions_agree(study):
    made = study(RUNS)
    table, frame, arrays = made.to_polars(), made.to_pandas(), made.to_numpy()
    assert list(frame.columns) == list(arrays) == table.columns
    assert np.array_equal(frame["rtt_ns"], arrays["rtt_ns"], equal_nan=True)
    assert np.isnan(arrays["rtt_ns"][1])
    assert arrays["link"].tolist() == table["link"].to_list()
    assert frame["status"].tolist() == table["status"].to_list()


def test_another_reader_reads_it(study):
    """json and plain Parquet: nothing of ours is needed."""
    made = study(RUNS)
    document = json.loads((made.path / "study.json").read_text())
    assert document["format"] == 1
    rows = pl.read_parquet(made.path / document["runs"][0]["file"])
    assert rows["rx_ns"][0] - rows["tx_ns"][0] == rows["rtt_ns"][0] == 5_000


def test_an_unfinished_study_says_so_and_keeps_its_runs(study):
    made = Study.load(study(RUNS, complete=False).path)
    assert not made.complete
    assert len(made.to_polars()) == 6
    assert any("partial" in warning for warning in made.summary().warnings)
    assert not list(made.path.rglob("*.part"))


def test_a_folder_that_exists_is_left_alone(study):
    made = study(RUNS)
    before = sorted(made.path.rglob("*"))
    with pytest.raises(lab.UsageError, match="exists: name another folder with -o"):
        Study.create(made.path, {})
    assert sorted(made.path.rglob("*")) == before


def test_an_output_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(lab.StudyError, match=r"cannot write .*; name another folder with -o"):
        Study.create(tmp_path / "file" / "study", {})


def test_a_newer_format_is_refused(study):
    made = study(RUNS)
    file = made.path / "study.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))
    with pytest.raises(lab.StudyError, match=r"format 2, and this version reads format 1: pip install -U"):
        Study.load(made.path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1', '{"format": 1}'])
def test_a_damaged_study_is_an_error(study, text):
    made = study(RUNS)
    (made.path / "study.json").write_text(text)
    with pytest.raises(lab.StudyError, match="cannot be read"):
        Study.load(made.path)


def test_a_run_that_is_gone_is_an_error(study):
    made = study(RUNS)
    (made.path / "probes/00001.parquet").unlink()
    with pytest.raises(lab.StudyError, match=r"damaged: 00001\.parquet is gone"):
        Study.load(made.path).summary()


def test_a_run_that_is_cut_is_an_error(study):
    made = study(RUNS)
    file = made.path / "probes/00001.parquet"
    file.write_bytes(file.read_bytes()[:100])
    for read in (lambda: Study.load(made.path).summary(), Study.load(made.path).to_polars):
        with pytest.raises(lab.StudyError, match="is damaged"):
            read()


def test_no_study_at_all(tmp_path, monkeypatch):
    with pytest.raises(lab.UsageError, match=r"no study\.json"):
        Study.load(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(lab.StudyError, match="make one with lab compare"):
        Study.load()


def test_the_newest_study_is_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (
        Study.create(None, {"experiment": {}, "seed": seed, "skipped": [], "warnings": []}) for seed in (1, 2)
    )
    assert first.path.parent == second.path.parent == HOME
    assert Study.load().path == second.path
    assert Study.load().summary().rows == []


def test_the_stamps_of_a_run_are_kept(tmp_path, records):
    rows = records([5_000, 6_000])
    stamps = np.zeros(2, STAMPS)
    stamps["near_sched_real_ns"] = [7, 0]
    stamps["ack_real_ns"] = [0, 9]
    made = Study.create(tmp_path / "study", {"experiment": {}, "seed": 1, "skipped": [], "warnings": []})
    made.add_run(lab.Condition(probe="tcp", stages=True), rows, {"round": 1}, stamps)
    made.add_run(lab.Condition(probe="tcp"), rows, {"round": 1})
    table = made.to_polars()
    assert table["near_sched_real_ns"].to_list() == [7, None, None, None]
    assert table["ack_real_ns"].to_list() == [None, 9, None, None]


def test_a_study_made_before_there_were_stamps_is_read(study):
    made = study(RUNS)
    names = [name for name in schema() if name.endswith("_real_ns")]
    for file in (made.path / "probes").iterdir():
        pl.read_parquet(file).drop(names).write_parquet(file)
    table = Study.load(made.path).to_polars()
    assert dict(table.schema) == schema()
    assert all(table[name].null_count() == len(table) for name in names)
    assert [row["p50_ns"] for row in made.summary().rows] == [5_000, 8_500]
