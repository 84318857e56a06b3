"""What ``lab ports`` tells: the listening sockets of a network, all about one port, or what came of a scan.

Each report shows itself at 80 columns, and is a JSON document of format 1:

- ``Ports``: ``{"rows": [{"protocol","family","families","address","port","v6only","device","pid","process","user",
  "since_ns","processes","reach","reached_by","warning","waiting","room"}], "warnings"}``. reach: see ``Reach``. pid,
  process, user and since_ns are those of the oldest of the processes that have the socket; null if none may be seen.
- ``Port``: ``{"port", "answers": [{"address","protocol","status","rtt_ns","errno","error","icmp"}], "holders": [a row
  as above, with "state","count","remote","left_ns","network","end_command"], "bind": {"errno","error","reusing_errno",
  "where"}, "free_nearby", "end_command", "warnings"}``. Of a holder in another network, network is the number of a
  process that is in it; it is in nobody's way here, and end_command of the document is not about it.
- ``Scan``: ``{"ports", "addresses": [{"address","asked","open","closed","filtered","errors","duration_ns"}], "rows":
  [a row as above, of an open port, with "asked": the address that was], "agrees", "warnings"}``. filtered: as text,
  such as "1-21,23".
"""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import errno_name
from lab.listeners.asking import Answer
from lab.listeners.binding import Binding
from lab.listeners.bound import Listener
from lab.listeners.holders import Holder
from lab.listeners.ranges import as_text
from lab.listeners.scanning import Scanned
from lab.listeners.shown import answer_lines, holder_lines, listener_lines, wrapped
from lab.units import format_ns

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Port", "Ports", "Scan"]


#: Of a table of listening sockets.
_COLUMNS = {
    "protocol": "text", "family": "number", "families": "list", "address": "text", "port": "number", "v6only": "flag",
    "device": "text", "pid": "number", "process": "text", "user": "text", "since_ns": "number", "reach": "text",
    "reached_by": "text", "warning": "text", "waiting": "number", "room": "number",
}  # fmt: skip


class _Report(ABC):
    warnings: tuple[str, ...]

    @abstractmethod
    def lines(self) -> list[str]:
        """It as text, without the warnings."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The JSON document, format 1."""

    def __str__(self) -> str:
        told = [line for text in self.warnings for line in wrapped("warning: ", text, "  ")]
        return "\n".join([*self.lines(), *([""] if told else []), *told])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


@dataclass(frozen=True, repr=False)
class Ports(_Report):
    """The listening sockets of a network, in order of protocol and port. warnings: also of what is open to all."""

    rows: tuple[Listener, ...]
    warnings: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """A table."""
        return listener_lines(self.rows)

    def to_json(self) -> dict[str, Any]:
        """The JSON document, format 1."""
        return {"format": 1, "rows": [row.to_json() for row in self.rows], "warnings": list(self.warnings)}

    def to_polars(self) -> pl.DataFrame:
        """The rows, but for the list of processes, as a polars table."""
        import polars as pl

        rows = [{name: value for name, value in row.to_json().items() if name in _COLUMNS} for row in self.rows]
        kinds: dict[str, Any] = {"text": pl.String, "number": pl.Int64, "flag": pl.Boolean, "list": pl.List(pl.Int64)}
        return pl.DataFrame(rows, schema={name: kinds[kind] for name, kind in _COLUMNS.items()})

    def _repr_html_(self) -> str:
        heads = ("protocol", "address", "port", "process", "user", "reached by")
        head = "".join(f"<th>{each}</th>" for each in heads)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in _cells(row)) + "</tr>"
            for row in self.rows
        )
        notes = "".join(f"<p>warning: {html.escape(text)}</p>" for text in self.warnings)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"


def _cells(row: Listener) -> tuple[str | int, ...]:
    takes = " and ".join(f"IPv{family}" for family in row.families)
    process = f"{row.first.name} ({row.first.pid})" if row.first else "not seen"
    return row.protocol, f"{row.address}, {takes}", row.port, process, row.user, row.reach.who


@dataclass(frozen=True, repr=False)
class Port(_Report):
    """All about one port. end_command: what would end those who have it here, or None. free_nearby: a port, or None."""

    port: int
    answers: tuple[Answer, ...]
    holders: tuple[Holder, ...]
    binding: Binding
    free_nearby: int | None
    end_command: str | None
    warnings: tuple[str, ...] = ()

    @property
    def here(self) -> tuple[Holder, ...]:
        """The holders in the network that was asked about."""
        return tuple(each for each in self.holders if each.network is None)

    @property
    def open(self) -> bool:
        """Whether a TCP handshake was completed at any of the addresses."""
        return any(each.protocol == "tcp" and each.status == "open" for each in self.answers)

    @property
    def free(self) -> bool:
        """Whether a server could bind to it, at all addresses of both families."""
        return self.binding.errno is None

    def lines(self) -> list[str]:
        """What it answers, who has it, whether it can be bound to."""
        lines = [f"port {self.port}", "", *answer_lines(self.answers), ""]
        elsewhere = [each for each in self.holders if each.network is not None]
        lines += ["held by" if self.here else "nobody has it here"]
        lines += holder_lines(self.here)
        if elsewhere:
            lines += ["in other networks of this machine, and not in the way here"]
            lines += holder_lines(elsewhere)
        bind = "can be bound to" if self.free else f"can't be bound to ({self.binding.where}): {self.binding.error}"
        if not self.free and self.binding.reusing_errno is None:
            bind += "; with SO_REUSEADDR it can"
        lines += ["", *wrapped("", bind, "  ")]
        return [*lines, f"free nearby: {self.free_nearby or 'none'}"]

    def to_json(self) -> dict[str, Any]:
        """The JSON document, format 1."""
        return {
            "format": 1,
            "port": self.port,
            "answers": [each.to_json() for each in self.answers],
            "holders": [each.to_json() for each in self.holders],
            "bind": self.binding.to_json(),
            "free_nearby": self.free_nearby,
            "end_command": self.end_command,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, repr=False)
class Scan(_Report):
    """What came of a scan. rows: by address, the listening sockets that answered. agrees: with the list of sockets."""

    ports: tuple[range, ...]
    addresses: tuple[Scanned, ...]
    rows: tuple[tuple[str, Listener], ...]
    agrees: bool
    warnings: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """A paragraph an address."""
        lines = [] if self.addresses else ["nothing was asked"]
        for each in self.addresses:
            counts = f"{len(each.open):,} open, {each.closed:,} closed, {len(each.filtered):,} filtered"
            failed = "".join(f"; {count:,} × {errno_name(number)}" for number, count in each.errors.items())
            took = format_ns(each.duration_ns)
            lines += wrapped("", f"{each.address}: {each.asked:,} ports in {took}: {counts}{failed}", "  ")
            rows = [row for address, row in self.rows if address == each.address]
            lines += [f"  {line}" for line in listener_lines(rows, 78)] if rows else []
            unknown = sorted(set(each.open) - {row.port for row in rows})
            lines += wrapped("  ", f"open, of no socket here: {as_text(unknown)}") if unknown else []
            lines += wrapped("  ", f"filtered: {as_text(each.filtered)}", "    ") if each.filtered else []
        return lines

    def to_json(self) -> dict[str, Any]:
        """The JSON document, format 1."""
        return {
            "format": 1,
            "ports": as_text(self.ports),
            "addresses": [_scanned(each) for each in self.addresses],
            "rows": [{"asked": address, **row.to_json()} for address, row in self.rows],
            "agrees": self.agrees,
            "warnings": list(self.warnings),
        }


def _scanned(each: Scanned) -> dict[str, Any]:
    return {
        "address": each.address,
        "asked": each.asked,
        "open": list(each.open),
        "closed": each.closed,
        "filtered": as_text(each.filtered),
        "errors": [{"errno": number, "count": count} for number, count in each.errors.items()],
        "duration_ns": each.duration_ns,
    }
