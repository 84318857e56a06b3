"""TCP played by hand with scapy, against a real server: the kernel's resets are kept away, and nothing is left over."""

from __future__ import annotations

import contextlib
import errno
import socket
import socketserver
import subprocess
import sys
import threading

import pytest

import lab
from lab import resets
from lab.taps import nftables
from lab.taps.netlink import dump
from lab.taps.sockdiag import NETLINK_SOCK_DIAG, list_sockets

PATIENCE_S = 20
PORT = 40_000
GETTABLE = 10 << 8 | 1
DOMAINS = {4: socket.AF_INET, 6: socket.AF_INET6}
RST = 0x04

#: Keeps resets away on lo from port argv[1], in the way argv[2], in the world argv[3], until told otherwise.
KEEPER = """
import sys, lab
port, by, world = sys.argv[1:]
try:
    with lab.no_rst("lo", int(port), by=by or None, world=world) as kept:
        print(kept, flush=True)
        sys.stdin.read()
except lab.Unavailable as error:
    print(error)
"""


@pytest.fixture(scope="module")
def scapy():
    import scapy.all as names

    names.conf.verb = 0
    return names


@pytest.fixture(params=["lo", "veth"])
def link(request, world):
    return world.links[request.param]


@pytest.fixture(params=["nftables", "listener", "listener-without-rights"])
def by(request, monkeypatch):
    """How resets are kept away."""

    def refuse(listener, program):
        raise PermissionError(errno.EPERM, "as a kernel does that takes CAP_NET_ADMIN for it")

    way, _, without_rights = request.param.partition("-")
    if without_rights:
        monkeypatch.setattr(resets, "attach", refuse)
    return way


class Handler(socketserver.StreamRequestHandler):
    """Answers a line in capitals, and waits for the end of the connection."""

    timeout = PATIENCE_S

    def handle(self):
        self.server.heard.append(self.rfile.readline())
        self.wfile.write(self.server.heard[0].upper())
        try:
            self.server.heard.append(self.rfile.read())
        except ConnectionResetError as error:
            self.server.heard.append(error.errno)


@pytest.fixture
def server(world, link, family):
    """A TCP server at the far end of the link; `heard`: the line that it was sent, and what came behind."""

    class Server(socketserver.TCPServer):
        address_family = DOMAINS[family]

    made = Server((link.far[family], 0), Handler, bind_and_activate=False)
    made.socket.close()
    made.socket = world.socket(DOMAINS[family], socket.SOCK_STREAM, end=link.far_end)
    made.heard = []
    with made:
        made.server_bind()
        made.server_activate()
        serving = threading.Thread(target=made.serve_forever, args=[0.01])
        serving.start()
        try:
            yield made
        finally:
            made.shutdown()
            serving.join()


class Session:
    """A client's side of a connection to the server, in scapy's own words."""

    def __init__(self, scapy, link, family, server):
        self.scapy, self.link = scapy, link
        self.ip = scapy.IP(dst=link.far[family]) if family == 4 else scapy.IPv6(dst=link.far[family])
        self.port, self.seq, self.ack = server.server_address[1], 1000, 0

    def packet(self, flags, data=b""):
        tcp = self.scapy.TCP(sport=PORT, dport=self.port, flags=flags, seq=self.seq, ack=self.ack)
        return self.ip / tcp / data

    def connect(self):
        syn_ack = self.scapy.sr1(self.packet("S"), timeout=PATIENCE_S)
        assert syn_ack[self.scapy.TCP].flags == "SA"
        self.seq, self.ack = self.seq + 1, syn_ack[self.scapy.TCP].seq + 1

    def say(self, flags, data, wanted):
        """Sends a segment, and returns the first segment that comes then and is wanted."""
        tcp = self.scapy.TCP
        seen = self.scapy.sniff(
            iface=self.link.name,
            filter=f"tcp src port {self.port} and dst port {PORT}",
            started_callback=lambda: self.scapy.send(self.packet(flags, data)),
            stop_filter=lambda packet: wanted(packet[tcp]),
            timeout=PATIENCE_S,
        )
        assert seen, f"no answer to {flags}"
        assert wanted(seen[-1][tcp])
        return seen[-1][tcp]

    def talk(self):
        """Says a line and returns the answer."""
        self.scapy.send(self.packet("A"))
        answer = self.say("PA", b"good morning\n", lambda tcp: tcp.payload)
        self.seq, self.ack = self.seq + len(b"good morning\n"), answer.seq + len(answer.payload)
        return bytes(answer.payload)


def resets_in(capture):
    """The ports that resets were sent from."""
    frames = capture.to_polars()
    return set(frames.filter((frames["tcp_flags"] & RST) != 0)["source_port"])


# ---- the textbook session ----


def test_a_session_by_hand(world, scapy, link, family, server, by):
    with (
        world.capture(link.name, filter="tcp") as capture,
        lab.scapy_sockets(world),
        world.no_rst(link.name, PORT, by=by) as kept,
    ):
        assert kept.by == by
        session = Session(scapy, link, family, server)
        session.connect()
        assert session.talk() == b"GOOD MORNING\n"
        session.say("FA", b"", lambda tcp: "F" in tcp.flags)
        session.seq, session.ack = session.seq + 1, session.ack + 1
        scapy.send(session.packet("A"))
    assert server.heard == [b"good morning\n", b""]
    assert resets_in(capture) == set()


def test_without_it_the_kernel_resets_the_connection(world, scapy, link, family, server, wait_until):
    with world.capture(link.name, filter="tcp") as capture, lab.scapy_sockets(world):
        session = Session(scapy, link, family, server)
        session.connect()
        wait_until(lambda: PORT in resets_in(capture), "the kernel's reset")
        refused = session.say("PA", b"good morning\n", lambda tcp: "R" in tcp.flags)
    assert refused.seq == session.ack
    assert resets_in(capture) == {PORT, session.port}
    assert server.heard == []


def test_a_reset_by_hand_arrives(world, scapy, link, family, server, by, wait_until):
    with (
        world.capture(link.name, filter="tcp") as capture,
        lab.scapy_sockets(world),
        world.no_rst(link.name, PORT, by=by),
    ):
        session = Session(scapy, link, family, server)
        session.connect()
        session.talk()
        scapy.send(session.packet("RA"))
        wait_until(lambda: len(server.heard) == 2, "the server to see the end")
    assert server.heard == [b"good morning\n", errno.ECONNRESET]
    assert resets_in(capture) == {PORT}


# ---- what is kept away, and what isn't ----


def refused(world, family, address, port, end):
    """Whether a connection from that end to a port where nobody listens is refused; nothing comes back otherwise."""
    with world.socket(DOMAINS[family], socket.SOCK_STREAM, end=end) as client:
        client.settimeout(0.3)
        try:
            client.connect((address, port))
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False
    raise AssertionError("somebody listens")


def test_only_what_was_named_is_kept(world, family, by):
    near, lo = world.links["veth"].near[family], world.links["lo"].far[family]
    assert refused(world, family, near, PORT, "far")
    with world.no_rst("veth", PORT, by=by):
        assert not refused(world, family, near, PORT, "far")
        assert refused(world, family, near, PORT + 1, "far")
        assert refused(world, family, lo, PORT, "near")
    assert refused(world, family, near, PORT, "far")


def test_at_the_far_end(world, family, by):
    far = world.links["veth"].far[family]
    with world.no_rst("veth", PORT, end="far", by=by):
        assert not refused(world, family, far, PORT, "near")
    assert refused(world, family, far, PORT, "near")


def test_several_at_once(world, family):
    lo = world.links["lo"].far[family]
    with contextlib.ExitStack() as held:
        for port in range(PORT, PORT + 3):
            held.enter_context(world.no_rst("lo", port))
        with world.no_rst("lo", PORT), world.no_rst("lo", PORT, by="listener"):
            assert len(tables(world)) == 4
        assert [refused(world, family, lo, port, "near") for port in range(PORT, PORT + 4)] == [False] * 3 + [True]
    assert tables(world) == []


# ---- nothing is left ----


def tables(world):
    """The tables of nf_tables in the world, as the kernel sends them."""
    with world.socket(socket.AF_NETLINK, socket.SOCK_RAW, nftables.NETLINK_NETFILTER) as channel:
        return list(dump(channel, GETTABLE, bytes(4)))


def listening(world):
    with world.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as channel:
        return [each for each in list_sockets(channel) if each.listening]


@pytest.mark.parametrize("by", ["nftables", "listener"])
@pytest.mark.parametrize("end", ["killed", "over"])
def test_nothing_is_left_of_it(by, end, wait_until):
    """The process that kept resets away is another, in a network that outlives it."""
    with lab.World(["lo"]) as world:
        command = [sys.executable, "-c", KEEPER, str(PORT), by, str(world.pid)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as keeper:
            assert f"from port {PORT} on lo" in keeper.stdout.readline()
            assert (len(tables(world)), len(listening(world))) == ((1, 0) if by == "nftables" else (0, 2))
            assert not refused(world, 4, "127.0.0.1", PORT, "near")
            if end == "killed":
                keeper.kill()
        assert keeper.returncode == (-9 if end == "killed" else 0)
        wait_until(lambda: (tables(world), listening(world)) == ([], []), "all to be gone")
        assert refused(world, 4, "127.0.0.1", PORT, "near")


def test_nft_sees_the_rule_and_then_nothing(tool, root):
    code = f"""
import subprocess, lab
with lab.no_rst("lo", {PORT}):
    subprocess.run([{tool("nft")!r}, "list", "ruleset"], check=True)
print("afterwards", flush=True)
subprocess.run([{tool("nft")!r}, "list", "ruleset"], check=True)
"""
    command = [sys.executable, str(root / "tests/launch.py"), "--", sys.executable, "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    within, afterwards = told.split("afterwards\n")
    assert f'oifname "lo" tcp sport {PORT} tcp flags rst drop' in within
    assert afterwards == ""


# ---- rights, and what can't be ----


@pytest.fixture
def keep(root):
    """What KEEPER says in a network of its own, which it takes for the machine's, with these faults."""

    def keep(*faults, port=PORT, by=""):
        launcher = [sys.executable, str(root / "tests/launch.py"), *faults, "--"]
        return subprocess.run(
            [*launcher, sys.executable, "-c", KEEPER, str(port), by, "host"],
            capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL,
        ).stdout.strip()  # fmt: skip

    return keep


def test_by_what_is_chosen_by_rights(keep):
    assert keep() == f"no RST of the kernel's from port {PORT} on lo: a rule of nftables drops them"
    said = keep("no-rights")
    assert "a socket that listens there" in said
    assert "cannot make a rule of nftables: EPERM" in said


def test_where_there_is_no_ipv6(keep):
    assert "listens there" in keep("no-rights", "ipv6-off")


def test_missing_rights_are_told(keep):
    said = keep("no-rights", by="nftables")
    assert "by='listener'" in said
    assert "run as root" in said
    assert "cannot listen at port 80: EACCES (Permission denied). Play from a port above 1023" in keep(
        "no-rights", port=80
    )


def test_where_the_kernel_has_no_nftables(world, monkeypatch):
    monkeypatch.setattr(nftables, "NETLINK_NETFILTER", 31)  # no family of netlink
    with world.no_rst("lo", PORT) as kept:
        assert kept.by == "listener"
        assert "EPROTONOSUPPORT" in str(kept)
    with (
        pytest.raises(lab.Unavailable, match=r"EPROTONOSUPPORT.*by='listener'.*Linux 5\.12"),
        world.no_rst("lo", PORT, by="nftables"),
    ):
        pass


def test_a_port_in_use_is_told(world, family):
    with world.socket(DOMAINS[family], socket.SOCK_STREAM) as taken:
        taken.bind((world.links["lo"].far[family], PORT))
        taken.listen()
        with (
            pytest.raises(lab.Unavailable, match=f"port {PORT}: EADDRINUSE.* Play from a port that no socket has"),
            world.no_rst("lo", PORT, by="listener"),
        ):
            pass


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lo", 0), "a port of 0: give 1 to 65,535"),
        (("lo", 70_000), "a port of 70,000: give 1 to 65,535"),
        (("lo", "http"), "a port of 'http': give a whole number"),
        (("wlan0", PORT), "no interface 'wlan0' at the near end: give one of lo, veth"),
        (([], PORT), r"no interface \[\] at the near end: give one of lo, veth"),
        (("lo", PORT, "left"), "unknown end 'left': choose from near, far, middle"),
        (("lo", PORT, "near", "iptables"), "'iptables': choose from nftables, listener"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(world, arguments, said):
    names = ("where", "port", "end", "by")
    with pytest.raises(lab.UsageError, match=said), world.no_rst(**dict(zip(names, arguments, strict=False))):
        pass


def test_only_links_with_an_interface_at_that_end_are_offered():
    with (
        lab.World(["lo", "pipe"]) as made,
        pytest.raises(lab.UsageError, match=r"no interface 'pipe' at the near end: give one of lo$"),
        made.no_rst("pipe", PORT),
    ):
        pass


def test_the_machines_own_network_has_one_end_only():
    with pytest.raises(lab.UsageError, match="only a private world has a far end"), lab.no_rst("lo", PORT, end="far"):
        pass


def test_what_is_no_world_is_refused():
    with pytest.raises(lab.UsageError, match=r"unknown world 3\.5: choose new"), lab.no_rst("lo", PORT, world=3.5):
        pass


def test_a_world_that_nothing_happens_in_is_refused():
    with pytest.raises(lab.UsageError, match=r"open one, with lab\.World"), lab.no_rst("lo", PORT, world="new"):
        pass
