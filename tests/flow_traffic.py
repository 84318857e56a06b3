"""Real traffic of every kind between the two ends of a link, for whoever wants to see what becomes of it.

A maker takes a ``Way`` and lets its ends talk; what it waits for is a condition, told by the kernel.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator

import lab
from lab.taps.filters import NOTHING, attach

__all__ = ["AT_ONCE", "MAKERS", "WORDS", "ZONE", "Way", "deaf", "kernel_state", "received", "resent", "say"]

DOMAINS = {4: socket.AF_INET, 6: socket.AF_INET6}
PATIENCE_S = 20
SO_DETACH_FILTER, SO_MEMINFO, MEMINFO_DROPS = 27, 55, 8
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for 0 s
#: By the kernel's numbers (net/tcp_states.h), in the words of RFC 9293.
STATES = (
    "", "ESTABLISHED", "SYN-SENT", "SYN-RECEIVED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "CLOSED", "CLOSE-WAIT",
    "LAST-ACK", "LISTEN", "CLOSING", "SYN-RECEIVED",
)  # fmt: skip
TCPI_STATE, TCPI_PROBES, TCPI_TOTAL_RETRANS = 0, 3, 100  # offsets in struct tcp_info (linux/tcp.h)
#: Sent on its own, each is a segment of its own.
WORDS = [f"word {number}".encode() for number in range(6)]


class Way:
    """Both ends of a link, in one IP version.

    world: an open ``lab.World`` with that link. wait_until: waits for a condition, as the fixture does.
    """

    def __init__(self, world: lab.World, link: str, family: int, wait_until: Callable[..., None]) -> None:
        self.world, self.family, self.wait_until = world, family, wait_until
        self.link = world.links[link]
        self.near, self.far = self.link.near[family], self.link.far[family]

    @property
    def tap(self) -> str:
        """What ``World.capture`` calls the near end."""
        device = self.link.devices["near"]
        return device if self.link.far_end == "near" else f"near:{device}"

    def record(self, **options: object) -> lab.taps.live.LiveCapture:
        """A capture at the near end."""
        return self.world.capture(options.pop("where", self.tap), **options)

    def socket(self, kind: int, end: str = "near") -> socket.socket:
        """A socket at the near or the far end that does not wait for ever."""
        opened = self.world.socket(DOMAINS[self.family], kind, end=self.link.far_end if end == "far" else "near")
        opened.settimeout(PATIENCE_S)
        return opened

    def server(self, kind: int, port: int = 0) -> socket.socket:
        """A socket bound to the far end's address, which listens if it is of TCP."""
        made = self.socket(kind, "far")
        made.bind((self.far, port))
        if kind == socket.SOCK_STREAM:
            made.listen()
        return made

    @contextlib.contextmanager
    def closed_port(self) -> Iterator[int]:
        """A port of the far end where nobody listens, and that nobody else is given meanwhile."""
        with self.socket(socket.SOCK_STREAM, "far") as kept:
            kept.bind((self.far, 0))
            yield int(kept.getsockname()[1])

    @contextlib.contextmanager
    def pair(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        """A TCP connection: the near socket that opened it, and the far one."""
        with self.server(socket.SOCK_STREAM) as listener, self.socket(socket.SOCK_STREAM) as near:
            near.connect(listener.getsockname())
            far, _address = listener.accept()
            with far:
                for each in (near, far):
                    each.settimeout(PATIENCE_S)
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                yield near, far

    def reach(self, end: socket.socket, state: str) -> None:
        """Waits until the kernel has a socket in that state."""
        self.wait_until(lambda: kernel_state(end) == state, f"{state} is reached, not {kernel_state(end)}")


def kernel_state(end: socket.socket) -> str:
    """The state of a TCP socket. The kernel has another one in its place in TIME-WAIT: its own is CLOSED then."""
    return STATES[end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[TCPI_STATE]]


def resent(end: socket.socket) -> int:
    """Segments that the kernel has sent again."""
    info = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCPI_TOTAL_RETRANS + 4)
    return int.from_bytes(info[TCPI_TOTAL_RETRANS:], sys.byteorder)


def received(end: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = end.recv(count - len(data))
        assert more, f"the end after {len(data)} of {count} bytes"
        data += more
    return data


def say(sender: socket.socket, receiver: socket.socket, data: bytes) -> None:
    sender.sendall(data)
    assert received(receiver, len(data)) == data


# ---- without TCP ----


def echo(way: Way) -> None:
    """Three pings."""
    stream = way.world.rtt(way.link.name, family=way.family, count=3, warmup=0)
    assert stream.received == 3


def udp(way: Way) -> None:
    """Two questions and their answers."""
    with way.server(socket.SOCK_DGRAM) as far, way.socket(socket.SOCK_DGRAM) as near:
        near.connect(far.getsockname())
        for number in range(2):
            near.send(b"question %d" % number)
            question, client = far.recvfrom(100)
            far.sendto(b"the answer to " + question, client)
            assert near.recv(100).endswith(question)


def closed_udp(way: Way) -> None:
    """A datagram to a port where nobody is: an ICMP error comes back."""
    with way.closed_port() as port, way.socket(socket.SOCK_DGRAM) as near:
        near.connect((way.far, port))
        near.send(b"anybody there?")
        way.wait_until(lambda: near.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED, "refused")


def fragments(way: Way) -> None:
    """Datagrams of 4,000 bytes, there and back."""
    with way.server(socket.SOCK_DGRAM) as far, way.socket(socket.SOCK_DGRAM) as near:
        near.connect(far.getsockname())
        near.send(b"q" * 4000)
        question, client = far.recvfrom(5000)
        far.sendto(question.upper(), client)
        assert near.recv(5000) == b"Q" * 4000


#: By question, of name and type: the records of the answer, the later ones under the name that the first leads to.
ZONE = {
    ("www.example.org.", "A"): [("CNAME", "host.example.org."), ("A", "192.0.2.1"), ("A", "192.0.2.2")],
    ("www.example.org.", "AAAA"): [("CNAME", "host.example.org."), ("AAAA", "2001:db8::1")],
    ("nobody.example.org.", "A"): [],
}


def answer_to(question: bytes) -> bytes:
    """The message of a DNS server that knows ``ZONE``; names are compressed (RFC 1035, 4.1.4)."""
    from scapy.layers.dns import DNS, DNSRR, dns_compress, dnsqtypes

    asked = DNS(question)
    name = asked.qd[0].qname.decode()
    records = ZONE[name, dnsqtypes[asked.qd[0].qtype]]
    answers = []
    for kind, value in records:
        answers.append(DNSRR(rrname=name, type=kind, rdata=value, ttl=60))
        name = value if kind == "CNAME" else name
    rcode = 0 if records else 3
    return bytes(dns_compress(DNS(id=asked.id, qr=1, aa=1, rd=1, ra=1, rcode=rcode, qd=asked.qd, an=answers)))


def dns(way: Way) -> None:
    """Questions of every name in ``ZONE``, and their answers."""
    from scapy.layers.dns import DNS, DNSQR

    way.world.sysctl("ipv4/ip_unprivileged_port_start", 53, end=way.link.far_end)
    with way.server(socket.SOCK_DGRAM, 53) as far, way.socket(socket.SOCK_DGRAM) as near:
        near.connect(far.getsockname())
        for number, (name, kind) in enumerate(ZONE):
            near.send(bytes(DNS(id=number, rd=1, qd=[DNSQR(qname=name, qtype=kind)])))
            question, client = far.recvfrom(512)
            far.sendto(answer_to(question), client)
            assert DNS(near.recv(512)).ancount == len(ZONE[name, kind])


# ---- TCP that opens and closes ----


def tcp(way: Way) -> None:
    """A handshake, data both ways, an orderly close by the client."""
    with way.pair() as (near, far):
        say(near, far, b"GET / HTTP/1.0\r\n\r\n")
        say(far, near, b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        near.shutdown(socket.SHUT_WR)
        assert far.recv(1) == b""
        way.reach(near, "FIN-WAIT-2")
        far.shutdown(socket.SHUT_WR)
        assert near.recv(1) == b""
        way.reach(far, "CLOSED")


def closed_by_server(way: Way) -> None:
    """A handshake, and the server closes first."""
    with way.pair() as (near, far):
        say(far, near, b"220 and good-bye\r\n")
        far.shutdown(socket.SHUT_WR)
        assert near.recv(1) == b""
        way.reach(far, "FIN-WAIT-2")
        near.shutdown(socket.SHUT_WR)
        way.reach(near, "CLOSED")


def half_closed(way: Way) -> None:
    """The client has no more to say, the server goes on speaking."""
    with way.pair() as (near, far):
        near.shutdown(socket.SHUT_WR)
        assert far.recv(1) == b""
        way.reach(near, "FIN-WAIT-2")
        for word in WORDS[:3]:
            say(far, near, word)
        far.shutdown(socket.SHUT_WR)
        assert near.recv(1) == b""
        way.reach(far, "CLOSED")


def refused(way: Way) -> None:
    """A SYN to a port where nobody listens."""
    with way.closed_port() as port, way.socket(socket.SOCK_STREAM) as near:
        assert near.connect_ex((way.far, port)) == errno.ECONNREFUSED


def reset(way: Way) -> None:
    """A connection that the client breaks off."""
    with way.pair() as (near, far):
        say(near, far, b"and then")
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        near.close()
        way.reach(far, "CLOSED")


def many(way: Way) -> None:
    """Six clients at once."""
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(way.server(socket.SOCK_STREAM))
        nears = [opened.enter_context(way.socket(socket.SOCK_STREAM)) for _ in range(6)]
        for near in nears:
            near.connect(listener.getsockname())
        fars = [opened.enter_context(listener.accept()[0]) for _ in nears]
        for number, (near, far) in enumerate(zip(nears, fars, strict=True)):
            say(near, far, b"I am client %d" % number)
        for number, (near, far) in enumerate(zip(nears, fars, strict=True)):
            say(far, near, b"you are client %d" % number)
        for near, far in zip(nears, fars, strict=True):
            near.shutdown(socket.SHUT_WR)
            way.reach(near, "FIN-WAIT-2")
            far.shutdown(socket.SHUT_WR)
            way.reach(far, "CLOSED")


# ---- TCP in trouble ----


@contextlib.contextmanager
def deaf(way: Way, end: socket.socket) -> Iterator[None]:
    """Its socket drops what comes in meanwhile, behind any tap; at least one segment."""

    def drops() -> int:
        counts = end.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)
        return int(struct.unpack("9I", counts)[MEMINFO_DROPS])

    before = drops()
    attach(end, NOTHING)
    yield
    way.wait_until(lambda: drops() > before, "a segment was dropped")
    end.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def timed_out(way: Way) -> None:
    """The last segment is lost: the sender sends it again by its clock."""
    with way.pair() as (near, far):
        say(near, far, b"first")
        with deaf(way, far):
            near.sendall(b"lost")
        assert received(far, 4) == b"lost"


def gap(way: Way) -> None:
    """A segment is lost, and others are not: duplicate ACKs, and it is sent again."""
    with way.pair() as (near, far):
        say(near, far, b"first")
        with deaf(way, far):
            near.sendall(b"lost")
        for word in WORDS:
            near.sendall(word)
        assert received(far, 4 + len(b"".join(WORDS))) == b"lost" + b"".join(WORDS)


def full(way: Way) -> None:
    """A reader that does not read: its window closes, is probed, and opens again."""
    with way.server(socket.SOCK_STREAM) as listener, way.socket(socket.SOCK_STREAM) as near:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        near.connect(listener.getsockname())
        far, _address = listener.accept()
        with far:
            near.setblocking(False)
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent += near.send(bytes(1000))

            def probes() -> int:
                return near.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[TCPI_PROBES]

            way.wait_until(probes, "the window was probed")
            far.settimeout(PATIENCE_S)
            received(far, sent)


def idle(way: Way) -> None:
    """A connection in which nothing is said: the near end asks whether the other is there still."""
    with way.record(filter="tcp") as heard, way.pair() as (near, far):
        say(near, far, b"still there?")
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        before = len(heard)
        way.wait_until(lambda: len(heard) >= before + 2, "asked, and answered")


def bulk(way: Way) -> None:
    """200,000 bytes, as fast as they go."""
    with way.pair() as (near, far):
        data = b"abcdefghij" * 20_000
        sending = threading.Thread(target=near.sendall, args=[data])
        sending.start()
        assert received(far, len(data)) == data
        sending.join()


# ---- TCP that meets itself: over a link with a delay ----


def closed_at_once(way: Way) -> None:
    """Both ends close before either hears of it."""
    with way.pair() as (near, far):
        say(near, far, b"ready")
        near.shutdown(socket.SHUT_WR)
        far.shutdown(socket.SHUT_WR)
        way.reach(near, "CLOSED")
        way.reach(far, "CLOSED")


def opened_at_once(way: Way) -> None:
    """Both ends connect before either hears of it; nobody listens."""
    with way.socket(socket.SOCK_STREAM) as near, way.socket(socket.SOCK_STREAM, "far") as far:
        for end in (near, far):
            end.setblocking(False)
        near.bind((way.near, 0))
        far.bind((way.far, 0))
        for end, other in ((near, far), (far, near)):
            with contextlib.suppress(BlockingIOError):
                end.connect(other.getsockname())
        for end in (near, far):
            way.reach(end, "ESTABLISHED")


MAKERS: dict[str, Callable[[Way], None]] = {
    each.__name__: each
    for each in (
        echo, udp, closed_udp, fragments, dns, tcp, closed_by_server, half_closed, refused, reset, many, timed_out, gap,
        full, idle, bulk, closed_at_once, opened_at_once,
    )
}  # fmt: skip
#: Those that need a link with a delay.
AT_ONCE = ("closed_at_once", "opened_at_once")
