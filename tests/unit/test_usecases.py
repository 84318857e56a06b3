"""Use cases without their programs: what is looked up in packets is so only if it is there, and all is told."""

from __future__ import annotations

import html
import re

import pytest

from lab.sayings.statements import statements
from lab.usecases.catalogue import USE_CASES, find
from lab.usecases.report import Case
from lab.usecases.seen import Packet, Seen, Talk
from lab.usecases.stage import Step, in_url
from lab.usecases.telling import asked_nobody, handshake, many, quoted, readable, refused, silent
from lab.usecases.usecase import AS_EXPLAINED, NOT_TESTED, Finding

MADE = ["→ SYN", "← SYN ACK", "→ ACK"]


def talk(*packets, state="closed", port=80, protocol="tcp", server="127.0.0.1"):
    """A conversation, of packets such as "→ SYN" and "← PSH ACK: 220 hello", a microsecond apart."""
    made = []
    for number, text in enumerate(packets, 1):
        head, _, payload = text.partition(": ")
        made.append(Packet(number, 1000 * number, head[0] == "→", head[2:], payload.encode("latin-1")))
    return Talk(0, {"server": server, "server_port": port, "protocol": protocol, "state": state}, tuple(made))


@pytest.mark.parametrize(
    ("packets", "speaker", "holds"),
    [
        ([*MADE, "→ PSH ACK: GET / HTTP/1.1"], "client", True),
        ([*MADE, "← PSH ACK: 220 hello"], "server", True),
        ([*MADE, "← PSH ACK: 220 hello"], "client", False),
        ([*MADE, "→ PSH ACK: GET / HTTP/1.1"], "server", False),
        (["→ SYN", *MADE, "→ PSH ACK: GET / HTTP/1.1"], "client", False),
        ([*MADE[1:], "→ PSH ACK: GET / HTTP/1.1"], "client", False),
        (["→ SYN: fast open", "← SYN ACK", "→ ACK"], "client", False),
        (["→ SYN", "← RST ACK"], "client", False),
        (MADE, "client", False),
    ],
)
def test_three_packets_before_the_first_byte(packets, speaker, holds):
    finding = handshake([talk(*packets)], speaker)
    assert finding.holds == holds
    assert finding.evidence


def test_the_evidence_of_a_handshake():
    told = handshake([talk(*MADE), talk(*MADE, "→ PSH ACK: GET / HTTP/1.1\r\nHost: x")]).evidence
    assert told == "SYN →, ← SYN ACK, ACK → in 2.00 µs; then the client: “GET / HTTP/1.1 Host: x”"
    assert handshake([]).evidence == "there was no connection"
    assert handshake([talk("→ SYN", "← RST ACK")]).evidence == "SYN →, ← RST ACK"


def test_what_can_be_read():
    talks = [talk(*MADE, "→ PSH ACK: GET /a", "← PSH ACK: b"), talk("→ UDP: c", protocol="udp")]
    assert readable("It", ["GET /a", "b", "c"], talks).holds
    missing = readable("It", ["GET /a", "secret"], talks)
    assert not missing.holds
    assert missing.evidence == "in the frames: “GET /a”; not: “secret”"
    assert readable("It", ["x"], []).evidence == "none of it is in the frames; not: “x”"


def test_what_spans_two_packets_can_be_read():
    assert readable("It", ["hello"], [talk("→ PSH ACK: hel", "→ PSH ACK: lo")]).holds


def test_silence_is_no_packet_and_an_answer_nevertheless():
    step = Step("ask", said="42")
    assert silent("id", "says", step).holds
    assert not silent("id", "says", step, worked=False).holds
    step.talks = (talk("→ SYN"),)
    assert not silent("id", "says", step).holds
    assert silent("id", "says", step).evidence == "1 packet; it said “42”"


def test_refused_is_all_of_them_and_not_none():
    refusal, answer = talk("→ SYN", "← RST ACK", state="refused"), talk(*MADE)
    assert refused([refusal, refusal])
    assert not refused([refusal, answer])
    assert not refused([])


def test_nobody_was_asked_for_a_name():
    assert asked_nobody(Seen((talk(*MADE),))).holds
    asked = asked_nobody(Seen((talk("→ UDP: q", "← UDP: a", port=53, protocol="udp"),)))
    assert (asked.holds, asked.evidence) == (False, "2 packets to or from port 53")


def test_conversations_belong_to_the_step_in_which_they_began():
    first, second = talk("→ SYN"), Talk(1, {}, (Packet(2, 5000, True, "SYN", b""),))
    seen = Seen((first, second))
    assert seen.between(0, 5000) == (first,)
    assert seen.between(5000, None) == (second,)
    assert seen.between(1001, 5000) == ()


def test_conversations_with_a_server():
    one, other = talk("→ SYN"), talk("→ SYN", server="::1", port=8080)
    step = Step("ask", talks=(one, other, talk("→ x", port=None, protocol="icmp6")))
    assert step.at("::1") == (other,)
    assert step.at(port=80) == (one,)
    assert step.at("127.0.0.1", 8080) == ()
    assert step.packets == 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hello\r\n  there", "“hello there”"),
        ("x" * 80, "“" + "x" * 59 + "…”"),
        ("\x00\x01\x0a5.5.5-10.11\x00ab", "“…5.5.5-10.11…”"),
        ("\x00\x00\x00\x08\x04\xd2", "6 bytes"),
        ("", "“”"),
    ],
)
def test_what_was_said_is_shown_in_a_line(text, shown):
    assert quoted(text) == shown


def test_an_icmp_error_has_no_direction():
    assert talk("→ port unreachable", protocol="icmp").opening() == "port unreachable"
    assert many(0, "packet") == "no packet"
    assert in_url("::1") + in_url("127.0.0.1") == "[::1]127.0.0.1"


# ---- all of them ----


@pytest.mark.parametrize("case", USE_CASES.values(), ids=USE_CASES)
def test_all_is_told(case):
    for text in (case.title, case.question, case.explanation, case.remember, case.changed_if, case.server, case.client):
        assert text == " ".join(text.split())
        assert text
    assert case.question.endswith("?")
    assert case.explanation.endswith(".")
    assert case.remember.endswith(".")
    assert not case.changed_if.endswith(".")
    assert case.needs
    assert all(case.flips[family] for family in (4, 6))


def test_every_home_that_is_a_use_case_is_there_and_each_is_one():
    homes = {home.removeprefix("case:") for each in statements().values() for home in each.home if "case:" in home}
    assert homes == set(USE_CASES)


def test_an_unknown_one_is_named():
    with pytest.raises(ValueError, match="unknown use case 'x': choose from web, rest, postgresql"):
        find("x")


# ---- how a result is told ----


def result(**options):
    step = Step("Ask <it>", "curl -sS " + "long " * 60, "one\ntwo\x1b[31m\nthree\nfour")
    finding = Finding("id", "It is <so>", True, "seen & found")
    return Case(USE_CASES["rest"], AS_EXPLAINED, 4, steps=(step,), findings=(finding,), **options)


def test_a_result_as_text():
    text = str(result(changed=True))
    assert max(map(len, text.splitlines())) <= 80
    assert " 1. Ask <it>: no packet" in text
    assert "two\N{REPLACEMENT CHARACTER}[31m" in text
    assert "and 2 lines more" in text
    assert "+ It is <so>\n    seen & found" in text
    assert f"Changed: {USE_CASES['rest'].changed_if}." in re.sub(r"\s+", " ", text)


def test_a_result_in_a_notebook():
    page = result()._repr_html_()
    assert "Ask &lt;it&gt;: no packet" in page
    assert "It is &lt;so&gt;" in page
    assert "seen &amp; found" in page
    assert html.escape(USE_CASES["rest"].explanation) in page


def test_a_result_as_data():
    document = result().to_json()
    assert (document["id"], document["status"], document["frames"]) == ("rest", "as-explained", None)
    assert document["steps"][0]["packets"] == 0
    assert document["findings"] == [{"id": "id", "says": "It is <so>", "holds": True, "evidence": "seen & found"}]


def test_one_that_was_not_tested_says_why():
    case = Case(USE_CASES["web"], NOT_TESTED, 4, reason="nginx is not installed", fix="Install it")
    assert str(case).endswith("not tested: nginx is not installed\nmend: Install it")
    assert "nginx is not installed" in case._repr_html_()
    assert case.ladder() is None
