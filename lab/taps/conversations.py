"""Which frames belong together: the flows of a capture, and who began each. Pure functions on columns.

A *conversation* is all that two endpoints say to each other with one protocol, seen at one interface and in one VLAN.
Endpoints are an address and a port; for ICMP echo the id stands in for both ports, and what has neither is kept by its
addresses alone. A TCP conversation that begins again, by a SYN with another initial sequence number, is another *flow*;
of all else a conversation is one flow.

On lo a capture may hold both copies of each packet. Where a pair of them is linked (the same packet_id going out and
coming in on one interface), only what came in counts on that interface: a packet that only went out was not delivered.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lab.taps.findings import Columns
from lab.taps.frames import HAS

__all__ = [
    "ACK", "COLUMNS", "ECHO_REQUESTS", "FIN", "IN", "OUT", "RST", "SYN", "VLAN_NUMBER", "Conversations",
    "find_conversations", "loopbacks",
]  # fmt: skip

#: What ``find_conversations`` reads.
COLUMNS = (
    "interface", "direction", "packet_id", "has", "vlan", "family", "protocol", "source", "destination", "source_port",
    "destination_port", "icmp_type", "icmp_id", "fragment_id", "tcp_flags", "tcp_seq",
)  # fmt: skip

#: Of `direction`.
IN, OUT = 1, 2
#: Of `tcp_flags` (RFC 9293, 3.1).
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
#: Of `icmp_type` (RFC 792, RFC 4443).
ECHO_REQUESTS = (8, 128)
#: Of `vlan`: the rest is its priority.
VLAN_NUMBER = 0xFFF

Array = npt.NDArray[Any]


class Conversations(NamedTuple):
    """The frames that count, flow by flow and in the file's order within each.

    rows, flow, from_client: shape (n,): the row in the columns, the number of the flow, from 0 by their first frames,
    and whether its client sent it. first: shape (flows + 1,): where each flow begins in the other three, and their end.
    The client sent the SYN or the echo request, or else the first frame that was seen.
    """

    rows: Array
    flow: Array
    from_client: Array
    first: Array


def loopbacks(columns: Columns) -> Array:
    """Interfaces (their rows, ascending) on which a packet going out is linked with the same packet coming in."""
    import polars as pl

    key = ["interface", "packet_id"]
    linked = np.flatnonzero(columns["packet_id"])
    frames = pl.DataFrame({name: columns[name][linked] for name in (*key, "direction")})
    out, in_ = (frames.filter(pl.col("direction") == way) for way in (OUT, IN))
    return out.join(in_, key, how="semi")["interface"].unique().sort().to_numpy()


def find_conversations(columns: Columns) -> Conversations:
    """The flows of a capture. columns: with ``COLUMNS``. Frames without an IP header are left out."""
    second = (columns["direction"] == OUT) & np.isin(columns["interface"], loopbacks(columns))
    rows = np.flatnonzero((columns["has"] & HAS["ip"] != 0) & ~second)
    taken = {name: columns[name][rows] for name in COLUMNS}
    together, forward = _conversation(taken)
    order = np.argsort(together, kind="stable")
    begins = _begins(
        together[order], forward[order], taken["has"][order], taken["tcp_flags"][order], taken["tcp_seq"][order]
    )
    by_first = np.argsort(order[begins][np.cumsum(begins) - 1], kind="stable")  # flows by their first frames
    order, begins = order[by_first], begins[by_first]
    flow = np.cumsum(begins) - 1
    at = np.flatnonzero(begins)
    has, flags, kind = (taken[name][order[at]] for name in ("has", "tcp_flags", "icmp_type"))
    answered = (has & HAS["tcp"] != 0) & (flags & (SYN | ACK) == SYN | ACK)  # what it answers was not seen
    answered |= (has & HAS["echo"] != 0) & ~np.isin(kind, ECHO_REQUESTS)
    from_client = forward[order] == (forward[order[at]] ^ answered)[flow]
    return Conversations(rows[order], flow, from_client, np.append(at, len(order)))


def _conversation(taken: Columns) -> tuple[Array, Array]:
    """For each frame: the first one of its conversation, and whether the lesser of its endpoints sent it."""
    import polars as pl

    source, destination = _halves(taken["source"]), _halves(taken["destination"])
    from_port, to_port = _ports(taken, source, destination)
    backward = _greater((*source, from_port), (*destination, to_port))
    itself = ~backward & ~_greater((*destination, to_port), (*source, from_port))
    forward = ~backward
    echo = itself & (taken["has"] & HAS["echo"] != 0)  # who asks itself answers itself
    forward[echo] = np.isin(taken["icmp_type"][echo], ECHO_REQUESTS)
    tagged = taken["has"] & HAS["vlan"] != 0
    vlan = np.where(tagged, (taken["vlan"] & VLAN_NUMBER).astype(np.int64), -1)
    keys = {"interface": taken["interface"], "vlan": vlan, "family": taken["family"], "protocol": taken["protocol"]}
    for name, one, other in zip(("high", "low", "port"), (*source, from_port), (*destination, to_port), strict=True):
        keys[f"lesser_{name}"] = np.where(backward, other, one)
        keys[f"greater_{name}"] = np.where(backward, one, other)
    table = pl.DataFrame({**keys, "row": np.arange(len(vlan))})
    return table.select(pl.col("row").first().over(list(keys)))["row"].to_numpy(), forward


def _halves(addresses: Array) -> tuple[Array, Array]:
    """Addresses of shape (n, 16) as two uint64 each, the upper half first."""
    halves = np.ascontiguousarray(addresses).view(">u8").astype(np.uint64)
    return halves[:, 0], halves[:, 1]


def _greater(one: tuple[Array, ...], other: tuple[Array, ...]) -> Array:
    """Compares tuples of numbers, each an array, in the order of their parts."""
    greater = np.zeros(len(one[0]), bool)
    for a, b in zip(reversed(one), reversed(other), strict=True):
        greater = (a > b) | ((a == b) & greater)
    return greater


def _ports(taken: Columns, source: tuple[Array, Array], destination: tuple[Array, Array]) -> tuple[Array, Array]:
    """The ports of both endpoints, −1 where there are none. A later fragment has those of the first before it."""
    has = taken["has"]
    ports, echo = has & HAS["ports"] != 0, has & HAS["echo"] != 0
    pair = []
    for name in ("source_port", "destination_port"):
        port = np.where(ports, taken[name].astype(np.int32), -1)
        port[echo] = taken["icmp_id"][echo]
        pair.append(port)
    fragments = np.flatnonzero(has & HAS["fragment"] != 0)
    if len(fragments):
        import polars as pl

        packet = {
            "interface": taken["interface"], "direction": taken["direction"], "protocol": taken["protocol"],
            "id": taken["fragment_id"], "a": source[0], "b": source[1], "c": destination[0], "d": destination[1],
        }  # fmt: skip
        table = pl.DataFrame({name: values[fragments] for name, values in packet.items()})
        for port in pair:
            known = pl.Series("port", port[fragments]).replace(-1, None)
            filled = table.with_columns(known).select(pl.col("port").forward_fill().over(list(packet)).fill_null(-1))
            port[fragments] = filled["port"].to_numpy()
    return pair[0], pair[1]


def _begins(together: Array, forward: Array, has: Array, flags: Array, seq: Array) -> Array:
    """Where a flow begins, of frames that lie conversation by conversation."""
    begins = np.ones(len(together), bool)
    begins[1:] = together[1:] != together[:-1]
    syn = np.flatnonzero((has & HAS["tcp"] != 0) & (flags & (SYN | ACK | RST) == SYN))
    before = syn[:-1]
    later = syn[1:]
    known = together[before] == together[later]
    again = known & (forward[before] == forward[later]) & (seq[before] == seq[later])
    crossing = known & (forward[before] != forward[later]) & (later - before == 1)  # both call at once (RFC 9293, 3.5)
    begins[syn[:1]] = True
    begins[later] |= ~(again | crossing)
    return begins
