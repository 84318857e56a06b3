"""Experiments: expand into conditions, interleave in rounds, run, and keep as a study.

A round sends one stream of each condition, in an order drawn from the seed, so that whatever drifts on the machine
meets all conditions alike. The first round warms caches and clocks and is discarded; it also tells how long the rest
will take, and which conditions cannot be measured here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lab.checks import check_count, pick, several
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
from lab.cpus import assigned, parse_cpus
from lab.errors import Interrupted, StreamError, Unavailable, UsageError
from lab.impairments import Impairment, parse_impairment
from lab.interrupts import noted
from lab.noise import Background
from lab.probes import DEFAULT_WARMUP, choose_cpus, send_stream
from lab.progress import Progress, Step, default_progress
from lab.single import cautions, closing, run_info, stream_doubts, study_document, timing
from lab.streams import Cpus, Stream
from lab.studies import Study
from lab.tuning import Tuning
from lab.units import duration
from lab.world import Place, Skipped, open_endpoints, visit

__all__ = ["Experiment", "compare"]

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


def compare(
    *,
    links: Sequence[str] | str = WAYS,
    families: Sequence[int] | int | str = FAMILIES,
    probes: Sequence[str] | str = ECHOED,
    world: str | int | Place | None = None,
    output: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    budget: str | None = None,
    timeout: str | None = None,
    arrivals: str | None = None,
    rate: str | float | None = None,
    interval: str | None = None,
    think: str | None = None,
    cpus: str | Sequence[int] | None = None,
    impair: str | Impairment | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Study:
    """Measures round trips over several links side by side, and keeps them as a study.

    links, families, probes: one, several, or "all". world: "new", "host", a process's number, an open ``World``, or
    None (a private world, or else the host's lo). output: the study's folder, None for ``studies/<UTC time>``. seed: of
    the order of runs, None for one drawn now. budget: a duration such as "30s", after which no new round is begun.
    impair: what worsens every link, such as "delay=5ms,loss=1%". options: fifo, mlock, awake and busy_poll of
    ``lab.tuning``, and the other fields of ``Experiment``.

    Raises UsageError, Unavailable (nothing can be measured here), StreamError, StudyError; Interrupted on Ctrl-C,
    whose ``study`` is the folder with the finished runs.
    """
    ways = several(links, WAYS)
    placement = None if "shm" in ways else options.get("placement", Condition.placement)  # shm has one of its own
    experiment = Experiment(
        links=ways,
        families=several(families, FAMILIES),
        probes=several(probes, PROBES),
        seed=secrets.randbelow(2**32) if seed is None else seed,
        budget_ns=None if budget is None else duration(budget),
        **timing(timeout, arrivals, rate, interval, think),
        cpus=() if cpus is None else parse_cpus(cpus, placement),
        tuning=Tuning.taken_from(options),
        impair=parse_impairment(impair) if isinstance(impair, str) else impair,
        **options,
    )
    with experiment.tuning.held(), visit(world, experiment.links, experiment.impair) as (place, warnings):
        progress = progress or default_progress()
        return _Session(experiment, place, [*warnings, *experiment.notes()], progress, output).run()


class _Session:
    """One run of an experiment: what is left to do, and what was found out."""

    def __init__(
        self,
        experiment: Experiment,
        place: Place,
        warnings: list[str],
        progress: Progress | None,
        output: str | os.PathLike[str] | None,
    ) -> None:
        self.experiment, self.place, self.progress = experiment, place, progress
        self.skipped = list(place.skipped)
        self.conditions = [replace(c, impair=place.impair) for c in experiment.conditions() if c.link in place.links]
        self.took_s: dict[Condition, float] = {}  # of the conditions that can be measured here
        self.doubted: set[Condition] = set()
        self.begun_s = time.monotonic()
        for condition in self.conditions:
            warnings += cautions(condition)
        asked = asdict(replace(experiment, impair=place.impair)) | {"discarded_rounds": 1}
        self.background = Background(self._cpus())
        self.study = Study.create(output, study_document(asked, experiment.seed, place, warnings, self.background))
        self.warnings: list[str] = self.study.document["warnings"]  # what is added here is saved with the study

    def run(self) -> Study:
        """All rounds. What was finished is kept, however it ends."""
        with noted() as self.interrupted:
            try:
                for round_ in range(self.experiment.rounds + 1):
                    if round_ > 1 and self._over_budget(round_):
                        break
                    self._round(round_)
            except BaseException as error:
                kept = self._keep()
                if isinstance(error, KeyboardInterrupt):
                    raise _interrupted(kept) from None
                if isinstance(error, StreamError) and kept is not None:
                    where = f"; {len(kept.runs)} finished runs are kept in {kept.path}"
                    raise StreamError(f"{error}{where}", errno=error.errno or 0, done=error.done) from None
                raise
            self.background.look_again()
            self.study.finish(**closing(self.study, self.background))
        self._tell(None, 1)
        return self.study

    def _cpus(self) -> list[int]:
        """All that the conditions use, but those that can't be measured here for want of CPUs."""
        used: set[int] = set()
        for condition in self.conditions:
            with contextlib.suppress(Unavailable):
                used |= set(self._pinned(condition).used)
        return sorted(used)

    def _round(self, round_: int) -> None:
        for condition in self.experiment.order(self.conditions, round_):
            self._tell(condition, round_)
            if round_ == 0:
                self._try(condition)
            else:
                self._measure(condition, round_)
            if self.interrupted.is_set():
                raise KeyboardInterrupt
        if round_ == 0:
            self._settle()

    def _pinned(self, condition: Condition) -> Cpus:
        asked, wired = self.experiment.cpus, condition.link in self.place.wires
        return assigned(asked, condition, wired=wired) if asked else choose_cpus(condition, wired=wired)

    def _stream(self, condition: Condition, round_: int) -> Stream:
        asked = self.experiment
        with open_endpoints(self.place, condition) as ends:
            stream = send_stream(
                condition,
                ends,
                count=asked.count,
                warmup=asked.warmup,
                cpus=self._pinned(condition),
                seed=asked.seed + round_,
                tuning=asked.tuning,
            )
        if stream.interrupted:
            raise KeyboardInterrupt
        return stream

    def _try(self, condition: Condition) -> None:
        """Measures a condition in the discarded round, or notes why it cannot be."""
        begun = time.monotonic()
        try:
            stream = self._stream(condition, 0)
        except Unavailable as error:
            self._skip(condition, error.reason, error.errno, error.fix)
            return
        if not stream.received:
            reason = f"none of {stream.sent} probes got a reply"
            self._skip(condition, reason, errno.ETIMEDOUT, "Look for a rule that drops them (nft list ruleset)")
            return
        self.took_s[condition] = time.monotonic() - begun

    def _skip(self, condition: Condition, reason: str, number: int | None, fix: str) -> None:
        self.skipped.append(
            Skipped(
                link=condition.link,
                family=condition.family,
                probe=condition.probe,
                reason=reason,
                errno=number,
                fix=fix,
            )
        )

    def _settle(self) -> None:
        """After the discarded round: goes on with what can be measured."""
        self.conditions = list(self.took_s)
        self.study.document["skipped"] = [asdict(skip) for skip in self.skipped]
        if not self.conditions:
            first = self.skipped[0]
            raise Unavailable(f"nothing can be measured here: {first.reason}", errno=first.errno, fix=first.fix)

    def _measure(self, condition: Condition, round_: int) -> None:
        begun = time.monotonic()
        stream = self._stream(condition, round_)
        self.warnings += [f"{condition}, round {round_}: {text}" for text in stream.warnings]
        if condition not in self.doubted and (found := stream_doubts(stream)):
            self.doubted.add(condition)  # said once, not in every round
            self.warnings += [f"{condition}: {text}" for text in found]
        self.study.add_run(condition, stream.records, {"round": round_, **run_info(stream)}, stream.stamps)
        self.took_s[condition] = time.monotonic() - begun

    def _over_budget(self, round_: int) -> bool:
        budget = self.experiment.budget_ns
        if budget is None or (time.monotonic() - self.begun_s) * 1e9 < budget:
            return False
        self.warnings.append(f"the budget was used up after {round_ - 1} of {self.experiment.rounds} rounds")
        return True

    def _tell(self, condition: Condition | None, round_: int) -> None:
        if self.progress is None:
            return
        done = len(self.study.runs)
        if round_ == 0:
            total = len(self.conditions) * self.experiment.rounds
            left_s = self.experiment.expected_s()
        else:
            total = len(self.conditions) * self.experiment.rounds if condition else done
            left_s = sum(self.took_s.values()) / len(self.took_s) * (total - done)
        if self.experiment.budget_ns is not None:
            left_s = max(0.0, min(left_s, self.experiment.budget_ns / 1e9 - (time.monotonic() - self.begun_s)))
        self.progress(Step(done, total, condition, left_s, discarded=round_ == 0))

    def _keep(self) -> Study | None:
        """The study with its finished runs; without any, its folder is removed."""
        if not self.study.runs:
            self.study.remove()
            return None
        self.study.save()
        return self.study


def _interrupted(study: Study | None) -> Interrupted:
    if study is None:
        return Interrupted("interrupted before the first run was finished: there is nothing to keep")
    runs = len(study.runs)
    return Interrupted(
        f"interrupted: {runs} finished runs are kept in {study.path} (lab show {study.path})", study=study.path
    )
