"""Two packets beside each other: which field of the one means the same as which of the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import NamedTuple

from lab.flow.anatomy.anatomies import Anatomy, Comparison, Field, Pair

__all__ = ["compare"]

#: Layers that do what another does, and of their fields those that are called otherwise there (RFC 8200; RFC 4443).
_LIKE = {
    "IPv6": ("IP", {"tc": "tos", "plen": "len", "nh": "proto", "hlim": "ttl"}),
    "IPerror6": ("IPerror", {"tc": "tos", "plen": "len", "nh": "proto", "hlim": "ttl"}),
    "ICMPv6": ("ICMP", {"cksum": "chksum", "mtu": "nexthopmtu"}),
    "ICMPv6ND_NS": ("ARP", {"tgt": "pdst"}),
    "CookedLinuxV2": ("CookedLinux", {}),
    "Dot1AD": ("Dot1Q", {}),
}
#: What ICMPv6 keeps in a field of its own, and ICMP carries.
_CARRIED = {("ICMP", "data"): ("Raw", "load")}
_OPTION = "ICMPv6NDOpt"


class _Known(NamedTuple):
    """A field of a packet. group: which layer, from 0, by what it does; name: of the field, by what it means."""

    group: tuple[str, int]
    name: str
    layer: str
    field: Field


def compare(left: Anatomy, right: Anatomy) -> Comparison:
    """Pairs of the same layer and name, or of what does the same in IPv4 and IPv6, in the order of the first's."""
    both = [
        [list(group) for _kind, group in groupby(_known(each), lambda known: known.group)] for each in (left, right)
    ]
    mine_are, others_are = ([group[0].group[0] for group in groups] for groups in both)
    pairs: list[Pair] = []
    for what, a, b, c, d in SequenceMatcher(None, mine_are, others_are, autojunk=False).get_opcodes():
        if what == "equal":
            for mine, other in zip(both[0][a:b], both[1][c:d], strict=True):
                pairs += _pairs(mine, other)
            continue
        for mine in both[0][a:b]:
            pairs += _pairs(mine, [])
        for other in both[1][c:d]:
            pairs += _pairs([], other)
    return Comparison(both=(left, right), pairs=tuple(pairs), large=left.large)


def _known(anatomy: Anatomy) -> Iterator[_Known]:
    for number, layer in enumerate(anatomy.layers):
        kind, names = _like(layer.name)
        for field in layer.fields:
            name = names.get(field.name, field.name)
            group = kind, number
            if (kind, name) in _CARRIED and field.bits:
                group, name = (_CARRIED[kind, name][0], number), _CARRIED[kind, name][1]
            yield _Known(group, name, layer.name, field)


def _like(name: str) -> tuple[str, dict[str, str]]:
    """What a layer is compared as, and how its fields are called there."""
    if name in _LIKE:
        return _LIKE[name]
    if name.startswith("ICMPv6") and not name.startswith(_OPTION):
        return _LIKE["ICMPv6"]
    return name, {}


def _pairs(left: Sequence[_Known], right: Sequence[_Known]) -> Iterator[Pair]:
    """Of two layers that do the same; of one, if the other packet has no such layer."""
    layers = (left[0].layer if left else "", right[0].layer if right else "")
    others = {each.name: each.field for each in right}
    for mine in left:
        yield Pair(layers=layers, fields=(mine.field, others.pop(mine.name, None)))
    for other in others.values():
        yield Pair(layers=layers, fields=(None, other))
