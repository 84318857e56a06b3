"""The numbered list of what is said of loopback, ``statements.toml``."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["Statement", "statements"]


@dataclass(frozen=True)
class Statement:
    """Something that is said. source: in which article. home: where it is answered, beside the claims that name it."""

    number: int
    source: str
    says: str
    home: tuple[str, ...]


@functools.cache
def statements() -> dict[int, Statement]:
    """All of them, by number."""
    text = files("lab.sayings").joinpath("statements.toml").read_text(encoding="utf-8")
    listed = tomllib.loads(text)["statement"]
    return {each["number"]: Statement(**{**each, "home": tuple(each["home"])}) for each in listed}
