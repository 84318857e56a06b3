"""Telling how far an experiment is: one event a run, shown by whoever shows it."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab.conditions import Condition

__all__ = ["Progress", "Step", "default_progress"]


@dataclass(frozen=True)
class Step:
    """`done` of `total` runs are finished; `condition` is measured now (None: all are). `left_s` is the time left."""

    done: int
    total: int
    condition: Condition | None
    left_s: float
    discarded: bool

    def __str__(self) -> str:
        if self.condition is None:
            return f"{self.done} of {self.total} runs"
        what = "discarded round: " if self.discarded else ""
        return f"{self.done} of {self.total} runs, {self.left_s:.0f} s left, {what}{self.condition}"


Progress = Callable[[Step], None]


def default_progress() -> Progress | None:
    """A bar below the running cell in a notebook; None elsewhere. Needs no widgets."""
    if "ipykernel" not in sys.modules:
        return None
    from IPython.display import display

    handle: Any = None

    def show(step: Step) -> None:
        nonlocal handle
        bar = f'<progress max="{step.total}" value="{step.done}" style="width:40%"></progress> '
        bundle = {"text/plain": str(step), "text/html": bar + html.escape(str(step))}
        if handle is None:
            handle = display(bundle, raw=True, display_id=True)
        else:
            handle.update(bundle, raw=True)

    return show
