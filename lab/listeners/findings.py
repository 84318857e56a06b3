"""What is odd about ports, in sentences that name the remedy: of what is asked and what is listed together."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence

from lab.listeners.asking import Answer
from lab.listeners.binding import Binding
from lab.listeners.bound import Listener
from lab.listeners.holders import Holder
from lab.listeners.shown import duration_text

__all__ = ["about_port", "open_to_all", "takes"]

_LOOPBACKS = {4: "127.0.0.1", 6: "::1"}


def takes(each: Listener | Holder, address: str) -> bool:
    """Whether a socket takes what its own network sends to this own address, which goes by lo."""
    if each.device is not None and each.device != (address.partition("%")[2] or "lo"):
        return False
    return (6 if ":" in address else 4) in each.families and each.address in (address, "0.0.0.0", "::")  # noqa: S104 - as they are told, not bound to


def open_to_all(rows: Iterable[Listener]) -> Iterator[str]:
    """One sentence for each kind of socket that everybody reaches."""
    kinds: dict[str, list[str]] = {}
    for row in rows:
        if row.reach.warning:
            kinds.setdefault(row.reach.warning, []).append(f"{row.protocol} {row.port}")
    for warning, which in kinds.items():
        yield f"{', '.join(dict.fromkeys(which))}: {warning}"


def about_port(port: int, answers: Sequence[Answer], here: Sequence[Holder], binding: Binding) -> Iterator[str]:
    """What is odd about one port. here: who has it in the network that was asked."""
    for each in here:
        if each.reach and each.reach.warning and each.takes_all:
            yield f"{each.protocol} {port}: {each.reach.warning}"
    yield from _against_the_list(port, answers, [each for each in here if each.takes_all])
    yield from _one_family(answers, here)
    yield from _left_behind(here, binding)
    if any(program.pid == os.getpid() for each in here for program in each.programs):
        yield f"this very process ({os.getpid()}) has the port: close its socket (in a notebook, or restart the kernel)"
    if binding.errno == errno.EACCES:
        yield (
            f"to bind to port {port} takes root or CAP_NET_BIND_SERVICE: take one above, or lower the limit (sysctl "
            "net.ipv4.ip_unprivileged_port_start)"
        )


def _against_the_list(port: int, answers: Sequence[Answer], listening: Sequence[Holder]) -> Iterator[str]:
    """Where the answer is not that of the socket which should have given it."""
    for answer in answers:
        taker = next(
            (each for each in listening if each.protocol == answer.protocol and takes(each, answer.address)), None
        )
        at = f"{answer.protocol} {port} at {answer.address}"
        who = f"{taker.programs[0].name} ({taker.programs[0].pid})" if taker and taker.programs else "a socket"
        if answer.status == "open" and taker is None:
            yield f"{at} answers, though no socket is listed for it: a rule redirects it (nft list ruleset)"
        elif taker is None:
            if answer.status == "filtered" and not answer.icmp:
                yield f"{at}: nobody is there, but nor is that said: a firewall drops it (nft list ruleset)"
        elif answer.status == "closed":
            how = "ICMP" if answer.icmp else "a reset"
            yield f"{at} is refused by {how}, though {who} is there: a firewall does that (nft list ruleset)"
        elif answer.status == "filtered" and taker.room is not None and (taker.waiting or 0) > taker.room:
            yield f"{at} is silent, as {who} accepts no connections and {taker.waiting} wait: see what keeps it"
        elif answer.status == "filtered":
            how = f"answers with ICMP {answer.icmp[0]}/{answer.icmp[1]}" if answer.icmp else "drops it"
            yield f"{at} is filtered, though {who} is there: a firewall {how} (nft list ruleset)"


def _one_family(answers: Sequence[Answer], here: Sequence[Holder]) -> Iterator[str]:
    """A server at one loopback address only: who asks "localhost" may ask the other first."""
    statuses = {each.address: each.status for each in answers if each.protocol == "tcp"}
    for family, other in ((4, 6), (6, 4)):
        mine, its = _LOOPBACKS[family], _LOOPBACKS[other]
        listens = any(each.state == "listen" and takes(each, mine) for each in here)
        if listens and statuses.get(mine) == "open" and statuses.get(its) == "closed":
            yield (
                f"it listens at {mine} and not at {its}: a client that takes localhost for {its} is refused; have the "
                "server listen at both, or give clients the address"
            )


def _left_behind(here: Sequence[Holder], binding: Binding) -> Iterator[str]:
    """Why a port can't be bound to though nobody listens."""
    if binding.errno != errno.EADDRINUSE or any(each.takes_all for each in here):
        return
    tcp = [each for each in here if each.protocol == "tcp"]
    waiting = sum(each.count for each in tcp if each.state == "time-wait")
    if waiting:
        left_ns = max(each.left_ns or 0 for each in tcp)
        yield (
            f"nobody listens, and yet bind() fails: {waiting:,} ended {_connections(waiting)} in TIME_WAIT, the "
            f"last for {duration_text(left_ns)} more; {_reuse(binding)}"
        )
    live = sum(each.count for each in tcp if each.state not in ("time-wait", "bound"))
    if live:
        yield (
            f"nobody listens, and yet bind() fails: {live:,} {_connections(live)} that a server left behind, or a "
            f"client, has the port; end the process, or {_reuse(binding)}"
        )
    if any(each.state == "bound" for each in tcp):
        yield "a socket is bound to it that neither listens nor connects: end its process, or take another port"


def _connections(count: int) -> str:
    return "connection" if count == 1 else "connections"


def _reuse(binding: Binding) -> str:
    if binding.reusing_errno is None:
        return "set SO_REUSEADDR before bind(), as most servers do: that works now"
    return "SO_REUSEADDR does not help, as the sockets before had not set it: wait, or take another port"
