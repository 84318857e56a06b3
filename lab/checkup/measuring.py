"""What the lab can measure on this machine, what each missing piece costs, and how to mend it."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from lab.capturing import taps_of
from lab.checkup.findings import Check, Item, guarded
from lab.conditions import WAYS
from lab.errors import Unavailable, errno_name
from lab.host import clocksource
from lab.injecting import inject
from lab.native.clock import clock_cost
from lab.taps.capturer import Taps
from lab.world import HostWorld, Place, PrivateWorld
from lab.world.baselines import CROSSES
from lab.world.links import LINKS
from lab.world.stamping import Stamping

__all__ = ["measurements"]

_SLOW_CLOCK_NS = 200
#: Addresses of frames on lo, and the rest of two that carry nothing to it: IPv4 of a protocol number for tests (253,
#: RFC 3692), IPv6 with no next header.
_NO_MACS = bytes(12)
_EMPTY = (
    bytes.fromhex("0800 4500 0014 0000 0000 40fd 7beb 7f000001 7f000001"),
    bytes.fromhex("86dd 6000 0000 0000 3b40") + 2 * bytes([*bytes(15), 1]),
)


def measurements() -> Iterator[Item]:
    """Checks the package, namespaces, links, raw sockets, capture, injection, CPUs and the clock."""
    checks: tuple[Check, ...] = (
        _package,
        _private_world,
        _ping_on_host,
        _capture_on_host,
        _injection_on_host,
        _cpus,
        _clock,
    )
    for check in checks:
        yield from guarded(check)


def _package() -> Iterator[Item]:
    """Another distribution that imports as ``lab``."""
    others = [
        name for name in importlib.metadata.packages_distributions().get("lab", []) if name.lower() != "loopback-lab"
    ]
    version = importlib.metadata.version("loopback-lab")
    if not others:
        yield Item("package", "ok", f"loopback-lab {version} is the only package that imports as lab")
        return
    yield Item(
        "package",
        "partial",
        f"{', '.join(others)} imports as lab too",
        f"pip uninstall {others[0]}, or install loopback-lab in an environment of its own",
        "which of the two import lab finds depends on the order of installation",
    )


def _private_world() -> Iterator[Item]:
    try:
        world = PrivateWorld(WAYS)
    except Unavailable as error:
        status = "denied" if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSPC) else "missing"
        cost = "no link but this machine's own lo, and ICMP only with rights on the host"
        yield Item("namespaces", status, error.reason, error.fix, cost)
        host = HostWorld(WAYS)
        reason = f"no private network: {errno_name(error.errno or 0)}"
        fix = "See namespaces, above"
        host.skipped = [replace(skip, reason=reason, errno=error.errno, fix=fix) for skip in host.skipped]
        for name in WAYS:
            yield _way(host, name)
        return
    with world:
        yield Item("namespaces", "ok", f"made a private network ({world.rights})")
        for family in (4, 6):
            yield _raw_socket(world, family)
        yield _stamps(world)
        yield _taps(world)
        yield _injection(world)
        for name in WAYS:
            yield _way(world, name)
        yield _impairment()


def _way(world: Place, name: str) -> Item:
    """One link or baseline: what it crosses and needs, and whether it could be made."""
    found = partial(
        Item,
        f"link-{name}",
        crosses=CROSSES.get(name) or LINKS[name].crosses,
        needs=None if name in CROSSES else LINKS[name].needs,
        optional=name not in ("lo", "veth", *CROSSES),
    )
    for skip in world.skipped:
        if skip.link == name:
            status = "denied" if skip.errno in (errno.EPERM, errno.EACCES) else "missing"
            return found(status, skip.reason, skip.fix, f"no rows for {name}")
    link = world.links[name]
    evidence = "it is there" + (f", with an MTU of {link.mtu:,}" if link.mtu else "")
    if link.missing:
        reason = "; ".join(f"no IPv{family}: {errno_name(number)}" for family, number in link.missing.items())
        fix = "Switch IPv6 on (sysctl net.ipv6.conf.all.disable_ipv6=0)"
        return found("partial", f"{evidence}; {reason}", fix, f"no IPv6 rows for {name}")
    return found("ok", evidence)


def _impairment() -> Item:
    """Whether netem is there, which alone can worsen what stays on lo."""
    with PrivateWorld(["lo"], impair="delay=1ms,by=netem") as world:
        if "lo" in world.links:
            return Item("impairment", "ok", "netem worsens every link (--impair)")
        (skip,) = world.skipped
    unwired = ", ".join(name for name, way in LINKS.items() if not (way.wireable or way.wired))
    return Item(
        "impairment",
        "partial",
        f"no netem ({skip.reason}); the wire worsens the other links",
        "Load netem (modprobe sch_netem), where the kernel has it",
        f"no --impair for {unwired}",
    )


def _stamps(world: PrivateWorld) -> Item:
    """Whether the kernel tells when it took and received a packet."""
    try:
        stamping = Stamping(world)
    except Unavailable as error:
        return Item("stamps", "missing", error.reason, error.fix, "no --stages, and no tcp-syn")
    stamping.close()
    return Item("stamps", "ok", "the kernel stamps packets: --stages tells where the time goes")


def _taps(world: PrivateWorld) -> Item:
    """Whether frames can be captured."""
    try:
        with taps_of("lo", world) as places, Taps(places) as taps:
            rings = len(taps.taps[0].sockets)
            return Item(
                "capture", "ok", f"the kernel maps {rings} rings of {taps.taps[0].blocks} MiB, one for each CPU"
            )
    except Unavailable as error:
        return Item("capture", "missing", error.reason, error.fix, "no lab capture, and no lab exec --capture")


def _injection(world: PrivateWorld) -> Item:
    """Whether packets that are injected at layer 2 arrive: an empty one of either family."""
    try:
        came = inject([_NO_MACS + packet for packet in _EMPTY], "lo", world=world)
    except Unavailable as error:
        return Item("inject", "missing", error.reason, error.fix, "no lab inject")
    evidence = f"{came.delivered} of {len(_EMPTY)} packets, one of either family, arrived by {came.path}"
    if came.delivered == len(_EMPTY):
        return Item("inject", "ok", evidence)
    return Item("inject", "partial", evidence, "; ".join(came.warnings), "lab inject counts too few, or none arrives")


def _raw_socket(world: PrivateWorld, family: int) -> Item:
    protocol = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
    try:
        with world.socket(_family(family), socket.SOCK_RAW, protocol):
            return Item(f"icmp-ipv{family}", "ok", "opened a raw socket in the private network")
    except Unavailable as error:
        return Item(f"icmp-ipv{family}", "denied", error.reason, "Run as root", f"no IPv{family} icmp")


def _family(family: int) -> socket.AddressFamily:
    return socket.AF_INET if family == 4 else socket.AF_INET6


def _ping_on_host() -> Iterator[Item]:
    """ICMP on the host needs rights; a private world does not."""
    tried = {}
    for name, kind in (("raw socket", socket.SOCK_RAW), ("ping socket", socket.SOCK_DGRAM)):
        try:
            with socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP):
                yield Item("host-icmp", "ok", f"this machine's own network gives us a {name}")
                return
        except OSError as error:
            tried[name] = errno_name(error.errno or 0)
    evidence = "; ".join(f"{name}: {why}" for name, why in tried.items())
    fix = f"sysctl -w net.ipv4.ping_group_range='{os.getgid()} {os.getgid()}', or run as root"
    yield Item("host-icmp", "partial", evidence, fix, "no icmp with --world host; a private world has it")


def _capture_on_host() -> Iterator[Item]:
    """A packet socket of no protocol sees nothing; whether it may be opened tells."""
    cost = "no lab capture of this machine's own network; a private world (lab exec --capture) has it"
    yield _host_socket("host-capture", "packet socket", socket.AF_PACKET, 0, cost)


def _injection_on_host() -> Iterator[Item]:
    """A raw socket to send whole packets by; nothing is sent."""
    cost = "no lab inject on this machine's own network; a private world (--world new) has it"
    yield _host_socket("host-inject", "socket for whole packets", socket.AF_INET, socket.IPPROTO_RAW, cost)


def _host_socket(name: str, what: str, family: int, protocol: int, cost: str) -> Item:
    """Whether this machine's own network gives us a raw socket of that kind."""
    try:
        with socket.socket(family, socket.SOCK_RAW, protocol):
            return Item(name, "ok", f"this machine's own network gives us a {what}")
    except OSError as error:
        return Item(
            name, "partial", f"{what}: {errno_name(error.errno or 0)}", "Run as root, or with CAP_NET_RAW", cost
        )


def _cpus() -> Iterator[Item]:
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) > 1:
        yield Item("cpus", "ok", f"{len(allowed)} of {os.cpu_count()} CPUs may be used")
        return
    fix = "Allow more: taskset, the container's cpuset, or a larger machine"
    yield Item("cpus", "partial", f"only CPU {allowed[0]} may be used", fix, "no placement cross-cpu")


def _clock() -> Iterator[Item]:
    read_ns, step_ns = clock_cost()
    evidence = f"CLOCK_MONOTONIC from {clocksource()}: {read_ns:.0f} ns a read, steps of {step_ns} ns"
    if read_ns <= _SLOW_CLOCK_NS:
        yield Item("clock", "ok", evidence)
        return
    fix = "Look at /sys/devices/system/clocksource/clocksource0 for a faster one (tsc, kvm-clock, arch_sys_counter)"
    yield Item("clock", "partial", evidence, fix, "every stamp costs a system call, which the figures include")
