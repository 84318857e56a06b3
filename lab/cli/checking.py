"""``lab doctor``: what this machine can measure."""

from __future__ import annotations

import typer

from lab.cli.commands import command, print_json
from lab.cli.options import Json


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
