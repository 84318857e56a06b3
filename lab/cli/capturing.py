"""``lab capture``: the frames of interfaces, as lines, as a file, or down a pipe."""

from __future__ import annotations

import errno
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from lab.cli.commands import command, fail, note, print_json
from lab.cli.frames import print_frames
from lab.cli.live import Ending, LiveLine, ended_by_signals, looks
from lab.cli.options import Json
from lab.errors import UsageError
from lab.units import format_bytes

if TYPE_CHECKING:
    from lab.taps.capturer import Totals
    from lab.taps.live import LiveCapture

_HELP = """

What -w writes is pcapng, as Wireshark opens it: times in nanoseconds, directions, checksum and segmentation flags, and
what was dropped. Without -w a line is printed for each frame. It ends after -c frames or --duration, exits 0 then; or
by Ctrl-C or SIGTERM, exits 130 then. Either way, all that came before is kept.

On lo every packet passes twice, going out and coming in. One of the two is kept (the one that --direction names; by
default that which comes in); --both-copies keeps both, and links them, which lab read --transit rests on.

The network is this machine's own, which takes root or CAP_NET_RAW, or with --world PID that of a process, such as one
that lab exec started. Frames that the kernel had to drop, as they came faster than they could be taken, are told.
"""


@command("lab capture lo -f 'icmp or icmp6' --both-copies -w ping.pcapng", more=_HELP)
def capture(
    where: Annotated[
        str, typer.Argument(metavar="IFACE|LINK", help="interfaces, with commas between them, or all of that network")
    ],
    filter: Annotated[  # noqa: A002 - as the option is called
        str | None,
        typer.Option("-f", "--filter", metavar="BPF", help="only frames that match, such as 'udp port 53'"),
    ] = None,
    write: Annotated[
        str | None, typer.Option("-w", "--write", metavar="FILE", help="write them to FILE; -: to standard output")
    ] = None,
    count: Annotated[int | None, typer.Option("-c", "--count", metavar="N", help="end after so many frames")] = None,
    duration: Annotated[
        str | None, typer.Option("--duration", metavar="DUR", help="end after this long, such as 10s")
    ] = None,
    direction: Annotated[
        str, typer.Option("--direction", metavar="in|out|inout", help="of which direction frames are")
    ] = "inout",
    both_copies: Annotated[bool, typer.Option("--both-copies", help="on lo, keep both copies of a packet")] = False,
    buffer: Annotated[
        str | None, typer.Option("--buffer", metavar="SIZE", help="memory for frames on their way, such as 256MiB")
    ] = None,
    world: Annotated[
        str | None, typer.Option("--world", metavar="host|PID", help="whose network", show_default="host")
    ] = None,
    as_json: Json = False,
) -> None:
    """Capture frames of an interface, losing none."""
    from lab.capturing import capture

    if write == "-" and as_json:
        raise UsageError("-w - and --json both want standard output: leave one of them out")
    if write == "-" and sys.stdout.isatty():
        raise UsageError("-w - would write binary frames to the terminal: pipe it (-w - | tshark -r -), or name a file")
    asked = {"direction": direction, "both_copies": both_copies, "count": count, "duration": duration, "buffer": buffer}
    file = sys.stdout.fileno() if write == "-" else write
    with ended_by_signals() as ending, capture(where, filter=filter, file=file, world=world, **asked) as live:
        names = [place.name for place in live.capturer.taps.places]
        note(f"lab: capturing on {', '.join(names)}; Ctrl-C ends it")
        interrupted = _follow(live, ending, names, lines=write is None and not as_json)
    totals, counts = live.totals, live.counts
    if as_json:
        interfaces = [{"name": name, **asdict(each)} for name, each in zip(names, counts.interfaces, strict=True)]
        rest = {"lossless": totals.lossless, "file": write, "interfaces": interfaces, "interrupted": interrupted}
        print_json({"format": 1, **asdict(totals), **rest})
    if counts.error == errno.EPIPE:
        raise typer.Exit(1)  # whoever read our output has gone
    if totals.error:
        raise typer.Exit(fail(f"{totals.error}; {_kept(totals, write)}", 1))
    if not as_json:
        print(_summary(totals), file=sys.stdout if write not in (None, "-") else sys.stderr)
    for text in live.warnings:
        note(f"lab: warning: {text}")
    if interrupted:
        raise typer.Exit(130)


def _follow(live: LiveCapture, ending: Ending, names: list[str], *, lines: bool) -> bool:
    """Shows what comes, until the capture ends by itself or is ended by a signal; whether it was a signal."""
    line = LiveLine(live.capturer)
    shown, down = 0, [0] * len(names)
    for _ in looks(live.capturer, ending):
        for number, each in enumerate(live.counts.interfaces):
            if each.down > down[number] and not each.gone:
                down[number] = each.down
                note(f"lab: note: {names[number]} went down; the capture goes on, should it come up again")
        if lines:
            live.refresh()
            print_frames(live.frames, range(shown, shown := len(live.frames)))
        else:
            line.show()
    line.close()
    interrupted = live.running
    live.stop()
    if lines:
        print_frames(live.frames, range(shown, len(live.frames)))
    return interrupted


def _kept(totals: Totals, write: str | None) -> str:
    return f"{totals.frames:,} frames are kept" + (f" in {write}" if write else "")


def _summary(totals: Totals) -> str:
    """All that came of it, in a line."""
    lost = totals.dropped + totals.missing + totals.unwritten
    told = [f"{totals.frames:,} frames", format_bytes(totals.bytes), f"{lost:,} lost" if lost else "none lost"]
    if totals.truncated:
        told.append(f"{totals.truncated:,} cut short")
    if totals.linked or totals.unlinked:
        told.append(f"{totals.linked:,} linked with their copies, {totals.unlinked:,} unlinked")
    return ", ".join(told)
