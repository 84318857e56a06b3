"""What a check found, as an item of a report, and how a report shows itself."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["GROUPS", "Check", "Item", "Report", "guarded"]

#: What items are about, in the order in which a report tells them, and the heading of each.
GROUPS = {
    "loopback": "this network's loopback",
    "server": "the server that was asked for",
    "lab": "what the lab can measure",
}
_LINKS = "links, and what their packets cross"


@dataclass(frozen=True)
class Item:
    """One finding. status: ok, partial (something costs), missing, denied or crashed. ``fix`` is empty if ok.

    crosses, needs: of a link, what its packets cross, and what it needs beside a private network. optional: a link that
    few kernels have, whose absence is no trouble. group: one of ``GROUPS``. windows, macos: what would be done there,
    where the same trouble is known.
    """

    id: str
    status: str
    evidence: str
    fix: str = ""
    cost: str = ""
    crosses: str | None = None
    needs: str | None = None
    optional: bool = False
    group: str = "lab"
    windows: str = ""
    macos: str = ""

    @property
    def well(self) -> bool:
        """Whether it is no trouble, though something may cost."""
        return self.status in ("ok", "partial") or self.optional


@dataclass(frozen=True)
class Report:
    """All findings. ``ok`` if nothing is missing, denied or crashed but what is optional."""

    items: tuple[Item, ...]

    @property
    def ok(self) -> bool:
        """Whether loopback is well and everything can be measured, at some cost perhaps."""
        return all(item.well for item in self.items)

    def to_json(self) -> dict[str, Any]:
        """The JSON document, format 1."""
        return {"format": 1, "items": [asdict(item) for item in self.items], "ok": self.ok}

    def __str__(self) -> str:
        """A block a finding, 80 columns wide, under the heading of its group; the links together, at the end."""
        parts = []
        said: set[str] = set()
        for group, heading in GROUPS.items():
            items = [item for item in self.items if item.group == group and not item.crosses]
            if items:
                parts.append(
                    [heading, *(line for item in items for line in _block(item, item.id, item.evidence, said))]
                )
        links = [item for item in self.items if item.crosses]
        if links:
            parts.append([_LINKS, *(line for item in links for line in _link_block(item))])
        return "\n\n".join("\n".join(part) for part in parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _link_block(item: Item) -> list[str]:
    needs = f" (needs {item.needs})" if item.needs else ""
    return _block(item, item.id.removeprefix("link-"), f"{item.crosses}{needs}")


def _block(item: Item, name: str, text: str, said: set[str] | None = None) -> list[str]:
    """Lines for one finding: its status, its name and `text`, then what is wrong, what it costs and what mends it.

    said: what was said of other systems before, and isn't said again.
    """
    indent = " " * 24

    def wrapped(head: str, text: str) -> str:
        return textwrap.fill(
            text, 80, initial_indent=head, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )

    more = (
        ("", item.evidence if item.crosses and item.status != "ok" else ""),
        ("costs: ", item.cost),
        ("mend: ", item.fix),
        *(each for each in (("Windows: ", item.windows), ("macOS: ", item.macos)) if each[1] not in (said or ())),
    )
    if said is not None:
        said |= {item.windows, item.macos}
    lines = [wrapped(f"{item.status:7} {name:15} ", text)]
    return lines + [wrapped(indent, label + each) for label, each in more if each]


#: Looks at one thing, and tells what it found.
Check = Callable[[], Iterator[Item]]


def guarded(check: Check, group: str = "lab") -> Iterator[Item]:
    """A check that fails in a way nobody thought of is a finding too, not the end of all others."""
    try:
        yield from check()
    except Exception as error:
        name = check.__name__.strip("_").replace("_", "-")
        yield Item(name, "crashed", f"{type(error).__name__}: {error}", "Report it, with this line", group=group)
