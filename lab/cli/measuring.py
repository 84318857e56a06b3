"""``lab rtt`` and ``lab compare``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from lab.cli.commands import command, note, print_json, show_summary
from lab.cli.options import (
    Arrivals,
    Awake,
    BusyPoll,
    Count,
    Cpus,
    Fifo,
    Impair,
    Interval,
    Json,
    Mlock,
    Placement,
    Port,
    Rate,
    Seed,
    Size,
    Stages,
    Target,
    Think,
    Timeout,
    Wait,
    Warmup,
    World,
    of_condition,
    several,
)
from lab.conditions import ECHOED, FAMILIES, PROBES, WAYS, Condition
from lab.errors import UsageError


@command("lab rtt veth --probe udp -6 --count 10000")
def rtt(
    way: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help=f"a link ({', '.join(WAYS)}, nic:NAME), an address such as 127.50.50.50, or HOST:PORT of a server",
        ),
    ],
    probe: Annotated[str | None, of_condition("probe", "--probe", metavar="KIND")] = None,
    ipv4: Annotated[bool, typer.Option("-4", help="IPv4 (default)")] = False,
    ipv6: Annotated[bool, typer.Option("-6", help="IPv6")] = False,
    count: Count = 1000,
    size: Size = Condition.size,
    timeout: Timeout = "1s",
    warmup: Warmup = 100,
    wait: Annotated[str | None, of_condition("wait", "--wait", metavar="MODE")] = None,
    placement: Annotated[str | None, of_condition("placement", "--placement", metavar="PLACEMENT")] = None,
    port: Port = Condition.port,
    cpus: Cpus = None,
    arrivals: Arrivals = None,
    rate: Rate = None,
    interval: Interval = None,
    think: Think = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="of a Poisson schedule; default: drawn now, and told by --json")
    ] = None,
    stages: Stages = False,
    fifo: Fifo = False,
    mlock: Mlock = False,
    awake: Awake = False,
    busy_poll: BusyPoll = None,
    impair: Impair = None,
    target: Target = None,
    world: World = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="STUDY", help="keep it as a study")] = None,
    as_json: Json = False,
) -> None:
    """Send one stream of probes: summary and histogram."""
    from lab.single import rtt

    if ipv4 and ipv6:
        raise UsageError("-4 and -6 together: give one")
    given: dict[str, Any] = {"probe": probe, "wait": wait, "placement": placement}
    stream = rtt(
        way,
        **{name: value for name, value in given.items() if value is not None},
        target=target,
        impair=impair,
        family=6 if ipv6 else 4 if ipv4 else None,
        count=count,
        size=size,
        timeout=timeout,
        warmup=warmup,
        port=port,
        cpus=cpus,
        arrivals=arrivals,
        rate=rate,
        interval=interval,
        think=think,
        seed=seed,
        stages=stages,
        fifo=fifo,
        mlock=mlock,
        awake=awake,
        busy_poll=busy_poll,
        world=world,
        output=output,
    )
    if as_json:
        for warning in stream.warnings:
            note(f"lab: warning: {warning}")
        print_json(stream.to_json())
    else:
        print(stream)
    if stream.interrupted:
        raise typer.Exit(130)
    if not stream.received:
        raise typer.Exit(1)


@command("lab compare --links lo,veth --probes udp,tcp --wait spin --placement cross-cpu")
def compare(
    links: Annotated[
        str, typer.Option("--links", metavar="A,B,…", help=f"all, or of {', '.join(WAYS)}, nic:NAME")
    ] = "all",
    probes: Annotated[
        str, typer.Option("--probes", metavar="A,B,…", help=f"all, or of {', '.join(PROBES)}")
    ] = ",".join(ECHOED),
    families: Annotated[str, typer.Option("--families", metavar="4,6", help="IPv4, IPv6, or both")] = "4,6",
    rounds: Annotated[int, typer.Option("--rounds", help="runs of each condition, after one that is discarded")] = 10,
    count: Count = 1000,
    size: Size = Condition.size,
    timeout: Timeout = "1s",
    warmup: Warmup = 100,
    wait: Wait = Condition.wait,
    placement: Placement = Condition.placement,
    port: Port = Condition.port,
    cpus: Cpus = None,
    arrivals: Arrivals = None,
    rate: Rate = None,
    interval: Interval = None,
    think: Think = None,
    stages: Stages = False,
    fifo: Fifo = False,
    mlock: Mlock = False,
    awake: Awake = False,
    busy_poll: BusyPoll = None,
    seed: Seed = None,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="DUR", help="begin no new round after this long")
    ] = None,
    impair: Impair = None,
    target: Target = None,
    world: World = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="STUDY", help="default: studies/<UTC time>")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure links side by side: table, figures, a study on disk.

    Every round sends one stream of each condition, in random order; a first round is discarded.
    """
    from lab.experiment import compare
    from lab.terminal import ProgressBar

    with contextlib.closing(ProgressBar()) as progress:
        study = compare(
            links=several(links, "link", WAYS),
            impair=impair,
            target=target,
            probes=several(probes, "probe", PROBES),
            families=several(families, "family", FAMILIES, int),
            rounds=rounds,
            count=count,
            size=size,
            timeout=timeout,
            warmup=warmup,
            wait=wait,
            placement=placement,
            port=port,
            cpus=cpus,
            arrivals=arrivals,
            rate=rate,
            interval=interval,
            think=think,
            stages=stages,
            fifo=fifo,
            mlock=mlock,
            awake=awake,
            busy_poll=busy_poll,
            seed=seed,
            budget=budget,
            world=world,
            output=output,
            progress=progress,
        )
    summary = study.summary()
    show_summary(summary, as_json)
    if not any(row["received"] for row in summary.rows):
        raise typer.Exit(1)
    for figure in study.save_figures():
        if not as_json:
            print(f"figure: {figure}")
