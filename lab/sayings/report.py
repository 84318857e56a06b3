"""What came of claims, as data, as text and in a notebook."""

from __future__ import annotations

import html
import os
import textwrap
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import Unavailable, UsageError
from lab.sayings.claim import NOT_TESTED, STATUSES, Claim, Outcome

if TYPE_CHECKING:
    from lab.taps.live import LiveCapture

__all__ = ["Claims", "Verdict", "page_path"]

_WIDTH, _INDENT = 80, " " * 4


@dataclass(frozen=True)
class Verdict:
    """What one claim came to. status: of ``lab.sayings.claim``. outcomes: the cases that decided it.

    notes: what else belongs to the evidence. capture: all that passed meanwhile; None if that was not kept. drops: why
    the kernel dropped packets meanwhile, as it says itself, and how many (``lab.taps.drops`` says how sure that is);
    None where it tells us nothing. refuted: whether the world was changed so that it comes out otherwise. reason, fix:
    why it was not tested, and what to do.
    """

    claim: Claim
    status: str
    outcomes: tuple[Outcome, ...] = ()
    notes: tuple[str, ...] = ()
    capture: LiveCapture | None = field(default=None, compare=False)
    drops: dict[str, int] | None = None
    refuted: bool = False
    reason: str = ""
    fix: str = ""

    @property
    def evidence(self) -> str:
        """What was seen, in a line; if it was not tested, why not."""
        return self.reason or "; ".join([*map(str, self.outcomes), *self.notes, *self.dropped])

    @property
    def dropped(self) -> list[str]:
        """What the kernel says of packets that it dropped, in a line, if it says anything.

        Under load one may be a stranger's: the kernel tells in whose time it was, not whose.
        """
        told = ", ".join(f"{count:,} × {why}" for why, count in (self.drops or {}).items())
        return [f"the kernel dropped meanwhile, mostly of these packets: {told}"] if told else []

    @property
    def lesson(self) -> str:
        """What to remember: of the world as it is, and so nothing of one that was changed, or of no experiment."""
        return "" if self.refuted or self.status == NOT_TESTED else self.claim.remember

    @property
    def frames(self) -> int | None:
        """How many frames passed; None if none were kept."""
        return None if self.capture is None else len(self.capture)

    def to_json(self) -> dict[str, Any]:
        """The item of the JSON document."""
        claim = self.claim
        return {
            "id": claim.id,
            "status": self.status,
            "says": claim.says,
            "statements": list(claim.statements),
            "prediction": claim.prediction,
            "evidence": self.evidence,
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
            "notes": list(self.notes),
            "frames": self.frames,
            "drops": self.drops,
            "otherwise_if": claim.refuted_by.text,
            "refuted": self.refuted,
            "decided_by": claim.decided_by,
            "remember": claim.remember,
            "fix": self.fix,
        }

    def lines(self) -> list[str]:
        """A block of text, 80 columns wide."""
        changed = f" (changed: {self.claim.refuted_by.text})" if self.refuted else ""
        lines = _wrapped(f"{self.status:13} {self.claim.id}: ", self.claim.says + changed)
        for outcome in self.outcomes:
            lines += _wrapped(f"{_INDENT}{'+' if outcome.holds else '-'} ", f"{outcome.case}: {outcome.evidence}")
        for note in (*self.notes, *self.dropped):
            lines += _wrapped(f"{_INDENT}  ", note)
        if self.status == NOT_TESTED:
            return [*lines, *_wrapped(f"{_INDENT}why: ", self.reason), *_wrapped(f"{_INDENT}mend: ", self.fix)]
        return [*lines, *(_wrapped(f"{_INDENT}> ", self.lesson) if self.lesson else [])]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__


@dataclass(frozen=True)
class Claims:
    """What all of them came to, or those that were finished before Ctrl-C. ``ok`` if each was tested."""

    verdicts: tuple[Verdict, ...]
    interrupted: bool = False

    @property
    def ok(self) -> bool:
        """Whether all that were asked for could be tested. A claim that was found false was tested, too."""
        return not self.interrupted and all(verdict.status != NOT_TESTED for verdict in self.verdicts)

    @property
    def tally(self) -> dict[str, int]:
        """How many came to each status."""
        counted = Counter(verdict.status for verdict in self.verdicts)
        return {status: counted[status] for status in STATUSES if counted[status]}

    def __getitem__(self, id: str) -> Verdict:  # noqa: A002 - as everywhere
        """The verdict on the claim of that id. Raises KeyError."""
        found = {verdict.claim.id: verdict for verdict in self.verdicts}
        return found[id]

    def __len__(self) -> int:
        return len(self.verdicts)

    def to_json(self) -> dict[str, Any]:
        """The JSON document, format 1."""
        items = [verdict.to_json() for verdict in self.verdicts]
        return {"format": 1, "items": items, "interrupted": self.interrupted, "ok": self.ok}

    def page(self, *, large: bool = False) -> str:
        """It as an HTML page that needs nothing else, with the captures to download. large: for a projector."""
        from lab.sayings.page import claims_page

        return claims_page(self, large=large)

    def save(self, path: str | os.PathLike[str], *, large: bool = False) -> Path:
        """Writes the page. Returns the path. Raises UsageError for a name that is no page's, Unavailable."""
        path = page_path(path)
        try:
            path.write_text(self.page(large=large), encoding="utf-8")
        except OSError as error:
            raise Unavailable(f"cannot write {path}", errno=error.errno, fix="Name another file") from error
        return path

    def summary(self) -> str:
        """How many came to what, in a line."""
        counted = ", ".join(f"{count} {status}" for status, count in self.tally.items())
        claims = "1 claim" if len(self) == 1 else f"{len(self)} claims"
        return f"{claims}: {counted}" if counted else "no claim was tested"

    def __str__(self) -> str:
        return "\n\n".join([*map(str, self.verdicts), self.summary()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [_row("th", "claim", "status", "what was seen"), *map(_verdict_row, self.verdicts)]
        return f"<table>{''.join(rows)}</table><p>{self.summary()}</p>"


def page_path(path: str | os.PathLike[str]) -> Path:
    """The path of a page. Raises UsageError for a name that is none of a page's."""
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path}: the name of a page must end in .html")
    return path


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        f"{head}{text}", _WIDTH, subsequent_indent=_INDENT + "  ", break_long_words=False, drop_whitespace=True
    )


def _row(kind: str, *cells: str) -> str:
    """A row of a notebook's table. Its style is its own: notebooks align to the right, and allow no style sheet."""
    begin = f'<{kind} style="text-align: left; vertical-align: top; white-space: normal">'
    return f"<tr>{''.join(f'{begin}{cell}</{kind}>' for cell in cells)}</tr>"


def _verdict_row(verdict: Verdict) -> str:
    """What a claim says, and in which world; what it came to; each case with what was seen, and what to remember."""
    claim, shown = verdict.claim, html.escape
    said = [f"<code>{claim.id}</code>", shown(claim.says)]
    if verdict.refuted:
        said.append(f"<i>changed:</i> {shown(claim.refuted_by.text)}")
    if verdict.status == NOT_TESTED:
        seen = [shown(verdict.reason), shown(verdict.fix)]
    else:
        seen = [
            f"{'✓' if outcome.holds else '✗'} {shown(outcome.case)}: <i>{shown(outcome.evidence)}</i>"
            for outcome in verdict.outcomes
        ]
        seen += map(shown, (*verdict.notes, *verdict.dropped))
        seen += [f"<b>{shown(verdict.lesson)}</b>"] if verdict.lesson else []
    return _row("td", "<br>".join(said), f"<b>{verdict.status}</b>", "<br>".join(seen))
