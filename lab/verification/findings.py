"""What the checks found, as data and as text. Pure."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["FAIL", "PASS", "SHOWN", "SKIPPED", "Finding", "Item", "Report"]

PASS, FAIL, SKIPPED = "pass", "fail", "skipped"
#: Of a finding that is told and not judged.
SHOWN = "shown"


@dataclass(frozen=True)
class Finding:
    """What came of one check in one place. where: such as ``udp IPv4 lo``. status: pass, fail, skipped or shown."""

    where: str
    status: str
    evidence: str

    @classmethod
    def judged(cls, where: str, right: bool, evidence: str) -> Finding:
        """A finding that passes or fails."""
        return cls(where, PASS if right else FAIL, evidence)

    def __str__(self) -> str:
        mark = "" if self.status in (PASS, SHOWN) else f"{self.status}: "
        return f"{self.where}: {mark}{self.evidence}"


@dataclass(frozen=True)
class Item:
    """One check. claim: what must hold. fix: what to do, if it doesn't."""

    id: str
    claim: str
    findings: tuple[Finding, ...]
    fix: str = ""

    @property
    def status(self) -> str:
        """What it came to: fail if it fails anywhere; else pass if it passes somewhere; else skipped."""
        found = {finding.status for finding in self.findings}
        return FAIL if FAIL in found else PASS if PASS in found else SKIPPED

    @property
    def evidence(self) -> str:
        """What was found: where it failed, or else everywhere."""
        failed = [finding for finding in self.findings if finding.status == FAIL]
        return "; ".join(map(str, failed or self.findings))

    def to_json(self) -> dict[str, Any]:
        """The item of the JSON document."""
        return {
            "id": self.id,
            "status": self.status,
            "claim": self.claim,
            "evidence": self.evidence,
            "fix": self.fix if self.status == FAIL else "",
            "findings": [asdict(finding) for finding in self.findings],
        }


@dataclass(frozen=True)
class Report:
    """All checks, or those that were finished before Ctrl-C. ``ok`` if none failed, and none is missing."""

    items: tuple[Item, ...]
    interrupted: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing was found wrong; what was skipped is not known to be right."""
        return not self.interrupted and all(item.status != FAIL for item in self.items)

    def to_json(self) -> dict[str, Any]:
        """The JSON document, format 1."""
        items = [item.to_json() for item in self.items]
        return {"format": 1, "items": items, "interrupted": self.interrupted, "ok": self.ok}

    def __str__(self) -> str:
        """A block a check, 80 columns wide: what must hold, then what was found."""
        return "\n".join(line for item in self.items for line in _block(item))

    __repr__ = __str__


def _block(item: Item) -> list[str]:
    def wrapped(head: str, text: str) -> str:
        return textwrap.fill(text, 80, initial_indent=head, subsequent_indent=" " * 24, break_long_words=False)

    lines = [wrapped(f"{item.status:7} {item.id:15} ", item.claim)]
    lines += [wrapped(" " * 8, str(finding)) for finding in item.findings]
    return lines + ([wrapped(" " * 8, f"mend: {item.fix}")] if item.status == FAIL else [])
