"""Every use case against the real programs: what it finds, and that it comes out otherwise where it should."""

from __future__ import annotations

import html
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import LAUNCHER

import lab
from lab.usecases import catalogue
from lab.usecases.catalogue import USE_CASES

#: Plays use cases, given as JSON lists of id, family and changed, and prints their documents.
SCRIPT = """
import json, sys
import lab
wanted = json.loads(sys.argv[1])
print(json.dumps([lab.case(name, family=family, changed=changed).to_json() for name, family, changed in wanted]))
"""


@pytest.fixture(scope="module", autouse=True)
def _installed(missing):
    for case in USE_CASES.values():
        for error in catalogue.missing(case):
            missing(str(error))


@pytest.fixture(scope="module")
def played():
    """Plays a use case, once. To keep this short, they are played by IPv4 as they are, and changed by IPv6."""
    kept: dict[tuple, lab.Case] = {}

    def played(name, changed=False, family=None):
        key = (name, family or (6 if changed else 4), changed)
        if key not in kept:
            kept[key] = lab.case(name, family=key[1], changed=changed)
        return kept[key]

    return played


@pytest.mark.parametrize("name", USE_CASES)
def test_it_is_as_explained(played, name):
    case = played(name)
    assert case.status == "as-explained", str(case)
    assert len(case.findings) >= 4
    assert all(finding.evidence for finding in case.findings)
    assert case.capture.lossless


@pytest.mark.parametrize("name", USE_CASES)
def test_what_is_changed_turns_round_what_it_should(played, name):
    case = played(name, changed=True)
    assert case.status == "otherwise", str(case)
    assert {finding.id for finding in case.findings if not finding.holds} == USE_CASES[name].flips[6], str(case)
    assert [finding.id for finding in case.findings] == [finding.id for finding in played(name).findings]


@pytest.mark.parametrize("name", USE_CASES)
def test_it_is_told_in_80_columns(played, name):
    for changed in (False, True):
        case = played(name, changed)
        text = str(case)
        assert max(map(len, text.splitlines())) <= 80
        for step in case.steps:
            assert step.text[:40] in text
        assert ("Changed: " in text) == changed
        assert text.count("\n+ ") + text.count("\n- ") == len(case.findings)
        assert html.escape(USE_CASES[name].title) in case._repr_html_()
        assert "│" in text  # its ladder


def test_as_an_unprivileged_user(missing, tmp_path):
    """By IPv6, and changed by IPv4 what has a world of its own or another outcome there."""
    wanted = [(name, 6, False) for name in USE_CASES] + [("web", 4, True), ("admin-panel", 4, True)]
    command = [sys.executable, "-c", SCRIPT, json.dumps(wanted)]
    done = subprocess.run(
        [sys.executable, str(LAUNCHER), "nobody", "--", *command],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    if done.returncode == 77:
        missing(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    for (name, family, changed), item in zip(wanted, json.loads(done.stdout), strict=True):
        otherwise = {finding["id"] for finding in item["findings"] if not finding["holds"]}
        assert item["status"] != "not-tested", item["reason"]
        assert otherwise == (USE_CASES[name].flips[family] if changed else set()), item


# ---- what they find, in numbers ----


def test_a_page_and_its_addresses(played):
    case = played("web")
    unbracketed, *others = case.steps
    assert (unbracketed.command, unbracketed.packets) == ("chromium http://::1:8080/", 0)
    assert all(step.packets >= 10 for step in others)
    assert case["unspecified"].evidence.endswith("in the packets: 127.0.0.1")
    assert "SYN →, ← SYN ACK, ACK →" in case["three-packets"].evidence


def test_a_browser_falls_back_where_localhost_listens_on_one_family(played, family):
    case = played("web", changed=True, family=family)
    asked = {talk.server: talk.state for talk in case.steps[3].at(port=8080)}
    answered = {4: "127.0.0.1", 6: "::1"}[family]
    assert asked.pop(answered) != "refused"
    assert set(asked.values()) <= {"refused"}
    assert f"from {answered} port 8080" in case["localhost"].evidence


def test_four_requests_in_one_connection_and_in_four(played):
    assert [len(played("rest", changed).steps[0].talks) for changed in (False, True)] == [1, 4]


def test_localhost_is_the_socket_for_one_database_and_the_network_for_the_other(played):
    assert [step.packets > 0 for step in played("mariadb").steps] == [True, False, True]
    assert [step.packets > 0 for step in played("postgresql").steps] == [True, True, False]


def test_round_trips_of_commands(played):
    one_by_one, pipeline = (played("redis", changed).steps[2].talks for changed in (False, True))
    sent = [
        sum(b"INCR" in packet.payload for talk in talks for packet in talk.carrying(to_server=True))
        for talks in (one_by_one, pipeline)
    ]
    assert sent == [10, 1]


@pytest.mark.parametrize("changed", [False, True])
def test_who_reaches_the_panel(played, changed):
    case = played("admin-panel", changed)
    talks = [step.at(port=port) for step, port in zip(case.steps, (8080, 8080, 8080, 8081), strict=True)]
    assert [{talk.row["interface"] for talk in each} for each in talks] == [{"lo"}, {"veth"}, set(), {"veth"}]
    assert [each[0].state == "refused" for each in talks if each] == [False, not changed, changed]


def test_ports(played):
    opened, closed, filtered, rejected = played("port-test").steps
    assert [[talk.protocol for talk in step.talks] for step in (opened, closed, filtered)] == [["tcp"]] * 3
    assert sorted(talk.protocol for talk in rejected.talks) == ["icmp", "tcp"]
    assert [packet.what for packet in closed.talks[0].packets] == ["SYN", "RST ACK"]


# ---- what it leaves ----


def test_its_capture_is_kept(tmp_path, run):
    done = run("case", "smtp", "-o", "kept", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["format"], document["ok"]) == (1, True)
    (item,) = document["items"]
    with lab.read(tmp_path / "kept/smtp.pcapng") as capture:
        assert len(capture) == item["frames"] > 10
        assert "Hello from loopback." in "".join(str(packet) for packet in map(bytes, capture))
    assert [step["packets"] for step in item["steps"]] == [item["frames"]]
    assert all(finding["holds"] for finding in item["findings"])


def test_the_capture_of_a_result_can_be_looked_at(played):
    case = played("redis")
    assert len(case.capture) == sum(step.packets for step in case.steps)
    assert case.ladder().rows
    assert case["socket"].holds
    with pytest.raises(KeyError):
        case["nothing"]


def test_ctrl_c_ends_it_at_once_and_leaves_nothing(wait_until):
    with tempfile.TemporaryDirectory(prefix="scratch") as scratch:
        Path(scratch).chmod(0o777)
        command = [sys.executable, "-m", "lab", "case", "redis"]
        with subprocess.Popen(command, env=os.environ | {"TMPDIR": scratch}, stderr=subprocess.PIPE) as process:
            wait_until(lambda: list(Path(scratch).glob("lab-redis-*")), "its server")
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
            assert b"interrupted" in process.stderr.read()
        wait_until(lambda: not list(Path(scratch).iterdir()), "the end of its server's folder")


# ---- what can't be ----


def test_they_are_listed(run):
    done = run("case")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert [line.split()[0] for line in done.stdout.splitlines() if line[:1] not in (" ", "")][:-1] == [*USE_CASES]
    items = json.loads(run("case", "--json").stdout)["items"]
    assert [item["id"] for item in items] == [*USE_CASES]
    assert all(item["installed"] for item in items)


def test_where_a_program_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("lab.services.order._SERVERS", str(tmp_path))
    for name, fix in (("redis", "apt install redis-server"), ("web", "install nginx-light"), ("dns", "dnsmasq-base")):
        case = lab.case(name)
        assert (case.status, case.findings, case.capture) == ("not-tested", (), None)
        assert fix in case.fix
        assert "not tested: " in str(case)
        assert "is not installed" in case._repr_html_()


def test_exit_codes_where_programs_are_missing(run, monkeypatch, tmp_path):
    """Only what needs nothing but curl can be played; then that is success, and nothing at all is not."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "curl").symlink_to("/usr/bin/curl")
    monkeypatch.setenv("PATH", str(folder))
    done = run("case", "redis", "rest", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [item["status"] for item in document["items"]] == ["not-tested", "as-explained"]
    assert document["ok"] is False
    assert run("case", "redis").returncode == 1
    listed = run("case").stdout
    assert "apt install redis-tools" in " ".join(listed.split())


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["nothing"], "unknown use case 'nothing': choose from web, rest,"),
        (["web", "-4", "-6"], "-4 and -6 together"),
        (["smtp", "-o", "file"], "file is no folder"),
    ],
)
def test_what_can_never_be(run, tmp_path, arguments, what):
    (tmp_path / "file").touch()
    done = run("case", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert what in done.stderr


def test_where_there_is_no_world_or_no_ipv6(run):
    done = run("case", "rest", "--json", faults=("no-userns", "no-rights"))
    assert done.returncode == 1
    (item,) = json.loads(done.stdout)["items"]
    assert item["status"] == "not-tested"
    assert "cannot make a private network" in item["reason"]
    with pytest.raises(lab.UsageError, match="unknown family 5"):
        lab.case("rest", family=5)
