"""What is to be known of the network that is measured: sysctls, offloads, routes. Reads, never writes."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab.errors import Unavailable

__all__ = ["counters", "offloads", "route_device", "sysctls"]

_SYSCTLS = (
    "net.core.busy_poll",
    "net.core.netdev_budget",
    "net.core.netdev_max_backlog",
    "net.core.netdev_tstamp_prequeue",
    "net.core.rmem_default",
    "net.core.rmem_max",
    "net.core.wmem_default",
    "net.core.wmem_max",
    "net.ipv4.icmp_echo_ignore_all",
    "net.ipv4.icmp_ratelimit",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv6.conf.all.disable_ipv6",
)


def sysctls() -> dict[str, str]:
    """The sysctls that bear on round trips, as the current network namespace sees them. Absent ones are left out."""
    found = {}
    for name in _SYSCTLS:
        path = Path("/proc/sys", *name.split("."))
        if path.exists():
            found[name] = " ".join(path.read_text().split())
    return found


def counters() -> dict[str, int]:
    """What the current thread's network namespace has counted: "Icmp.InEchos", "TcpExt.ListenDrops", "Ip6.InReceives".

    Of /proc/net/snmp, netstat and snmp6 (snmp_counter.rst in the kernel's documentation); a file that a kernel without
    IPv6 lacks is left out.
    """
    found: dict[str, int] = {}
    for name in ("snmp", "netstat"):
        lines = [line.split() for line in Path("/proc/thread-self/net", name).read_text().splitlines()]
        for heads, values in zip(lines[::2], lines[1::2], strict=True):
            group = heads[0].rstrip(":")
            found |= {f"{group}.{head}": int(value) for head, value in zip(heads[1:], values[1:], strict=True)}
    path = Path("/proc/thread-self/net/snmp6")
    for line in path.read_text().splitlines() if path.exists() else ():
        head, value = line.split()
        group, _, rest = head.partition("6")
        found[f"{group}6.{rest}"] = int(value)
    return found


def offloads(device: str) -> list[str]:
    """The offloads that are on (``ethtool -k``) for a device of the current network namespace."""
    from pyroute2.ethtool import Ethtool

    with Ethtool() as ethtool:
        features: dict[str, Any] = ethtool.get_features(device).features
    return sorted(name for name, feature in features.items() if name and feature.enable)


def route_device(address: str) -> str:
    """The device by which the current network namespace sends to an address. Raises Unavailable if there is no way."""
    # pyroute2 runs an event loop of its own, which a notebook's thread, having one already, would refuse.
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(_route_device, address).result()


def _route_device(address: str) -> str:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as ip:
            (route,) = ip.route("get", dst=address)
    except NetlinkError as error:
        raise Unavailable(
            f"no route to {address}", errno=error.code, fix="Name a machine that ip route leads to"
        ) from None
    return socket.if_indextoname(route.get_attr("RTA_OIF"))
