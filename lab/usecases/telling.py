"""Findings that several use cases have, each looked up in the packets."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lab.texts import printable
from lab.units import format_ns
from lab.usecases.seen import Seen, Talk
from lab.usecases.stage import Step
from lab.usecases.usecase import Finding

__all__ = ["asked_nobody", "handshake", "many", "quoted", "readable", "refused", "silent"]

_HANDSHAKE = ["SYN", "SYN ACK", "ACK"]
_QUOTED = 60
#: Text within what is none: some letters in a row.
_TEXT = re.compile("[ -~]{6,}")


def many(count: int, what: str) -> str:
    """``"no packet"``, ``"1 packet"``, ``"2 packets"``."""
    return f"{count or 'no'} {what}{'s' if count > 1 else ''}"


def quoted(text: str) -> str:
    """The beginning of what somebody said, as it may be shown in a line; of what is no text, the most that is some."""
    said = " ".join(text.split())
    if not said.isprintable() or not said.isascii():
        runs = _TEXT.findall(said)
        said = f"…{max(runs, key=len).strip()}…" if runs else ""
        if not said:
            return f"{len(text)} bytes"
    return f"“{printable(said if len(said) <= _QUOTED else said[: _QUOTED - 1] + '…')}”"


def handshake(talks: Sequence[Talk], first_speaker: str = "client") -> Finding:
    """Three packets before the first byte. first_speaker: who says something first, "client" or "server"."""
    says = f"Three packets make the connection; then the {first_speaker} speaks first"
    for talk in talks:
        spoken = talk.first_words
        made = [packet.what for packet in talk.before_data] == _HANDSHAKE
        if spoken is not None:
            took = format_ns(talk.before_data[-1].time_ns - talk.packets[0].time_ns) if talk.before_data else "0"
            speaker = "client" if spoken.to_server else "server"
            said = quoted(spoken.payload.decode("latin-1"))
            evidence = f"{talk.opening(len(talk.before_data))} in {took}; then the {speaker}: {said}"
            return Finding("three-packets", says, made and speaker == first_speaker, evidence)
    evidence = talks[0].opening(4) if talks else "there was no connection"
    return Finding("three-packets", says, False, evidence)


def readable(what: str, words: Sequence[str], talks: Sequence[Talk]) -> Finding:
    """All of these words stand in the packets, as they were sent."""
    text = "\n".join(talk.said(to_server=side) for talk in talks for side in (True, False))
    found = [word for word in words if word in text]
    missing = [word for word in words if word not in text]
    evidence = "in the frames: " + ", ".join(map(quoted, found)) if found else "none of it is in the frames"
    if missing:
        evidence += "; not: " + ", ".join(map(quoted, missing))
    return Finding("readable", f"{what} can be read in the packets", not missing, evidence)


def silent(id: str, says: str, step: Step, *, worked: bool = True) -> Finding:  # noqa: A002 - a finding's
    """A step sent no packet at all. worked: whether it came to something nevertheless, as it should."""
    return Finding(
        id, says, not step.packets and worked, f"{many(step.packets, 'packet')}; it said {quoted(step.said)}"
    )


def refused(talks: Sequence[Talk]) -> bool:
    """Whether somebody was asked, and nobody listened there."""
    return bool(talks) and all(talk.state == "refused" for talk in talks)


def asked_nobody(seen: Seen) -> Finding:
    """No name server was asked."""
    says = "No name server is asked: what is numeric, and localhost, is known"
    return Finding("no-lookup", says, seen.lookups == 0, f"{many(seen.lookups, 'packet')} to or from port 53")
