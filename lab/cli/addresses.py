"""``lab address``: what an address or a name is, and where it leads."""

from __future__ import annotations

from typing import Annotated

import typer

from lab.cli.commands import command, fail, print_json
from lab.cli.options import Json

_HELP = """

Of an address: what IANA's registries set it aside for, its network, the ways to write it, and the route, device and
source address that the kernel would choose; it is asked, and nothing is sent. 127.1, 2130706433 and the like are told
with what different programs make of them.

Of a name: what each source of /etc/nsswitch.conf says that is asked alone, and what programs get. Where DNS is one of
them it is asked, too, but not on another machine for localhost and what ends in .localhost; an answer is waited for
15 s at most. Exits 1 if the name has no address.

Without either: the machine's own addresses.
"""


@command("lab address 127.50.50.50", more=_HELP)
def address(
    what: Annotated[str | None, typer.Argument(metavar="[ADDR[/PREFIX]|NAME]", help="an address or a name")] = None,
    world: Annotated[
        str | None,
        typer.Option("--world", metavar="new|host|PID", help="whose network", show_default="host"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell what an address or a name is, and where it leads."""
    from lab.addresses.looking import address
    from lab.addresses.names import NameFacts
    from lab.addresses.telling import why_nothing

    found = address(what, world=world)
    if as_json:
        print_json(found.to_json())
    else:
        print(found)
    if isinstance(found, NameFacts) and not found.addresses:
        raise typer.Exit(fail(why_nothing(found), 1))
