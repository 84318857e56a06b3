"""The states that TCP goes through on both sides of a flow, by the segments that were seen (RFC 9293, 3.3.2).

What was seen counts as arrived, with two exceptions: of what was sent again, only the last before an answer does; and a
SYN or FIN arrives after one of the other side's that does not acknowledge it yet, as when both close at once. A host's
own view may differ where segments were lost behind the tap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["Change", "Segment", "find_changes"]

_CLIENT, _SERVER = 0, 1


class Segment(NamedTuple):
    """One that may change a state. side: 0 if the client sent it. Positions: as ``lab.taps.segments`` has them."""

    place: int
    side: int
    syn: bool
    fin: bool
    rst: bool
    end: int
    acked: int


class Change(NamedTuple):
    """From the segment at that place on, that side is in that state; "A → B": it sent it in A, and then came into B."""

    place: int
    side: int
    state: str


class _Event(NamedTuple):
    """place, and order within it: what is sent, then what it acknowledges, then what arrives. side: whose state."""

    place: int
    order: int
    side: int
    what: str


#: What each event makes of a state; what is not named leaves it as it is.
_NEXT: dict[str, dict[str, str]] = {
    "sends SYN": {"CLOSED": "SYN-SENT", "LISTEN": "SYN-RECEIVED"},
    "gets SYN": {"LISTEN": "SYN-RECEIVED", "SYN-SENT": "SYN-RECEIVED"},
    "gets SYN ACK": {"SYN-SENT": "ESTABLISHED"},
    "gets ACK of SYN": {"SYN-RECEIVED": "ESTABLISHED"},
    "sends FIN": {"SYN-RECEIVED": "FIN-WAIT-1", "ESTABLISHED": "FIN-WAIT-1", "CLOSE-WAIT": "LAST-ACK"},
    "gets ACK of FIN": {"FIN-WAIT-1": "FIN-WAIT-2", "CLOSING": "TIME-WAIT", "LAST-ACK": "CLOSED"},
    "gets FIN": {
        "SYN-RECEIVED": "CLOSE-WAIT",
        "ESTABLISHED": "CLOSE-WAIT",
        "FIN-WAIT-1": "CLOSING",
        "FIN-WAIT-2": "TIME-WAIT",
    },
}


def find_changes(segments: Sequence[Segment]) -> list[Change]:
    """The changes of a flow's states, in the order of their segments.

    segments: at least those with SYN, FIN or RST, and the first of each side that acknowledges each of the other's.
    A side of which no SYN was seen, while the other has spoken without one, was connected before.
    """
    states = list(_beginnings(segments))
    sender = {each.place: each.side for each in segments}
    changes: dict[tuple[int, int], str] = {}
    for event in sorted(_events(segments)):
        before = states[event.side]
        after = "CLOSED" if event.what == "reset" else _NEXT[event.what].get(before or "", before)
        if after is not None and after != before and before is not None:
            states[event.side] = after
            at = event.place, event.side
            sent = changes.get(at) if sender[event.place] == event.side else None
            changes[at] = f"{sent} → {after}" if sent else after
    return [Change(*at, state) for at, state in changes.items()]


def _beginnings(segments: Sequence[Segment]) -> tuple[str | None, str | None]:
    """The states before the first segment; None: not known."""
    if not any(each.syn for each in segments):
        return "ESTABLISHED", "ESTABLISHED"
    client, server = (next((each for each in segments if each.side == side), None) for side in (_CLIENT, _SERVER))
    calls = "CLOSED" if client is not None and client.syn else None
    if server is None or not server.syn:
        return calls, None
    if server.acked < 0:
        return calls, "CLOSED"  # both call at once
    return calls or "SYN-SENT", "LISTEN"  # or else the SYN came before the capture


def _events(segments: Sequence[Segment]) -> Iterator[_Event]:
    for each in segments:
        if each.rst:
            yield _Event(each.place, 0, each.side, "reset")
            yield _Event(each.place, 0, 1 - each.side, "reset")
    for side in (_CLIENT, _SERVER):
        answers = [each for each in segments if each.side != side]
        own = [each for each in segments if each.side == side]
        sent = {
            "SYN": [each for each in own if each.syn and each.acked < 0],
            "SYN ACK": [each for each in own if each.syn and each.acked >= 0],
            "FIN": [each for each in own if each.fin],
        }
        for name, those in sent.items():
            if those:
                yield from _of_flag(name, those, answers)


def _of_flag(name: str, sent: Sequence[Segment], answers: Sequence[Segment]) -> Iterator[_Event]:
    """What one side's SYN, SYN ACK or FIN does, sent once or more, and the other's acknowledgement."""
    side, end = sent[0].side, sent[0].end
    flag = name.split()[0]
    yield _Event(sent[0].place, 0, side, f"sends {flag}")
    acks = [each.place for each in answers if each.acked >= end]
    unaware = (each for each in answers if getattr(each, flag.lower()) and each.acked < end)
    places = (each.place for each in (*sent, *unaware) if not acks or each.place < acks[0])
    last = max((*places, sent[0].place))
    yield _Event(last, 2, 1 - side, f"gets {name}")
    arrived = next((place for place in acks if place > sent[-1].place), acks[-1] if acks else None)
    if arrived is not None:
        yield _Event(arrived, 1, side, f"gets ACK of {flag}")
