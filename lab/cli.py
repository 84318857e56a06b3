"""The commands: parse, call, print.

Standard output holds the result (with ``--json`` one document and nothing else); progress, warnings and errors go to
standard error. Exit 0: did what was asked; 1: could not; 2: bad usage; 130: interrupted. Options, defaults and help
come from ``Condition`` and ``Experiment``, which the Python functions share.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from lab.checks import pick
from lab.conditions import FAMILIES, PROBES, WAYS, Condition
from lab.errors import LabError, UsageError
from lab.figures import KINDS

if TYPE_CHECKING:
    from lab.summaries import Summary

T = TypeVar("T")

app = typer.Typer(
    name="lab",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Loopback Lab: how long does a packet take to come back, on lo and on other links?",
)


# ---- options that several commands share ----


def _of(name: str, *flags: str, metavar: str | None = None) -> Any:
    """An option of ``Condition``, with its help and its default."""
    default = getattr(Condition, name)
    return typer.Option(*flags, help=Condition.help(name), metavar=metavar, show_default=str(default))


Size = Annotated[int, _of("size", "-s", "--size")]
Wait = Annotated[str, _of("wait", "--wait", metavar="MODE")]
Placement = Annotated[str, _of("placement", "--placement", metavar="PLACEMENT")]
Timeout = Annotated[str, typer.Option("-W", "--timeout", help=Condition.help("timeout_ns"), metavar="DUR")]
Count = Annotated[int, typer.Option("-c", "--count", help="probes in a stream")]
Warmup = Annotated[int, typer.Option("--warmup", help="probes that are sent first and not recorded")]
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
Seed = Annotated[int | None, typer.Option("--seed", help="of the order of runs; default: drawn now, and kept")]
Capture = Annotated[
    str | None, typer.Option("--capture", metavar="FILE", help="write every frame of its lo to FILE (pcapng)")
]
StudyPath = Annotated[Path | None, typer.Argument(metavar="[STUDY]", help="its folder; default: the newest")]


def _list(text: str, what: str, known: tuple[T, ...], convert: Callable[[str], Any] = str) -> tuple[T, ...]:
    """``"4,6"`` → (4, 6); "all" is all that is known."""
    if text == "all":
        return known
    names = [name.strip() for name in text.split(",") if name.strip()]
    try:
        return tuple(convert(name) for name in names)
    except ValueError:
        raise UsageError(f"unknown {what} {text!r}: choose from {', '.join(map(str, known))}") from None


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, ensure_ascii=False), flush=True)


def _note(text: str) -> None:
    print(text, file=sys.stderr)


# ---- errors and exit codes ----


def _fail(text: str, code: int) -> int:
    _note(f"lab: error: {' '.join(text.split())}")
    return code


def _command(
    example: str, name: str | None = None, *, more: str = "", **settings: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a function a command, with an example in its help, and its errors one line and an exit code.

    They are caught here rather than in ``main``, because the parser has ideas of its own about KeyboardInterrupt and
    about OSError, which some of ours are. name: if it is not the function's. more: help that follows its docstring.
    settings: of the parser's context.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except LabError as error:
                raise typer.Exit(_fail(str(error), error.exit_code)) from error
            except KeyboardInterrupt as stop:
                raise typer.Exit(_fail("interrupted", 130)) from stop
            except BrokenPipeError:
                raise  # whoever read our output has gone: the parser ends quietly
            except OSError as error:
                raise typer.Exit(_fail(f"cannot write the output: {error.strerror}", 1)) from error

        return app.command(
            name,
            help=inspect.cleandoc(function.__doc__ or "") + more,
            epilog=f"Example: {example}",
            context_settings=settings,
        )(guarded)

    return register


# ---- commands ----


@_command("lab rtt veth --probe udp -6 --count 10000")
def rtt(
    way: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help=f"a link ({', '.join(WAYS)}, nic:NAME), or an address such as 127.50.50.50"
        ),
    ],
    probe: Annotated[str | None, _of("probe", "--probe", metavar="KIND")] = None,
    ipv4: Annotated[bool, typer.Option("-4", help="IPv4 (default)")] = False,
    ipv6: Annotated[bool, typer.Option("-6", help="IPv6")] = False,
    count: Count = 1000,
    size: Size = Condition.size,
    timeout: Timeout = "1s",
    warmup: Warmup = 100,
    wait: Annotated[str | None, _of("wait", "--wait", metavar="MODE")] = None,
    placement: Annotated[str | None, _of("placement", "--placement", metavar="PLACEMENT")] = None,
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
        world=world,
        output=output,
    )
    if as_json:
        for warning in stream.warnings:
            _note(f"lab: warning: {warning}")
        _print_json(stream.to_json())
    else:
        print(stream)
    if stream.interrupted:
        raise typer.Exit(130)
    if not stream.received:
        raise typer.Exit(1)


@_command("lab compare --links lo,veth --probes udp,tcp --wait spin --placement cross-cpu")
def compare(
    links: Annotated[
        str, typer.Option("--links", metavar="A,B,…", help=f"all, or of {', '.join(WAYS)}, nic:NAME")
    ] = "all",
    probes: Annotated[str, typer.Option("--probes", metavar="A,B,…", help=f"all, or of {', '.join(PROBES)}")] = "all",
    families: Annotated[str, typer.Option("--families", metavar="4,6", help="IPv4, IPv6, or both")] = "4,6",
    rounds: Annotated[int, typer.Option("--rounds", help="runs of each condition, after one that is discarded")] = 10,
    count: Count = 1000,
    size: Size = Condition.size,
    timeout: Timeout = "1s",
    warmup: Warmup = 100,
    wait: Wait = Condition.wait,
    placement: Placement = Condition.placement,
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
            links=_list(links, "link", WAYS),
            impair=impair,
            target=target,
            probes=_list(probes, "probe", PROBES),
            families=_list(families, "family", FAMILIES, int),
            rounds=rounds,
            count=count,
            size=size,
            timeout=timeout,
            warmup=warmup,
            wait=wait,
            placement=placement,
            seed=seed,
            budget=budget,
            world=world,
            output=output,
            progress=progress,
        )
    summary = study.summary()
    _show(summary, as_json)
    if not any(row["received"] for row in summary.rows):
        raise typer.Exit(1)
    for figure in study.save_figures():
        if not as_json:
            print(f"figure: {figure}")


@_command("lab show studies/20260101T120000Z --json")
def show(study: StudyPath = None, as_json: Json = False) -> None:
    """Print a study's table again."""
    from lab.studies import Study

    _show(Study.load(study).summary(), as_json)


@_command("lab plot --kind ccdf -o tails.png")
def plot(
    study: StudyPath = None,
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help=f"one of {', '.join(KINDS)}")] = "ecdf",
    highlight: Annotated[
        str | None,
        typer.Option("--highlight", metavar="LINK", help="in ecdf and ccdf of many links: in colour, beside lo"),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="default: KIND.png")] = None,
    as_json: Json = False,
) -> None:
    """Draw a study as a figure.

    overview: p50 and p99 of every link. ridge: the distributions of all links under one another. ecdf: which fraction
    of the round trips took no longer than x. ccdf: which took longer, to show the tail.
    """
    from lab.figures import save
    from lab.studies import Study

    pick("figure", kind, KINDS)
    path = save(Study.load(study).plot(kind, highlight=highlight), output or Path(f"{kind}.png"))
    if as_json:
        _print_json({"format": 1, "figure": str(path)})
    else:
        print(path)


@_command("lab doctor --json")
def doctor(as_json: Json = False) -> None:
    """Say what this machine can measure, and how to mend the rest."""
    from lab.checkup import doctor

    report = doctor()
    if as_json:
        _print_json(report.to_json())
    else:
        print(report)
    if not report.ok:
        raise typer.Exit(1)


#: What ``exec`` and ``shell`` say of the world they run in.
_PRIVATE_WORLD = """

Its network is its own: lo, up, and nothing else. No link leads out, so nothing that is sent there can reach or
disturb another machine, or this one's network; and every port is free. It needs no root, and vanishes with its last
process.

All else is the caller's: user and group, directory, open files, environment, terminal and job control. Signals sent
to lab are handed on, and lab exits as {it} did: with its code, with 128 + n if it died of signal n.

What differs: /sys/class/net still shows the host's links; abstract unix sockets of the host are out of reach (those
with a path, and sockets that were open before, still lead to it). Without root, files of root and of supplementary
groups look like nobody's, and set-uid programs such as sudo gain no rights.

If lab is killed (SIGKILL), so is {it}, but not what it has started. The capture ends with {it} or with lab, and is
complete up to there; frames that the kernel had to drop are counted in it, and in a warning.
"""
_EXIT_CODES = """
Exits 127 if CMD was not found, 126 if it could not be run. Options of lab go before CMD; what follows it is its own.
"""


@_command(
    "lab exec --capture ping.pcapng -- ping -c 3 ::1",
    "exec",
    more=_PRIVATE_WORLD.format(it="CMD") + _EXIT_CODES,
    allow_interspersed_args=False,
)
def exec_(
    command: Annotated[list[str], typer.Argument(metavar="CMD", help="the command and its arguments")],
    capture: Capture = None,
) -> None:
    """Run any command in a private world."""
    from lab.private import run_private

    raise typer.Exit(run_private(command, capture))


@_command("lab shell --capture session.pcapng", more=_PRIVATE_WORLD.format(it="the shell"))
def shell(capture: Capture = None) -> None:
    """Open a shell ($SHELL, or /bin/sh) in a private world."""
    from lab.private import run_private

    raise typer.Exit(run_private([os.environ.get("SHELL") or "/bin/sh"], capture))


# ---- printing ----


def _show(summary: Summary, as_json: bool) -> None:
    if as_json:
        for note in summary.notes():
            _note(f"lab: {note}")
        _print_json(summary.to_json())
        return
    from lab.terminal import print_summary

    print_summary(summary)


#: The parser's own error, which typer does not name in public.
_ParserError: Any = typer.BadParameter.__base__


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-C where there is nothing to keep yet: ends at once, and the world with it.

    An exception could be lost here, in an import or a callback, and the command would go on. Where there is something
    to keep, ``lab.interrupts.noted`` is in charge.
    """
    show_cursor = b"\x1b[?25h" if os.isatty(2) else b""  # which a progress bar hides
    os.write(2, show_cursor + b"lab: error: interrupted\n")
    os._exit(130)


def main() -> None:
    """The command ``lab``: runs one command and exits with its code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks µ or − still gets its table
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="lab", standalone_mode=False) or 0
    except _ParserError as error:
        command = error.ctx.command_path if error.ctx else "lab"
        code = _fail(f"{error.format_message().rstrip('.')}; see {command} --help", 2)
    sys.exit(code)


if __name__ == "__main__":
    main()
