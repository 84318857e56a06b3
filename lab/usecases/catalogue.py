"""All use cases, and which of them can be played here."""

from __future__ import annotations

from lab.errors import Unavailable, UsageError
from lab.usecases import databases, messages, reach, web
from lab.usecases.usecase import UseCase

__all__ = ["USE_CASES", "find", "missing"]

USE_CASES: dict[str, UseCase] = {case.id: case for module in (web, databases, messages, reach) for case in module.CASES}


def find(name: str) -> UseCase:
    """The use case of that name. Raises UsageError."""
    if name not in USE_CASES:
        raise UsageError(f"unknown use case {name!r}: choose from {', '.join(USE_CASES)}")
    return USE_CASES[name]


def missing(case: UseCase) -> list[Unavailable]:
    """What would have to be installed for it; nothing: it can be played."""
    lacking = []
    for need in case.needs:
        try:
            need.find()
        except Unavailable as error:
            lacking.append(error)
    return lacking
