"""What a claim is, and how the cases that were tried decide it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.sayings.scene import Scene

__all__ = ["DEPENDS", "FALSE", "HOLDS", "IN_PART", "NOT_TESTED", "STATUSES", "Change", "Claim", "Outcome", "decide"]

HOLDS, IN_PART, FALSE, DEPENDS, NOT_TESTED = STATUSES = ("holds", "holds-in-part", "false", "depends", "not-tested")


@dataclass(frozen=True)
class Outcome:
    """One case of an experiment. case: what was tried. holds: whether it was as the claim says.

    evidence: what was seen: what a counter, a frame, an errno or a program said, such as "ECONNREFUSED (…)".
    """

    case: str
    holds: bool
    evidence: str

    def __str__(self) -> str:
        return f"{'yes' if self.holds else 'no'}: {self.case}: {self.evidence}"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What makes a world in which a claim comes out otherwise.

    text: in words, as the end of "it is otherwise if …". make: changes the scene before the experiment; what it enters
    into ``scene.opened`` is undone in the end. becomes: the claim's status there.
    """

    text: str
    make: Callable[[Scene], None]
    becomes: str


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence that is said of loopback, and how it is put to the test.

    id: short words with dashes, the subject first. says: the sentence. statements: numbers of those in
    ``statements.toml`` that it puts to the test. prediction: what whoever believes it expects to see, as the question
    that a class is asked before. expected: the status that an ordinary Linux machine comes to. experiment: tries it in
    a scene, case by case. mixed: the status if only some cases are as it says: "holds-in-part", or "depends" where the
    cases are all ordinary, and which one has decides. links: of the world; impair: what worsens them. refuted_by: the
    change that turns it round. decided_by: the RFC or the kernel's source. remember: one sentence to take home.
    captured: whether all that passes is kept as evidence; a capture would disturb what is about speed.
    """

    id: str
    says: str
    statements: tuple[int, ...]
    prediction: str
    expected: str
    experiment: Callable[[Scene], Iterable[Outcome]]
    refuted_by: Change
    decided_by: str
    remember: str
    mixed: str = IN_PART
    links: tuple[str, ...] = ("lo",)
    impair: str | None = None
    captured: bool = True


def decide(outcomes: Sequence[Outcome], mixed: str = IN_PART) -> str:
    """The status that the cases come to. Raises ValueError if there is none: nothing was tried."""
    if not outcomes:
        raise ValueError("an experiment without a case decides nothing")
    right = sum(outcome.holds for outcome in outcomes)
    return HOLDS if right == len(outcomes) else FALSE if not right else mixed
