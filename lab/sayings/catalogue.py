"""All claims, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Sequence

from lab.errors import UsageError
from lab.sayings import (
    always,
    binding,
    casting,
    hops,
    leading,
    leaving,
    naming,
    ranges,
    refusals,
    resolving,
    sameness,
    speed,
    stack,
    unspecified,
)
from lab.sayings.claim import Claim

__all__ = ["CLAIMS", "find"]

CLAIMS: tuple[Claim, ...] = (
    *ranges.CLAIMS,
    *leaving.CLAIMS,
    *leading.CLAIMS,
    *always.CLAIMS,
    *stack.CLAIMS,
    *naming.CLAIMS,
    *resolving.CLAIMS,
    *unspecified.CLAIMS,
    *binding.CLAIMS,
    *refusals.CLAIMS,
    *casting.CLAIMS,
    *hops.CLAIMS,
    *sameness.CLAIMS,
    *speed.CLAIMS,
)


def find(ids: Sequence[str]) -> list[Claim]:
    """The claims of these ids, or of all that begin so, each once, in the order of the catalogue; none: all.

    Raises UsageError for an id that no claim has.
    """
    if isinstance(ids, str):
        raise UsageError("give ids one by one, as in lab.claims('range-answers', 'range-source')")
    for wanted in ids:
        if not any(_is_meant(claim, wanted) for claim in CLAIMS):
            subjects = dict.fromkeys(claim.id.partition("-")[0] for claim in CLAIMS)
            raise UsageError(
                f"there is no claim {wanted!r}: give the id of one that lab claims lists, or a subject "
                f"({', '.join(subjects)})"
            )
    return [claim for claim in CLAIMS if not ids or any(_is_meant(claim, wanted) for wanted in ids)]


def _is_meant(claim: Claim, wanted: str) -> bool:
    return claim.id == wanted or (bool(wanted) and claim.id.startswith(f"{wanted}-"))
