"""One stream, from a target to its figures; and what a study says of any stream."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.answers import sr
from lab.arrivals import lag, schedule
from lab.capturing import capture
from lab.checks import check_count
from lab.conditions import BASELINES, NIC, WAYS, Condition, parse_target
from lab.cpus import assigned, parse_cpus
from lab.doubts import doubts, machine_doubts
from lab.errors import StreamError, Unavailable, UsageError
from lab.firewall import Firewall, FirewallRule, firewall
from lab.host import clock_bracket, host
from lab.impairments import Impairment, parse_impairment
from lab.injecting import inject
from lab.interrupts import noted
from lab.native.clock import clock_cost
from lab.noise import Background
from lab.overhead import stamping_cost
from lab.plan import DEFAULT_WARMUP
from lab.probes import choose_cpus, send_stream
from lab.resets import NoResets, no_rst
from lab.servers import Server, find_server
from lab.services import Service, serve
from lab.streams import Stream
from lab.studies import Study
from lab.tables import counts
from lab.throughput import bulk
from lab.tuning import Tuning
from lab.units import duration, format_ns
from lab.world import Link, Place, PrivateWorld, open_endpoints, require_link, route_device, visit

if TYPE_CHECKING:
    from lab.bulks import Bulk
    from lab.injector.answered import Answers
    from lab.injector.result import Injection
    from lab.listeners.reports import Port, Ports, Scan
    from lab.taps.live import LiveCapture

__all__ = ["World", "cautions", "closing", "rtt", "run_info", "stream_doubts", "study_document", "timing"]

#: Stages of fewer probes than this, of those received, are doubtful.
_COMPLETE = 0.999

#: How long a single stream's CPUs are watched, before and after: a study has more time.
_NOISE_NS = 20_000_000


def rtt(
    way: str = "lo",
    *,
    target: str | None = None,
    family: int | None = None,
    count: int = 1000,
    warmup: int = DEFAULT_WARMUP,
    timeout: str | None = None,
    arrivals: str | None = None,
    rate: str | float | None = None,
    interval: str | None = None,
    think: str | None = None,
    seed: int | None = None,
    cpus: str | Sequence[int] | None = None,
    impair: str | Impairment | None = None,
    world: str | int | Place | None = None,
    output: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Stream:
    """Sends one stream of probes and returns it.

    way: a link, a baseline, an address of 127.0.0.0/8 or ::1 to ask over lo, or HOST:PORT, a server that is there
    already, to connect to (world: None means the host then). target: the address that nic:NAME asks. family: 4 or 6;
    None: the address's, else 4. timeout: a duration such as "20ms". arrivals: "closed", or a schedule,
    "periodic" or "poisson", which needs a rate (probes a second, or "10kpps") or an interval ("100us"); either alone
    means periodic. think: in a closed loop, the time between the end of a probe and the next. seed: of a Poisson
    schedule, None for one drawn now. cpus: of the near end, the far end and the wire, such as "1,0"; None: they are
    chosen. impair: what worsens the link, such as "delay=5ms,loss=1%". world: "new", "host", the number of a process
    whose network it is to be, an open ``World``, or None (a private world, or else the host's lo). output: a folder to
    keep the stream in, as a study of one run. options: fifo, mlock, awake and busy_poll of ``lab.tuning``, and the
    other fields of ``Condition``.

    Raises UsageError, Unavailable, StreamError, StudyError. Ctrl-C ends the stream, which is then ``interrupted``.
    """
    check_count("count", count)
    check_count("warm-up", warmup, low=0)
    seed = secrets.randbelow(2**32) if seed is None else seed
    check_count("seed", seed, low=0, high=2**63)
    times = timing(timeout, arrivals, rate, interval, think, options)
    impair = parse_impairment(impair) if isinstance(impair, str) else impair
    tuning = Tuning.taken_from(options)
    options |= {**times, "impair": impair}
    server = find_server(way, family)
    if server is None:
        condition = _condition(way, family, target, **options)
    else:
        world = "host" if world is None else world
        condition = _of_server(way, server, target, elsewhere=world != "host", **options)
    given = None if cpus is None else parse_cpus(cpus, condition.placement)
    with tuning.held(), visit(world, [condition.link], impair) as (place, warnings):
        require_link(place, condition.link)
        condition = replace(condition, impair=place.impair)
        wired = condition.link in place.wires
        pinned = assigned(given, condition, wired=wired) if given else choose_cpus(condition, wired=wired)
        warnings += cautions(condition)
        background = Background(pinned.used, _NOISE_NS)
        asked = asdict(condition) | {"tuning": asdict(tuning)}
        asked |= {"rounds": 1, "discarded_rounds": 0, "count": count, "warmup": warmup}

        def send(condition: Condition, count: int, warmup: int) -> Stream:
            with open_endpoints(place, condition) as ends:
                return send_stream(condition, ends, count=count, warmup=warmup, cpus=pinned, seed=seed, tuning=tuning)

        with noted() as interrupted:  # from here on there is something to keep
            study = None
            if output is not None:
                study = Study.create(output, study_document(asked, seed, place, warnings, background))
            try:
                stream = send(condition, count, warmup)
            except BaseException:
                if study is not None:
                    study.remove()
                raise
            if condition.stages and stream.received and not stream.interrupted:
                with contextlib.suppress(
                    StreamError, Unavailable
                ):  # what was measured is there, whatever becomes of these
                    cost = stamping_cost(condition, float(np.median(stream.rtt_ns)), send)
                    stream = replace(stream, stamping_cost_ns=cost)
            if not interrupted.is_set():
                background.look_again()
            stream = replace(stream, interrupted=interrupted.is_set())
            link = place.links[condition.link]
            about = {"experiment": asked, "host": host(), **background.to_json()}
            info = {"round": 1, **run_info(stream)}
            run = {"link": link.name, "placement": condition.placement, **info}
            stream = replace(
                stream,
                warnings=(*warnings, *_doubts(stream, link), *machine_doubts(about, [run])),
                impaired_by=link.impaired,
                pieces=condition.pieces(link.mtu),
                background=background.to_json(),
            )
            if study is not None:
                study.add_run(condition, stream.records, info, stream.stamps)
                study.save() if stream.interrupted else study.finish(**closing(study, background))
            return stream


def timing(
    timeout: str | None,
    arrivals: str | None,
    rate: str | float | None,
    interval: str | None,
    think: str | None,
    others: Mapping[str, Any],
) -> dict[str, Any]:
    """These options of ``rtt`` as fields of ``Condition``, in ns; others: that were given beside them.

    Raises UsageError for what is no time, and for a period that this machine's clock can't tell from none.
    """
    for field, option in (("timeout_ns", "timeout"), ("period_ns", "interval"), ("think_ns", "think")):
        if field in others:
            raise UsageError(f"{field} is told with its unit: give {option}, such as {option}='5ms'")
    arrivals, period_ns = schedule(arrivals, rate, interval)
    if period_ns is not None and period_ns < (step_ns := clock_cost()[1]):
        raise UsageError(
            f"a period of {period_ns} ns is below the resolution of this machine's clock ({step_ns} ns): give "
            "--interval 1us or more"
        )
    return {
        "timeout_ns": Condition.timeout_ns if timeout is None else duration(timeout),
        "arrivals": arrivals,
        "period_ns": period_ns,
        "think_ns": Condition.think_ns if think is None else duration(think),
    }


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

    def bulk(self, way: str = "lo", **options: Any) -> Bulk:
        """``lab.bulk`` in this world: how many bytes a second one of its links carries. Raises what that does."""
        return bulk(way, world=self, **options)

    def capture(self, where: str | Iterable[str] = "all", **options: Any) -> LiveCapture:
        """``lab.capture`` in this world: all ends of all its links, or those named, in one file, in order of time."""
        return capture(where, world=self, **options)

    def inject(self, packets: Any, where: str = "lo", **options: Any) -> Injection:
        """``lab.inject`` in this world: packets into one of its links. Raises what that does."""
        return inject(packets, where, world=self, **options)

    def firewall(self, *rules: FirewallRule, end: str = "near") -> Firewall:
        """Puts rules of nftables into this world, until they are closed: ``with world.firewall(lab.FirewallRule(…)):``.

        end: whose network ("near", "far" or "middle"). Raises what ``lab.firewall.firewall`` does.
        """
        return firewall(*rules, world=self, end=end)

    def no_rst(self, where: str, port: int, **options: Any) -> AbstractContextManager[NoResets]:
        """``lab.no_rst`` in this world: lets you play TCP by hand from `port`, over one of its links."""
        return no_rst(where, port, world=self, **options)

    def sr(self, packets: Any, where: str = "lo", **options: Any) -> Answers:
        """``lab.sr`` in this world: packets are sent, and matched with what answers them. Raises what that does."""
        return sr(packets, where, world=self, **options)

    def ports(self, port: int | None = None, **options: Any) -> Ports | Port | Scan:
        """``lab.ports`` in this world: its listening sockets, at one end of it, or all about one port of them."""
        from lab.listeners.telling import ports

        return ports(port, world=self, **options)

    def serve(self, program: str, **options: Any) -> Service:
        """Starts a real server in this world, on data of its own: ``world.serve("postgresql", address="::1")``.

        options: those of ``lab.services.serve``: end, port, address. Raises what that does.
        """
        return serve(program, self, **options)


def _doubts(stream: Stream, link: Link) -> list[str]:
    condition = stream.condition
    found = []
    if condition.family is not None:
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
    found += [*stream.warnings, *stream_doubts(stream)]
    if stream.interrupted:
        found.append(f"interrupted after {len(stream.records):,} probes")
    return found


def stream_doubts(stream: Stream) -> list[str]:
    """What the stamps of a stream themselves give to doubt: a schedule not kept, a clock that was set, gaps."""
    found = []
    if stream.condition.period_ns is not None and (text := lag(stream.records, stream.condition.period_ns)):
        found.append(text)
    if stream.clock_step_ns:
        found.append(
            f"the clock was set by {format_ns(stream.clock_step_ns)} while stamps were taken from it: the probes then "
            "under way have wrong delays; measure again"
        )
    complete = stream.stages_complete
    if complete is not None and complete < _COMPLETE:
        found.append(f"only {complete:.1%} of the probes have every stamp, and the stages are theirs; measure again")
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
        "period_ns": stream.condition.period_ns,
        "think_ns": stream.condition.think_ns,
        "stages": stream.condition.stages,
        "seed": stream.seed,
        "margin_ns": stream.margin_ns,
        "most_open": stream.most_open,
        "receive_buffer": stream.receive_buffer,
        "clock_offset_ns": stream.clock_offset_ns,
        "clock_step_ns": stream.clock_step_ns,
        "usage": stream.usage,
        **asdict(stream.accounts),
        "wire": stream.wire and dict(zip(("near_to_far", "far_to_near"), stream.wire.counters, strict=True)),
    }


def _condition(way: str, family: int | None, target: str | None, **options: Any) -> Condition:
    """A condition for a link, a baseline or a loopback address; `target` is what nic:NAME asks."""
    if options.get("probe") in BASELINES and way != options["probe"]:
        if way != "lo":
            raise UsageError(f"{options['probe']} crosses no link: leave {way} out, as in lab rtt {options['probe']}")
        way = options["probe"]
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


def _of_server(way: str, server: Server, target: str | None, *, elsewhere: bool, **options: Any) -> Condition:
    """A condition for a server that is there already, over the link that leads to it from this machine.

    elsewhere: in another network than the machine's own, which has lo alone.
    """
    if target is not None or options["impair"] is not None:
        raise UsageError(
            f"{way} says all there is to ask, and its way is left as it is: leave --target and --impair out"
        )
    if options.setdefault("probe", "tcp-connect") != "tcp-connect":
        raise UsageError(f"{way} is a server to connect to: leave --probe out, or give it as tcp-connect")
    device = "lo" if elsewhere or ipaddress.ip_address(server.address).is_loopback else route_device(server.address)
    link = "lo" if device == "lo" else f"{NIC}{device}"
    return Condition(link=link, target=server.address, family=server.family, server_port=server.port, **options)


def study_document(
    asked: dict[str, Any], seed: int, place: Place, warnings: list[str], background: Background
) -> dict[str, Any]:
    """What study.json holds before the first run."""
    links = {name: asdict(link) for name, link in place.links.items()}
    return {
        "version": version("loopback-lab"),
        "experiment": asked,
        "seed": seed,
        "host": host(),
        "world": {"kind": place.kind, "links": links, **place.describe()},
        "clock": {"before": clock_bracket(), "after": None},
        **background.to_json(),
        "skipped": [],
        "warnings": warnings,
    }


def closing(study: Study, background: Background) -> dict[str, Any]:
    """What study.json learns after the last run."""
    return {"clock": study.document["clock"] | {"after": clock_bracket()}, **background.to_json()}
