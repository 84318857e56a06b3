"""A firewall for as long as one wants it: rules of nf_tables, each told in a few words."""

from __future__ import annotations

import errno
import ipaddress
import socket
import weakref
from dataclasses import dataclass
from functools import partial

from lab.checks import check_count, pick
from lab.errors import Unavailable, UsageError
from lab.managed import Managed
from lab.taps import nftables as nft
from lab.taps.places import SocketAt
from lab.units import bit_rate
from lab.world import Place
from lab.world.place import ENDS

__all__ = ["Firewall", "FirewallRule", "firewall"]

_VERDICTS = ("drop", "accept", "reject", "tcp-reset", "redirect")
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
#: The hooks at which the interface is that by which a packet leaves.
_LEAVING = ("output", "postrouting")
_PROTOCOLS = {
    "icmp": socket.IPPROTO_ICMP,
    "icmpv6": socket.IPPROTO_ICMPV6,
    "tcp": socket.IPPROTO_TCP,
    "udp": socket.IPPROTO_UDP,
}
_WITH_PORTS = ("tcp", "udp")
#: Where addresses stand in the header of each family: source and destination.
_ADDRESSES = {4: (12, 16), 6: (8, 24)}
_NFPROTO = {4: 2, 6: 10}
_DESTINATION_PORT_AT = 2
#: A packet of lo's largest size passes a limit that has not been used for a while.
_BURST_BYTES = 1 << 17
_BITS = 8  # of a byte
_REDIRECT_PRIORITY = -100  # that of dstnat

Verdict = str | tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class FirewallRule:
    """One rule: what comes of the packets that match all that it says.

    verdict: "drop", "accept", "reject" (an ICMP error: the port is unreachable), "tcp-reset" (as if nobody listened) or
    ("redirect", PORT), to another port of the same machine. hook: where packets are looked at (netfilter's names):
    "input", what comes in to programs, also over lo; "output", what programs send; "forward"; "prerouting" and
    "postrouting". family: 4, 6 or None, both. protocol: "icmp", "icmpv6", "tcp", "udp" or None, all. port: that which
    the packet goes to. device: by which it comes in or, at the output, leaves. source, destination: an address, or a
    prefix such as "127.0.0.0/8". over: only what comes faster than this, such as "100Mbit". Raises UsageError for what
    can't be.
    """

    verdict: Verdict = "drop"
    hook: str = "input"
    family: int | None = None
    protocol: str | None = None
    port: int | None = None
    device: str | None = None
    source: str | None = None
    destination: str | None = None
    over: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.verdict, tuple) and (len(self.verdict) != 2 or self._does != "redirect"):
            raise UsageError(f"a verdict of {self.verdict!r}: give a word, or ('redirect', PORT)")
        pick("verdict", self._does, _VERDICTS)
        pick("hook", self.hook, _HOOKS)
        pick("family", self.family, (4, 6, None))
        pick("protocol", self.protocol, (*_PROTOCOLS, None))
        if self.port is not None:
            check_count("port", self.port, high=(1 << 16) - 1)
            if self.protocol not in _WITH_PORTS:
                raise UsageError(f"port {self.port} of what? Give protocol='tcp' or protocol='udp'")
        if self._does == "tcp-reset" and self.protocol != "tcp":
            raise UsageError("only TCP is answered by a reset: give protocol='tcp'")
        if self._does == "redirect":
            check_count("port to redirect to", self._target, high=(1 << 16) - 1)
            if self.protocol not in _WITH_PORTS or self.hook not in ("prerouting", "output"):
                raise UsageError("a redirection is of tcp or udp, at the hook prerouting or output")
        if self._does in ("reject", "tcp-reset") and self.hook == "postrouting":
            raise UsageError(f"nothing is answered at the hook postrouting any more: give {self._does!r} at output")
        if self.device is not None and not 0 < len(self.device.encode()) < nft.NAME_BYTES:
            raise UsageError(f"{self.device!r} names no interface: its name has 1 to {nft.NAME_BYTES - 1} bytes")
        if self.over is not None and bit_rate(self.over) < _BITS:
            raise UsageError(f"over {self.over!r}: give a byte a second (8bit) or more")
        versions = {net.version for net in self._nets} | ({self.family} if self.family else set())
        if len(versions) > 1:
            raise UsageError("family, source and destination of one rule are of one IP version")

    @property
    def _does(self) -> str:
        return self.verdict[0] if isinstance(self.verdict, tuple) and self.verdict else str(self.verdict)

    @property
    def _target(self) -> int:
        if not isinstance(self.verdict, tuple):
            raise UsageError("say where to: verdict=('redirect', 8080)")
        return self.verdict[1]

    @property
    def _nets(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        return [_net(text) for text in (self.source, self.destination) if text is not None]

    @property
    def chain(self) -> tuple[str, str]:
        """The kind of its chain, "filter" or "nat", and the hook."""
        return "nat" if self._does == "redirect" else "filter", self.hook

    def expressions(self) -> list[bytes]:
        """It, as the kernel takes it; a packet that matches is counted."""
        found: list[bytes] = []
        version = self.family or next((net.version for net in self._nets), None)
        if version:
            found += [nft.meta(nft.NFPROTO), nft.equal(bytes([_NFPROTO[version]]))]
        if self.device is not None:
            found += (nft.leaves_by if self.hook in _LEAVING else nft.comes_by)(self.device)
        if self.protocol is not None:
            found += nft.of_protocol(_PROTOCOLS[self.protocol])
        for side, text in enumerate((self.source, self.destination)):
            if text is not None:
                net = _net(text)
                at, size = _ADDRESSES[net.version][side], net.max_prefixlen // 8
                found += nft.payload(nft.NETWORK, at, size, mask=net.netmask.packed)
                found.append(nft.equal(net.network_address.packed))
        if self.port is not None:
            found += nft.payload(nft.TRANSPORT, _DESTINATION_PORT_AT, 2)
            found.append(nft.equal(self.port.to_bytes(2, "big")))
        if self.over is not None:
            found.append(nft.faster_than(bit_rate(self.over) // _BITS, _BURST_BYTES))
        return [*found, nft.count(), *self._verdict()]

    def _verdict(self) -> list[bytes]:
        if self._does == "redirect":
            return nft.redirect(self._target)
        return [{"drop": nft.drop, "accept": nft.accept, "reject": nft.refuse, "tcp-reset": nft.reset}[self._does]()]

    def __str__(self) -> str:
        """As nft(8) would write it."""
        words = []
        if self.family and not self._nets:
            words.append(f"meta nfproto ipv{self.family}")
        if self.device is not None:
            words.append(f'{"oifname" if self.hook in _LEAVING else "iifname"} "{self.device}"')
        for word, text in (("saddr", self.source), ("daddr", self.destination)):
            if text is not None:
                net = _net(text)
                words.append(f"{'ip' if net.version == 4 else 'ip6'} {word} {text}")
        if self.port is not None:
            words.append(f"{self.protocol} dport {self.port}")
        elif self.protocol is not None:
            words.append(f"meta l4proto {self.protocol}")
        if self.over is not None:
            words.append(f"limit rate over {bit_rate(self.over) // _BITS} bytes/second")
        does = {"tcp-reset": "reject with tcp reset", "redirect": "redirect to :"}.get(self._does, self._does)
        words.append(f"{does}{self._target}" if self._does == "redirect" else does)
        return f"{self.hook}: {' '.join(words)}"


class Firewall(Managed):
    """Rules that are there until the end of its ``with`` block, or of this process. ``rules`` has them, in order."""

    def __init__(self, rules: tuple[FirewallRule, ...], socket_at: SocketAt) -> None:
        self.rules = rules
        chains: dict[tuple[str, str], list[FirewallRule]] = {}
        for rule in rules:
            chains.setdefault(rule.chain, []).append(rule)
        self._order = [rule for grouped in chains.values() for rule in grouped]
        channel = socket_at(socket.AF_NETLINK, socket.SOCK_RAW, nft.NETLINK_NETFILTER)
        try:
            self._table = nft.install(
                channel,
                "firewall",
                [
                    nft.Chain(hook, [rule.expressions() for rule in grouped], kind, _priority(kind))
                    for (kind, hook), grouped in chains.items()
                ],
            )
        except OSError as error:
            channel.close()
            what = "Linux 5.12 with nf_tables (modprobe nf_tables nft_reject_inet nft_redir)"
            if error.errno in (errno.EPERM, errno.EACCES):
                what = "CAP_NET_ADMIN there, as in a private world"
            raise Unavailable("cannot make rules of nftables", errno=error.errno, fix=f"It takes {what}") from error
        self._channel = channel
        self._end = weakref.finalize(self, channel.close)

    def counts(self) -> dict[FirewallRule, int]:
        """How many packets each rule has matched, equal ones together. Raises Unavailable once it is closed."""
        try:
            counted = nft.rule_counts(self._channel, self._table)
        except OSError as error:
            raise Unavailable("this firewall has ended", errno=error.errno, fix="Ask it before") from None
        found = dict.fromkeys(self.rules, 0)
        for rule, packets in zip(self._order, counted, strict=True):
            found[rule] += packets
        return found

    def close(self) -> None:
        """Takes the rules away."""
        self._end()

    def __str__(self) -> str:
        return "\n".join(map(str, self.rules))

    __repr__ = __str__


def firewall(*rules: FirewallRule, world: Place, end: str = "near") -> Firewall:
    """Puts rules into the network of an open private world. Raises UsageError, Unavailable.

    They are one table of both families, each hook's rules in their order. ``close`` takes them away, and so does the
    end of this process, however that happens.
    """
    if not rules or not all(isinstance(rule, FirewallRule) for rule in rules):
        raise UsageError('give rules, as in world.firewall(lab.FirewallRule(verdict="drop", protocol="icmp"))')
    pick("end", end, ENDS)
    if world.kind != "new":
        raise UsageError("a firewall is put into a private world, never into a network that is there already")
    return Firewall(rules, partial(world.socket, end=end))


def _priority(kind: str) -> int:
    return _REDIRECT_PRIORITY if kind == "nat" else 0


def _net(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise UsageError(f"{text!r} is no address or prefix: give one such as 127.0.0.1 or 127.0.0.0/8") from None
