"""What an experiment is: links × families × probes, in rounds whose order is drawn from a seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.checks import check_count, pick
from lab.conditions import (
    ARRIVALS,
    BASELINES,
    ECHOED,
    FAMILIES,
    KERNEL_REPLIES,
    NIC,
    PLACEMENTS,
    PROBES,
    SCHEDULABLE,
    STAGED,
    WAITS,
    WAYS,
    Condition,
    pick_way,
)
from lab.errors import UsageError
from lab.impairments import Impairment
from lab.tuning import Tuning

__all__ = ["Experiment"]

#: Probes that are sent first in each stream and not recorded, unless told otherwise.
DEFAULT_WARMUP = 100
MAX_ROUNDS = 10_000
#: A guess of what a run costs, until the first round has been timed: opening and writing, and each probe.
_RUN_S = 0.03
_PROBE_S = {"inline": 15e-6, "same-cpu": 25e-6, "cross-cpu": 100e-6}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """links × families × probes, `rounds` times. Raises UsageError for what no machine can run.

    A baseline among the links is one condition. target: the address that a nic:NAME among them asks. cpus: of the near
    end, the far end and the wire; none: they are chosen.
    """

    links: tuple[str, ...] = WAYS
    families: tuple[int, ...] = FAMILIES
    probes: tuple[str, ...] = ECHOED
    target: str | None = None
    impair: Impairment | None = None
    rounds: int = 10
    count: int = 1000
    warmup: int = DEFAULT_WARMUP
    size: int = Condition.size
    wait: str = Condition.wait
    placement: str = Condition.placement
    port: str = Condition.port
    timeout_ns: int = Condition.timeout_ns
    arrivals: str = Condition.arrivals
    period_ns: int | None = Condition.period_ns
    think_ns: int = Condition.think_ns
    stages: bool = Condition.stages
    cpus: tuple[int, ...] = ()
    seed: int = 0
    budget_ns: int | None = None
    tuning: Tuning = field(default_factory=Tuning)

    def __post_init__(self) -> None:
        for what, values, known in (
            ("link", self.links, (*self.links, *WAYS)),
            ("family", self.families, FAMILIES),
            ("probe", self.probes, PROBES),
        ):
            if not values:
                raise UsageError(f"no {what} to measure: choose from {', '.join(map(str, known))}")
            for value in values:
                pick(what, value, known)
        for link in self.links:
            pick_way(link)
        pick("wait mode", self.wait, WAITS)
        pick("placement", self.placement, PLACEMENTS)
        pick("arrivals", self.arrivals, ARRIVALS)
        check_count("number of rounds", self.rounds, high=MAX_ROUNDS)
        check_count("count", self.count)
        check_count("warm-up", self.warmup, low=0)
        check_count("seed", self.seed, low=0, high=2**63)
        if self.target is not None and not any(link.startswith(NIC) for link in self.links):
            raise UsageError("--target is for network cards: give nic:NAME among --links, or leave it out")
        if not self.conditions():
            raise UsageError("no condition to measure: nic:NAME answers icmp only, in the IP version of its --target")

    def conditions(self) -> list[Condition]:
        """The cells, in the order of tables."""
        links = list(dict.fromkeys(self.links))
        cells = [
            self._cell(link, family, probe)
            for probe in dict.fromkeys(self.probes)
            for family in dict.fromkeys(self.families)
            for link in links
            if link not in BASELINES and not self._is_foreign(link, family, probe)
        ]
        return cells + [self._cell(link, None, link) for link in links if link in BASELINES]

    def _is_foreign(self, link: str, family: int, probe: str) -> bool:
        """Whether a network card leaves this cell out: its target has one family, and answers icmp only."""
        if not link.startswith(NIC) or self.target is None:
            return False
        return probe != "icmp" or family != (6 if ":" in self.target else 4)

    def _cell(self, link: str, family: int | None, probe: str) -> Condition:
        """The condition as far as its kind allows: what the kernel answers is inline, and not all has a schedule."""
        wait, placement = {"shm": ("spin", "cross-cpu"), "syscall": ("block", "inline")}.get(
            probe, (self.wait, "inline" if probe in KERNEL_REPLIES else self.placement)
        )
        paced: dict[str, Any] = {"arrivals": self.arrivals, "period_ns": self.period_ns, "think_ns": self.think_ns}
        return Condition(
            link=link,
            target=self.target if link.startswith(NIC) else None,
            family=family,
            probe=probe,
            size=self.size,
            wait=wait,
            placement=placement,
            port=self.port if probe == "tcp-syn" else Condition.port,
            timeout_ns=self.timeout_ns,
            **(paced if probe in SCHEDULABLE else {}),
            stages=self.stages and probe in STAGED,
            impair=self.impair,
        )

    def order(self, conditions: Sequence[Condition], round_: int) -> list[Condition]:
        """The conditions in the order of that round, drawn from the seed; round 0 is the one to discard."""
        rng = random.Random(f"{self.seed} {round_}")  # noqa: S311 - an order, not a secret
        return rng.sample(conditions, len(conditions))

    def expected_s(self) -> float:
        """About how long it takes: a guess, before anything has been timed."""
        runs = [_RUN_S + (self.count + self.warmup) * self._probe_s(c) for c in self.conditions()]
        return sum(runs) * (self.rounds + 1)

    def _probe_s(self, condition: Condition) -> float:
        took_s = _PROBE_S[condition.placement]
        if self.impair is not None:
            lost = 1 - (1 - self.impair.loss) ** 2  # in either direction
            took_s += 2e-9 * self.impair.delay_ns + 1e-9 * lost * self.timeout_ns
        if condition.period_ns is not None:
            return 1e-9 * condition.period_ns
        return took_s + 1e-9 * condition.think_ns

    def notes(self) -> list[str]:
        """What a reader of the table should know of how it was asked for."""
        found = []
        inline = [probe for probe in dict.fromkeys(self.probes) if probe in KERNEL_REPLIES]
        if inline and self.placement != "inline":
            found.append(
                f"answered by the kernel on the sending CPU, inline, not {self.placement}: {', '.join(inline)}"
            )
        probes = list(dict.fromkeys(condition.probe for condition in self.conditions()))
        steady = [probe for probe in probes if probe not in SCHEDULABLE]
        if steady and (self.arrivals != "closed" or self.think_ns):
            found.append(f"always sent back to back: {', '.join(steady)}")
        return found
