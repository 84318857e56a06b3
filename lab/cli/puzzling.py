"""``lab puzzle``: find out what is wrong, and mend it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from lab.cli.commands import command, print_json
from lab.cli.options import Json
from lab.errors import UsageError

_OF_PUZZLES = """

The world is a network of its own with nothing but lo, where you are root; /etc/hosts and its like are copies. It needs
no rights outside, and nothing of it is left. CMD takes the shell's place, for scripts. Exits 0 if all is well in the
end, else 1; with --json, what CMD prints goes to standard error.
"""
_SEEDS = 1000  # as many as are drawn from: short enough to be told to a class


@command("lab puzzle --seed 7", more=_OF_PUZZLES, allow_interspersed_args=False)
def puzzle(
    program: Annotated[list[str] | None, typer.Argument(metavar="[CMD…]", help="instead of a shell")] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="which puzzle; default: drawn now")] = None,
    solution: Annotated[bool, typer.Option("--solution", help="tell what was wrong, and how to mend it")] = False,
    as_json: Json = False,
) -> None:
    """Plant one fault of loopback in a private world, and open a shell there: find it, and mend it."""
    if as_json and not program:
        raise UsageError("--json tells what came of a command: give one in the shell's place, lab puzzle --json -- CMD")
    import secrets  # which takes as long to import as all of this module

    from lab.puzzles.playing import play

    chosen = secrets.randbelow(_SEEDS) if seed is None else seed
    result = play(chosen, program or [os.environ.get("SHELL") or "/bin/sh"], quiet=as_json)
    if as_json:
        print_json(result.to_json())
    else:
        print(result)
        if solution:
            print(f"What was wrong: {result.explains}. One way to mend it:\n  {result.mend}")
    if not result.solved:
        raise typer.Exit(1)
