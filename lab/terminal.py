"""What the commands draw in a terminal: the table at 80 columns, and the progress bar."""

from __future__ import annotations

import sys

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from lab.progress import Step
from lab.summaries import HEADINGS, TEXT_COLUMNS, Summary, cells

__all__ = ["ProgressBar", "print_summary"]

_WIDER_THAN_ANY_TABLE = 200


def print_summary(summary: Summary) -> None:
    """The table, then what was skipped and the warnings. A terminal narrower than the table wraps its lines."""
    console = Console(highlight=False)
    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    for index, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if index < TEXT_COLUMNS else "right", no_wrap=True)
    probe = None
    for row in summary.rows:
        if probe not in (None, row["probe"]):
            table.add_section()
        probe = row["probe"]
        table.add_row(*cells(row))
    Console(highlight=False, width=_WIDER_THAN_ANY_TABLE).print(table)  # never a digit cut off
    print()
    print(summary.footer())
    for note in summary.notes():
        console.print(note, markup=False)
    print(f"study: {summary.study}")


class ProgressBar:
    """A bar on standard error with the condition that is measured and the time left. Silent without a terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._shown = console.is_terminal
        self._bar = Progress(BarColumn(bar_width=20), TextColumn("{task.description}"), console=console, transient=True)
        self._task = self._bar.add_task("starting", total=None)
        self._announced = False
        if self._shown:
            self._bar.start()

    def __call__(self, step: Step) -> None:
        if not self._announced:
            print(f"{step.total} runs, about {step.left_s:.0f} s", file=sys.stderr)
            self._announced = True
        self._bar.update(self._task, total=step.total, completed=step.done, description=str(step))

    def close(self) -> None:
        """Takes the bar away."""
        if self._shown:
            self._bar.stop()
