"""TCP's states by the segments that were seen, beside the diagrams of RFC 9293."""

from __future__ import annotations

import pytest

from lab.flow.ladder.states import Segment, find_changes

CLIENT, SERVER = 0, 1


def script(*lines):
    """Segments from lines such as "C SYN 1 -": the side, its flags, the end of its bytes, what it acknowledges."""
    segments = []
    for place, line in enumerate(lines):
        side, flags, end, acked = line.split()
        segments.append(
            Segment(
                place,
                "CS".index(side),
                *(flag in flags.split("+") for flag in ("SYN", "FIN", "RST")),
                int(end),
                -1 if acked == "-" else int(acked),
            )
        )
    return segments


def told(*lines):
    """By place, the states of client and server that the segment brings about."""
    found = {}
    for place, side, state in find_changes(script(*lines)):
        assert "CS"[side] not in found.setdefault(place, {})
        found[place]["CS"[side]] = state
    return found


OPENED = ("C SYN 1 -", "S SYN 1 1", "C ACK 1 1")
OPENING = {0: {"C": "SYN-SENT", "S": "SYN-RECEIVED"}, 1: {"C": "ESTABLISHED"}, 2: {"S": "ESTABLISHED"}}


def test_a_handshake():
    assert told(*OPENED) == OPENING


def test_a_close_by_one_side_after_the_other():
    """RFC 9293, figure 12."""
    changes = told(*OPENED, "C FIN 2 1", "S ACK 1 2", "S FIN 2 2", "C ACK 2 2")
    assert changes == OPENING | {
        3: {"C": "FIN-WAIT-1", "S": "CLOSE-WAIT"},
        4: {"C": "FIN-WAIT-2"},
        5: {"S": "LAST-ACK", "C": "TIME-WAIT"},
        6: {"S": "CLOSED"},
    }


def test_a_close_in_three_segments():
    changes = told(*OPENED, "S FIN 2 1", "C FIN 2 2", "S ACK 2 2")
    assert changes == OPENING | {
        3: {"S": "FIN-WAIT-1", "C": "CLOSE-WAIT"},
        4: {"C": "LAST-ACK", "S": "TIME-WAIT"},
        5: {"C": "CLOSED"},
    }


def test_a_close_by_both_at_once():
    """RFC 9293, figure 13."""
    changes = told(*OPENED, "C FIN 2 1", "S FIN 2 1", "C ACK 2 2", "S ACK 2 2")
    assert changes == OPENING | {
        3: {"C": "FIN-WAIT-1"},
        4: {"S": "FIN-WAIT-1 → CLOSING", "C": "CLOSING"},
        5: {"S": "TIME-WAIT"},
        6: {"C": "TIME-WAIT"},
    }


def test_a_call_by_both_at_once():
    """RFC 9293, figure 7."""
    changes = told("C SYN 1 -", "S SYN 1 -", "C SYN 1 1", "S SYN 1 1")
    assert changes == {
        0: {"C": "SYN-SENT"},
        1: {"S": "SYN-SENT → SYN-RECEIVED", "C": "SYN-RECEIVED"},
        2: {"S": "ESTABLISHED"},
        3: {"C": "ESTABLISHED"},
    }


@pytest.mark.parametrize(
    ("lines", "last"),
    [
        (("C SYN 1 -", "S RST 0 1"), {"C": "CLOSED"}),
        ((*OPENED, "C RST 1 1"), {"C": "CLOSED", "S": "CLOSED"}),
        ((*OPENED, "S FIN 2 1", "C ACK 1 2", "C RST 1 2"), {"C": "CLOSED", "S": "CLOSED"}),
    ],
    ids=["refused", "by the client", "after half a close"],
)
def test_resets(lines, last):
    changes = told(*lines)
    assert changes[len(lines) - 1] == last


def test_a_syn_without_an_answer_leaves_the_other_side_unknown():
    assert told("C SYN 1 -", "C SYN 1 -", "C SYN 1 -") == {0: {"C": "SYN-SENT"}}


def test_of_a_syn_that_was_sent_again_the_one_that_was_answered_arrived():
    changes = told("C SYN 1 -", "C SYN 1 -", "S SYN 1 1", "C ACK 1 1")
    assert changes == {
        0: {"C": "SYN-SENT"},
        1: {"S": "SYN-RECEIVED"},
        2: {"C": "ESTABLISHED"},
        3: {"S": "ESTABLISHED"},
    }


def test_an_acknowledgement_that_did_not_keep_the_other_from_sending_again_did_not_arrive():
    changes = told(*OPENED, "C FIN 2 1", "S FIN 2 2", "C ACK 2 2", "S FIN 2 2", "C ACK 2 2")
    assert changes[4] == {"S": "LAST-ACK", "C": "TIME-WAIT"}
    assert 5 not in changes
    assert changes[7] == {"S": "CLOSED"}


def test_a_capture_that_began_in_the_midst():
    assert told("S ACK 5 7", "C FIN 8 5", "S ACK 5 8") == {
        1: {"C": "FIN-WAIT-1", "S": "CLOSE-WAIT"},
        2: {"C": "FIN-WAIT-2"},
    }
    assert told("S SYN 1 1", "C ACK 1 1") == {
        0: {"S": "SYN-RECEIVED", "C": "ESTABLISHED"},
        1: {"S": "ESTABLISHED"},
    }
