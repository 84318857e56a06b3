"""How a server of this machine is reached: as 127.0.0.1, [::1] and localhost, and why not."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from lab.checkup.asking import Reply, ask, ask_in_turn
from lab.checkup.facts import Facts, rules_of
from lab.checkup.filtering import stopped, unreadable
from lab.checkup.findings import Item
from lab.checkup.holding import Holding, bound_to, hold, port_item, process
from lab.checkup.naming import NAME, Names
from lab.checkup.network import LOOPBACK, Network, is_loopback
from lab.checkup.reaching import Attempt
from lab.checkup.targets import Target, bracketed

__all__ = ["serving"]

_IDS = {LOOPBACK[4]: "server-ipv4", LOOPBACK[6]: "server-ipv6", NAME: "server-name"}
_BELOW = "Add “127.0.0.1 {host}” to /etc/hosts: browsers take it for loopback without, other programs may not"
_NOT_HTTP = "a browser shows nothing there"


def serving(facts: Facts, known: Names, target: Target) -> Iterator[Item]:
    """The items port, server-…, and server-firewall if one is in the way. known: what the host's name is."""
    network = facts.network
    holding = hold(network, target.port)
    yield port_item(network, holding)
    addresses = _addresses(target, known)
    with ThreadPoolExecutor(len(addresses)) as pool:  # each may be waited for
        replies = dict(zip(addresses, pool.map(lambda each: _ask(network, target, each), addresses), strict=True))
    blamed = [] if facts.down else list(_firewall(network, holding, list(replies.values())))
    yield from blamed
    see = ["lo"] if facts.down else [item.id for item in blamed if not item.well]
    hosts = [*LOOPBACK.values(), *(() if target.usual or target.named else (target.host,))]
    for host in hosts:
        yield _item(target, host, [host], replies, holding, see, known)
    name = target.host if target.named else NAME
    yield _item(target, name, list(known.addresses), replies, holding, see, known)


def _addresses(target: Target, known: Names) -> list[str]:
    """All that are asked: of localhost those that are loopback."""
    named = [address for address in known.addresses if is_loopback(address)]
    return list(dict.fromkeys([*LOOPBACK.values(), *([] if target.named else [target.host]), *named]))


def _ask(network: Network, target: Target, address: str) -> Reply:
    tls = target.scheme == "https"
    return ask(network, address, target.port, target.authority(address), target.path, tls=tls)


def _item(
    target: Target,
    host: str,
    addresses: list[str],
    replies: dict[str, Reply],
    holding: Holding,
    see: list[str],
    known: Names,
) -> Item:
    """How it is reached under one host, which stands for these addresses: what was asked for must work."""
    name = _IDS.get(host, "server-name" if target.named else "server-asked")
    url = target.url(host)
    bad = "missing" if host == target.host else "partial"
    astray = [address for address in addresses if not is_loopback(address)]
    if astray or not addresses:
        why = f"{host} is {astray[0]}, which isn't asked" if astray else f"{host} has no address"
        fix = "See hosts and localhost, above" if host == NAME else _BELOW.format(host=host)
        return Item(name, bad, f"{url}: {why}", fix, f"nobody reaches it as {host}")
    reply, failed = ask_in_turn(replies[address] for address in addresses)
    before = "".join(f"; {each.address} before it: {each.told}" for each in failed)
    if reply is None:
        first = failed[0]
        why, fix = _why(first, holding, target, see, known if host in (NAME, target.host) and target.named else None)
        told = failed[0].told if addresses == [host] else "; ".join(f"{each.address}: {each.told}" for each in failed)
        evidence = f"{url}: {told}; {why}"
        return Item(name, bad, evidence, fix, f"whoever asks {bracketed(host)} is not served")
    at = f" from {reply.address}" if addresses != [host] else ""
    if reply.outcome == "http":
        return Item(name, "ok", f"{url}: {reply.told}{at}{before}")
    fix = (
        f"Ask it by its own client, if it is another kind of server; or by {_other(target)}, if that is what it speaks"
    )
    return Item(name, "partial", f"{url}{at}: {reply.told}", fix, _NOT_HTTP)


def _other(target: Target) -> str:
    return "http://" if target.scheme == "https" else "https://"


def _why(reply: Reply, holding: Holding, target: Target, see: list[str], named: Names | None) -> tuple[str, str]:
    """Why nothing came, in words, and what mends it. named: what the name is, if it was asked for by one."""
    if see:
        return "lo is down" if see == ["lo"] else "a rule of a firewall is in the way", f"See {see[0]}, above"
    takers = holding.takers(reply.address)
    if takers:
        return _not_taken(takers[0].waiting, takers[0].room, process(takers[0].programs, takers[0].user))
    if not holding.listening:
        return f"nobody listens on port {target.port}", "Start the server, or ask the port that it listens on"
    if not reply.refused:
        return "this network has no such address", "See lo, host-ipv4 and host-ipv6, above"
    where = list(dict.fromkeys(bound_to(each) for each in holding.listening))
    who = process(holding.listening[0].programs, holding.listening[0].user)
    instead = _reachable(holding)
    fix = f"Ask {target.url(instead)}; or have the server listen at {reply.address} as well"
    if ":" in reply.address:
        fix += ", or at :: without IPV6_V6ONLY, which takes both families"
    if named and instead in LOOPBACK.values():
        fix += f"; or add “{instead} {NAME}” to /etc/hosts"
    return f"{who} listens at {' and '.join(where)} only", fix


def _reachable(holding: Holding) -> str | None:
    """A loopback address that somebody listens at."""
    usual = [address for address in LOOPBACK.values() if holding.takers(address)]
    other = [each.address for each in holding.listening if is_loopback(each.address)]
    return next(iter([*usual, *other]), None)


def _not_taken(waiting: int | None, room: int | None, who: str) -> tuple[str, str]:
    if room is not None and (waiting or 0) > room:
        return f"{who} accepts no connections, and {waiting} wait", "See what keeps it, or start it anew"
    return f"though {who} listens there, and no rule that is seen explains it", "Ask again: it may have just started"


def _firewall(network: Network, holding: Holding, replies: list[Reply]) -> Iterator[Item]:
    """What the rules do to connections that should have been taken, or that are not even refused."""
    attempts = [
        Attempt(
            reply.address, "tcp", "silence" if reply.errno == errno.ETIMEDOUT else "refused", reply.errno, holding.port
        )
        for reply in replies
        if not reply.connected and (holding.takers(reply.address) or reply.errno == errno.ETIMEDOUT)
    ]
    if not attempts:
        return
    rules, refused = rules_of(network)
    found = [unreadable(refused or 0, attempts)] if rules is None else list(stopped(rules, attempts))
    for item in found:
        yield replace(item, id=f"server-{item.id}")
