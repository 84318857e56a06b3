"""Which way each frame of a source leaves, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lab.errors import UsageError
from lab.injector.arrival import Arrival
from lab.injector.dealing import deal
from lab.injector.rows import LINK_ETHERNET, LINK_IP, Rows, rows_of
from lab.injector.safety import check_device, check_frames, go_to_several
from lab.injector.source import Source
from lab.injector.towards import ETHERNET, LOOPBACK, Towards
from lab.native.injection import WAYS

__all__ = ["Survey", "survey"]

_Booleans = npt.NDArray[np.bool_]
_Number = TypeVar("_Number", bound=np.generic)
_HEADER, _TAG = 14, 4  # bytes of an Ethernet header, and of a VLAN tag
_SEVERAL = "to a multicast or broadcast address: --allow-external sends them"
_ONLY_IPV4, _ONLY_IPV6 = 768, 769  # ARPHRD_TUNNEL, ARPHRD_TUNNEL6: ipip, and ip6tnl as it is by default


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A row a frame of the source, shape (n,): what is sent of it, by which of the ways of ``lab.native.injection``.

    offsets: in the file, of the first byte that is sent (raw sockets take no link layer); lengths: bytes sent. lanes:
    the thread that sends it; None: one does, or the fields tell. path: the ways that occur, such as "l2" or
    "raw4+raw6". left_out: frames that are not sent, by reason; undelivered: frames that are sent, and will not arrive,
    by reason. Both reasons are whole phrases, such as "larger than the MTU of lo (65,536)". remarks: what else is to be
    known, in whole sentences.
    """

    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int32]
    ways: npt.NDArray[np.uint8]
    lanes: npt.NDArray[np.uint8] | None
    path: str
    left_out: dict[str, int] = field(default_factory=dict)
    undelivered: dict[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def survey(
    source: Source, to: Towards, *, path: str | None = None, lanes: int = 1, allow_external: bool = False
) -> Survey:
    """Looks at all frames of a source before the first one leaves.

    path: "l2" or "l3" sends by that one whatever it can carry, also what will not be delivered; None: as is best for
    each frame. lanes: threads that send. allow_external: outside a private world, also from and to other than
    loopback addresses. Raises UsageError if that is not said and would be done, if nothing can be sent, or if path is
    None and nothing would arrive.
    """
    guarded = to.world != "new" and not allow_external
    if guarded:
        check_device(to)
    arrival = Arrival(to)
    left_out: Counter[str] = Counter()
    undelivered: Counter[str] = Counter()
    parts: list[_Part] = []
    frames = 0
    for rows in rows_of(source):
        part = _Part(rows, to, path, left_out, to_several=guarded or allow_external)
        if guarded:
            check_frames(rows, part.ways, frames)
        if not source.fields and lanes > 1:
            part.lanes = deal(rows, lanes)
        _sort(arrival.reasons(rows, part.ways), part.ways != 0, undelivered)
        parts.append(part)
        frames += len(rows)
    ways = _joined([part.ways for part in parts], np.uint8)
    sent = int(np.count_nonzero(ways))
    if not sent:
        raise UsageError(f"nothing of {source.name} can be sent into {to.name}: {_most(left_out, source)}")
    names = [name for name, way in WAYS.items() if way and (ways == way).any()]
    if path is None and undelivered.total() == sent:
        forced = "l2" if {"l2", "tap"} & set(names) else "l3"
        raise UsageError(
            f"nothing of {source.name} would arrive: {_most(undelivered, source)}; --path {forced} sends it anyway"
        )
    return Survey(
        offsets=_joined([part.offsets for part in parts], np.int64),
        lengths=_joined([part.lengths for part in parts], np.int32),
        ways=ways,
        lanes=_joined([part.lanes for part in parts], np.uint8) if not source.fields and lanes > 1 else None,
        path="+".join(names),
        left_out=dict(left_out),
        undelivered=dict(undelivered),
        remarks=tuple(_remarks(sum(part.stripped for part in parts), frames, path, to)),
    )


class _Part:
    """The way of each of some frames. ``stripped``: Ethernet frames that leave without their header."""

    lanes: npt.NDArray[np.uint8]

    def __init__(self, rows: Rows, to: Towards, path: str | None, left_out: Counter[str], *, to_several: bool) -> None:
        framed = to.hardware in (ETHERNET, LOOPBACK)
        ways = _ways(rows, to, path, framed=framed)
        whole = rows.ethernet & framed & np.isin(ways, (WAYS["l2"], WAYS["tap"]))
        skipped = np.where(whole, 0, rows["network_offset"]).astype(np.int64)
        left = rows["captured"] - skipped
        # What follows an IP packet pads the frame: a raw socket would make it a part of the packet.
        padded = (skipped > 0) & (rows.ip_length > 0)
        self.lengths = np.where(padded, np.minimum(left, rows.ip_length), left).astype(np.int32)
        self.offsets = rows["offset"] + skipped
        room = to.mtu + np.where(whole, _HEADER + np.where(rows.has("vlan"), _TAG, 0), 0)
        reasons = _left_out(rows, to, path, ways, too_large=self.lengths > room)
        if not to_several:
            reasons = chain(reasons, [(_SEVERAL, go_to_several(rows, ways, to))])
        ways[_sort(reasons, np.ones(len(rows), np.bool_), left_out)] = 0
        self.ways = ways
        self.stripped = int(np.count_nonzero((ways != 0) & rows.ethernet & ~whole))


def _ways(rows: Rows, to: Towards, path: str | None, *, framed: bool) -> npt.NDArray[np.uint8]:
    """The way of each frame, as far as its layers decide it. framed: the device takes Ethernet frames."""
    ip, fits = rows.has("ip"), rows.ethernet if framed else rows.has("ip")
    ways = np.zeros(len(rows), np.uint8)
    if path != "l2":
        ways[rows.family(4)], ways[rows.family(6)] = WAYS["raw4"], WAYS["raw6"]
    if path == "l2" or (path is None and to.tap is None):
        ways[fits] = WAYS["l2"]
    elif path is None:
        ways[fits] = WAYS["tap"]
    if path is None and to.hardware == LOOPBACK and not to.routed_in:
        ways[ip & rows.family(4)] = WAYS["raw4"]
    return ways


def _left_out(
    rows: Rows, to: Towards, path: str | None, ways: npt.NDArray[np.uint8], *, too_large: _Booleans
) -> Iterator[tuple[str, _Booleans]]:
    """Why which of the rows are not sent, the first reason that holds for each first."""
    yield "cut short when they were captured", rows["captured"] < rows["length"]
    yield "shorter than an Ethernet header", (rows.link == LINK_ETHERNET) & ~rows.ethernet
    known = (rows.link == LINK_ETHERNET) | np.isin(rows.link, LINK_IP) | rows.has("ip")
    yield "of a link layer that is neither Ethernet nor IP", ~known
    no_way = ways == WAYS["left out"]
    yield _no_ip(to, path), no_way & ~rows.has("ip")
    yield f"bare IP packets, and layer 2 of {to.device} takes Ethernet frames: leave --path l2 out", no_way
    only = {_ONLY_IPV4: 4, _ONLY_IPV6: 6}.get(to.hardware)
    if only:
        yield f"not IPv{only}, which is all that {to.device} carries", ~rows.family(only)
    yield f"larger than the MTU of {to.device} ({to.mtu:,})", too_large


def _no_ip(to: Towards, path: str | None) -> str:
    if to.hardware not in (ETHERNET, LOOPBACK):
        return f"no IP packets, which is all that {to.device} takes"
    return "no IP packets: leave --path l3 out" if path == "l3" else "neither Ethernet frames nor IP packets"


def _sort(reasons: Iterator[tuple[str, _Booleans]], among: _Booleans, counts: Counter[str]) -> _Booleans:
    """Counts the rows by the first reason that holds for them. Returns which have one."""
    held = np.zeros(len(among), np.bool_)
    for reason, holds in reasons:
        new = holds & among & ~held
        if count := int(np.count_nonzero(new)):
            counts[reason] += count
            held |= new
    return held


def _most(counts: Counter[str], source: Source) -> str:
    """The reason that holds for most frames."""
    if not counts:
        return f"{source.name} has no frames; give some"
    ((reason, count),) = counts.most_common(1)
    return reason if len(counts) == 1 else f"{count:,} of {counts.total():,} frames are {reason}"


def _remarks(stripped: int, frames: int, path: str | None, to: Towards) -> Iterator[str]:
    if not stripped:
        return
    if to.hardware not in (ETHERNET, LOOPBACK):
        why = f"{to.device} takes bare IP packets"
    elif path == "l3":
        why = "layer 3 takes IP packets"
    else:
        why = (
            f"{to.device} drops IPv4 frames here, as its sysctls route_localnet and accept_local are not both set "
            "(a private world sets them)"
        )
    yield f"{stripped:,} of {frames:,} frames leave without their Ethernet header: {why}"


def _joined(parts: list[npt.NDArray[_Number]], dtype: type[_Number]) -> npt.NDArray[_Number]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)
