"""Why the kernel dropped packets, in its own words: the tracepoint ``skb:kfree_skb`` (include/net/dropreason-core.h).

The kernel does not tell whose packet it drops, or in which network, but which process it ran in at the time. On lo and
veth that is mostly the one that sent it, as the kernel takes a packet through the receiving end, too, before the call
that sent it returns. It is another where the kernel's own thread ``ksoftirqd`` goes on with the packet, as happens
under load; after a delay (netem, a retransmission), which ends under whoever runs then; and for what lies in a queue
until its socket is closed. So a drop can be missed, and now and then a stranger's is among ours: that none was seen
does not prove that there was none, and of many packets some may be missing or too many.

Not every drop is a loss, as the kernel drops copies, too: ``SOCKET_FILTER`` or ``PACKET_SOCK_ERROR`` is what a tap's
filter leaves out, ``QUEUE_PURGE`` what is left when a socket is closed, and the reply to a ping, having been given to
raw sockets, is ``NO_SOCKET`` where no ping socket waits for it. Nor is every loss a drop: a SYN that finds the backlog
full counts as dealt with, and so does an IPv4 echo request where icmp_echo_ignore_all is set.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from lab.errors import UsageError
from lab.managed import Managed
from lab.taps.kallsyms import functions_at
from lab.taps.perf import RING_PAGES, PerfRings, Sample
from lab.taps.tracepoints import find_tracepoint

__all__ = ["LIMIT", "Drop", "Drops", "watch_drops"]

#: How many drops are kept; what comes then is only counted.
LIMIT = 50_000

_TRACEPOINT = "skb/kfree_skb"
_IP_PROTOCOLS = (0x0800, 0x86DD)  # linux/if_ether.h


@dataclass(frozen=True)
class Drop:
    """A packet that the kernel dropped.

    time_ns: CLOCK_MONOTONIC, as ``time.monotonic_ns`` has it. reason: such as "IP_LOCALNET", its number where the
    kernel has no name for it. protocol: the packet's ethertype, 0 if it had none yet. function: of the kernel's, that
    dropped it; None where that is hidden. cpu, pid: where, and the process that ran there, mostly the one that sent it
    (see above); 0 for none, or for one outside our pid namespace.
    """

    time_ns: int
    reason: str
    protocol: int
    function: str | None
    cpu: int
    pid: int

    def __str__(self) -> str:
        return f"{self.reason} in {self.function}()" if self.function else self.reason

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Drops(Managed):
    """Watches what the kernel drops, from when it is made until it is closed. See ``watch_drops``."""

    def __init__(self, pids: Collection[int] | None, protocols: Collection[int], pages: int) -> None:
        tracepoint = find_tracepoint(_TRACEPOINT)
        self._reason, self._location, self._protocol = map(tracepoint.field, ("reason", "location", "protocol"))
        self._names = tracepoint.symbols.get("reason", {})
        self._functions: dict[int, str | None] = {}
        self._drops: list[Drop] = []
        self._rings = PerfRings(
            tracepoint.number,
            what="cannot see what the kernel drops",
            pids=pids,
            condition=" || ".join(f"protocol == {each:#x}" for each in protocols),
            pages=pages,
        )
        self._open = True

    @property
    def seen(self) -> tuple[Drop, ...]:
        """All drops so far, in the order of time; also after it was closed.

        Whoever looks now and then keeps the rings from filling up.
        """
        if self._open:
            self._keep(self._rings.take())
        return tuple(sorted(self._drops, key=lambda drop: drop.time_ns))

    @property
    def lost(self) -> int:
        """How many drops there were beside those in ``seen``, by the last look: a ring was full, or ``LIMIT`` reached.

        Exact once closed; until then, one that happens at the moment may be among them.
        """
        return max(0, self._rings.hits - len(self._drops))

    def find(
        self, *, pid: int | None = None, protocol: int | None = None, since_ns: int = 0, until_ns: int | None = None
    ) -> tuple[Drop, ...]:
        """Those of ``seen`` under a process, of an ethertype, from a time of CLOCK_MONOTONIC on, before another.

        pid: mostly that of whoever sent the packet; what this can miss stands at the head of this module.
        """
        return tuple(
            drop
            for drop in self.seen
            if pid in (None, drop.pid)
            and protocol in (None, drop.protocol)
            and since_ns <= drop.time_ns
            and (until_ns is None or drop.time_ns < until_ns)
        )

    def _keep(self, samples: list[Sample]) -> None:
        room = samples[: LIMIT - len(self._drops)]
        self._name({self._location.read(each.raw) for each in room})
        for each in room:
            reason = self._reason.read(each.raw)
            self._drops.append(
                Drop(
                    time_ns=each.time_ns,
                    reason=self._names.get(reason, str(reason)),
                    protocol=self._protocol.read(each.raw),
                    function=self._functions[self._location.read(each.raw)],
                    cpu=each.cpu,
                    pid=each.pid,
                )
            )

    def _name(self, locations: set[int]) -> None:
        """Looks up the functions of those that were not seen before: there are few of them, and it takes a while."""
        new = locations - self._functions.keys()
        try:
            self._functions |= functions_at(new)
        except OSError:  # a kernel without CONFIG_KALLSYMS, or a container that hides it
            self._functions |= dict.fromkeys(new)

    def close(self) -> None:
        if self._open:
            self._open = False
            with self._rings:
                self._rings.stop()
                self._keep(self._rings.take())


def watch_drops(
    *,
    pids: Iterable[int] = (),
    machine: bool = False,
    protocols: Collection[int] = _IP_PROTOCOLS,
    pages: int = RING_PAGES,
) -> Drops:
    """Watches which packets the kernel drops while it works for this process, and why, as long as the block lasts::

        with watch_drops() as drops:
            sock.sendto(b"", ("127.0.0.1", 9))
        drops.seen  # (Drop(reason="NO_SOCKET", function="__udp4_lib_rcv", …),)

    What the process starts meanwhile counts as well, threads and programs. pids: more processes. machine: everybody's
    drops count, in all networks. protocols: ethertypes; all where none is given. pages: of memory for each CPU's ring,
    a power of two; 32 hold some 1,600 drops.
    Raises Unavailable where reasons can't be had: it takes root on the machine itself, and Linux 5.17; UsageError for
    a process that there is not.
    """
    if pages < 1 or pages & (pages - 1):
        raise UsageError(f"pages={pages}: the ring of a CPU has a power of two of them; give {RING_PAGES}")
    return Drops(None if machine else {os.getpid(), *pids}, protocols, pages)
