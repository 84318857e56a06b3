"""Reports as text, 80 columns wide where addresses and numbers leave it, which are never cut."""

from __future__ import annotations

import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.listeners.asking import Answer
from lab.listeners.programs import Program
from lab.texts import printable
from lab.units import format_ns

if TYPE_CHECKING:
    from lab.listeners.bound import Listener
    from lab.listeners.holders import Holder

__all__ = ["answer_lines", "duration_text", "holder_lines", "listener_lines", "wrapped"]

_WIDTH = 80
_LEAST_NAME = 8
#: An address that is longer has a line of its own.
_LONGEST = 22
#: Processes of one socket that are told of, at most.
_MOST_PROGRAMS = 3
_STATES = {"listen": "listens", "bound": "is bound", "connected": "is connected", "time-wait": "TIME_WAIT"}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def wrapped(head: str, text: str, indent: str | None = None) -> list[str]:
    """Lines of a text behind `head`; those that follow are indented as far as that, or by `indent`."""
    later = " " * len(head) if indent is None else indent
    return textwrap.wrap(
        text, _WIDTH, initial_indent=head, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    )


def listener_lines(rows: Sequence[Listener], width: int = _WIDTH) -> list[str]:
    """A table of listening sockets, so many letters wide; a mark stands at those that are open to all."""
    if not rows:
        return ["nothing listens"]
    table = [["", "address", "port", "process", "user", "reached by"]]
    alike = Counter(map(_told, rows))  # such as sockets that share a port (SO_REUSEPORT)
    for row in {_told(row): row for row in rows}.values():
        address = _bound_to(row.address, row.families, row.device)
        if len(address) > _LONGEST:  # has a line of its own, so that the others stay aligned
            table.append([row.protocol, address, "", "", "", ""])
        reached = ("! " if row.reach.warning else "") + row.reach.who
        first = ["", ""] if len(address) > _LONGEST else [row.protocol, address]
        table.append([*first, str(row.port), _process(row.programs, alike[_told(row)]), row.user, reached])
    return _columns(table, right=(2,), give=(3, 4), most=width)


def _columns(
    table: Sequence[Sequence[str]], *, right: tuple[int, ...], give: tuple[int, ...] = (), most: int = _WIDTH
) -> list[str]:
    """Aligned lines. give: columns that are cut, the widest first, where lines would be longer than `most`."""
    cells = [list(row) for row in table]
    whole = [row for row in cells if any(row[2:])]
    widths = [max(len(row[number]) for row in whole) for number in range(len(cells[0]))]
    while give and sum(widths) + 2 * (len(widths) - 1) > most:
        widest = max(give, key=lambda number: widths[number])
        if widths[widest] <= _LEAST_NAME:
            break
        widths[widest] -= 1
    for row in cells:
        for number, width in enumerate(widths):
            cell = _cut(row[number], width) if number in give else row[number]
            row[number] = cell.rjust(width) if number in right else cell.ljust(width)
    return ["  ".join(row).rstrip() for row in cells]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _bound_to(address: str, families: Sequence[int], device: str | None) -> str:
    both = " +IPv4" if tuple(families) == (4, 6) else ""
    return address + both + (f" ({device})" if device and "%" not in address else "")


def _told(row: Listener) -> tuple[object, ...]:
    """What a row of the table tells of a socket."""
    return row.protocol, row.address, row.port, row.families, row.device, row.programs, row.user


def _process(programs: Sequence[Program], sockets: int = 1) -> str:
    """The number goes first, so that it is never cut off."""
    if not programs:
        return "–" if sockets == 1 else f"– ×{sockets}"
    if sockets > 1:
        return f"{programs[0].pid} ×{sockets} {printable(programs[0].name)}"
    more = f" +{len(programs) - 1}" if len(programs) > 1 else ""
    return f"{programs[0].pid}{more} {printable(programs[0].name)}"


def answer_lines(answers: Sequence[Answer]) -> list[str]:
    """A line an address: what TCP and UDP answered."""
    told = {(each.address, each.protocol): each for each in answers}
    table = [("address", "TCP", "RTT", "UDP")]
    for address in dict.fromkeys(each.address for each in answers):
        tcp, udp = (told.get((address, protocol)) for protocol in ("tcp", "udp"))
        rtt = format_ns(tcp.rtt_ns) if tcp else "–"
        table.append((address, _status(tcp), rtt, _status(udp)))
    return _columns(table, right=(2,))


def _status(answer: Answer | None) -> str:
    if answer is None:
        return "–"
    text = answer.status.replace("-", " ")
    if answer.icmp:
        return f"{text}, ICMP {answer.icmp[0]}/{answer.icmp[1]}"
    return f"{text}, {answer.error.partition(' ')[0]}" if answer.error else text


def holder_lines(holders: Sequence[Holder]) -> list[str]:
    """Paragraphs: the sockets of the same processes, then these, since when they run, and what would end them."""
    groups: dict[tuple[object, ...], list[Holder]] = {}
    for each in holders:
        nobodys = each.left_ns is not None
        groups.setdefault((each.programs, each.network, "" if each.programs else each.user, nobodys), []).append(each)
    lines = []
    for same in groups.values():
        first = same[0]
        lines += [line for each in same for line in wrapped("  ", _socket(each), "      ")]
        lines += [line for program in first.programs[:_MOST_PROGRAMS] for line in _program_lines(program)]
        if (more := len(first.programs) - _MOST_PROGRAMS) > 0:
            lines.append(f"    and {more:,} processes more")
        if not first.programs and first.left_ns is None:
            lines += wrapped("    ", f"of a process that may not be seen, of user {first.user}")
        if first.network is not None:
            lines += wrapped("    ", f"in a network of its own: lab ports {first.port} --world {first.network}")
        lines += [f"    ends with: {first.end_command}"] if first.end_command else []
    return lines


def _socket(holder: Holder) -> str:
    several = f"{holder.count:,} × " if holder.count > 1 else ""
    text = f"{holder.protocol} {_bound_to(holder.address, holder.families, holder.device)}: "
    text += several + _STATES.get(holder.state, holder.state)
    if holder.remote:
        text += f" with {holder.remote}"
    if holder.left_ns is not None:
        text += f", of no process any more, gone in {duration_text(holder.left_ns)}"
    if holder.reach and holder.takes_all:
        text += f"; reached by {holder.reach.who}"
    if holder.waiting is not None and holder.room is not None and holder.waiting > holder.room:
        text += f"; its queue is full ({holder.waiting} connections wait, of {holder.room + 1})"
    return text


def _program_lines(program: Program) -> list[str]:
    since = ""
    if program.since_ns is not None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(program.since_ns / 1e9))
        since = f", since {stamp} ({duration_text(time.time_ns() - program.since_ns)} ago)"
    user = f" of {program.user}" if program.user else ""
    lines = wrapped("    ", f"process {program.pid}, {printable(program.name)}{user}{since}")
    if program.command:
        lines.append("      " + _cut(printable(" ".join(" ".join(program.command).split())), _WIDTH - 6))
    return lines


def duration_text(ns: int) -> str:
    """``"42 s"``, ``"3 min"``, ``"5 h"``, ``"12 d"``."""
    seconds = max(0, ns) / 1e9
    for size, name in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"
