"""What lo is: up, with its addresses, local routes to them, and sysctls that let it answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lab.checkup.facts import RANGE, Facts
from lab.checkup.findings import Item
from lab.checkup.network import LOOPBACK
from lab.errors import errno_name

__all__ = ["interface"]

_UP = "ip link set lo up"
_V6_LEAST_MTU = 1280  # RFC 8200, section 5
_LO_MTU = 65536
_PREFIX = 8


def interface(facts: Facts) -> Iterator[Item]:
    """The items lo, host-ipv4, host-ipv6, routes and echo."""
    yield _lo(facts)
    yield _ipv4(facts)
    yield _ipv6(facts)
    yield _routes(facts)
    yield _echo(facts)


def _lo(facts: Facts) -> Item:
    device, cost = facts.device, "nothing on this machine reaches anything else on it by IP"
    if device is None:
        fix = "Make a new network namespace: each comes with one"
        return Item("lo", "missing", "this network has no interface lo", fix, cost)
    if not device.up:
        return Item("lo", "missing", "lo is down", _UP, cost, macos="sudo ifconfig lo0 up")
    evidence = f"lo is up, with an MTU of {device.mtu:,}"
    if device.mtu >= _LO_MTU:
        return Item("lo", "ok", evidence)
    cost = "more and smaller packets, so less throughput"
    if device.mtu < _V6_LEAST_MTU:
        cost = f"no IPv6, which takes an MTU of {_V6_LEAST_MTU:,}; {cost}"
    return Item("lo", "partial", evidence, f"ip link set lo mtu {_LO_MTU}", cost)


def _ipv4(facts: Facts) -> Item:
    if 4 not in facts.families:
        number = facts.bound[4]
        evidence = "127.0.0.1 isn't local" if number is None else f"bind to 127.0.0.1: {errno_name(number)}"
        fix = "ip address add 127.0.0.1/8 dev lo"
        if facts.device and not facts.device.up:
            evidence, fix = f"{evidence}: lo is down", _UP
        elif facts.device:
            evidence += f": lo has {_listed(facts)}"
        return Item("host-ipv4", "missing", evidence, fix, "no IPv4 on loopback: what asks 127.0.0.1 fails")
    lengths = dict(facts.device.addresses) if facts.device else {}
    length = lengths.get(LOOPBACK[4], _PREFIX)
    if length > _PREFIX:
        fix = f"ip address add 127.0.0.1/8 dev lo; ip address del 127.0.0.1/{length} dev lo"
        return Item("host-ipv4", "partial", f"lo has 127.0.0.1/{length}", fix, "the rest of 127.0.0.0/8 is not local")
    return Item("host-ipv4", "ok", f"{facts.network.whose} lo has 127.0.0.1/{length}")


def _ipv6(facts: Facts) -> Item:
    if 6 in facts.families:
        return Item("host-ipv6", "ok", f"{facts.network.whose} lo has ::1/128")
    why, fix = _without_ipv6(facts)
    tried = f"bind to ::1: {errno_name(facts.bound[6] or 0)}" if facts.bound[6] else "::1 isn't local"
    cost = "no IPv6 on loopback: what asks [::1] alone fails, and what tries it first loses time"
    return Item("host-ipv6", "missing", f"{tried}: {why}", fix, cost)


def _without_ipv6(facts: Facts) -> tuple[str, str]:
    """Why there is no ::1, and what mends it."""
    device, network = facts.device, facts.network
    switches = {name: network.sysctl(f"ipv6/conf/{name}/disable_ipv6") for name in ("all", "lo")}
    if set(switches.values()) == {None}:
        return "the kernel has no IPv6", "Start without ipv6.disable=1 on the kernel's command line, or load ipv6"
    if device and not device.up:
        return "lo is down", _UP
    off = [f"net.ipv6.conf.{name}.disable_ipv6" for name, value in switches.items() if value == "1"]
    if off:
        return f"{' and '.join(off)} switched on", "sysctl -w " + " ".join(f"{name}=0" for name in off)
    if device and device.mtu < _V6_LEAST_MTU:
        return f"the MTU of lo is {device.mtu:,}", f"ip link set lo mtu {_LO_MTU}; ip address add ::1/128 dev lo"
    return f"lo has {_listed(facts)}", "ip address add ::1/128 dev lo"


def _listed(facts: Facts) -> str:
    device = facts.device
    return ", ".join(f"{each}/{length}" for each, length in device.addresses) if device and device.addresses else "none"


def _routes(facts: Facts) -> Item:
    """Whether the kernel would deliver locally what is for loopback; an address that isn't there has no such route."""
    own = facts.families
    wanted = [LOOPBACK[family] for family in own] + (list(RANGE) if 4 in own else [])
    astray = {
        address: route
        for address, route in facts.routes.items()
        if address in wanted and route.kind not in ("local", "broadcast")
    }
    if not wanted:
        return Item("routes", "missing", "no address, so no route", "See lo, host-ipv4 and host-ipv6, above", _NO_ROUTE)
    if not astray:
        last = RANGE[-1]
        kinds = f"; {last} is its broadcast address" if facts.routes[last].kind == "broadcast" and 4 in own else ""
        return Item("routes", "ok", f"what is for {_told(wanted)} is delivered locally{kinds}")
    told = "; ".join(f"{address}: {route}" for address, route in astray.items())
    narrow = LOOPBACK[4] not in astray and LOOPBACK[6] not in astray
    fix = _route_fix(astray)
    if narrow:  # lo has a smaller prefix than it comes with: those who did that knew why
        return Item("routes", "partial", f"not local: {told}", fix, "these addresses don't answer")
    return Item("routes", "missing", f"not local: {told}", fix, _NO_ROUTE)


_NO_ROUTE = "what is for loopback doesn't come back"


def _told(addresses: list[str]) -> str:
    families = ["127.0.0.0/8"] if LOOPBACK[4] in addresses else []
    return " and ".join(families + ([LOOPBACK[6]] if LOOPBACK[6] in addresses else []))


def _route_fix(astray: Iterable[str]) -> str:
    """The look that tells why, and the routes to have again."""
    astray = list(astray)
    wanted = []
    if any(":" not in address for address in astray):
        wanted.append("ip route replace local 127.0.0.0/8 dev lo table local")
    if LOOPBACK[6] in astray:
        wanted.append("ip -6 route replace local ::1 dev lo table local")
    return f"{'; '.join(wanted)}; what leads elsewhere is told by ip route get {astray[0]}, and by ip rule"


def _echo(facts: Facts) -> Item:
    names = {4: "net.ipv4.icmp_echo_ignore_all", 6: "net.ipv6.icmp.echo_ignore_all"}
    if not facts.ignores:
        return Item("echo", "ok", "no sysctl has the kernel ignore echo requests")
    off = [names[family] for family in facts.ignores]
    evidence = f"{' and '.join(off)} {'is' if len(off) == 1 else 'are'} 1: the kernel ignores echo requests"
    fix = "sysctl -w " + " ".join(f"{name}=0" for name in off)
    return Item("echo", "denied", evidence, fix, "ping gets no answer, though all else works")
