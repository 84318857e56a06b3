"""What the HTML pages of ladders and anatomies have in common.

A page needs nothing but itself, and no script: what it says comes from files that somebody else wrote, and its policy
lets no browser fetch or run anything, whatever they hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from string import Template

__all__ = ["facts", "fill", "page", "shown", "warnings"]


def page(title: str, body: str, *styles: str, rules: Iterable[str] = (), large: bool = False) -> str:
    """A whole page. title: plain text. body: HTML. styles: files below this folder, read after page.css.

    rules: of style, for this page alone, after those.
    """
    return fill(
        "page.html",
        title=shown(title),
        body=body,
        style="\n".join([*map(_read, ("page.css", *styles)), *rules]),
        large=' class="large"' if large else "",
    )


def fill(template: str, **values: object) -> str:
    """A file below this folder, with values in the place of their names: ``$title``."""
    return Template(_read(template)).substitute(values)


def shown(text: str) -> str:
    """Text as HTML, with a dot for each character that would not be seen, or would turn the others round."""
    return escape("".join(each if each.isprintable() else "·" for each in text))


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values side by side; values are HTML. Those that are empty are left out."""
    rows = (f"<div><dt>{shown(name)}</dt><dd>{value}</dd></div>" for name, value in pairs if value)
    return f'<dl class="facts">{"".join(rows)}</dl>'


def warnings(texts: Iterable[str]) -> str:
    """A list of warnings; "" if there is none."""
    items = "".join(f"<li>warning: {shown(text)}</li>" for text in texts)
    return f'<ul class="warnings">{items}</ul>' if items else ""


def _read(name: str) -> str:
    return files("lab.flow").joinpath(name).read_text(encoding="utf-8")
