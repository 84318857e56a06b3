"""``lab inject``: the packets of a file, sent."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from lab.cli.commands import command, fail, note, print_json
from lab.cli.live import StatusLine, signals_as_ctrl_c
from lab.cli.options import Json
from lab.errors import UsageError

if TYPE_CHECKING:
    from lab.injector.result import Sent
    from lab.injector.templates import Template

_HELP = """

Without --rate, --multiplier or --topspeed, a file's packets leave with the gaps that they were captured with. What is
late is sent at once, nothing is skipped, and the pacing error tells how late packets left. Nothing is rewritten: what
would not be delivered as it is, such as packets of another machine, is told and left out.

How packets leave is chosen, and said in the result: l2, as frames, link layer and all; raw4 and raw6, from their IP
header on (layer 3). IPv4 frames on lo are dropped on their way in unless two sysctls are set, which private worlds
(--world new) have; on this machine's own lo IPv4 leaves by raw4, then. --path l2 or l3 forces the one or the other,
and what will not be delivered is sent all the same. delivered is counted at the other end, where that is in reach.

--vary NAME=SPEC makes the one packet of FILE a template. NAME: a field as scapy calls it (IP.src, UDP.sport), or bytes
of its payload (payload[0:8]). SPEC: 1024-65535, 80,443, 127.0.0.0/8, counter, clock, or random: before a range or
network; each for one packet, or for so many ("1024-65535 every 64"). Without -c, --loop or --duration, each value is
sent once. It goes as fast as it can, unless there is a --rate. Checksums stay right.

On this machine's own network packets must be from and to loopback addresses, and in a private world those to multicast
and broadcast addresses are left out, unless --allow-external says otherwise. On this machine's own network it takes
root or CAP_NET_RAW; in a private world it takes no rights.
Exits 1 if anything was refused or left out, 130 if Ctrl-C or SIGTERM ended it; either way what was sent is told.

\b
Examples: lab inject web.pcapng lo --world new --multiplier 10
          lab inject one.pcap lo --vary UDP.sport=1024-65535 -c 1000000
"""


@command("lab inject session.pcapng lo --rate 10kpps --loop 100", more=_HELP)
def inject(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="pcap or pcapng; -: standard input")],
    where: Annotated[str, typer.Argument(metavar="LINK|IFACE", help="what they leave by")],
    rate: Annotated[
        str | None, typer.Option("--rate", metavar="R", help="packets or bits a second: 10kpps, 100Mbit")
    ] = None,
    multiplier: Annotated[
        str | None,
        typer.Option("--multiplier", metavar="X", help="so many times as fast as captured", show_default="1"),
    ] = None,
    topspeed: Annotated[bool, typer.Option("--topspeed", help="as fast as possible")] = False,
    arrivals: Annotated[str, typer.Option("--arrivals", metavar="periodic|poisson", help="of --rate")] = "periodic",
    burst: Annotated[int, typer.Option("--burst", metavar="N", help="of --rate: so many packets at once")] = 1,
    loop: Annotated[
        int | None, typer.Option("--loop", metavar="N", help="send all of it so many times", show_default="1")
    ] = None,
    count: Annotated[
        int | None, typer.Option("-c", "--count", metavar="N", help="send so many packets, over and over")
    ] = None,
    duration: Annotated[str | None, typer.Option("--duration", metavar="DUR", help="end after this long: 10s")] = None,
    threads: Annotated[
        int, typer.Option("--threads", metavar="N", help="each flow is kept in order on one of them")
    ] = 1,
    path: Annotated[
        str | None, typer.Option("--path", metavar="l2|l3", help="how they leave", show_default="as is delivered")
    ] = None,
    vary: Annotated[
        list[str] | None, typer.Option("--vary", metavar="NAME=SPEC", help="a field that varies; several times")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="of what is random; default: drawn now")
    ] = None,
    world: Annotated[
        str | None, typer.Option("--world", metavar="host|new|PID", help="whose network", show_default="host")
    ] = None,
    allow_external: Annotated[
        bool, typer.Option("--allow-external", help="also from and to others than loopback, and to many at once")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send the packets of a capture file, on schedule, and count what is delivered."""
    paces = {"--rate": rate, "--multiplier": multiplier, "--topspeed": topspeed or None}
    given = [flag for flag, value in paces.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} together: give one")
    if vary and multiplier is not None:
        raise UsageError("--multiplier is of a file's own timing, which a packet that varies has not: give --rate")
    if file == "-" and sys.stdin.isatty():
        raise UsageError("- would read packets from the terminal: pipe a capture into it, or name a file")
    if not given and not vary:
        multiplier = "1"
    from lab.injecting import inject

    with signals_as_ctrl_c(), _Progress() as progress:
        result = inject(
            _template(file, vary) if vary else file,
            where,
            world=world,
            rate=rate,
            multiplier=multiplier,
            arrivals=arrivals,
            burst=burst,
            loop=loop,
            count=count,
            duration=duration,
            threads=threads,
            path=path,
            seed=seed,
            allow_external=allow_external,
            progress=progress.show,
        )
    if as_json:
        print_json(result.to_json())
    else:
        print("\n".join(result.lines()))
    for text in result.warnings:
        note(f"lab: warning: {text}")
    if result.error:
        raise typer.Exit(fail(result.error, 1))
    if result.interrupted:
        raise typer.Exit(130)
    if not result.complete:
        raise typer.Exit(1)


def _template(file: str, vary: list[str]) -> Template:
    """The only packet of the file, and what varies of it."""
    from lab.injector.templates import Template
    from lab.taps.captures import read

    varied: dict[str, str] = {}
    for text in vary:
        name, equals, spec = text.partition("=")
        if not (name and equals and spec):
            raise UsageError(f"--vary {text}: give NAME=SPEC, such as UDP.sport=1024-65535")
        if name in varied:
            raise UsageError(f"--vary {name} twice: give it once, or a list, such as {name}=1,2,3")
        varied[name] = spec
    with read(file) as packets:
        if len(packets) != 1:
            raise UsageError(f"--vary takes a file of one packet, and {file} has {len(packets):,}: write one to a file")
        return Template(packets[0], varied)


class _Progress(StatusLine):
    """How far it is, with rate and refusals, in the terminal."""

    def __init__(self) -> None:
        self._before = (0, 0)

    def show(self, sent: Sent) -> None:
        """Writes it anew."""
        from lab.native.injection import MOST_PACKETS

        then_ns, before = self._before
        self._before = sent.elapsed_ns, sent.sent
        rate = (sent.sent - before) * 1e9 / max(1, sent.elapsed_ns - then_ns)
        of_all = f" of {sent.total:,}" if sent.total < MOST_PACKETS else ""
        self.write(f"{sent.sent:,}{of_all} packets, {rate:,.0f}/s, {sent.failed:,} refused")
