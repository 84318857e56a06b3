"""The commands: parse, call, print."""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType
from typing import Any

import typer

from lab.cli import (  # noqa: F401 - importing them makes the commands
    addresses,
    capturing,
    checking,
    flow,
    frames,
    injecting,
    listening,
    measuring,
    puzzling,
    reading,
    running,
    sayings,
    throughput,
    usecases,
)
from lab.cli.commands import app, fail

__all__ = ["main"]

#: The parser's own error, which typer does not name in public.
_ParserError: Any = typer.BadParameter.__base__


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-C where there is nothing to keep yet: ends at once, and the world with it.

    An exception could be lost here, in an import or a callback, and the command would go on. Where there is something
    to keep, ``lab.interrupts.noted`` is in charge.
    """
    show_cursor = b"\x1b[?25h" if os.isatty(2) else b""  # which a progress bar hides
    os.write(2, show_cursor + b"lab: error: interrupted\n")
    os._exit(130)


def main() -> None:
    """The command ``lab``: runs one command and exits with its code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks µ or − still gets its table
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="lab", standalone_mode=False) or 0
    except _ParserError as error:
        command = error.ctx.command_path if error.ctx else "lab"
        code = fail(f"{error.format_message().rstrip('.')}; see {command} --help", 2)
    sys.exit(code)
