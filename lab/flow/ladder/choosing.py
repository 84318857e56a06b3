"""Which conversations of a capture a ladder shows, and what it says of those that it does not."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lab.errors import UsageError
from lab.flow.ladder.cast import Cast, Flow
from lab.flow.ladder.quoted import Quoted, are_errors, read_quoted
from lab.taps.conversations import Conversations
from lab.taps.findings import Columns
from lab.taps.flows import PROTOCOLS

if TYPE_CHECKING:
    import polars as pl

    from lab.taps.frames import FrameFile

__all__ = ["adopt_errors", "choose"]

Array = npt.NDArray[Any]

#: Columns and conversations that are shown unless others are asked for, and columns at most.
_COLUMNS, _FLOWS, _MOST_COLUMNS = 6, 32, 8
#: Conversations among which those are that are shown unless others are asked for.
_LOOKED_AT = 10_000
#: ICMP errors of which is asked whose packet they quote.
_MOST_ERRORS = 10_000
_ECHOES = (1, 58)
_ENDS = ("family", "protocol", "client", "client_port", "server", "server_port", "icmp_id")


def choose(table: pl.DataFrame, asked: Sequence[int], cast: Cast, left: Array) -> tuple[list[Flow], list[str]]:
    """The conversations that are shown, each given its columns, and what is to be told of the others.

    table: of ``lab.taps.flows``. asked: their numbers, none for the first ones. left: shape (flows,), frames of each
    that are not shown in another. Raises UsageError.
    """
    if asked:
        for number in asked:
            if not (isinstance(number, Integral) and 0 <= number < len(table)):
                raise UsageError(
                    f"no conversation {number!r}: give 0 to {len(table) - 1:,}, as lab read --flows has them"
                )
        flows: list[Flow] = [table.row(number, named=True) for number in dict.fromkeys(asked)]
        for flow in flows:
            cast.add(flow)
        if len(cast) > _MOST_COLUMNS:
            raise UsageError(f"{len(cast)} ends are more than {_MOST_COLUMNS} columns: ask for fewer conversations")
        return flows, []
    flows = []
    seen: dict[tuple[Any, ...], str] = {}
    elsewhere: set[str] = set()
    there = table.filter(left > 0)
    spoken = _between_programs(there).head(_LOOKED_AT)
    more = len(there) - len(spoken)
    for flow in spoken.iter_rows(named=True):
        key = tuple(flow[name] for name in _ENDS)
        if seen.get(key, flow["interface"]) != flow["interface"]:
            elsewhere.add(flow["interface"])
        elif len(flows) >= _FLOWS or len(cast) + cast.wanted(flow) > max(_COLUMNS, cast.wanted(flow)):
            more += 1
        else:
            seen[key] = flow["interface"]
            cast.add(flow)
            flows.append(flow)
    told = []
    if elsewhere:
        told.append(f"what was seen on {', '.join(sorted(elsewhere))} too is shown once")
    if more:
        which = "1 more conversation is" if more == 1 else f"{more:,} more conversations are"
        told.append(f"{which} not shown: ask for some by their numbers (lab read --flows)")
    return flows, told


def _between_programs(table: pl.DataFrame) -> pl.DataFrame:
    """The conversations that are no mere housekeeping, such as neighbour discovery; if there are none, all."""
    import polars as pl

    spoken = table.filter(pl.any_horizontal(pl.col("client_port", "icmp_id").is_not_null()))
    return spoken if len(spoken) else table


def adopt_errors(frames: FrameFile, columns: Columns, found: Conversations, table: pl.DataFrame) -> tuple[Array, Array]:
    """For each frame of the conversations the one that it is shown in, and whether it goes from client to server there.

    It is the frame's own, but for ICMP errors: they belong to the conversation of the packet that they quote.
    """
    flow, from_client = found.flow.copy(), found.from_client.copy()
    places = np.flatnonzero(are_errors(columns, found.rows))[:_MOST_ERRORS]
    if not len(places):
        return flow, from_client
    known: dict[tuple[Any, ...], list[int]] = {}
    for row in table.select("flow", "interface", *_ENDS).iter_rows(named=True):
        known.setdefault(_key(row, row["interface"]), []).append(row["flow"])
    for place in places:
        number = int(found.rows[place])
        own = table.row(int(found.flow[place]), named=True)
        start = int(columns["payload_offset"][number])
        quoted = read_quoted(bytes(frames.frame_bytes(number)[start:]))
        for sent_by_client in (True, False):
            about = known.get(_quoted_key(quoted, own["interface"], sent_by_client), ()) if quoted else ()
            earlier = [each for each in about if found.rows[found.first[each]] < number]
            if earlier:
                flow[place], from_client[place] = earlier[-1], not sent_by_client
                break
    return flow, from_client


def _key(flow: Flow, interface: str) -> tuple[Any, ...]:
    return (interface, *(flow[name] for name in _ENDS))


def _quoted_key(quoted: Quoted, interface: str, sent_by_client: bool) -> tuple[Any, ...]:
    """What ``_key`` makes of the conversation of a quoted packet, if its client sent it, or its server."""
    echo = quoted.protocol in _ECHOES
    ends = [(quoted.source, quoted.ports and quoted.ports[0]), (quoted.destination, quoted.ports and quoted.ports[1])]
    if echo:
        ends = [(address, None) for address, _port in ends]
    client, server = ends if sent_by_client else reversed(ends)
    name = PROTOCOLS.get(quoted.protocol, str(quoted.protocol))
    return (interface, quoted.family, name, *client, *server, quoted.ports[0] if echo and quoted.ports else None)
