"""What was found of a name, in words: rows, and notes on what surprises and what mends it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lab.addresses.asking import PATIENCE_S
from lab.addresses.sheet import Row
from lab.addresses.wording import entry_text, way_text
from lab.errors import errno_name
from lab.units import format_ns

if TYPE_CHECKING:
    from lab.addresses.facts import AddressFacts
    from lab.addresses.names import Answer, NameFacts

__all__ = ["name_notes", "name_rows", "why_nothing"]


def name_rows(found: NameFacts) -> list[Row]:
    """All that is shown of a name: who was asked, what each says, what programs get, and what each address is."""
    rows: list[Row] = [("order", [_order(found)])]
    rows += [(f"  {answer.service}", _source_lines(found, answer)) for answer in found.sources]
    rows += [("", []), ("programs", _program_lines(found)), ("", [])]
    rows += [(each.address, _address_lines(each)) for each in found.addresses]
    return rows if found.addresses else rows[:-1]


def _order(found: NameFacts) -> str:
    if found.order["text"] is None:
        why = errno_name(found.order["errno"]) if found.order["errno"] else "no hosts: line"
        return f"the C library's own, as /etc/nsswitch.conf has none ({why})"
    return f"{found.order['text']} (/etc/nsswitch.conf, line {found.order['line']})"


def _source_lines(found: NameFacts, answer: Answer) -> list[str]:
    lines = [_said(found, answer)]
    if answer.service == "files":
        lines += [_hosts_line(line) for line in found.hosts_file["lines"]]
        if found.hosts_file["errno"]:
            lines.append(f"/etc/hosts can't be read: {errno_name(found.hosts_file['errno'])}")
    if answer.service == "dns" and answer.status != "not-asked":
        lines.append(_servers(found))
    return lines


def _hosts_line(line: dict[str, Any]) -> str:
    passed_over = "" if line["valid"] else " (no address: passed over)"
    return f"line {line['number']} of /etc/hosts: {line['text']}{passed_over}"


def _servers(found: NameFacts) -> str:
    servers = ", ".join(found.resolver["servers"])
    default = ", as /etc/resolv.conf names no server" if found.resolver["default"] else ""
    search = f", in {', '.join(found.resolver['search'])} too" if found.resolver["search"] else ""
    return f"by the server{'s' if len(found.resolver['servers']) > 1 else ''} {servers}{default}{search}"


def _said(found: NameFacts, answer: Answer) -> str:
    took = f", after {format_ns(answer.took_ns)}" if answer.took_ns else ""
    said = {
        "found": ", ".join(answer.addresses),
        "not-found": "knows no such name",
        "try-again": f"could not be asked ({answer.text}{took})",
        "failed": f"failed ({answer.text}{took})",
        "no-answer": f"no answer within {PATIENCE_S:.0f} s, after which it is not waited for here",
        "not-installed": "not installed: passed over",
        "not-asked": "not asked: names of localhost stay on this machine (RFC 6761, 6.3), and "
        + ", ".join(found.resolver["servers"])
        + " is another",
        "crashed": "crashed as it was asked",
    }
    return said[answer.status]


def _program_lines(found: NameFacts) -> list[str]:
    without = f" without {', '.join(found.withheld)}" if found.withheld and found.programs.status != "found" else ""
    lines = [f"getaddrinfo{without}: {_said(found, found.programs)}"]
    if found.decided_by:
        lines.append(f"decided by {found.decided_by}")
    if found.addrconfig.addresses != found.programs.addresses or found.addrconfig.status != found.programs.status:
        lines.append(f"with AI_ADDRCONFIG: {_said(found, found.addrconfig)}")
    return lines


def _address_lines(each: AddressFacts) -> list[str]:
    what = entry_text(each.entry) if each.entry else "an address as any other"
    stays = {True: "; stays on this machine", False: "; leaves", None: ""}[each.loopback.here]
    return [f"{each.kind}: {what}", f"route {way_text(each.route)}{stays}"]


def why_nothing(found: NameFacts) -> str:
    """Why programs get no address, and what to do, in one line."""
    fix = f"Check how it is spelled, or give it a line in /etc/hosts: 127.0.0.1 {found.name}"
    status = found.programs.status
    if found.hosts_file["errno"] == errno.ENOENT:
        why, fix = "there is no /etc/hosts, and nobody else knows it", "Write one: 127.0.0.1 localhost, ::1 localhost"
    elif found.withheld:
        why = "no source on this machine knows it, and DNS is not asked for names of localhost"
    elif status in ("try-again", "no-answer", "failed"):
        why = f"DNS could not be asked ({_servers(found)}: {found.programs.text or 'no answer'})"
        fix = "Name a server that answers in /etc/resolv.conf, or give the name a line in /etc/hosts"
    else:
        asked = ", ".join(answer.service or "" for answer in found.sources) or "the C library"
        why = f"no such name, say {asked}"
    return f"{found.name} has no address here: {why}. {fix}"


def name_notes(found: NameFacts) -> Iterator[str]:
    """Sentences about a name."""
    if found.localhost:
        yield from _of_localhost(found)
    for line in found.hosts_file["lines"]:
        if not line["valid"]:
            yield f"line {line['number']} of /etc/hosts begins with {line['address']}, which is no address"
    said = {answer.addresses for answer in found.sources if answer.status == "found"}
    if len(said) > 1 and found.decided_by:
        yield f"the sources do not agree: what {found.decided_by} says holds, as it is asked first"
    slow = found.resolver["patience_s"]
    if any(answer.status == "no-answer" for answer in found.sources) and slow:
        yield f"the resolver itself would go on: {slow} s for each name that it tries (resolv.conf: timeout, attempts)"
    decisive = next((each for each in found.sources if each.service == found.decided_by), None)
    if found.programs.addresses and decisive and set(decisive.addresses) != set(found.programs.addresses):
        yield f"programs get something else than {decisive.service} says alone: is there a cache (nscd)?"


def _of_localhost(found: NameFacts) -> Iterator[str]:
    elsewhere = [each.address for each in found.addresses if each.kind != "loopback"]
    if elsewhere:
        yield f"{found.name} means {', '.join(elsewhere)} here, which is no loopback address: mend /etc/hosts"
        return
    families = {each.family for each in found.addresses}
    for family, address in ((4, "127.0.0.1"), (6, "::1")):
        if families == {10 - family}:
            yield (
                f"it has no IPv{family} address here, so that a server on {address} alone is not reached by this name: "
                f"/etc/hosts would need {address} {found.name}"
            )
    if found.withheld and not found.programs.addresses:
        yield "programs of the C library would ask DNS now; Chromium, Firefox and curl ask nobody for such names"
