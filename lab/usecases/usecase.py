"""What a use case is, and what is found in its packets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.usecases.stage import Stage

__all__ = ["AS_EXPLAINED", "NOT_TESTED", "OTHERWISE", "STATUSES", "Finding", "Need", "UseCase", "either_way"]

AS_EXPLAINED, OTHERWISE, NOT_TESTED = STATUSES = ("as-explained", "otherwise", "not-tested")


@dataclass(frozen=True)
class Finding:
    """Something that is told of the packets, and looked up in them.

    id: a word or two. says: the sentence. holds: whether it is so this time. evidence: what was seen.
    """

    id: str
    says: str
    holds: bool
    evidence: str


@dataclass(frozen=True)
class Need:
    """A program. find: its path, or whatever tells that it is there; raises Unavailable, with what to install."""

    name: str
    find: Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class UseCase:
    """A thing that people do with loopback, with real programs, and what its packets tell.

    id: a word. title: in a line. question: that it answers. server, client: the programs, in words. needs: those that
    must be installed. play: does it on a stage, step by step, and tells what it finds. explanation: for somebody who
    sees this for the first time. remember: a sentence to take home. changed_if: what is done otherwise in a changed
    world, as the end of "it comes out otherwise if …". flips: ids of the findings that are not so then, for each
    family. links: of the world. captured: the interfaces that are looked at.
    """

    id: str
    title: str
    question: str
    server: str
    client: str
    needs: tuple[Need, ...]
    play: Callable[[Stage], Iterable[Finding]]
    explanation: str
    remember: str
    changed_if: str
    flips: Mapping[int, frozenset[str]]
    links: tuple[str, ...] = ("lo",)
    captured: str = "lo"


def either_way(*ids: str) -> dict[int, frozenset[str]]:
    """The same findings for both families."""
    return {4: frozenset(ids), 6: frozenset(ids)}
