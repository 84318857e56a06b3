"""``lab show`` and ``lab plot``: a saved study again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab.checks import pick
from lab.cli.commands import command, print_json, show_summary
from lab.cli.options import Json, StudyPath
from lab.figures import KINDS


@command("lab show studies/20260101T120000Z --json")
def show(study: StudyPath = None, as_json: Json = False) -> None:
    """Print a study's table again."""
    from lab.studies import Study

    show_summary(Study.load(study).summary(), as_json)


@command("lab plot --kind ccdf -o tails.png")
def plot(
    study: StudyPath = None,
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help=f"one of {', '.join(KINDS)}")] = "ecdf",
    highlight: Annotated[
        str | None,
        typer.Option("--highlight", metavar="LINK", help="in ecdf and ccdf of many links: in colour, beside lo"),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="default: KIND.png")] = None,
    as_json: Json = False,
) -> None:
    """Draw a study as a figure.

    overview: p50 and p99 of every link. ridge: the distributions of all links under one another. ecdf: which fraction
    of the round trips took no longer than x. ccdf: which took longer, to show the tail. stages: where the time goes,
    of a study measured with --stages.
    """
    from lab.figures import save
    from lab.studies import Study

    pick("figure", kind, KINDS)
    path = save(Study.load(study).plot(kind, highlight=highlight), output or Path(f"{kind}.png"))
    if as_json:
        print_json({"format": 1, "figure": str(path)})
    else:
        print(path)
