"""What makes a function a command: the parser, one line for each error, and the exit codes.

Standard output holds the result (with ``--json`` one document and nothing else); progress, warnings and errors go to
standard error. Exit 0: did what was asked; 1: could not; 2: bad usage; 130: interrupted.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from lab.errors import LabError

if TYPE_CHECKING:
    from lab.summaries import Summary

__all__ = ["app", "command", "fail", "note", "print_json", "show_summary"]

app = typer.Typer(
    name="lab",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Loopback Lab: how long does a packet take to come back, on lo and on other links?",
)


def print_json(document: dict[str, Any]) -> None:
    """One line on standard output."""
    print(json.dumps(document, ensure_ascii=False), flush=True)


def note(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr)


def show_summary(summary: Summary, as_json: bool) -> None:
    """Prints a study's table."""
    if as_json:
        for text in summary.notes():
            note(f"lab: {text}")
        print_json(summary.to_json())
        return
    from lab.terminal import print_summary

    print_summary(summary)


def fail(text: str, code: int) -> int:
    """Says what went wrong, in one line, and returns the exit code."""
    note(f"lab: error: {' '.join(text.split())}")
    return code


def command(
    example: str, name: str | None = None, *, more: str = "", **settings: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a function a command, with an example in its help, and its errors one line and an exit code.

    They are caught here rather than in ``main``, because the parser has ideas of its own about KeyboardInterrupt and
    about OSError, which some of ours are. name: if it is not the function's. more: help that follows its docstring.
    settings: of the parser's context.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except LabError as error:
                raise typer.Exit(fail(str(error), error.exit_code)) from error
            except KeyboardInterrupt as stop:
                raise typer.Exit(fail("interrupted", 130)) from stop
            except BrokenPipeError:
                raise  # whoever read our output has gone: the parser ends quietly
            except OSError as error:
                raise typer.Exit(fail(f"cannot write the output: {error.strerror}", 1)) from error

        return app.command(
            name,
            help=inspect.cleandoc(function.__doc__ or "") + more,
            epilog=f"Example: {example}",
            context_settings=settings,
        )(guarded)

    return register
