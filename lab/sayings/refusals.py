"""Of refusals and of silence: what they say of a port, and why a server can't have one."""

from __future__ import annotations

import errno
import json
import socket
import time
from collections.abc import Iterator

from lab.errors import errno_name
from lab.firewall import FirewallRule
from lab.sayings.claim import DEPENDS, FALSE, HOLDS, IN_PART, Change, Claim, Outcome
from lab.sayings.programs import python
from lab.sayings.scene import LOOPBACK, Answer, Scene, family_of

__all__ = ["CLAIMS"]

_PORT, _CLOSED, _LOW = 8080, 8088, 80
#: How long, at most, until a connection has ended; how often it is looked at.
_PATIENCE_S, _STEP_S = 2, 0.001
_TCP_CLOSE = 7  # include/net/tcp_states.h
#: Documentation's: no machine has them.
_ELSEWHERE = {4: "198.51.100.1", 6: "2001:db8::1"}
#: A reset of TCP, and ICMP's or ICMPv6's "destination unreachable", over either family.
_RESET = "(tcp[13] & 4 != 0 or (ip6[6] == 6 and ip6[53] & 4 != 0))"
_UNREACHABLE = "icmp[0] == 3 or (ip6[6] == 58 and ip6[40] == 1)"
#: Binds to each [address, port] of its argument, without any capability (capset(2)), and prints the errno of each.
_BIND = """
import ctypes, json, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.capset(struct.pack("Ii", 0x20080522, 0), bytes(24)):
    raise OSError(ctypes.get_errno(), "capset")
found = []
for address, port in json.loads(sys.argv[1]):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as server:
        try:
            server.bind((address, port))
            found.append(0)
        except OSError as error:
            found.append(error.errno)
print(json.dumps(found))
"""


def _nothing(scene: Scene) -> Iterator[Outcome]:
    for family, address in LOOPBACK.items():
        other = LOOPBACK[10 - family]
        scene.serve(address, _PORT)
        scene.serve(other, _PORT + family)
        yield _refused(scene, "a server", address, _PORT)
        yield _refused(scene, "no server", address, _CLOSED)
        yield _refused(scene, f"a server at {other} alone", address, _PORT + family)


def _refused(scene: Scene, what: str, address: str, port: int) -> Outcome:
    """What an asker is told, against whether somebody listens there: then nobody else can."""
    with scene.watched("lo", filter=f"tcp src port {port} and {_RESET}") as resets:
        answer = scene.ask(address, port)
    listening = scene.bind(address, port) == errno.EADDRINUSE
    seen = f"{answer}, {len(resets)} RST; {'somebody' if listening else 'nobody'} listens there"
    holds = not (listening and answer.errno == errno.ECONNREFUSED)
    return Outcome(f"{what}, asked at {address} port {port}", holds, seen)


def _reset(scene: Scene) -> None:
    scene.refuse(*LOOPBACK.values(), port=_PORT)


def _silence(scene: Scene) -> Iterator[Outcome]:
    for family, address in LOOPBACK.items():
        server = scene.listen(address, _PORT).socket
        server.listen(0)
        waiting = scene.socket(family)
        waiting.settimeout(0.25)
        waiting.connect_ex((address, _PORT))  # which nobody accepts
        with scene.counting("TcpExt.ListenOverflows") as counted:
            answer = scene.ask(address, _PORT)
        dropped = counted["TcpExt.ListenOverflows"]
        seen = f"{answer}; the server's queue was full for {dropped} SYN"
        yield Outcome(f"a server at {address} that accepts nobody, TCP", not dropped, seen)
        deaf = scene.listen(address, _PORT, kind="udp").socket
        answer = scene.ask(address, _PORT, kind="udp")
        try:
            got = len(deaf.recv(1024))
        except BlockingIOError:
            got = 0
        seen = f"{answer}; the server got {got} bytes"
        yield Outcome(f"a server at {address} that says nothing, UDP", not got, seen)


def _drop(scene: Scene) -> None:
    rules = [FirewallRule(protocol=protocol, port=_PORT) for protocol in ("tcp", "udp")]
    scene.opened.enter_context(scene.world.firewall(*rules))


def _open(scene: Scene) -> Iterator[Outcome]:
    for family, address in LOOPBACK.items():
        scene.serve(address, _PORT)
        answer = scene.ask(address, _PORT)
        yield Outcome(f"a server at {address}", answer.by != "", str(answer))
        scene.listen(address, _CLOSED)  # as of a program that hangs
        before, client = (scene.socket(family) for _each in range(2))
        for each in (before, client):
            each.settimeout(0.25)
            number = each.connect_ex((address, _CLOSED))
        said = "no connection" if number else f"connected; {_answer(client)}"
        yield Outcome(f"a server at {address} that hangs, and its second visitor", bool(number), said)


def _answer(client: socket.socket) -> str:
    """What comes of a question on a connection."""
    sent = client.send(b"who is there?")
    try:
        return f"{len(client.recv(1024))} bytes came back"
    except TimeoutError:
        return f"{sent} bytes sent, and silence"


def _shortest_queues(scene: Scene) -> None:
    scene.world.sysctl("core/somaxconn", 0)


def _taken(scene: Scene) -> Iterator[Outcome]:
    scene.serve(LOOPBACK[4], _PORT)
    for address, kind in ((LOOPBACK[4], "tcp"), ("127.0.0.2", "tcp"), (LOOPBACK[6], "tcp"), (LOOPBACK[4], "udp")):
        number = scene.bind(address, _PORT, kind=kind)
        yield Outcome(f"{address}, {kind.upper()}", number == errno.EADDRINUSE, _bound(number))


def _bound(number: int) -> str:
    return errno_name(number) if number else "bound"


def _share_ports(scene: Scene) -> None:
    scene.server_options.append((socket.SOL_SOCKET, socket.SO_REUSEPORT, 1))


def _wait(scene: Scene) -> Iterator[Outcome]:
    for family, address in LOOPBACK.items():
        for port, first in enumerate(("server", "client"), _PORT):
            yield _again(scene, family, address, port, first)


def _again(scene: Scene, family: int, address: str, port: int, first: str) -> Outcome:
    """A server ends after one visit, and another wants its port at once. first: who ended the connection."""
    server = scene.listen(address, port).socket
    client = scene.socket(family)
    client.connect((address, port))
    accepted, _asker = server.accept()
    _end(*((accepted, client) if first == "server" else (client, accepted)))
    server.close()
    number = scene.bind(address, port)
    return Outcome(f"{address}, after a connection that the {first} ended", number == errno.EADDRINUSE, _bound(number))


def _end(first: socket.socket, second: socket.socket) -> None:
    """Ends a connection from one side, then from the other, and waits until both know."""
    for side, other in ((first, second), (second, first)):
        side.shutdown(socket.SHUT_WR)
        other.settimeout(_PATIENCE_S)
        other.recv(1)
    deadline_s = time.monotonic() + _PATIENCE_S
    while second.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _TCP_CLOSE and time.monotonic() < deadline_s:
        time.sleep(_STEP_S)
    first.close()
    second.close()


def _reuse_addresses(scene: Scene) -> None:
    scene.server_options.append((socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))


def _errors(scene: Scene) -> Iterator[Outcome]:
    cases = []
    for family, address in LOOPBACK.items():
        scene.serve(address, _PORT)
        cases += [
            (f"port {_LOW} of {address}", address, _LOW, errno.EACCES),
            (f"a port of {address} that is taken", address, _PORT, errno.EADDRINUSE),
            (f"{_ELSEWHERE[family]}, of another machine", _ELSEWHERE[family], _CLOSED, errno.EADDRNOTAVAIL),
        ]
    numbers = json.loads(python(scene, _BIND, json.dumps([[address, port] for _what, address, port, _number in cases])))
    for (what, _address, _port, expected), number in zip(cases, numbers, strict=True):
        yield Outcome(what, number == expected, _bound(number))


def _low_ports_for_all(scene: Scene) -> None:
    scene.world.sysctl("ipv4/ip_unprivileged_port_start", 0)


def _udp(scene: Scene) -> Iterator[Outcome]:
    for address in LOOPBACK.values():
        for connected in (True, False):
            with scene.watched("lo", filter=_UNREACHABLE) as errors:
                answer = scene.ask(address, _CLOSED, kind="udp") if connected else _sent_to(scene, address)
            case = f"{address}, from a socket that is {'' if connected else 'not '}connected"
            yield Outcome(case, answer.errno != errno.ECONNREFUSED, f"{answer}; {len(errors)} ICMP error passed")


def _sent_to(scene: Scene, address: str) -> Answer:
    """A datagram to a closed port, from a socket that is not connected."""
    client = scene.socket(family_of(address), "udp")
    client.settimeout(0.25)
    client.sendto(b"who is there?", (address, _CLOSED))
    try:
        return Answer(0, client.recv(1024).decode())
    except OSError as error:
        return Answer(errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or errno.EIO)


def _drop_icmp(scene: Scene) -> None:
    scene.opened.enter_context(scene.world.firewall(FirewallRule(protocol="icmp"), FirewallRule(protocol="icmpv6")))


CLAIMS = (
    Claim(
        id="refused-nothing",
        says="Whoever is refused has asked an address and a port at which nobody listens.",
        statements=(61, 63),
        prediction="wherever a connection is refused, nobody is found to listen",
        expected=HOLDS,
        experiment=_nothing,
        refuted_by=Change(text="a firewall resets what comes for the server's port", make=_reset, becomes=IN_PART),
        decided_by="RFC 9293, 3.10.7.1; tcp_v4_rcv (no_tcp_socket) in net/ipv4/tcp_ipv4.c sends the RST",
        remember="A refusal is an RST, and whoever sends one refuses: mostly the kernel, as nobody listens, but a "
        "firewall can, before a server that lives.",
    ),
    Claim(
        id="refused-silence",
        says="Silence means that a firewall has dropped what was sent, and no server got it.",
        statements=(63, 76),
        prediction="where there is no firewall, each attempt is answered or refused at once",
        expected=FALSE,
        experiment=_silence,
        refuted_by=Change(text="a firewall drops what comes for the server's port", make=_drop, becomes=HOLDS),
        decided_by="tcp_conn_request in net/ipv4/tcp_input.c: a SYN for a full queue is dropped, and counted as "
        "ListenOverflows",
        remember="Silence may be a firewall, a server that is too busy, or one that has nothing to say.",
    ),
    Claim(
        id="refused-open",
        says="A connection that succeeds shows that the server at that port works.",
        statements=(54, 63),
        prediction="a program that hangs takes no connections",
        expected=IN_PART,
        experiment=_open,
        refuted_by=Change(
            text="no more than one visitor may wait to be accepted (net.core.somaxconn=0)",
            make=_shortest_queues,
            becomes=HOLDS,
        ),
        decided_by="tcp_check_req in net/ipv4/tcp_minisocks.c: the kernel ends the handshake; accept(2) comes later",
        remember="The kernel shakes hands for the program: only an answer shows that it lives.",
    ),
    Claim(
        id="refused-taken",
        says="A port that a server has can't be had by another.",
        statements=(67, 78, 80),
        prediction="whoever wants to bind port 8080 while a server has it is told EADDRINUSE",
        expected=IN_PART,
        experiment=_taken,
        refuted_by=Change(text="servers share ports (SO_REUSEPORT)", make=_share_ports, becomes=FALSE),
        decided_by="inet_csk_get_port and inet_csk_bind_conflict in net/ipv4/inet_connection_sock.c",
        remember="What is taken is protocol, address and port together, and no port alone.",
    ),
    Claim(
        id="refused-wait",
        says="A server that is started again at once finds its port taken.",
        statements=(78, 79),
        prediction="after a server has ended its port can't be bound, and no process is found that has it",
        expected=DEPENDS,
        mixed=DEPENDS,
        experiment=_wait,
        refuted_by=Change(text="servers set SO_REUSEADDR before they bind", make=_reuse_addresses, becomes=FALSE),
        decided_by="RFC 9293, 3.6: who closes first waits in TIME-WAIT; tcp_time_wait in net/ipv4/tcp_minisocks.c; "
        "inet_csk_bind_conflict",
        remember="Who closes first keeps the port for a minute, with no process to end: a server sets SO_REUSEADDR.",
    ),
    Claim(
        id="refused-errors",
        says="A server that gets no port is told why: no right to it, taken, or no address of this machine.",
        statements=(78, 80),
        prediction="port 80 comes to EACCES, a port in use to EADDRINUSE, a foreign address to EADDRNOTAVAIL",
        expected=HOLDS,
        experiment=_errors,
        refuted_by=Change(
            text="all ports are open to all users (net.ipv4.ip_unprivileged_port_start=0), as in many containers",
            make=_low_ports_for_all,
            becomes=IN_PART,
        ),
        decided_by="__inet_bind in net/ipv4/af_inet.c, __inet6_bind in net/ipv6/af_inet6.c; bind(2)",
        remember="Only EADDRINUSE means a port that is taken; EACCES is about rights, EADDRNOTAVAIL about the address.",
    ),
    Claim(
        id="refused-udp",
        says="UDP does not tell whether a port is closed.",
        statements=(61, 63, 81),
        prediction="a datagram to a port that nobody has is lost without a word",
        expected=IN_PART,
        experiment=_udp,
        refuted_by=Change(text="a firewall drops all ICMP that comes in", make=_drop_icmp, becomes=HOLDS),
        decided_by="RFC 1122, 4.1.3.1 and 4.1.3.3; __udp4_lib_err in net/ipv4/udp.c: only a connected socket is told",
        remember="A closed UDP port answers by an ICMP error, which only a socket that is connected gets to hear of.",
    ),
)
