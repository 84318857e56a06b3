"""``lab ladder`` and ``lab anatomy``, as they are typed: what they print, write and exit with."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import lab

SIGNATURES = {".png": b"\x89PNG\r\n", ".pdf": b"%PDF", ".svg": b"<?xml", ".html": b"<!DOCTYPE html>"}


@pytest.fixture
def tcp(recorded, family):
    return recorded("tcp", "lo", family)


@pytest.fixture
def ping(recorded, family):
    return recorded("echo", "lo", family)


def test_a_ladder_is_printed_in_80_columns(run, tcp):
    done = run("ladder", str(tcp))
    assert done.returncode == 0, done.stderr
    with lab.read(tcp) as capture:
        assert done.stdout == f"{capture.ladder()}\n"
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("▶" in line or "◀" in line for line in lines) == 11
    for state in ("SYN-SENT", "ESTABLISHED", "FIN-WAIT-2", "TIME-WAIT", "LAST-ACK"):
        assert state in done.stdout


def test_its_document_has_every_packet(run, tcp):
    document = json.loads(run("ladder", str(tcp), "--json").stdout)
    assert document["format"] == 1
    assert document["file"] == str(tcp)
    assert document["folded"] == 0
    assert [row["packet"]["number"] for row in document["rows"]] == list(range(1, 12))
    folded = json.loads(run("ladder", str(tcp), "--json", "--rows", "5").stdout)
    assert len(folded["rows"]) <= 5
    assert folded["folded"] + sum("packet" in row for row in folded["rows"]) == 11


@pytest.mark.parametrize("ending", SIGNATURES)
@pytest.mark.parametrize("what", [["ladder"], ["anatomy", "--frame", "2"], ["anatomy", "--beside", "2"]])
def test_what_is_drawn_is_written(run, recorded, tmp_path, what, ending):
    tcp = recorded("tcp", "lo", 6)
    done = run(*what, str(tcp), "-o", f"drawn{ending}", "--large")
    assert (done.returncode, done.stdout) == (0, f"drawn{ending}\n"), done.stderr
    assert (tmp_path / f"drawn{ending}").read_bytes().startswith(SIGNATURES[ending])


def test_a_ladder_of_standard_input(tcp):
    with tcp.open("rb") as file:
        done = subprocess.run([sys.executable, "-m", "lab", "ladder", "-"], stdin=file, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "FIN-WAIT-1" in done.stdout


def test_an_anatomy_names_every_field(run, ping, family):
    done = run("anatomy", str(ping))
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    document = json.loads(run("anatomy", str(ping), "--json").stdout)
    assert [layer["name"] for layer in document["layers"]][:2] == ["Ether", "IP" if family == 4 else "IPv6"]
    with lab.read(ping) as capture:
        assert bytes.fromhex("".join(layer["data"] for layer in document["layers"])) == bytes(capture[0])


def test_an_exercise_keeps_its_solution_apart(run, ping, family):
    name = "IP.ttl" if family == 4 else "IPv6.hlim"
    exercise, solution = (run("anatomy", str(ping), "--blank", name, *more) for more in ([], ["--solution"]))
    assert solution.stdout.startswith(f"{name}  64")
    assert len(solution.stdout.splitlines()) == 1
    full = run("anatomy", str(ping)).stdout
    assert exercise.stdout != full
    drawn = [run("anatomy", str(ping), "--blank", "3", "--seed", seed, "--solution").stdout for seed in ("1", "1", "2")]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0].splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["ladder", "FILE", "--flow", "9"], 2, "give 0 to 0"),
        (["ladder", "FILE", "--flow", "x"], 2, "such as 0,2"),
        (["ladder", "FILE", "--by", "colour"], 2, "endpoint, process"),
        (["ladder", "FILE", "--rows", "1"], 2, "3 to 1,000"),
        (["ladder", "FILE", "-o", "drawn.doc"], 2, ".html"),
        (["ladder", "FILE", "-f", "tcp port"], 2, "pcap-filter(7)"),
        (["ladder", "FILE", "--both-copies"], 1, "--both-copies"),
        (["ladder", "FILE", "-f", "arp"], 1, "no conversation"),
        (["ladder", "FILE", "-o", "nowhere/drawn.png"], 1, "ENOENT"),
        (["ladder", "missing.pcapng"], 1, "No such file"),
        (["anatomy", "FILE", "--frame", "99"], 2, "has 11"),
        (["anatomy", "FILE", "--blank", "IP.nothing"], 2, "choose from"),
        (["anatomy", "FILE", "--solution"], 2, "--blank"),
        (["anatomy", "FILE", "--blank", "1", "--solution", "-o", "drawn.html"], 2, "give one"),
        (["anatomy", "FILE", "--beside", "2", "--blank", "1"], 2, "give one"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_a_line(run, recorded, arguments, code, word):
    tcp = recorded("tcp", "lo", 4)
    done = run(*(str(tcp) if each == "FILE" else each for each in arguments))
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert word in line


def test_a_file_that_was_cut_is_drawn_as_far_as_it_goes(run, tcp, tmp_path):
    (tmp_path / "cut.pcapng").write_bytes(tcp.read_bytes()[:1000])
    done = run("ladder", "cut.pcapng")
    assert done.returncode == 1
    assert "SYN ACK" in done.stdout
    assert "the file ends within" in done.stderr
