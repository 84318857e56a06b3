"""What came of claims as an HTML page, with the captures beside it to download. It needs nothing but itself."""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import TYPE_CHECKING

from lab.flow.pages import facts, page, shown
from lab.sayings.claim import NOT_TESTED
from lab.sayings.statements import statements
from lab.units import format_bytes

if TYPE_CHECKING:
    from lab.sayings.report import Claims, Verdict

__all__ = ["claims_page"]

_TITLE = "What is said of loopback, put to the test"
#: Bytes of a capture that is put into the page, at most.
_MOST_BYTES = 1 << 18


def claims_page(claims: Claims, *, large: bool = False) -> str:
    """The page: a block a claim, what was seen, what decides it, and all packets that passed meanwhile."""
    style = files("lab.sayings").joinpath("claims.css").read_text(encoding="utf-8")
    tally = "".join(
        f'<li><span class="status {status}">{status}</span> {count}</li>' for status, count in claims.tally.items()
    )
    blocks = "".join(map(_block, claims.verdicts))
    return page(_TITLE, f'<ul class="tally">{tally}</ul>{blocks}', rules=[style], large=large)


def _block(verdict: Verdict) -> str:
    claim = verdict.claim
    changed = (
        f'<p class="warm">In a world that was changed: {shown(claim.refuted_by.text)}.</p>' if verdict.refuted else ""
    )
    outcomes = "".join(
        f'<tr class="{"yes" if each.holds else "no"}"><td>{"as said" if each.holds else "not so"}</td>'
        f"<td>{shown(each.case)}</td><td>{shown(each.evidence)}</td></tr>"
        for each in verdict.outcomes
    )
    seen = f"<table><tr><th></th><th>tried</th><th>seen</th></tr>{outcomes}</table>" if outcomes else ""
    notes = "".join(f"<p>{shown(note)}</p>" for note in (*verdict.notes, *verdict.dropped))
    about = facts(
        [
            ("expected", shown(claim.prediction)),
            ("decided by", shown(claim.decided_by)),
            ("otherwise if", shown(claim.refuted_by.text)),
            ("said", "; ".join(shown(f"{number}. {statements()[number].says}") for number in claim.statements)),
        ]
    )
    end = f'<p class="remember">{shown(verdict.lesson)}</p>' if verdict.lesson else ""
    if verdict.status == NOT_TESTED:
        end = f'<p class="warm">Not tested: {shown(verdict.reason)}. {shown(verdict.fix)}</p>'
    return (
        f'<section id="{shown(claim.id)}"><h2><span class="status {verdict.status}">{verdict.status}</span> '
        f'{shown(claim.says)} <a class="soft mono" href="#{shown(claim.id)}">{shown(claim.id)}</a></h2>'
        f"{changed}{seen}{notes}{end}{about}{_packets(verdict)}</section>"
    )


def _packets(verdict: Verdict) -> str:
    """What passed meanwhile, and the file of it."""
    capture = verdict.capture
    if capture is None or not len(capture):
        return ""
    data = bytes(capture.frames.contents())
    name = f"{verdict.claim.id}.pcapng"
    if len(data) > _MOST_BYTES:
        file = f"<p>The capture, of {format_bytes(len(data))}, is too large for a page: give --evidence FOLDER.</p>"
    else:
        link = f"data:application/x-pcapng;base64,{base64.b64encode(data).decode()}"
        file = f'<p><a download="{shown(name)}" href="{link}">{shown(name)}</a>, {format_bytes(len(data))}</p>'
    _first, *lines = str(capture).splitlines()
    listed = "\n".join(map(shown, lines))
    return f"<details><summary>{len(capture):,} packets that passed</summary>{file}<pre>{listed}</pre></details>"
