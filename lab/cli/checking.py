"""``lab doctor`` and ``lab verify``: what this machine can measure, and whether it is true."""

from __future__ import annotations

import typer

from lab.cli.commands import command, note, print_json
from lab.cli.options import Json, World


@command("lab doctor --json")
def doctor(as_json: Json = False) -> None:
    """Say what this machine can measure, and how to mend the rest."""
    from lab.checkup import doctor

    report = doctor()
    if as_json:
        print_json(report.to_json())
    else:
        print(report)
    if not report.ok:
        raise typer.Exit(1)


@command("lab verify --json")
def verify(world: World = None, as_json: Json = False) -> None:
    """Put the timing loop to the test on this machine; takes less than a minute.

    Exits 1 if a check fails. Let nothing else run meanwhile: it is the machine that is judged, too.
    """
    from lab.verification import verify

    report = verify(world=world, say=note)
    if as_json:
        print_json(report.to_json())
    else:
        print(report)
    if report.interrupted:
        raise typer.Exit(130)
    if not report.ok:
        raise typer.Exit(1)
