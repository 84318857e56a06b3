"""Of what loopback tells of the machine's stack: whether a ping says enough, what is lost, and how soon it is there."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from lab.firewall import FirewallRule
from lab.sayings.claim import DEPENDS, FALSE, HOLDS, IN_PART, Change, Claim, Outcome
from lab.sayings.scene import LOOPBACK, Scene

__all__ = ["CLAIMS"]

_PORT = 8080
_LINKS = ("lo", "veth")
_DATAGRAMS, _DATAGRAM_BYTES = 500, 1000
#: What Linux gives a socket by itself, half of 212,992 (net.core.rmem_default), where nobody has raised it.
_BUFFER_BYTES = 106_496
_STREAM_BYTES, _STEP_BYTES = 1 << 20, 1 << 16
_BACKLOG, _CALLERS = 1, 6
_ESTABLISHED = 1  # TCP_ESTABLISHED, the first byte of struct tcp_info
_ECHOES = 100
#: Under load, a thread of the kernel's takes some of them over: one in ten at most.
_MOST = _ECHOES * 9 // 10
_ECHO_REQUEST = {4: (socket.IPPROTO_ICMP, 8), 6: (socket.IPPROTO_ICMPV6, 128)}
_IGNORE_ALL = {4: "ipv4/icmp_echo_ignore_all", 6: "ipv6/icmp/echo_ignore_all"}
_ICMP = {4: "icmp", 6: "icmpv6"}
_UDP = {4: "Udp", 6: "Udp6"}


# ---- what a ping tells ----


def _ping_and_service(scene: Scene, case: str, family: int, port: int = _PORT) -> Outcome:
    """Whether a service can be reached just if a ping is answered."""
    address = LOOPBACK[family]
    ping, service = scene.ping(address), scene.ask(address, port)
    told = f"ping {address}: {ping}; TCP: {service}"
    return Outcome(case, ping.came == service.came, told)


def _ping(scene: Scene) -> Iterator[Outcome]:
    for address in LOOPBACK.values():
        scene.bind(address, _PORT)
    for family in LOOPBACK:
        yield _ping_and_service(scene, "the service runs", family)
        yield _ping_and_service(scene, "no service runs at the port that is asked", family, _PORT + 1)
    with scene.world.firewall(FirewallRule(verdict="drop", protocol="tcp", device="lo")):
        for family in LOOPBACK:
            yield _ping_and_service(scene, "a firewall drops TCP on lo", family)


def _lo_down(scene: Scene) -> None:
    scene.world.set_link("lo", False)


def _silent(scene: Scene) -> Iterator[Outcome]:
    for family, address in LOOPBACK.items():
        scene.bind(address, _PORT)
        scene.world.sysctl(_IGNORE_ALL[family], 1)
        yield _broken(
            scene, f"echo requests are ignored (sysctl net.{_IGNORE_ALL[family].replace('/', '.')}=1)", family
        )
        scene.world.sysctl(_IGNORE_ALL[family], 0)
        with scene.world.firewall(FirewallRule(verdict="drop", protocol=_ICMP[family])):
            yield _broken(scene, f"a firewall drops {_ICMP[family]}", family)


def _broken(scene: Scene, case: str, family: int) -> Outcome:
    """Whether nothing else works either where a ping is in vain."""
    address = LOOPBACK[family]
    ping, service = scene.ping(address), scene.ask(address, _PORT)
    return Outcome(case, not ping.came and not service.came, f"ping {address}: {ping}; TCP: {service}")


def _tells(scene: Scene) -> Iterator[Outcome]:
    world = scene.world
    for family, address in LOOPBACK.items():
        yield _loopback_and_neighbour(scene, "as it was set up", family)
        world.remove_address("lo", f"{address}/{8 if family == 4 else 128}")
        yield _loopback_and_neighbour(scene, f"lo has lost {address}", family)
        world.add_address("lo", f"{address}/{8 if family == 4 else 128}")
        scene.until(lambda address=address: not scene.bind(address, 0))  # type: ignore[misc]
    world.set_link("veth", False)
    for family in LOOPBACK:
        yield _loopback_and_neighbour(scene, "the card is down", family)


def _loopback_and_neighbour(scene: Scene, case: str, family: int) -> Outcome:
    """Whether the loopback address answers just if a neighbour does."""
    pings = {address: scene.ping(address) for address in (LOOPBACK[family], scene.far("veth", family))}
    told = "; ".join(f"ping {address}: {answer}" for address, answer in pings.items())
    return Outcome(case, len({answer.came for answer in pings.values()}) == 1, told)


def _nothing_in(scene: Scene) -> None:
    scene.opened.enter_context(scene.world.firewall(FirewallRule(verdict="drop")))


# ---- what is lost ----


def _lossless(scene: Scene) -> Iterator[Outcome]:
    for family, address in LOOPBACK.items():
        yield _flood(scene, family, address)
        yield _callers(scene, family, address)
        got = _stream(scene, family, address)
        evidence = f"{got:,} of {_STREAM_BYTES:,} bytes arrived"
        yield Outcome(f"a TCP stream over {address}", got == _STREAM_BYTES, evidence)


def _flood(scene: Scene, family: int, address: str) -> Outcome:
    """More datagrams than the receiver's buffer takes, before it reads."""
    server, client = scene.listen(address, _PORT, kind="udp").socket, scene.socket(family, "udp")
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    counter = f"{_UDP[family]}.RcvbufErrors"
    with scene.counting(counter) as grown:
        for _ in range(_DATAGRAMS):
            client.sendto(bytes(_DATAGRAM_BYTES), (address, _PORT))
    arrived = 0
    while _can_be_read(server):
        arrived += 1
    evidence = f"{arrived} of {_DATAGRAMS} arrived; {counter} {grown[counter]}"
    return Outcome(f"UDP to {address}, whose reader is late", arrived == _DATAGRAMS, evidence)


def _callers(scene: Scene, family: int, address: str) -> Outcome:
    """More callers than a service's queue takes, before it accepts any."""
    server = scene.socket(family)
    server.bind((address, _PORT + 1))
    server.listen(_BACKLOG)
    callers = [scene.socket(family) for _ in range(_CALLERS)]
    with scene.counting("TcpExt.ListenOverflows") as grown:
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex((address, _PORT + 1))
    states = [caller.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] for caller in callers]
    through = states.count(_ESTABLISHED)
    evidence = f"{through} of {_CALLERS} are connected; TcpExt.ListenOverflows {grown['TcpExt.ListenOverflows']}"
    return Outcome(f"TCP callers of {address}, whose service is busy", through == _CALLERS, evidence)


def _stream(scene: Scene, family: int, address: str) -> int:
    """How many bytes of a stream arrive, while one thread sends and receives."""
    server, client = scene.listen(address, _PORT).socket, scene.socket(family)
    client.settimeout(0.25)
    if client.connect_ex((address, _PORT)):
        return 0
    accepted, _ = server.accept()
    sent = got = 0
    with accepted:
        accepted.settimeout(0.25)
        client.setblocking(False)
        while got < _STREAM_BYTES:
            with contextlib.suppress(BlockingIOError):  # then there is something to be read
                sent += client.send(bytes(min(_STEP_BYTES, _STREAM_BYTES - sent)))
            try:
                got += len(accepted.recv(_STEP_BYTES))
            except TimeoutError:
                break
    return got


def _drop_tcp(scene: Scene) -> None:
    scene.opened.enter_context(scene.world.firewall(FirewallRule(verdict="drop", protocol="tcp", device="lo")))


# ---- how soon it is there ----


def _instant(scene: Scene) -> Iterator[Outcome]:
    for family, address in LOOPBACK.items():
        there = _echoes_at_once(scene, family, address)
        evidence = f"{there} of {_ECHOES} replies could be read when send() had returned"
        yield Outcome(f"ping {address}", there >= _MOST, evidence)
        server, client = scene.listen(address, _PORT, kind="udp").socket, scene.socket(family, "udp")
        there = 0
        for _ in range(_ECHOES):
            client.sendto(b"there yet?", (address, _PORT))
            there += _can_be_read(server)
        evidence = f"{there} of {_ECHOES} datagrams could be read when send() had returned"
        yield Outcome(f"UDP to {address}", there >= _MOST, evidence)
    neighbour = scene.far("veth", 4)
    there = _echoes_at_once(scene, 4, neighbour)
    scene.note(f"of a neighbour, too, with nothing but a virtual cable between: {there} of {_ECHOES} replies")


def _echoes_at_once(scene: Scene, family: int, address: str) -> int:
    """How many replies to pings are there as soon as the request was sent."""
    protocol, request = _ECHO_REQUEST[family]
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    client = scene.opened.enter_context(scene.world.socket(kind, socket.SOCK_DGRAM, protocol))
    client.setblocking(False)
    there = 0
    for _ in range(_ECHOES):
        client.sendto(bytes([request, *bytes(7)]), (address, 0))
        there += _can_be_read(client)
    return there


def _can_be_read(receiver: socket.socket) -> bool:
    try:
        return bool(receiver.recv(2048))
    except BlockingIOError:
        return False


def _drop_on_lo(scene: Scene) -> None:
    scene.opened.enter_context(scene.world.firewall(FirewallRule(verdict="drop", device="lo")))


CLAIMS = (
    Claim(
        id="always-ping",
        says="A ping of the loopback address tells whether services there can be reached.",
        statements=(32, 54),
        prediction="where a ping of 127.0.0.1 is answered, so is a client, and where it is not, neither is that",
        expected=DEPENDS,
        mixed=DEPENDS,
        experiment=_ping,
        refuted_by=Change(text="lo is down: then neither is answered", make=_lo_down, becomes=HOLDS),
        decided_by="icmp_echo in net/ipv4/icmp.c: the kernel answers a ping, and no service is asked",
        remember="A ping speaks with the kernel; whether a service is there, only its own port tells.",
    ),
    Claim(
        id="always-silent",
        says="If a ping of the loopback address is not answered, the network stack is broken.",
        statements=(57, 59),
        prediction="where a ping is in vain, TCP does not work either",
        expected=FALSE,
        experiment=_silent,
        refuted_by=Change(text="lo is down", make=_lo_down, becomes=HOLDS),
        decided_by="icmp_echo in net/ipv4/icmp.c, icmpv6_rcv in net/ipv6/icmp.c: the sysctls; nft_do_chain",
        remember="An unanswered ping is no answer: a sysctl or a rule for ICMP is likelier than a broken stack.",
    ),
    Claim(
        id="always-stack",
        says="A ping of 127.0.0.1 or ::1 tells whether IPv4 or IPv6 works on this machine.",
        statements=(3, 57, 64),
        prediction="a neighbour can be reached whenever the loopback address answers, and not if it doesn't",
        expected=DEPENDS,
        mixed=DEPENDS,
        experiment=_tells,
        links=_LINKS,
        refuted_by=Change(text="a firewall drops all that comes in", make=_nothing_in, becomes=HOLDS),
        decided_by="fib_lookup in include/net/ip_fib.h: each address has its own route, by its own device",
        remember="A ping of loopback tests the code of the stack: not addresses, routes and cards that others need.",
    ),
    Claim(
        id="always-lossless",
        says="Loopback never loses anything.",
        statements=(18,),
        prediction="all datagrams, all callers and all bytes that are sent over loopback arrive",
        expected=IN_PART,
        experiment=_lossless,
        refuted_by=Change(
            text="a firewall drops TCP on lo, so that streams are lost as well", make=_drop_tcp, becomes=FALSE
        ),
        decided_by=(
            "__udp_enqueue_schedule_skb in net/ipv4/udp.c: the receive buffer is full; tcp_conn_request in "
            "net/ipv4/tcp_input.c: sk_acceptq_is_full; RFC 9293, 3.8"
        ),
        remember="No wire loses it, but a full buffer does: UDP may be lost on lo, TCP waits and sends again.",
    ),
    Claim(
        id="always-instant",
        says="The stack hands back at once what is sent to a loopback address.",
        statements=(26, 32),
        prediction="the reply to a ping can be read as soon as send() has returned",
        expected=HOLDS,
        experiment=_instant,
        links=_LINKS,
        refuted_by=Change(text="a firewall drops what comes in by lo", make=_drop_on_lo, becomes=FALSE),
        decided_by=(
            "loopback_xmit in drivers/net/loopback.c, then __local_bh_enable_ip in kernel/softirq.c: what lo received "
            "is handled before send() returns"
        ),
        remember="On lo, sending is receiving: the kernel has answered your ping before send() returns.",
    ),
)
