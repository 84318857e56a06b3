"""What answers: ping to 127.0.0.1, across 127.0.0.0/8 and to ::1, and UDP and TCP there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from lab.checkup.facts import RANGE, Facts, family_number
from lab.checkup.findings import Item
from lab.checkup.network import LOOPBACK
from lab.checkup.reaching import Attempt

__all__ = ["pings"]

_WINDOWS = "netsh int ip reset in an administrator's prompt, then restart; then the network card's driver anew"
_MACOS = "sudo ifconfig lo0 up; sudo pfctl -sr lists what its firewall does"
_ELSE = (
    "Nothing above explains it: look at what this can't see, iptables-legacy -S, eBPF programs (bpftool net) and "
    "security modules"
)


def pings(facts: Facts, causes: Iterable[Item]) -> Iterator[Item]:
    """The items ping-ipv4, ping-range, ping-ipv6 and transport. causes: what was found of lo, sysctls and rules."""
    see = [item.id for item in causes if not item.well]
    yield _ping("ping-ipv4", facts, [LOOPBACK[4]], see, "what asks whether 127.0.0.1 is there is told that it isn't")
    yield _ping("ping-range", facts, _asked(facts), see, "these addresses can't be told apart from absent ones")
    yield _ping("ping-ipv6", facts, [LOOPBACK[6]], see, "what asks whether ::1 is there is told that it isn't")
    yield _transport(facts, see)


def _asked(facts: Facts) -> list[str]:
    """Those of 127.0.0.0/8 that were asked; none if lo was made to have fewer, which is told elsewhere."""
    local = [address for address in RANGE if facts.routes[address].kind == "local"]
    return local or [address for address in RANGE if facts.routes[address].kind != "broadcast"]


def _ping(name: str, facts: Facts, addresses: list[str], see: list[str], cost: str) -> Item:
    other = "host-ipv6" if family_number(addresses[0]) == 4 else "host-ipv4"
    see = [each for each in see if each != other]
    attempts = [facts.attempt(address, "icmp") for address in addresses]
    failed = [each for each in attempts if each.failed]
    if failed:
        return Item(name, "missing", _evidence(facts, failed), _fix(see), cost, windows=_WINDOWS, macos=_MACOS)
    if all(each.answered for each in attempts):
        return Item(
            name, "ok", f"{_listed(addresses)} {'answers' if len(addresses) == 1 else 'answer'} an echo request"
        )
    others = [facts.attempt(address, "udp") for address in addresses]
    lost = [each for each in others if each.failed]
    if lost:
        return Item(name, "missing", "; ".join(map(str, lost)), _fix(see), cost, windows=_WINDOWS, macos=_MACOS)
    groups = facts.network.sysctl("ipv4/ping_group_range") or "unknown"
    return Item(
        name,
        "partial",
        f"we may not ping: we have no CAP_NET_RAW, and net.ipv4.ping_group_range is {groups}; a datagram comes "
        f"through on {_listed(addresses)}",
        f"sysctl -w net.ipv4.ping_group_range='{os.getgid()} {os.getgid()}', or run as root",
        "what stops ICMP alone would not be seen",
    )


def _transport(facts: Facts, see: list[str]) -> Item:
    """UDP and TCP over the loopback addresses that this network has."""
    addresses = [address for address in LOOPBACK.values() if family_number(address) in facts.families]
    failed = [each for protocol in ("udp", "tcp") for each in facts.failed(addresses, protocol)]
    cost = "programs that talk over loopback fail, or wait"
    if failed:
        return Item(
            "transport", "missing", "; ".join(map(str, failed)), _fix(see), cost, windows=_WINDOWS, macos=_MACOS
        )
    if not addresses:
        return Item(
            "transport", "missing", "no loopback address to try", _fix(see), cost, windows=_WINDOWS, macos=_MACOS
        )
    return Item("transport", "ok", f"datagrams and connections come through on {_listed(addresses)}")


def _evidence(facts: Facts, failed: list[Attempt]) -> str:
    """What failed; and what came through there nevertheless, which tells that it is ICMP alone."""
    told = str(failed[0])
    if len(failed) > 1:
        told += f", likewise {_listed([each.address for each in failed[1:]])}"
    through = [each for each in facts.attempts if each.address == failed[0].address and each.answered]
    if through:
        told += f"; {' and '.join(_KINDS[each.protocol] for each in through)} come through there: it is ICMP alone"
    return told


_KINDS = {"icmp": "echo replies", "udp": "datagrams", "tcp": "connections"}


def _fix(see: list[str]) -> str:
    return f"See {_listed(see)}, above" if see else _ELSE


def _listed(texts: list[str]) -> str:
    return ", ".join(texts[:-1]) + f" and {texts[-1]}" if len(texts) > 1 else "".join(texts)
