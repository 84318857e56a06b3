"""The CPUs that a user names for the ends of a stream, instead of those that are chosen for him."""

from __future__ import annotations

import os
from collections.abc import Sequence

from lab.conditions import Condition
from lab.errors import Unavailable, UsageError
from lab.streams import Cpus

__all__ = ["assigned", "parse_cpus"]

_ROLES = ("the near end", "the far end", "the wire")


def parse_cpus(asked: str | Sequence[int], placement: str | None) -> tuple[int, ...]:
    """``"1,0"`` → (1, 0): of the near end, the far end and the wire, as far as they are named.

    Raises UsageError for a CPU that is not there, or not ours to use, and where they don't suit the placement. None:
    there are several placements.
    """
    several = asked.split(",") if isinstance(asked, str) else [asked] if isinstance(asked, int) else asked
    names = [str(cpu) for cpu in several]
    allowed = [str(cpu) for cpu in sorted(os.sched_getaffinity(0))]
    for name in names:
        if name.strip() not in allowed:
            raise UsageError(f"CPU {name.strip()!r} is not among those that this process may use: {', '.join(allowed)}")
    cpus = tuple(int(name) for name in names)
    if len(cpus) > len(_ROLES):
        raise UsageError(f"{len(cpus)} CPUs: give one each for {', '.join(_ROLES)}, in this order, or fewer")
    if placement == "cross-cpu" and len(set(cpus[:2])) < 2:
        raise UsageError(
            f"--cpus {','.join(map(str, cpus))} with cross-cpu: give two different ones, NEAR,FAR, of "
            f"{', '.join(allowed)}; or --placement same-cpu or inline"
        )
    if placement in ("inline", "same-cpu") and len(set(cpus[:2])) > 1:
        raise UsageError(f"{placement} is on one CPU: give --cpus {cpus[0]}, or --placement cross-cpu")
    return cpus


def assigned(cpus: tuple[int, ...], condition: Condition, *, wired: bool) -> Cpus:
    """The given CPUs as those of a condition. A wire without one shares the near end's.

    Raises UsageError if it would have to spin there, Unavailable if there is none for the far end.
    """
    near = cpus[0]
    if condition.placement == "cross-cpu" and len(set(cpus[:2])) < 2:
        raise Unavailable(f"{condition} is between two CPUs, and --cpus {near} is one", errno=None, fix="Give NEAR,FAR")
    far = None if condition.placement == "inline" else cpus[1] if condition.placement == "cross-cpu" else near
    wire = None if not wired else cpus[2] if len(cpus) == len(_ROLES) else near
    if wire in (near, far) and wired and condition.wait == "spin":
        raise UsageError(
            f"the wire would spin on CPU {wire}, with another end: give --cpus NEAR,FAR,WIRE, or --wait block"
        )
    return Cpus(near, far, wire)
