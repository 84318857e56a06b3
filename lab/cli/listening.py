"""``lab ports``: who listens, who can reach it, and why a port does what it does."""

from __future__ import annotations

from typing import Annotated

import typer

from lab.cli.commands import command, note, print_json
from lab.cli.options import Json
from lab.errors import UsageError

_HELP = """

Without PORT: a line for every TCP socket that listens and every UDP socket that is bound, and who can reach it by what
it is bound to (a firewall may let through less; ! marks what is open to all). "this namespace only" (a container, lab
exec): its network has nothing but lo. Unix sockets have no ports, and are not told of.

With PORT: what it answers at 127.0.0.1, ::1 and the machine's own addresses, to a TCP handshake, reset at once, and to
an empty UDP datagram. open; closed: refused; filtered: silence, or an ICMP error; unreachable: no way to send there.
RTT is from before connect() until the answer is there. Then who has the port, also in other network namespaces, since
when, and the command that would end it (it ends nothing itself); whether a server could bind to it now; a free port.

With --scan: which TCP ports answer at 127.0.0.1 and ::1, or at own addresses that --at names; others are refused.

Processes of other users are named to root only. Exits 0 whatever it finds, but 1 if --expect is not so; scripts read
--json, or wait: until lab ports 8080 --expect open; do sleep 1; done
"""
_EXPECTED = ("open", "free")


@command("lab ports 8080", more=_HELP)
def ports(
    port: Annotated[str | None, typer.Argument(metavar="PORT", help="the port to tell all about")] = None,
    scan: Annotated[
        str | None, typer.Option("--scan", metavar="RANGES", help="ask these TCP ports, such as 22,80,8000-8100")
    ] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="ADDR,…", help="own addresses to ask")] = None,
    timeout: Annotated[
        str | None,
        typer.Option("-W", "--timeout", metavar="DUR", help="how long an answer is waited for", show_default="500ms"),
    ] = None,
    expect: Annotated[
        str | None, typer.Option("--expect", metavar="open|free", help="exit 1 if PORT is not that")
    ] = None,
    world: Annotated[str, typer.Option("--world", metavar="new|host|PID", help="whose network")] = "host",
    as_json: Json = False,
) -> None:
    """Say what listens, whose it is and who can reach it."""
    from lab.listeners import Port, ports

    if expect is not None and (port is None or expect not in _EXPECTED):
        raise UsageError(f"--expect {expect}: give a PORT with it, and open or free")
    report = ports(port, scan=scan, at=at, timeout=timeout, world=world)
    if as_json:
        for text in report.warnings:
            note(f"lab: warning: {text}")
        print_json(report.to_json())
    else:
        print(report)
    if isinstance(report, Port) and expect and not (report.open if expect == "open" else report.free):
        raise typer.Exit(1)
