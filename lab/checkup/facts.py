"""All that findings about a network's loopback rest on, gathered once: what lo is, what answers, which rules it has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lab.checkup.network import LOOPBACK, Device, Network, Route
from lab.checkup.reaching import Attempt, bind, reach
from lab.checkup.rules import Rules, read_rules

__all__ = ["RANGE", "Facts", "family_number", "gather", "rules_of"]

#: Of 127.0.0.0/8 beside 127.0.0.1: the edges, the next one, and one from the middle.
RANGE = ("127.0.0.0", "127.0.0.2", "127.50.50.50", "127.255.255.254", "127.255.255.255")


@dataclass(frozen=True)
class Facts:
    """routes: by address. bound: the errno of binding a socket to 127.0.0.1 and ::1, by family. ignores: the families
    whose echo requests a sysctl has the kernel ignore.

    rules: None if they can't be read, and then refused is the errno. legacy: the tables of iptables' old variant, which
    nobody but its own program can read; None if it can't be told whether there are any.
    """

    network: Network
    device: Device | None
    routes: dict[str, Route]
    bound: dict[int, int | None]
    ignores: tuple[int, ...]
    attempts: tuple[Attempt, ...]
    rules: Rules | None
    refused: int | None
    legacy: tuple[str, ...] | None

    @property
    def families(self) -> tuple[int, ...]:
        """Those whose loopback address this network has. Where no interface was ever up, a bind alone tells nothing."""
        own = {address for address, _length in self.device.addresses} if self.device else set()
        return tuple(
            family
            for family, address in LOOPBACK.items()
            if self.bound[family] is None and (address in own or self.routes[address].kind == "local")
        )

    @property
    def down(self) -> bool:
        """Whether there is no lo, or it is down: then nothing comes through, whatever else there is."""
        return self.device is None or not self.device.up

    def failed(self, addresses: Iterable[str], protocol: str | None = None) -> list[Attempt]:
        """Attempts that came to nothing, of these addresses, and of this protocol alone if one is given."""
        wanted = set(addresses)
        return [
            each
            for each in self.attempts
            if each.failed and each.address in wanted and protocol in (None, each.protocol)
        ]

    def attempt(self, address: str, protocol: str) -> Attempt:
        (found,) = (each for each in self.attempts if (each.address, each.protocol) == (address, protocol))
        return found


def family_number(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


def gather(network: Network) -> Facts:
    """Looks, and asks each address; takes a second where some are silent. Raises Unavailable."""
    routes = {address: network.route(address) for address in (*LOOPBACK.values(), *RANGE)}
    rules, refused = rules_of(network)
    ignores = {4: "ipv4/icmp_echo_ignore_all", 6: "ipv6/icmp/echo_ignore_all"}
    return Facts(
        network=network,
        device=network.device(),
        routes=routes,
        bound={family: bind(network, address) for family, address in LOOPBACK.items()},
        ignores=tuple(family for family, name in ignores.items() if network.sysctl(name) == "1"),
        attempts=_attempts(network, routes),
        rules=rules,
        refused=refused,
        legacy=_legacy(network),
    )


def _attempts(network: Network, routes: dict[str, Route]) -> tuple[Attempt, ...]:
    """Asks the addresses that are local: others might lie beyond this machine.

    Nor is a broadcast address asked: a program that would has to say so first (SO_BROADCAST), and ping refuses as well.
    """
    tries = [(address, protocol) for address in LOOPBACK.values() for protocol in ("icmp", "udp", "tcp")]
    tries += [
        (address, protocol) for address in RANGE for protocol in ("icmp", "udp") if routes[address].kind != "broadcast"
    ]
    local = [each for each in tries if routes[each[0]].kind == "local"]
    unsent = [Attempt(address, protocol, "not-sent") for address, protocol in tries if (address, protocol) not in local]
    return (*reach(network, local), *unsent)


def rules_of(network: Network) -> tuple[Rules | None, int | None]:
    """The rules of nf_tables, or why they can't be read."""
    try:
        return read_rules(network.socket_at), None
    except OSError as error:
        return None, error.errno or 0


def _legacy(network: Network) -> tuple[str, ...] | None:
    """Tables that iptables-legacy has filled or looked at; the kernel lists them to root alone."""
    found: list[str] = []
    for name in ("ip_tables_names", "ip6_tables_names"):
        try:
            found += network.table(name).split()
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return tuple(dict.fromkeys(found))
