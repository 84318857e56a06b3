"""``lab doctor`` and ``lab verify``: is loopback well, what can this machine measure, and is it true."""

from __future__ import annotations

from typing import Annotated

import typer

from lab.cli.commands import command, note, print_json
from lab.cli.options import Json, World

Server = Annotated[
    str | None,
    typer.Argument(metavar="PORT|URL", help="a web server of this machine: 8080, http://localhost:8080/path"),
]
Loopback = Annotated[bool, typer.Option("--loopback", help="examine loopback alone, not what the lab can measure")]
Whose = Annotated[
    str | None,
    typer.Option("--world", metavar="host|PID", help="whose loopback: this machine's own, or that of a process"),
]


@command("lab doctor http://localhost:8080/")
def doctor(server: Server = None, loopback: Loopback = False, world: Whose = None, as_json: Json = False) -> None:
    """Say what is wrong with loopback, what this machine can measure, and how to mend it.

    With the port or the URL of a server, it is asked as 127.0.0.1, [::1] and localhost, by a browser too. Nothing is
    changed. Exits 1 if it found trouble.
    """
    from lab.checkup import doctor

    report = doctor(server, world=world, loopback=loopback)
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
