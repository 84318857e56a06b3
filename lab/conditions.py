"""What one stream measures: the condition, and the limits it must keep.

The command line and the Python functions both take their options, defaults and help from ``Condition``, so they
cannot drift apart. Nothing here touches the machine: a condition that is refused here works nowhere.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from lab.errors import UsageError

__all__ = [
    "FAMILIES", "HEADER_BYTES", "LINKS", "MAX_COUNT", "MAX_PAYLOAD", "MIN_PAYLOAD", "PLACEMENTS", "PROBES", "WAITS",
    "Condition", "check_count", "parse_target", "pick",
]  # fmt: skip

LINKS = ("lo", "veth")
FAMILIES = (4, 6)
PROBES = ("icmp", "udp", "tcp")
WAITS = ("block", "spin")
PLACEMENTS = ("inline", "same-cpu", "cross-cpu")

#: Probes in one stream, at most: 64 bytes each are held in memory until the stream ends (1 GiB).
MAX_COUNT = 1 << 24
#: Payload bytes: the largest that UDP over IPv4 can carry, and the smallest that holds nonce, number and stamps.
MAX_PAYLOAD = 65_507
MIN_PAYLOAD = {"icmp": 16, "udp": 32, "tcp": 32}
#: Header bytes in front of a payload, by family (the network's) and by probe (the transport's).
HEADER_BYTES = {4: 20, 6: 40, "icmp": 8, "udp": 8, "tcp": 32}


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One cell of an experiment: link × family × probe × size × wait × placement × arrivals.

    Raises UsageError for values that no machine can measure.
    """

    link: str = _option("lo", f"the way the probes take: {', '.join(LINKS)}")
    target: str | None = _option(None, "an address of 127.0.0.0/8, or ::1, to ask over lo instead of 127.0.0.1 or ::1")
    family: int = _option(4, "4 or 6: IPv4 or IPv6")
    probe: str = _option("icmp", "what is sent: icmp (echo, the kernel replies), udp or tcp (a reflector replies)")
    size: int = _option(56, f"payload bytes of a probe, up to {MAX_PAYLOAD:,}")
    wait: str = _option("block", "how both ends wait for a message: block (sleep) or spin (poll without sleeping)")
    placement: str = _option(
        "inline", "where the reflector runs: inline (one thread is both ends), same-cpu or cross-cpu (its own thread)"
    )
    timeout_ns: int = _option(1_000_000_000, "a reply later than this counts as lost")
    arrivals: str = _option("closed", "closed: each probe is sent when the one before it is settled")

    def __post_init__(self) -> None:
        pick("link", self.link, LINKS)
        pick("family", self.family, FAMILIES)
        pick("probe", self.probe, PROBES)
        pick("wait mode", self.wait, WAITS)
        pick("placement", self.placement, PLACEMENTS)
        pick("arrivals", self.arrivals, ("closed",))
        smallest = MIN_PAYLOAD[self.probe]
        if not smallest <= self.size <= MAX_PAYLOAD:
            raise UsageError(f"a size of {self.size} bytes: {self.probe} takes {smallest} to {MAX_PAYLOAD:,}")
        if not 0 < self.timeout_ns <= 3_600_000_000_000:
            raise UsageError(f"a timeout of {self.timeout_ns} ns: give more than 0 and at most an hour")
        if self.probe == "icmp" and self.placement != "inline":
            raise UsageError(
                f"placement {self.placement} with icmp: the kernel replies where it sent; use inline, or --probe udp"
            )
        if self.wait == "spin" and self.placement == "same-cpu":
            raise UsageError(
                "two ends that spin on one CPU wait for the scheduler, not for packets (milliseconds); "
                "use --wait block, or --placement inline or cross-cpu"
            )
        if self.target is not None and (parse_target(self.target) != self.family or self.link != "lo"):
            raise UsageError(
                f"{self.target} is no IPv{self.family} address of lo: leave the family out, or name a link"
            )

    @classmethod
    def factors(cls) -> tuple[str, ...]:
        """The columns by which a study's rows are told apart."""
        return ("link", "family", "probe", "size", "wait", "placement", "arrivals")

    @classmethod
    def help(cls, name: str) -> str:
        """The help text of one option."""
        return str(next(f.metadata["help"] for f in fields(cls) if f.name == name))

    def __str__(self) -> str:
        return f"{self.target or self.link} IPv{self.family} {self.probe}"


def pick(what: str, value: Any, known: Iterable[Any]) -> None:
    """Raises UsageError, naming what is known, unless `value` is one of it."""
    known = tuple(known)
    if value not in known:
        raise UsageError(f"unknown {what} {value!r}: choose from {', '.join(map(str, known))}")


def check_count(what: str, value: int, *, low: int = 1, high: int = MAX_COUNT) -> None:
    """Raises UsageError, naming the limits, unless `value` lies within them."""
    if not low <= value <= high:
        raise UsageError(f"a {what} of {value:,}: give {low:,} to {high:,}")


def parse_target(text: str) -> int:
    """The family of a loopback address. Raises UsageError for anything else."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(
            f"unknown target {text!r}: give a link ({', '.join(LINKS)}) or a loopback address (127.x.x.x, ::1)"
        ) from None
    if not address.is_loopback or (address.version == 6 and address != ipaddress.ip_address("::1")):
        raise UsageError(f"{text} is no loopback address: give one of 127.0.0.0/8, or ::1, or the name of a link")
    return address.version
