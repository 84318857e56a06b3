"""What can be changed in a private world: links, addresses, routes, firewalls, and files that programs see."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LAUNCHER

import lab
from lab import FirewallRule

LOOPBACK = {4: "127.0.0.1", 6: "::1"}
KINDS = {4: socket.AF_INET, 6: socket.AF_INET6}
PORT = 8080


@pytest.fixture
def own(missing):
    """A world for one test, which may break it."""
    try:
        made = lab.World(["lo", "veth"])
    except lab.Unavailable as error:
        missing(str(error))
    with made:
        yield made


def connect(world, address, port=PORT, end="near", timeout_s=0.3):
    """What a TCP handshake comes to: the errno, or 0 if somebody answered."""
    with world.socket(KINDS[6 if ":" in address else 4], socket.SOCK_STREAM, end=end) as client:
        client.settimeout(timeout_s)
        try:
            client.connect((address, port))
        except TimeoutError:
            return errno.ETIMEDOUT
        except OSError as error:
            return error.errno
    return 0


def listen(world, address, port=PORT, end="near"):
    server = world.socket(KINDS[6 if ":" in address else 4], socket.SOCK_STREAM, end=end)
    server.bind((address, port))
    server.listen()
    return server


def printed(world, *code, **options):
    """What a Python program prints inside."""
    command = [sys.executable, "-c", "\n".join(code)]
    with world.popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options) as program:
        return program.stdout.read()


def test_lo_down_and_up_again(own, family):
    assert connect(own, LOOPBACK[family]) == errno.ECONNREFUSED
    own.set_link("lo", False)
    assert connect(own, LOOPBACK[family]) in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ETIMEDOUT)
    own.set_link("lo", True)
    assert connect(own, LOOPBACK[family]) == errno.ECONNREFUSED


def test_an_mtu_of_its_own(own, family):
    """A datagram that may not be cut into pieces is too long for it."""
    own.set_link("lo", mtu=1500)
    with own.socket(KINDS[family], socket.SOCK_DGRAM) as client:
        level, discover = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}[family]  # IP_MTU_DISCOVER
        client.setsockopt(level, discover, 2)  # IP_PMTUDISC_DO
        client.connect((LOOPBACK[family], PORT))
        with pytest.raises(OSError, match="Message too long"):
            client.send(bytes(1500))
    own.set_link("lo", mtu=65536)


def test_checksums_are_left_to_a_device_or_not(own, family):
    there = own.links["veth"].far[family]
    for left, checksum in ((True, "left"), (False, "good")):
        for end in ("near", "far"):
            own.set_link("veth", checksums_left=left, end=end)
        with own.capture("near:veth", filter="tcp") as capture:
            assert connect(own, there) == errno.ECONNREFUSED
            assert set(capture.to_polars("checksum", "tcp_flags")["checksum"]) <= {checksum, "good"}
            assert checksum in set(capture.to_polars("checksum")["checksum"])
    with pytest.raises(lab.Unavailable, match="ETHTOOL_STXCSUM, lo"):
        own.set_link("lo", checksums_left=False)


def test_a_rate_beyond_which_packets_are_dropped(own, family):
    """A hundred datagrams of 10 kB, sent at once: a burst passes, and the rest is more than a second's worth."""
    rule = FirewallRule(device="lo", protocol="udp", over="1Mbit")
    with own.firewall(rule) as firewall, own.socket(KINDS[family], socket.SOCK_DGRAM) as server:
        server.bind((LOOPBACK[family], PORT))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        with own.socket(KINDS[family], socket.SOCK_DGRAM) as client:
            for _ in range(100):
                client.sendto(bytes(10_000), server.getsockname()[:2])
        assert 50 < firewall.counts()[rule] < 100


def test_an_address_comes_and_goes(own, family):
    address, length = {4: ("198.18.99.1", 24), 6: ("2001:2:0:99::1", 64)}[family]
    lost = {4: errno.ETIMEDOUT, 6: errno.ENETUNREACH}[family]  # 198.18.99.1 is nobody's, but the veth's net is near
    before = connect(own, address)
    assert before in (lost, errno.ENETUNREACH)
    own.add_address("veth", f"{address}/{length}")
    assert connect(own, address) == errno.ECONNREFUSED
    own.remove_address("veth", f"{address}/{length}")
    assert connect(own, address) == before


def test_a_route_decides_whose_an_address_is(own):
    address = "127.9.9.9"
    assert connect(own, address) == errno.ECONNREFUSED
    own.remove_route("127.0.0.0/8", device="lo", kind="local")
    assert connect(own, address) == errno.ENETUNREACH
    own.add_route("127.9.0.0/16", device="lo", kind="local")
    assert connect(own, address) == errno.ECONNREFUSED


def test_a_destination_is_enough_to_remove_a_route(own, family):
    prefix, address = {4: ("198.18.77.0/24", "198.18.77.1"), 6: ("2001:2:0:77::/64", "2001:2:0:77::1")}[family]
    before = connect(own, address)
    own.add_route(prefix, device="veth")
    assert connect(own, address) in (errno.ETIMEDOUT, errno.EHOSTUNREACH)
    own.remove_route(prefix)
    assert connect(own, address) == before == errno.ENETUNREACH


@pytest.mark.parametrize(
    ("kind", "number"),
    [("blackhole", errno.EINVAL), ("unreachable", errno.EHOSTUNREACH), ("prohibit", errno.EACCES)],
)
def test_routes_that_lead_nowhere(own, kind, number):
    own.add_route("198.18.77.0/24", kind=kind)
    assert connect(own, "198.18.77.1") == number


@pytest.mark.parametrize(
    ("verdict", "number"),
    [("drop", errno.ETIMEDOUT), ("reject", errno.ECONNREFUSED), ("tcp-reset", errno.ECONNREFUSED), ("accept", 0)],
)
@pytest.mark.parametrize("hook", ["input", "output"])
def test_a_firewall_before_a_live_service(own, family, verdict, number, hook):
    rule = FirewallRule(verdict=verdict, hook=hook, protocol="tcp", port=PORT, destination=LOOPBACK[family])
    with listen(own, LOOPBACK[family]):
        assert connect(own, LOOPBACK[family]) == 0
        with own.firewall(rule) as firewall:
            # An ICMPv6 error comes while the kernel still holds the socket, which then heeds that of its next SYN.
            timeout_s = 5 if verdict == "reject" else 0.3
            assert connect(own, LOOPBACK[family], timeout_s=timeout_s) == number
            assert firewall.counts()[rule] > 0
        assert connect(own, LOOPBACK[family]) == 0
    with pytest.raises(lab.Unavailable, match="has ended"):
        firewall.counts()


def test_what_a_rule_says_it_is_about(own, family):
    other = 10 - family
    rules = [
        FirewallRule(protocol="tcp", port=PORT + 1),
        FirewallRule(protocol="udp", port=PORT),
        FirewallRule(family=other),
        FirewallRule(device="veth"),
        FirewallRule(destination=LOOPBACK[other]),
        FirewallRule(source="198.18.0.0/15"),
        FirewallRule(protocol="icmp" if family == 4 else "icmpv6"),
    ]
    with listen(own, LOOPBACK[family]), own.firewall(*rules) as firewall:
        assert connect(own, LOOPBACK[family]) == 0
        assert set(firewall.counts().values()) == {0}
    for rule in (FirewallRule(family=family), FirewallRule(device="lo"), FirewallRule(device="lo", hook="output")):
        with listen(own, LOOPBACK[family]), own.firewall(rule) as firewall:
            assert connect(own, LOOPBACK[family]) == errno.ETIMEDOUT
            assert firewall.counts()[rule] > 0


def test_a_redirection(own, family):
    rule = FirewallRule(verdict=("redirect", PORT), hook="output", protocol="tcp", port=80)
    with listen(own, LOOPBACK[family]):
        assert connect(own, LOOPBACK[family], 80) == errno.ECONNREFUSED
        with own.firewall(rule):
            assert connect(own, LOOPBACK[family], 80) == 0


def test_the_other_end_has_its_own(own, family):
    there = own.links["veth"].far[family]
    with listen(own, there, end="far"), own.firewall(FirewallRule(protocol="tcp"), end="far"):
        assert connect(own, there) == errno.ETIMEDOUT
        assert connect(own, LOOPBACK[family]) == errno.ECONNREFUSED


def test_counters(own, family):
    name = {4: "Udp.NoPorts", 6: "Udp6.NoPorts"}[family]
    before = own.counters()[name], own.counters(end="far")[name]
    with own.socket(KINDS[family], socket.SOCK_DGRAM) as sender:
        sender.sendto(b"?", (LOOPBACK[family], PORT))
    assert (own.counters()[name], own.counters(end="far")[name]) == (before[0] + 1, before[1])


def test_a_program_sees_other_files(own, tmp_path):
    kept = Path("/etc/hosts").read_text()
    mine = tmp_path / "mine"
    mine.write_text("before")
    files = {"/etc/hosts": "127.1.2.3 somewhere\n", str(mine): "after"}
    code = f"import socket; print(socket.gethostbyname('somewhere'), open({str(mine)!r}).read())"
    assert printed(own, code, files=files) == "127.1.2.3 after\n"
    assert (Path("/etc/hosts").read_text(), mine.read_text()) == (kept, "before")
    listed = printed(own, f"import os; print(sorted(os.listdir({str(tmp_path)!r})))", files=files)
    assert listed == "['mine']\n"  # the scratch file system is not in the way


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda world: world.set_link("eth9", False), "cannot look up eth9: ENODEV .* Give an interface"),
        (lambda world: world.add_address("lo", "nowhere/8"), "'nowhere/8' is no address: give one"),
        (lambda world: world.add_address("lo", "127.0.0.1/8"), "EEXIST .* It is there already"),
        (lambda world: world.remove_address("lo", "127.0.0.9/8"), "EADDRNOTAVAIL .* It is not there"),
        (lambda world: world.add_route("127.0.0.1/8"), "has host bits set: give a prefix"),
        (lambda world: world.add_route("127.0.0.0/8", kind="scenic"), "unknown kind 'scenic': choose from unicast"),
        (lambda world: world.set_link("lo"), "change what\\? Give up="),
        (lambda world: world.set_link("lo", mtu="big"), "a packet size \\(MTU\\) of 'big': give a whole number"),
        (lambda world: world.set_link("lo", mtu=-1), "a packet size \\(MTU\\) of -1: give 1 to"),
        (lambda world: world.set_link("veth", mtu=1 << 20), "EINVAL .* It takes no such value"),
        (lambda world: world.add_address("veth", "fe80::1%veth/64"), "names an interface: leave what follows the %"),
        (lambda world: world.add_route("198.18.9.0/24"), "a route to 198.18.9.0/24 by what\\?"),
        (lambda world: world.add_route("198.18.9.0/24", gateway="::1"), "give a gateway of IPv4"),
        (lambda world: world.add_route("2001:db8::/32", gateway="fe80::1%veth"), "fe80::1%veth names an interface"),
        (lambda world: world.add_route("198.18.9.0/24", kind="prohibit", device="lo"), "'prohibit' leads nowhere"),
        (lambda world: world.add_route("198.18.9.0/24", gateway="203.0.113.1"), "ENETUNREACH .* Give a gateway in"),
        (lambda world: world.popen(["true"], files={"/etc/hosts": b""}), "what /etc/hosts is to hold is no text"),
        (lambda world: world.counters(end="top"), "unknown end 'top': choose from near"),
        (lambda world: world.popen(["true"], files={"/etc/no-such": ""}), "'/etc/no-such' can't be put in place"),
        (lambda world: world.popen(["true"], files={"etc/hosts": ""}), "'etc/hosts' can't be put in place"),
        (lambda world: world.firewall(), "give rules, as in world.firewall"),
        (lambda world: world.firewall("drop"), "give rules, as in world.firewall"),
    ],
)
def test_what_cannot_be(own, ask, said):
    with pytest.raises(lab.LabError, match=said):
        ask(own)
    assert own.interfaces()  # it is there as before


def test_what_may_not_enter_exits_as_in_a_shell():
    """As where the kernel refuses it: here, because it is no network."""
    with Path("/dev/null").open() as net:
        command = [sys.executable, "-P", "-m", "lab.world.enter", "-1", str(net.fileno()), "-1", "true"]
        done = subprocess.run(command, pass_fds=[net.fileno()], capture_output=True, text=True, check=False)
    assert done.returncode == 126
    assert done.stderr == "lab: error: cannot enter the world: setns(CLONE_NEWNET): Invalid argument\n"


def test_all_of_this_without_rights(missing):
    """A user with no capability at all has the same rights in a world of its own."""
    launcher = [sys.executable, str(LAUNCHER), "no-rights", "--"]
    pytest_ = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", "not without_rights"]
    done = subprocess.run([*launcher, *pytest_], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        missing(done.stderr.strip())
    assert done.returncode == 0, done.stdout
