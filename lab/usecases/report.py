"""What a use case came to, as text, in a notebook and as data."""

from __future__ import annotations

import html
import textwrap
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lab.texts import printable
from lab.usecases.stage import Step
from lab.usecases.telling import many
from lab.usecases.usecase import NOT_TESTED, Finding, UseCase

if TYPE_CHECKING:
    from lab.flow.ladder.ladders import Ladder
    from lab.taps.live import LiveCapture

__all__ = ["Case"]

_WIDTH = 80
#: Rows of the ladder, and lines of what a program printed.
_ROWS, _SAID = 10, 2


@dataclass(frozen=True)
class Case:
    """What came of a use case.

    status: "as-explained", "otherwise" (a finding was not so) or "not-tested", with the reason and the fix. family: 4
    or 6. steps: what was done, and how many packets it took. findings: what was looked up in the packets. capture: of
    all that passed; None where nothing could be played. changed: whether it was done so that it comes out otherwise.
    shown: the flows that its ladder has.
    """

    case: UseCase
    status: str
    family: int
    steps: tuple[Step, ...] = ()
    findings: tuple[Finding, ...] = ()
    capture: LiveCapture | None = field(default=None, compare=False)
    shown: tuple[int, ...] = ()
    changed: bool = False
    reason: str = ""
    fix: str = ""

    def __getitem__(self, id: str) -> Finding:  # noqa: A002 - as everywhere
        """The finding of that id. Raises KeyError."""
        return {finding.id: finding for finding in self.findings}[id]

    def ladder(self, **options: Any) -> Ladder | None:
        """The packets of the conversation that it is about, as arrows; None: there were none."""
        if self.capture is None or not self.shown:
            return None
        return self.capture.ladder(*self.shown, **{"packets": _ROWS, **options})

    def to_json(self) -> dict[str, Any]:
        """The item of the JSON document of ``lab case``."""
        case = self.case
        return {
            "id": case.id,
            "status": self.status,
            "title": case.title,
            "question": case.question,
            "server": case.server,
            "client": case.client,
            "family": self.family,
            "changed": self.changed,
            "changed_if": case.changed_if,
            "steps": [
                {"text": step.text, "command": step.command, "said": step.said, "packets": step.packets}
                for step in self.steps
            ],
            "findings": [asdict(finding) for finding in self.findings],
            "frames": None if self.capture is None else len(self.capture),
            "explanation": case.explanation,
            "remember": case.remember,
            "reason": self.reason,
            "fix": self.fix,
        }

    def lines(self) -> list[str]:
        """It as text, 80 columns wide."""
        case = self.case
        lines = [*_wrapped("", f"{case.id}: {case.title}"), *_wrapped("  ", case.question), ""]
        lines += _wrapped("  ", f"Server: {case.server}. Client: {case.client}.")
        if self.changed:
            lines += _wrapped("  ", f"Changed: {case.changed_if}.")
        if self.status == NOT_TESTED:
            return [*lines, *_wrapped("not tested: ", self.reason), *_wrapped("mend: ", self.fix)]
        for number, step in enumerate(self.steps, 1):
            lines += ["", *_step(number, step)]
        ladder = self.ladder()
        if ladder is not None:
            lines += ["", *ladder.lines()]
        lines += ["", f"{self.status}:"]
        for finding in self.findings:
            lines += _wrapped(f"{'+' if finding.holds else '-'} ", finding.says)
            lines += _wrapped("    ", finding.evidence)
        return [*lines, "", *_wrapped("", case.explanation), "", *_wrapped("> ", case.remember)]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        case = self.case
        parts = [f"<h3>{_html(case.title)}</h3><p>{_html(case.question)}</p>"]
        if self.status == NOT_TESTED:
            return "".join([*parts, f"<p>Not tested: {_html(self.reason)}. {_html(self.fix)}.</p>"])
        if self.changed:
            parts.append(f"<p>Changed: {_html(case.changed_if)}.</p>")
        steps = "".join(
            f"<li>{_html(step.text)}: {many(step.packets, 'packet')}<br><code>{_html(step.command)}</code></li>"
            for step in self.steps
        )
        rows = "".join(
            f'<tr><td>{"✓" if finding.holds else "✗"}</td><td style="text-align: left">{_html(finding.says)}</td>'
            f'<td style="text-align: left">{_html(finding.evidence)}</td></tr>'
            for finding in self.findings
        )
        ladder = self.ladder()
        drawn = "" if ladder is None else f"<pre>{_html(chr(10).join(ladder.lines()))}</pre>"
        parts += [f"<ol>{steps}</ol>", drawn, f"<table><tbody>{rows}</tbody></table>"]
        return "".join([*parts, f"<p>{_html(case.explanation)}</p><p><b>{_html(case.remember)}</b></p>"])


def _html(text: str) -> str:
    return html.escape(text)


def _step(number: int, step: Step) -> list[str]:
    lines = _wrapped(f"{number:2}. ", f"{step.text}: {many(step.packets, 'packet')}")
    if step.command:
        command = [printable(line) for line in _wrapped("    $ ", step.command)]
        lines += command if len(command) <= _SAID else [*command[:_SAID], "      …"]
    said = [printable(line) for line in step.said.splitlines() if line.strip()]
    lines += [textwrap.shorten(line, _WIDTH - 6, placeholder=" …").join(["      ", ""]) for line in said[:_SAID]]
    return [*lines, f"      and {many(len(said) - _SAID, 'line')} more"] if len(said) > _SAID else lines


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(f"{head}{text}", _WIDTH, subsequent_indent=" " * len(head), break_on_hyphens=False)
