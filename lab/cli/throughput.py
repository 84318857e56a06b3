"""``lab bulk``: how many bytes a second a link carries."""

from __future__ import annotations

from typing import Annotated

import typer

from lab.cli.commands import command, note, print_json
from lab.cli.options import Cpus, Impair, Json, World
from lab.conditions import LINKS
from lab.errors import UsageError

_HELP = """

A thread writes at the near end, a thread reads at the far end, each on a CPU of its own; what arrives is counted, each
10 ms. memcpy, which crosses nothing, is what memory does with messages of that size: at 64 KiB within the CPU's cache;
give -s 256MiB for memory itself. Of udp what is lost is told; its messages are as long as fits in one packet.

\b
Examples: lab bulk veth --probe udp -6
          lab bulk memcpy -s 256MiB
"""


@command("lab bulk lo --rounds 10 --json", more=_HELP)
def bulk(
    way: Annotated[
        str,
        typer.Argument(metavar="[LINK]", help=f"{', '.join(LINKS)}; or unix-stream, pipe, memcpy, which cross none"),
    ] = "lo",
    probe: Annotated[
        str | None,
        typer.Option("--probe", metavar="KIND", help="tcp, udp, unix-stream, pipe or memcpy", show_default="tcp"),
    ] = None,
    ipv4: Annotated[bool, typer.Option("-4", help="IPv4 (default)")] = False,
    ipv6: Annotated[bool, typer.Option("-6", help="IPv6")] = False,
    size: Annotated[
        str | None,
        typer.Option("-s", "--size", metavar="SIZE", help="of a message: 1440, 64KiB", show_default="64KiB; udp: MTU"),
    ] = None,
    duration: Annotated[str, typer.Option("--duration", metavar="DUR", help="of a round, after its warm-up")] = "1s",
    warmup: Annotated[
        str, typer.Option("--warmup", metavar="DUR", help="the part of a round that is left out")
    ] = "100ms",
    rounds: Annotated[int, typer.Option("--rounds", help="each with sockets of its own")] = 5,
    total: Annotated[str | None, typer.Option("--bytes", metavar="SIZE", help="end a round after so many: 1GB")] = None,
    placement: Annotated[
        str | None,
        typer.Option(
            "--placement",
            metavar="PLACEMENT",
            help="of the writer and the reader: same-cpu or cross-cpu",
            show_default="cross-cpu, if there are two",
        ),
    ] = None,
    cpus: Cpus = None,
    verify: Annotated[bool, typer.Option("--verify", help="compare each byte that comes with what was sent")] = False,
    impair: Impair = None,
    world: World = None,
    as_json: Json = False,
) -> None:
    """Move many bytes, and tell how many a second arrived."""
    from lab.throughput import bulk

    if ipv4 and ipv6:
        raise UsageError("-4 and -6 together: give one")
    found = bulk(
        way,
        probe=probe,
        family=6 if ipv6 else 4 if ipv4 else None,
        size=size,
        duration=duration,
        warmup=warmup,
        rounds=rounds,
        total=total,
        placement=placement,
        cpus=cpus,
        verify=verify,
        impair=impair,
        world=world,
    )
    if as_json:
        for warning in found.warnings:
            note(f"lab: warning: {warning}")
        print_json(found.to_json())
    else:
        print(found)
    if found.interrupted:
        raise typer.Exit(130)
    if not found.bytes:
        raise typer.Exit(1)
