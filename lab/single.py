"""One stream, from a target to its figures; and what a study says of any stream."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

from lab.checks import check_count
from lab.conditions import BASELINES, NIC, WAYS, Condition, parse_target
from lab.doubts import doubts
from lab.errors import Unavailable, UsageError, errno_name
from lab.host import clock_bracket, host
from lab.impairments import Impairment, parse_impairment
from lab.probes import DEFAULT_WARMUP, choose_cpus, send_stream
from lab.streams import Stream
from lab.studies import Study
from lab.tables import counts
from lab.units import duration
from lab.world import Link, Place, PrivateWorld, open_endpoints, visit

__all__ = ["World", "cautions", "closing", "rtt", "run_info", "study_document"]


def rtt(
    way: str = "lo",
    *,
    target: str | None = None,
    family: int | None = None,
    count: int = 1000,
    warmup: int = DEFAULT_WARMUP,
    timeout: str | None = None,
    impair: str | Impairment | None = None,
    world: str | int | Place | None = None,
    output: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Stream:
    """Sends one stream of probes and returns it.

    way: a link, a baseline, or an address of 127.0.0.0/8 or ::1 to ask over lo. target: the address that nic:NAME asks.
    family: 4 or 6; None: the address's, else 4. timeout: a duration such as "20ms". impair: what worsens the link, such
    as "delay=5ms,loss=1%". world: "new", "host", the number of a process whose network it is to be, an open ``World``,
    or None (a private world, or else the host's lo). output: a folder to keep the stream in, as a study of one run.
    options: the other fields of ``Condition``.

    Raises UsageError, Unavailable, StreamError, StudyError. Ctrl-C ends the stream, which is then ``interrupted``.
    """
    check_count("count", count)
    check_count("warm-up", warmup, low=0)
    timeout_ns = Condition.timeout_ns if timeout is None else duration(timeout)
    impair = parse_impairment(impair) if isinstance(impair, str) else impair
    condition = _condition(way, family, target, timeout_ns=timeout_ns, impair=impair, **options)
    with visit(world, [condition.link], impair) as (place, warnings):
        _require_link(place, condition.link)
        condition = replace(condition, impair=place.impair)
        cpus = choose_cpus(condition, wired=condition.link in place.wires)
        warnings += cautions(condition)
        study = None
        if output is not None:
            asked = asdict(condition) | {"rounds": 1, "discarded_rounds": 0, "count": count, "warmup": warmup}
            study = Study.create(output, study_document(asked, 0, place, warnings))
        try:
            with open_endpoints(place, condition) as ends:
                stream = send_stream(condition, ends, count=count, warmup=warmup, cpus=cpus)
        except BaseException:
            if study is not None:
                study.remove()
            raise
        link = place.links[condition.link]
        stream = replace(stream, warnings=(*warnings, *_doubts(stream, link)), impaired_by=link.impaired)
        if study is not None:
            study.add_run(condition, stream.records, {"round": 1, **run_info(stream)})
            study.save() if stream.interrupted else study.finish(**closing(study))
        return stream


def cautions(condition: Condition) -> list[str]:
    """What whoever asked for it should know before the first probe leaves."""
    if not condition.link.startswith(NIC):
        return []
    return [f"{condition.link}: probes leave this machine for {condition.target}, over its own network"]


class World(PrivateWorld):  # noqa: D101 - it has the docstring of the other
    __doc__ = PrivateWorld.__doc__

    def rtt(self, way: str = "lo", **options: Any) -> Stream:
        """``lab.rtt`` in this world: one stream of probes over one of its links. Raises what that does."""
        return rtt(way, world=self, **options)


def _doubts(stream: Stream, link: Link) -> list[str]:
    condition = stream.condition
    if condition.family is None:
        return list(stream.warnings)
    found = doubts(
        link.name,
        condition.family,
        condition.probe,
        condition.size,
        mtu=link.mtu,
        unsent=stream.unsent,
        foreign=stream.foreign,
        corrupting=bool(condition.impair and condition.impair.corrupt),
    )
    found += stream.warnings
    if stream.interrupted:
        found.append(f"interrupted after {len(stream.records):,} probes")
    return found


def run_info(stream: Stream) -> dict[str, Any]:
    """What study.json says of one run, beside its condition and its file."""
    return {
        "start_ns": stream.started_ns,
        "end_ns": stream.ended_ns,
        **counts(stream.records),
        "duplicate": stream.duplicate,
        "reordered": stream.reordered,
        "foreign": stream.foreign,
        "inline_fraction": stream.inline_fraction,
        "reply": stream.reply,
        "socket": stream.socket_kind,
        "cpus": asdict(stream.cpus),
        "wire": stream.wire and dict(zip(("near_to_far", "far_to_near"), stream.wire.counters, strict=True)),
    }


def _condition(way: str, family: int | None, target: str | None, **options: Any) -> Condition:
    """A condition for a link, a baseline or a loopback address; `target` is what nic:NAME asks."""
    if way in BASELINES:
        given = {key: value for key, value in options.items() if key != "probe"}
        if way == "shm":
            given = {"wait": "spin", "placement": "cross-cpu"} | given
        return Condition(link=way, family=family, probe=options.get("probe", way), **given)
    if target is not None and not way.startswith(NIC):
        raise UsageError(f"--target is for network cards (nic:NAME): give the address itself, lab rtt {target}")
    if way.startswith(NIC) and target is not None and family is None:
        family = 6 if ":" in target else 4
    if way in WAYS or way.startswith(NIC):
        return Condition(link=way, target=target, family=Condition.family if family is None else family, **options)
    its_family = parse_target(way)
    if family not in (None, its_family):
        raise UsageError(f"{way} is an IPv{its_family} address: leave -{family} out")
    return Condition(link="lo", target=way, family=its_family, **options)


def _require_link(place: Place, name: str) -> None:
    """Raises what kept the link from being made, if it is not there."""
    if name in place.links:
        return
    for skip in place.skipped:
        if skip.link == name:
            if skip.errno is None:
                raise UsageError(f"{skip.reason}: {skip.fix[0].lower()}{skip.fix[1:]}")
            what = skip.reason.removesuffix(f": {errno_name(skip.errno)}")
            raise Unavailable(what, errno=skip.errno, fix=skip.fix)
    raise UsageError(f"this world has no {name}: make it with World(links=[{name!r}])")


def study_document(asked: dict[str, Any], seed: int, place: Place, warnings: list[str]) -> dict[str, Any]:
    """What study.json holds before the first run."""
    links = {name: asdict(link) for name, link in place.links.items()}
    return {
        "version": version("loopback-lab"),
        "experiment": asked,
        "seed": seed,
        "host": host(),
        "world": {"kind": place.kind, "links": links, **place.describe()},
        "clock": {"before": clock_bracket(), "after": None},
        "skipped": [],
        "warnings": warnings,
    }


def closing(study: Study) -> dict[str, Any]:
    """What study.json learns after the last run."""
    return {"clock": study.document["clock"] | {"after": clock_bracket()}}
