"""What the commands draw in a terminal: the table at 80 columns, and the progress bar."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from lab.progress import Step
from lab.summaries import Summary

__all__ = ["ProgressBar", "print_summary"]


def print_summary(summary: Summary) -> None:
    """The table, then what was skipped and the warnings, wrapped between words."""
    print(summary.table())  # never a digit cut off: a terminal narrower than the table wraps its lines
    print()
    for text in (summary.footer(), *summary.notes()):
        Console(highlight=False).print(text, markup=False)
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
