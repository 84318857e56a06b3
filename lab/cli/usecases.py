"""``lab case``: what loopback is used for, with real programs."""

from __future__ import annotations

import contextlib
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lab.cli.commands import command, note, print_json
from lab.cli.options import Json

if TYPE_CHECKING:
    from lab.usecases.report import Case

_NAMES = typer.Argument(metavar="[NAME…]", help="use cases, or all; without one they are listed")
_FOLDER = typer.Option("-o", "--output", metavar="FOLDER", help="keep the captures there, as NAME.pcapng")
_MORE = """

Servers and clients run in a private world, on scratch data, as an unprivileged user; nothing of this machine is
touched, and nothing of theirs is left. Exit 1 if none could be played, as their programs are not installed.
"""


@command("lab case redis web", "case", more=_MORE)
def show_case(
    names: Annotated[list[str] | None, _NAMES] = None,
    ipv4: Annotated[bool, typer.Option("-4", help="on 127.0.0.1 (the default)")] = False,
    ipv6: Annotated[bool, typer.Option("-6", help="on ::1")] = False,
    changed: Annotated[bool, typer.Option("--changed", help="so that it comes out otherwise, as it says")] = False,
    output: Annotated[Path | None, _FOLDER] = None,
    as_json: Json = False,
) -> None:
    """Play what loopback is used for with real programs, and tell what the packets say.

    A web server and a browser, a REST call, PostgreSQL, MariaDB, Redis, mail, names, a port test, an admin panel.
    """
    from lab.errors import UsageError
    from lab.interrupts import noted
    from lab.usecases.catalogue import USE_CASES, find
    from lab.usecases.playing import case, folder_for_captures
    from lab.usecases.usecase import NOT_TESTED

    if ipv4 and ipv6:
        raise UsageError("-4 and -6 together: give one")
    if not names:
        _list(as_json)
        return
    chosen = list(USE_CASES.values()) if names == ["all"] else [find(name) for name in names]
    folder = None if output is None else folder_for_captures(output)
    results: list[Case] = []
    # What is printed as text is told already when Ctrl-C comes, which then ends all at once.
    noting = noted() if as_json else contextlib.nullcontext(threading.Event())
    with noting as interrupted, contextlib.suppress(KeyboardInterrupt):
        for each in chosen:
            if interrupted.is_set():
                break
            if as_json:
                note(f"lab: {each.id}: {each.title}")
            file = folder / f"{each.id}.pcapng" if folder else None
            found = case(each.id, family=6 if ipv6 else 4, changed=changed, file=file)
            results.append(found)
            if not as_json:
                print(("\n\n" if len(results) > 1 else "") + str(found), flush=True)
    if as_json:
        items = [each.to_json() for each in results]
        ok = not interrupted.is_set() and all(each.status != NOT_TESTED for each in results)
        print_json({"format": 1, "items": items, "interrupted": interrupted.is_set(), "ok": ok})
    if interrupted.is_set():
        raise typer.Exit(130)
    if all(each.status == NOT_TESTED for each in results):
        raise typer.Exit(1)


def _list(as_json: bool) -> None:
    """What there is, what it needs, and whether that is here."""
    from lab.usecases.catalogue import USE_CASES, missing

    items: list[dict[str, Any]] = []
    for case in USE_CASES.values():
        lacking = missing(case)
        items.append(
            {
                "id": case.id,
                "title": case.title,
                "question": case.question,
                "needs": [need.name for need in case.needs],
                "installed": not lacking,
                "fix": "; ".join(error.fix for error in lacking),
            }
        )
    if as_json:
        print_json({"format": 1, "items": items, "ok": all(item["installed"] for item in items)})
        return
    for item in items:
        here = "" if item["installed"] else f" – not installed. {item['fix']}"
        told = f"{item['id']:12} {item['title']} ({', '.join(item['needs'])}){here}"
        print(textwrap.fill(told, 80, subsequent_indent=" " * 13, break_on_hyphens=False))
    print("\nlab case NAME plays one, lab case all plays all.")
