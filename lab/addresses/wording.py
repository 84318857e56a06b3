"""What was found of an address, in words: the rows that are shown of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.addresses.registry import MEANINGS, Entry
from lab.addresses.sheet import Row

if TYPE_CHECKING:
    from lab.addresses.facts import AddressFacts
    from lab.addresses.forms import Network
    from lab.addresses.routing import Way
    from lab.addresses.spelling import Reading

__all__ = ["address_rows", "entry_text", "way_text"]

_COLUMNS = {
    "source": "source",
    "destination": "destination",
    "forwardable": "forwardable",
    "globally_reachable": "globally reachable",
    "reserved_by_protocol": "reserved by protocol",
}
_SAID = {True: "yes", False: "no", None: "n/a"}


def address_rows(found: AddressFacts) -> list[Row]:
    """All that is shown of an address, by subject."""
    rows: list[Row] = []
    if found.readings:
        rows += [("read as", [_reading_text(reading) for reading in found.readings]), ("", [])]
    rows += [("meaning", [MEANINGS[found.kind]]), ("public", [_SAID[found.public]])]
    rows.append(("registry", _registry_lines(found.entry, found.within)))
    if found.network:
        rows.append(("network", _network_lines(found.network)))
    rows += [("", []), ("written", _written_lines(found)), ("in a URL", [_url(found)])]
    rows.append(("reverse", [found.forms.reverse]))
    if found.ipv4:
        rows.append(("IPv4 in it", [found.ipv4]))
    stays = {True: "yes", False: "no", None: "not known"}[found.loopback.here]
    rows += [("", []), ("route", [way_text(found.route), *_route_lines(found.route)])]
    rows.append(("loopback", [f"{stays}: {found.loopback.why}"]))
    return rows


def _url(found: AddressFacts) -> str:
    return f"http://{found.forms.url}/" + (", which browsers refuse" if found.zone else "")


def _reading_text(reading: Reading) -> str:
    how = "" if reading.asked else " (by rule)"
    return f"{reading.address or 'refused':15}  {reading.reader}, as in {reading.programs}{how}"


def entry_text(entry: Entry) -> str:
    """``"127.0.0.0/8 Loopback (RFC 1122, section 3.2.1.3)"``."""
    return f"{entry.block} {entry.name} ({entry.rfc})"


def _registry_lines(entry: Entry | None, within: tuple[Entry, ...]) -> list[str]:
    if entry is None:
        return ["no special entry of IANA's has it"]
    lines = [entry_text(entry)]
    if entry.terminated:
        lines.append(f"ended {entry.terminated}, with no columns since")
    elif entry.registry == "special-purpose":
        for value, said in _SAID.items():
            if names := [name for field, name in _COLUMNS.items() if getattr(entry, field) is value]:
                lines.append(f"{said} for {', '.join(names)}")
    return lines + [f"within {entry_text(each)}" for each in within]


def _network_lines(net: Network) -> list[str]:
    whose = "" if net.given else ", the block of its entry"
    lines = [f"{net.cidr}{whose}"]
    count = f"{net.size:,}" if net.size < 1 << 40 else f"2^{net.size.bit_length() - 1}"
    lines.append(f"mask {net.mask}, {count} address{'es' if net.size > 1 else ''}")
    if net.size > 1:
        lines.append(f"first {net.first}, last {net.last}")
    if net.given and net.broadcast:
        lines.append(f"for machines {net.first_host} to {net.last_host}, broadcast {net.broadcast}")
    return lines


def _written_lines(found: AddressFacts) -> list[str]:
    forms = found.forms
    if found.family == 4:
        return [f"{forms.text}, {forms.hexadecimal}, {forms.integer}"]
    return [f"{forms.text} (RFC 5952)", *([forms.expanded] if forms.expanded != forms.text else [])]


def way_text(way: Way) -> str:
    """``"local, by lo, from 127.0.0.1"``."""
    if way.kind is None:
        return f"none: {way.error}"
    through = f", through {way.gateway}" if way.gateway else ""
    source = f", from {way.source}" if way.source else ""
    return f"{way.kind}, by {way.device}{through}{source}"


def _route_lines(way: Way) -> list[str]:
    if way.prefix is None:
        return []
    default = ", the default" if way.prefix.endswith("/0") else ""
    table = f", of table {way.table}" if way.table else ""
    return [f"as the route for {way.prefix} says{default}{table}"]
