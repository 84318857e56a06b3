"""What one stream measures: the condition, and the limits it must keep.

The command line and the Python functions both take their options, defaults and help from ``Condition``, so they
cannot drift apart. Nothing here touches the machine: a condition that is refused here works nowhere.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, fields
from typing import Any

from lab.checks import pick
from lab.errors import UsageError
from lab.impairments import KEYS, Impairment
from lab.units import format_duration

__all__ = [
    "ARRIVALS", "BASELINES", "ECHOED", "EMPTY", "FAMILIES", "HEADER_BYTES", "KERNEL_REPLIES", "LINKS", "MAX_PAYLOAD",
    "MAX_PERIOD_NS", "MIN_PAYLOAD", "NIC", "PLACEMENTS", "PORTS", "PROBES", "SCHEDULABLE", "STAGED", "WAITS", "WAYS",
    "Condition", "largest_payload", "parse_target", "pick_way",
]  # fmt: skip

#: Links that can be made in a private world, in the order of tables.
LINKS = (
    "lo", "lo-net", "own", "veth", "bridge", "router", "macvlan", "ipvlan", "vlan", "vxlan", "gre", "ipip", "sit",
    "wireguard", "tun", "tap",
)  # fmt: skip
#: Ways that are no interface, to compare links with. Each is a probe kind too, and has no IP version.
BASELINES = ("unix-stream", "unix-dgram", "unix-seqpacket", "pipe", "shm", "syscall")
#: All that can be measured without being told more; "all" on the command line.
WAYS = (*LINKS, *BASELINES)
#: What the name of a network card of the machine's own begins with: nic:eth0. Its target must be told.
NIC = "nic:"
FAMILIES = (4, 6)
#: Probe kinds whose payload comes back: what is compared unless told otherwise.
ECHOED = ("icmp", "udp", "tcp")
PROBES = (*ECHOED, "tcp-connect", "tcp-syn")
#: Kinds that send no payload, so that a size says nothing of them.
EMPTY = ("tcp-connect", "tcp-syn", "syscall")
#: Kinds that the kernel answers where they were sent: always inline.
KERNEL_REPLIES = ("icmp", *EMPTY)
WAITS = ("block", "epoll", "spin", "yield")
PLACEMENTS = ("inline", "same-cpu", "cross-cpu")
ARRIVALS = ("closed", "periodic", "poisson")
#: What tcp-syn asks.
PORTS = ("closed", "open")
#: Probe kinds that can be sent on a schedule, or with think time between them; and those whose stages can be told.
SCHEDULABLE = (*ECHOED, "unix-stream", "unix-dgram", "unix-seqpacket", "pipe")
STAGED = ECHOED
#: The longest time between two probes: a minute, so that the time of the last still fits in int64.
MAX_PERIOD_NS = 60_000_000_000

#: Payload bytes: the largest that UDP over IPv4 can carry, and the smallest that holds nonce, number and stamps.
MAX_PAYLOAD = 65_507
MIN_PAYLOAD = {"icmp": 16, "udp": 32, "tcp": 32, **dict.fromkeys(BASELINES, 32), **dict.fromkeys(EMPTY, 0)}
#: Header bytes in front of a payload, by family (the network's) and by probe (the transport's).
HEADER_BYTES = {4: 20, 6: 40, "icmp": 8, "udp": 8, "tcp": 32}


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One cell of an experiment: link × family × probe × size × wait × placement × arrivals × impairment.

    Raises UsageError for values that no machine can measure.
    """

    link: str = _option("lo", "the way the probes take")
    target: str | None = _option(None, "the address to ask: of 127.0.0.0/8 or ::1, or what nic:NAME asks")
    family: int | None = _option(4, "4 or 6: IPv4 or IPv6; None for a baseline")
    probe: str = _option(
        "icmp",
        "what is sent: icmp (echo, the kernel replies), udp or tcp (a reflector replies), tcp-connect (the handshake, "
        "ended by a reset), tcp-syn (a raw SYN, timed by the kernel's stamp of the reply)",
    )
    size: int = _option(56, f"payload bytes of a probe, up to {MAX_PAYLOAD:,}; {', '.join(EMPTY)} have none")
    port: str = _option("closed", "what tcp-syn asks: a closed port (RST) or an open one (SYN-ACK)")
    server_port: int | None = _option(None, "the port that HOST:PORT names; None: tcp-connect's own listener")
    wait: str = _option(
        "block", "how both ends wait for a message: block or epoll (sleep), spin or yield (poll; yield lets others run)"
    )
    placement: str = _option(
        "inline", "where the reflector runs: inline (one thread is both ends), same-cpu or cross-cpu (its own thread)"
    )
    timeout_ns: int = _option(1_000_000_000, "a reply later than this counts as lost")
    arrivals: str = _option(
        "closed",
        "when probes are sent: closed (each when the one before it is settled), or on a schedule (periodic, poisson)",
    )
    period_ns: int | None = _option(None, "of a schedule: the time between probes, or its mean")
    think_ns: int = _option(0, "closed: the time between one probe's end and the next one's beginning")
    stages: bool = _option(False, "take the kernel's stamps too, and tell where the time goes")
    impair: Impairment | None = field(
        default=None, metadata={"help": f"worsen each direction, as in delay=5ms,loss=1% ({', '.join(KEYS)})"}
    )

    def __post_init__(self) -> None:
        pick_way(self.link)
        pick("wait mode", self.wait, WAITS)
        pick("placement", self.placement, PLACEMENTS)
        pick("arrivals", self.arrivals, ARRIVALS)
        self._check_probe()
        self._check_kind()
        self._check_arrivals()
        smallest = MIN_PAYLOAD[self.probe]
        if not smallest <= self.size <= MAX_PAYLOAD:
            raise UsageError(f"a size of {self.size} bytes: {self.probe} takes {smallest} to {MAX_PAYLOAD:,}")
        self._check_timeout()
        if self.wait == "spin" and self.placement == "same-cpu":
            raise UsageError(
                "two ends that spin on one CPU wait for the scheduler, not for packets (milliseconds); "
                "use --wait block, or --placement inline or cross-cpu"
            )
        self._check_target()

    def _check_arrivals(self) -> None:
        scheduled = self.arrivals != "closed"
        if (scheduled or self.think_ns) and self.probe not in SCHEDULABLE:
            raise UsageError(
                f"{self.probe} is always sent back to back: leave --arrivals, --rate, --interval and --think out, or "
                f"use --probe {SCHEDULABLE[0]}"
            )
        if scheduled and self.period_ns is None:
            raise UsageError(f"how often? {self.arrivals} needs --rate, such as 10kpps, or --interval, such as 100us")
        if self.period_ns is not None and not scheduled:
            raise UsageError(
                "a rate or an interval is for a schedule, and closed sends each probe when the one before it is "
                "settled; give --arrivals periodic or poisson, or --think"
            )
        if self.period_ns is not None and not 0 < self.period_ns <= MAX_PERIOD_NS:
            raise UsageError(
                f"a period of {self.period_ns} ns: give at least 1 ns, the clock's resolution, and at most "
                f"{format_duration(MAX_PERIOD_NS)}"
            )
        if scheduled and self.think_ns:
            raise UsageError(f"a schedule ({self.arrivals}) knows no think time: leave --think out, or use closed")
        if not 0 <= self.think_ns <= MAX_PERIOD_NS:
            raise UsageError(f"a think time of {self.think_ns} ns: give 0 to {format_duration(MAX_PERIOD_NS)}")
        if self.stages and self.wait == "epoll":
            raise UsageError("--stages with --wait epoll: each stamp would wake it; use --wait block, spin or yield")
        if self.stages and self.probe not in STAGED:
            raise UsageError(
                f"--stages with {self.probe}: only of {', '.join(STAGED)} does the kernel stamp every step; use one"
            )

    def _check_timeout(self) -> None:
        if not 0 < self.timeout_ns <= 3_600_000_000_000:
            raise UsageError(f"a timeout of {self.timeout_ns} ns: give more than 0 and at most an hour")
        impair = self.impair
        if impair and not (impair.ipdv_ns or impair.reorder) and 2 * impair.delay_ns >= self.timeout_ns:
            raise UsageError(
                f"delay={format_duration(impair.delay_ns)} each way is all of the timeout: every reply would count as "
                f"lost; give a --timeout of more than {format_duration(2 * impair.delay_ns)}"
            )

    def _check_probe(self) -> None:
        if self.link in BASELINES:
            if self.family is not None or self.probe != self.link:
                raise UsageError(f"{self.link} is no network: it has no IP version, and no other probe")
            if self.probe == "shm" and (self.wait, self.placement) != ("spin", "cross-cpu"):
                raise UsageError("shm is one cache line between two CPUs: it needs --wait spin --placement cross-cpu")
            if self.probe == "syscall" and self.wait != "block":
                raise UsageError("syscall waits for nothing but the call: it needs --wait block")
            return
        pick("family", self.family, FAMILIES)
        pick("probe", self.probe, PROBES)

    def _check_kind(self) -> None:
        """What is for some kinds only."""
        pick("port", self.port, PORTS)
        if self.port != "closed" and self.probe != "tcp-syn":
            raise UsageError(f"--port {self.port} is what tcp-syn asks: give --probe tcp-syn, or leave it out")
        if self.server_port is not None and (self.probe != "tcp-connect" or self.target is None):
            raise UsageError("a server's port is what tcp-connect asks: give HOST:PORT, or leave it out")
        if self.probe in KERNEL_REPLIES and self.placement != "inline":
            raise UsageError(
                f"placement {self.placement} with {self.probe}: the kernel replies where it sent; use inline, or "
                "--probe udp"
            )

    def _check_target(self) -> None:
        if self.link.startswith(NIC):
            if self.target is None:
                raise UsageError(f"{self.link} needs a machine to ask: give its address with --target")
            if self.probe != "icmp" and self.server_port is None:
                raise UsageError(f"{self.probe} over {self.link}: nothing of ours replies there; use --probe icmp")
            check_unicast(self.target, self.family)
        elif self.server_port is not None and self.target is not None and self.link == "lo":
            check_unicast(self.target, self.family)  # any address of the machine's own is reached over lo
        elif self.target is not None and (self.link != "lo" or parse_target(self.target) != self.family):
            raise UsageError(
                f"{self.target} is no IPv{self.family} address of {self.link}: leave the family out, or name a link"
            )

    def pieces(self, mtu: int) -> str | None:
        """What a probe leaves in over a link of that MTU: "fragments", "segments", or None if it fits in one packet."""
        if self.family is None or self.size <= largest_payload(self.family, self.probe, mtu):
            return None
        return "segments" if self.probe == "tcp" else "fragments"

    @classmethod
    def factors(cls) -> tuple[str, ...]:
        """The columns by which a study's rows are told apart."""
        return ("link", "family", "probe", "size", "wait", "placement", "arrivals")

    @classmethod
    def help(cls, name: str) -> str:
        """The help text of one option."""
        return str(next(f.metadata["help"] for f in fields(cls) if f.name == name))

    def __str__(self) -> str:
        if self.family is None:
            return self.link
        asked = self.target or self.link
        if self.server_port is not None:
            asked = f"[{asked}]:{self.server_port}" if self.family == 6 else f"{asked}:{self.server_port}"
        way = f"{self.link} {asked}" if self.link.startswith(NIC) else asked
        return f"{way} IPv{self.family} {self.probe}"


def largest_payload(family: int, probe: str, mtu: int) -> int:
    """Bytes of the largest probe that fits in one packet; of kinds without a payload, any."""
    if probe in EMPTY:
        return MAX_PAYLOAD
    return mtu - HEADER_BYTES[family] - HEADER_BYTES[probe]


def pick_way(name: str) -> None:
    """Raises UsageError unless `name` is a link, a baseline, or nic: and a name."""
    if name == NIC:
        raise UsageError("nic: of which network card? Give its name, as in nic:eth0 (ip link lists them)")
    if not name.startswith(NIC):
        pick("link", name, (*WAYS, f"{NIC}NAME"))


def parse_target(text: str) -> int:
    """The family of a loopback address. Raises UsageError for anything else."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(
            f"unknown target {text!r}: give a link ({', '.join(WAYS)}) or a loopback address (127.x.x.x, ::1)"
        ) from None
    if not address.is_loopback or (address.version == 6 and address != ipaddress.ip_address("::1")):
        raise UsageError(
            f"{text} is no loopback address: give one of 127.0.0.0/8, or ::1; for another machine, nic:NAME --target"
        )
    return address.version


def check_unicast(text: str, family: int | None) -> None:
    """Raises UsageError unless `text` is an address of that family that one machine can have."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(f"--target {text!r} is no address: give one such as 192.0.2.1 or 2001:db8::1") from None
    if address.version != family:
        raise UsageError(f"--target {text} is an IPv{address.version} address: give -{address.version}")
    if address.is_multicast or address.is_unspecified or text == "255.255.255.255":
        raise UsageError(f"--target {text} is no single machine's address: probes go to one machine only")
