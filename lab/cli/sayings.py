"""``lab claims``: what is said of loopback, put to the test."""

from __future__ import annotations

import signal
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lab.cli.commands import command, note, print_json
from lab.cli.options import Json
from lab.errors import UsageError
from lab.sayings.claim import DEPENDS, FALSE, HOLDS, IN_PART, NOT_TESTED

if TYPE_CHECKING:
    from lab.sayings.claim import Claim
    from lab.sayings.report import Verdict

_KEYS = {"h": HOLDS, "p": IN_PART, "f": FALSE, "d": DEPENDS}


@command("lab claims range --refute")
def claims(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID…]", help="claims, or subjects; default: all")] = None,
    predict: Annotated[bool, typer.Option("--predict", help="ask what you expect first, and keep a score")] = False,
    refute: Annotated[
        bool, typer.Option("--refute", help="in worlds that are changed so that each claim comes out otherwise")
    ] = False,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="ask all 16,777,216 addresses of 127.0.0.0/8 where a sample is asked")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="list the claims, and test nothing")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.html", help="write a page with all evidence to FILE")
    ] = None,
    evidence: Annotated[
        Path | None, typer.Option("--evidence", metavar="FOLDER", help="keep the captures in FOLDER, as ID.pcapng")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put what is said of loopback to the test, with packets as evidence.

    Each claim is tried in a private world of its own, so nothing here can hurt this machine's network, and no rights
    are needed. Holds, holds in part, false, depends: all of them are results, and exit 0. Exit 1 if none of the claims
    could be tested here.
    """
    from lab.sayings.catalogue import find
    from lab.sayings.report import page_path
    from lab.sayings.trials import claims as put_all_to_test

    if predict and (as_json or listed):
        raise UsageError("--predict asks whoever sits here: leave --json and --list out")
    if (predict or listed) and (output or evidence):
        raise UsageError(f"--{'predict' if predict else 'list'} keeps nothing: leave --output and --evidence out")
    chosen = find(ids or [])
    if listed:
        _list(chosen, as_json)
        return
    if predict:
        _quiz(chosen, refute, exhaustive)
        return
    if output is not None:
        page_path(output)  # before it takes a minute
    found = put_all_to_test(
        *(ids or []),
        refuted=refute,
        exhaustive=exhaustive,
        evidence=evidence,
        say=note if as_json else None,
        done=None if as_json else _tell,
    )
    if output is not None:
        found.save(output)
    if as_json:
        print_json(found.to_json())
    else:
        print(found.summary())
    if found.interrupted:
        raise typer.Exit(130)
    if not any(verdict.status != NOT_TESTED for verdict in found.verdicts):
        raise typer.Exit(1)


def _tell(verdict: Verdict) -> None:
    print(f"{verdict}\n", flush=True)


def _list(chosen: list[Claim], as_json: bool) -> None:
    """What there is to be tested."""
    if as_json:
        print_json({"format": 1, "items": [{"id": claim.id, "says": claim.says} for claim in chosen]})
        return
    for claim in chosen:
        print(textwrap.fill(f"{claim.id:18} {claim.says}", 80, subsequent_indent=" " * 19))


def _quiz(chosen: list[Claim], refute: bool, exhaustive: bool) -> None:
    """Asks what is expected of each claim, shows what comes of it, and keeps a score, which Ctrl-C ends as q does."""
    letters = ", ".join(f"{key} {status}" for key, status in _KEYS.items())
    print(f"Does it hold? {letters}; q ends it.\n")
    foreseen: list[bool | None] = []
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # other commands just end, having nothing to keep
    try:
        for claim in chosen:
            changed = f" But now {claim.refuted_by.text}." if refute else ""
            print(textwrap.fill(f"{claim.says}{changed} Who believes it expects: {claim.prediction}.", 80))
            guess = _guess()
            if guess is None:
                break
            foreseen.append(_is_foreseen(claim, guess, refute, exhaustive))
    finally:
        signal.signal(signal.SIGINT, before)
        asked = [each for each in foreseen if each is not None]
        print(f"{sum(asked)} of {len(asked)} foreseen")
    if foreseen and not asked:
        raise typer.Exit(1)


def _is_foreseen(claim: Claim, guess: str, refute: bool, exhaustive: bool) -> bool | None:
    """Whether a claim comes to what was expected, which is shown; None if it can't be tested."""
    from lab.sayings.trials import put_to_test

    verdict = put_to_test(claim, refuted=refute, exhaustive=exhaustive)
    print(verdict)
    if verdict.status == NOT_TESTED:
        return None
    print("You foresaw it.\n" if verdict.status == guess else f"You expected: {guess}.\n")
    return verdict.status == guess


def _guess() -> str | None:
    """What is typed, as a status; None at the end."""
    while True:
        print("> ", end="", flush=True)
        typed = ""
        try:
            typed = sys.stdin.readline()
        finally:
            if not typed.endswith("\n"):  # Ctrl-D, Ctrl-C: what follows begins a line
                print()
        answer = typed.strip().lower()
        if not typed or answer == "q":
            return None
        if answer in _KEYS:
            return _KEYS[answer]
        print(f"{', '.join(_KEYS)} or q")
