"""``lab claims`` as it is typed: listed, foreseen, kept, and interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading

import pytest
from conftest import LAUNCHER

import lab
from lab.sayings.catalogue import CLAIMS

LAB = [sys.executable, "-m", "lab"]


@pytest.fixture(autouse=True)
def _world(world):
    """Skips where no private world can be made."""


def test_what_there_is(run):
    listed = run("claims", "--list")
    assert listed.returncode == 0
    assert max(map(len, listed.stdout.splitlines())) <= 80
    items = json.loads(run("claims", "--list", "--json").stdout)["items"]
    assert [item["id"] for item in items] == [claim.id for claim in CLAIMS]
    for item in items:
        assert item["id"] in listed.stdout


def test_text_and_json_tell_the_same(run):
    text = run("claims", "hops-ttl", "range-source")
    assert text.returncode == 0
    assert max(map(len, text.stdout.splitlines())) <= 80
    told = run("claims", "hops-ttl", "range-source", "--json")
    document = json.loads(told.stdout)
    assert (document["format"], document["ok"], document["interrupted"]) == (1, True, False)
    assert [item["id"] for item in document["items"]] == ["range-source", "hops-ttl"]  # in the catalogue's order
    for item in document["items"]:
        assert f"{item['status']:13} {item['id']}" in text.stdout
        assert item["evidence"]
        assert item["frames"] > 0
        assert item["decided_by"]


def test_a_subject_refuted(run):
    items = json.loads(run("claims", "hops-ttl", "--refute", "--json").stdout)["items"]
    (claim,) = (claim for claim in CLAIMS if claim.id == "hops-ttl")
    assert [(item["status"], item["refuted"]) for item in items] == [(claim.refuted_by.becomes, True)]


def test_evidence_is_kept(run, tmp_path):
    done = run("claims", "range-source", "--evidence", "kept", "-o", "page.html")
    assert done.returncode == 0
    assert len(lab.read(tmp_path / "kept/range-source.pcapng")) > 0
    assert "<!DOCTYPE html>" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("typed", "score"),
    [("f\n", "1 of 1"), ("h\n", "0 of 1"), ("maybe\nF\n", "1 of 1"), ("q\n", "0 of 0"), ("", "0 of 0")],
)
def test_predictions_are_scored(tmp_path, typed, score):
    done = subprocess.run(
        [*LAB, "claims", "hops-ttl", "--predict"], input=typed, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.endswith(f"{score} foreseen\n")
    assert ("h, p, f, d or q" in done.stdout) == ("maybe" in typed)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_ctrl_c_ends_predictions_with_the_score(tmp_path):
    process = subprocess.Popen(
        [*LAB, "claims", "hops-ttl", "range-source", "--predict"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    process.stdin.write("h\n")  # of range-source, which the catalogue has first
    process.stdin.flush()
    shown = ""
    while shown.count("\n> ") < 2:
        letter = process.stdout.read(1)
        assert letter, shown
        shown += letter
    assert "You foresaw it." in shown
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    watchdog.cancel()
    assert process.returncode == 130
    assert out.splitlines()[-1] == "1 of 1 foreseen"
    assert err == "lab: error: interrupted\n"


def test_predictions_where_no_world_can_be_made(tmp_path):
    launcher = [sys.executable, str(LAUNCHER), "no-userns", "no-rights", "--"]
    done = subprocess.run(
        [*launcher, *LAB, "claims", "hops-ttl", "--predict"],
        input="f\n", capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout.endswith("0 of 0 foreseen\n")


def test_ctrl_c_keeps_what_was_tested(tmp_path):
    process = subprocess.Popen(
        [*LAB, "claims", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    while not process.stderr.readline().startswith("3 of "):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    document = json.loads(out)
    assert process.returncode == 130
    assert (document["interrupted"], document["ok"]) == (True, False)
    assert 2 <= len(document["items"]) < len(CLAIMS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "there is no claim 'nope': give the id of one that lab claims lists, or a subject (range, "),
        (["range", "nope-not"], "there is no claim 'nope-not'"),
        (["--predict", "--json"], "--predict asks whoever sits here"),
        (["--predict", "-o", "page.html"], "--predict keeps nothing: leave --output and --evidence out"),
        (["--list", "--evidence", "kept"], "--list keeps nothing"),
        (["hops-ttl", "-o", "page.txt"], "page.txt: the name of a page must end in .html"),
        (["hops-ttl", "--evidence", "taken"], "taken is a file: name a folder"),
    ],
)
def test_bad_usage(run, tmp_path, arguments, said):
    (tmp_path / "taken").write_text("")
    done = run("claims", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_where_no_world_can_be_made(run):
    done = run("claims", "hops-ttl", "--json", faults=("no-userns", "no-rights"))
    (item,) = json.loads(done.stdout)["items"]
    assert done.returncode == 1
    assert (item["status"], json.loads(done.stdout)["ok"]) == ("not-tested", False)
    assert "cannot make a private network" in item["evidence"]
    assert item["fix"]
