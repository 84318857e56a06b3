"""Options that several commands share: help and defaults come from ``Condition``, which Python shares too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from lab.conditions import Condition
from lab.errors import UsageError

T = TypeVar("T")


def of_condition(name: str, *flags: str, metavar: str | None = None) -> Any:
    """An option of ``Condition``, with its help and its default."""
    default = getattr(Condition, name)
    return typer.Option(*flags, help=Condition.help(name), metavar=metavar, show_default=str(default))


Size = Annotated[int, of_condition("size", "-s", "--size")]
Wait = Annotated[str, of_condition("wait", "--wait", metavar="MODE")]
Placement = Annotated[str, of_condition("placement", "--placement", metavar="PLACEMENT")]
Port = Annotated[str, of_condition("port", "--port", metavar="open|closed")]
Timeout = Annotated[str, typer.Option("-W", "--timeout", help=Condition.help("timeout_ns"), metavar="DUR")]
Count = Annotated[int, typer.Option("-c", "--count", help="probes in a stream")]
Warmup = Annotated[int, typer.Option("--warmup", help="probes that are sent first and not recorded")]
Arrivals = Annotated[
    str | None,
    typer.Option(
        "--arrivals", metavar="WHEN", help=Condition.help("arrivals"), show_default=f"{Condition.arrivals}, or periodic"
    ),
]
Rate = Annotated[str | None, typer.Option("--rate", metavar="R", help="of a schedule, in probes a second: 10kpps")]
Interval = Annotated[
    str | None, typer.Option("-i", "--interval", metavar="DUR", help="of a schedule, instead of its rate: 100us")
]
Think = Annotated[str | None, typer.Option("--think", metavar="DUR", help=Condition.help("think_ns"))]
Stages = Annotated[bool, typer.Option("--stages", help=Condition.help("stages"))]
Cpus = Annotated[
    str | None,
    typer.Option(
        "--cpus", metavar="NEAR[,FAR[,WIRE]]", help="the CPUs of the ends, and of the wire; default: those used least"
    ),
]
Fifo = Annotated[
    bool, typer.Option("--fifo", help="real-time priority (SCHED_FIFO) for both ends, for at most 10 s a stream")
]
Mlock = Annotated[bool, typer.Option("--mlock", help="keep all memory in RAM (mlockall)")]
Awake = Annotated[bool, typer.Option("--awake", help="let no CPU sleep deeply meanwhile (/dev/cpu_dma_latency)")]
BusyPoll = Annotated[
    str | None,
    typer.Option("--busy-poll", metavar="DUR", help="poll the network card in the kernel (SO_BUSY_POLL); not on lo"),
]
World = Annotated[
    str | None,
    typer.Option(
        "--world",
        metavar="new|host|PID",
        help="whose network: a private one (new), this machine's own (host) or a process's; default: new, else host",
    ),
]
Impair = Annotated[str | None, typer.Option("--impair", metavar="SPEC", help=Condition.help("impair"))]
Target = Annotated[str | None, typer.Option("--target", metavar="ADDR", help="the address that nic:NAME asks")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document instead of text")]
Seed = Annotated[
    int | None, typer.Option("--seed", help="of the order of runs, and of Poisson schedules; default: drawn now, kept")
]
Capture = Annotated[
    str | None, typer.Option("--capture", metavar="FILE", help="write every frame of its lo to FILE (pcapng)")
]
StudyPath = Annotated[Path | None, typer.Argument(metavar="[STUDY]", help="its folder; default: the newest")]


def several(text: str, what: str, known: tuple[T, ...], convert: Callable[[str], Any] = str) -> tuple[T, ...]:
    """``"4,6"`` → (4, 6); "all" is all that is known."""
    if text == "all":
        return known
    names = [name.strip() for name in text.split(",") if name.strip()]
    try:
        return tuple(convert(name) for name in names)
    except ValueError:
        raise UsageError(f"unknown {what} {text!r}: choose from {', '.join(map(str, known))}") from None
