"""``lab.ports``: from what is asked to the report."""

from __future__ import annotations

from collections.abc import Sequence

from lab.checks import pick
from lab.errors import UsageError
from lab.listeners.asking import TIMEOUT_NS, Answer, absent, ask
from lab.listeners.binding import bind_errno, free_port
from lab.listeners.bound import Listener, list_listeners, opener, unseen
from lab.listeners.findings import about_port, open_to_all, takes
from lab.listeners.holders import Holder, find_holders
from lab.listeners.networks import holders_elsewhere, inode_of
from lab.listeners.programs import end_command
from lab.listeners.ranges import as_text, own_address, parse_addresses, parse_port, parse_ranges
from lab.listeners.reach import Surroundings, look
from lab.listeners.reports import Port, Ports, Scan
from lab.listeners.scanning import Scanned, scan_ports
from lab.taps.places import SocketAt
from lab.taps.rtnetlink import addresses
from lab.units import duration
from lab.world import Place, visit
from lab.world.place import ENDS

__all__ = ["ports"]

_LOOPBACK = ("127.0.0.1", "::1")
_IPV6_FIX = "ip link set lo up; sysctl net.ipv6.conf.all.disable_ipv6=0, also for lo"


def ports(
    port: int | str | None = None,
    *,
    scan: str | None = None,
    at: str | Sequence[str] | None = None,
    timeout: str | None = None,
    world: str | int | Place | None = "host",
    end: str = "near",
) -> Ports | Port | Scan:
    """Every listening TCP and UDP socket, or all about one port, or which TCP ports of a range answer.

    ::

        lab.ports()                     # who listens, and who can reach it
        lab.ports(8080)                 # what it answers, who has it, what would free it
        lab.ports(scan="1-65535")       # of 127.0.0.1 and ::1

    port: to tell all about. scan: ports and ranges, such as "22,80,8000-8100". at: the addresses to ask, numeric, with
    commas between them or as a list; only the network's own. By default a scan asks 127.0.0.1 and ::1, and a port is
    asked at those, at the other own addresses, and at those that its sockets are bound to. timeout: how long an answer
    is waited for, "500ms" by default. world: whose network: "host", "new", the number of a process, or an open
    ``World``, at its `end` ("near", "far" or "middle"). Changes nothing; connections that it makes are reset at once,
    and datagrams that it sends are empty. Raises UsageError, Unavailable.
    """
    number = None if port is None else parse_port(port)
    wanted = None if scan is None else parse_ranges(scan)
    if number is not None and wanted is not None:
        raise UsageError(f"port {number} and a scan together: give one")
    if number is None and wanted is None and (at is not None or timeout is not None):
        raise UsageError(
            "nothing is asked where sockets are only listed: give a port or a scan, or leave at and timeout out"
        )
    given = None if at is None else parse_addresses(at)
    timeout_ns = TIMEOUT_NS if timeout is None else duration(timeout)
    pick("end", end, ENDS)
    with visit("host" if world is None else world, []) as (place, _warnings):
        if end != "near" and place.kind != "new":
            raise UsageError(f"this network has no {end} end: leave end out, or give a world of your own")
        socket_at = opener(place, end)
        if number is not None:
            return _port(number, socket_at, given, timeout_ns, inode_of(place, end))
        if wanted is not None:
            return _scan(wanted, socket_at, given or _LOOPBACK, timeout_ns)
        return _listed(socket_at)


def _listed(socket_at: SocketAt) -> Ports:
    rows, hidden = list_listeners(socket_at)
    warnings = list(open_to_all(rows))
    if missing := sum(not row.programs for row in rows):
        warnings.append(unseen(missing, hidden))
    return Ports(tuple(rows), tuple(warnings))


def _port(port: int, socket_at: SocketAt, given: Sequence[str] | None, timeout_ns: int, inode: int | None) -> Port:
    around = look(socket_at)
    here, hidden = find_holders(port, socket_at=socket_at)
    asked = [own_address(each, around) for each in given] if given else _own(socket_at, around, here)
    present = [each for each in asked if around.of(each) is not None]
    answers = ask(present, port, socket_at=socket_at, timeout_ns=timeout_ns)
    missing = {each: absent(each, socket_at) for each in asked if each not in present}
    answers += [
        Answer(address=each, port=port, protocol=protocol, status="unreachable", rtt_ns=None, errno=number)
        for each, number in missing.items()
        for protocol in ("tcp", "udp")
    ]
    elsewhere, notes = holders_elsewhere(port, socket_at=socket_at, own=[] if inode is None else [inode])
    binding = bind_errno(port, socket_at=socket_at)
    warnings = [*about_port(port, answers, here, binding), *(_not_there(each) for each in missing)]
    nobodys = [each for each in here if not each.programs and each.state != "time-wait"]
    if nobodys:
        warnings.append(unseen(sum(each.count for each in nobodys), hidden))
    programs = {each.pid: each for holder in here for each in holder.programs}
    return Port(
        port=port,
        answers=tuple(answers),
        holders=(*here, *elsewhere),
        binding=binding,
        free_nearby=free_port(port, socket_at=socket_at),
        end_command=end_command(list(programs.values()), port) or None,
        warnings=tuple(dict.fromkeys([*warnings, *notes])),
    )


def _own(socket_at: SocketAt, around: Surroundings, here: Sequence[Holder]) -> list[str]:
    """127.0.0.1 and ::1, the other own addresses, and those that sockets are bound to.

    All but the first two only if the kernel routes them to itself now. Of those two, one that it does not is never
    asked, either: it would go by the default route, and leave this machine.
    """
    found = []
    for each in addresses(socket_at):
        device = around.names.get(each.interface, "")
        found.append(f"{each.address}%{device}" if each.address.startswith("fe80:") else each.address)
    found += [each.address for each in here if each.takes_all and each.address not in ("0.0.0.0", "::")]  # noqa: S104
    return list(dict.fromkeys([*_LOOPBACK, *(each for each in found if around.of(each) is not None)]))


def _scan(wanted: Sequence[range], socket_at: SocketAt, given: Sequence[str], timeout_ns: int) -> Scan:
    around = look(socket_at)
    asked = [own_address(each, around) for each in given] if given is not _LOOPBACK else list(given)
    present = [each for each in asked if around.of(each) is not None]
    before, _ = list_listeners(socket_at)
    came = [
        scan_ports(
            address,
            (port for each in wanted for port in each),
            socket_at=socket_at,
            timeout_ns=timeout_ns,
            known=frozenset(_listening(before, address)),
        )
        for address in present
    ]
    after, hidden = list_listeners(socket_at)
    rows: list[tuple[str, Listener]] = []
    warnings: list[str] = []
    for each in came:
        known = _listening(before, each.address) | _listening(after, each.address)
        rows += [(each.address, known[port]) for port in each.open if port in known]
        both = _listening(before, each.address).keys() & _listening(after, each.address).keys()
        warnings += _disagreements(each, wanted, known, both)
    agrees = not warnings
    warnings += [_not_there(each) for each in asked if each not in present]
    if missing := sum(not row.programs for _address, row in rows):
        warnings.append(unseen(missing, hidden))
    return Scan(tuple(wanted), tuple(came), tuple(rows), agrees, tuple(warnings))


def _not_there(address: str) -> str:
    mend = "ip link set lo up; ip address add 127.0.0.1/8 dev lo" if address == _LOOPBACK[0] else _IPV6_FIX
    return f"{address} is no address of this network now, and was not asked: {mend}"


def _listening(rows: Sequence[Listener], address: str) -> dict[int, Listener]:
    """The TCP sockets that take what is sent to an address, by port."""
    return {row.port: row for row in rows if row.protocol == "tcp" and takes(row, address)}


def _disagreements(each: Scanned, wanted: Sequence[range], known: dict[int, Listener], always: set[int]) -> list[str]:
    """Where what answers is not what is listed. known: who listened before or after; always: at both times."""
    told = []
    if strange := set(each.open) - known.keys():
        told.append(
            f"{each.address}: {as_text(strange)} answers, though no socket is listed for it: a rule redirects it (nft "
            "list ruleset), or it was gone by then"
        )
    expected = {port for port in always if any(port in part for part in wanted)}
    if silent := expected - set(each.open):
        told.append(
            f"{each.address}: {as_text(silent)} is listened at, and did not answer: a firewall is before it (nft list "
            "ruleset), or its queue is full; lab ports PORT tells more"
        )
    return told
