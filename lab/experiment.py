"""Experiments: run in rounds, and kept as a study.

A round sends one stream of each condition, in an order drawn from the seed, so that whatever drifts on the machine
meets all conditions alike. The first round warms caches and clocks and is discarded; it also tells how long the rest
will take, and which conditions cannot be measured here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from lab.checks import several
from lab.conditions import ECHOED, FAMILIES, PROBES, WAYS, Condition
from lab.cpus import assigned, parse_cpus
from lab.errors import Interrupted, StreamError, Unavailable
from lab.impairments import Impairment, parse_impairment
from lab.interrupts import noted
from lab.noise import Background
from lab.plan import Experiment
from lab.probes import choose_cpus, send_stream
from lab.progress import Progress, Step, default_progress
from lab.single import cautions, closing, run_info, stream_doubts, study_document, timing
from lab.streams import Cpus, Stream
from lab.studies import Study
from lab.tuning import Tuning
from lab.units import duration
from lab.world import Place, Skipped, open_endpoints, visit

__all__ = ["compare"]


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
        **timing(timeout, arrivals, rate, interval, think, options),
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
