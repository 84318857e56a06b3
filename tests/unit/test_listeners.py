"""Listening sockets: who reaches them, what a user may give, the tables, what is odd. Worlds: test_ports_command.py."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lab
from lab.listeners import Answer, Binding, Listener, Program, Reach, bind_errno, free_port, list_listeners, networks
from lab.listeners.asking import absent
from lab.listeners.bound import all_bound, unseen
from lab.listeners.findings import about_port, open_to_all, takes
from lab.listeners.holders import Holder, find_holders
from lab.listeners.programs import end_command, unit
from lab.listeners.ranges import as_text, own_address, parse_addresses, parse_port, parse_ranges
from lab.listeners.reach import Surroundings, look, reach
from lab.listeners.reports import Port, Ports
from lab.listeners.shown import duration_text

AROUND = Surroundings(
    names={1: "lo", 2: "eth0"},
    alone=False,
    own=tuple(
        (ipaddress.ip_network(prefix), device)
        for prefix, device in (
            ("::1/128", "lo"),
            ("fe80::7/128", "eth0"),
            ("192.168.1.5/32", "eth0"),
            ("127.0.0.0/8", "lo"),
        )
    ),
    broadcasts=frozenset({"255.255.255.255", "192.168.1.255"}),
)
ALONE = Surroundings(names={1: "lo"}, alone=True, own=((ipaddress.ip_network("127.0.0.0/8"), "lo"),))
HTTPD = Program(
    pid=812, name="httpd", user="www", since_ns=1_790_000_000_000_000_000, command=("httpd", "-f"), parent=1
)


def listener(
    address="127.0.0.1", port=80, *, families=(4,), protocol="tcp", device=None, programs=(HTTPD,), around=AROUND
):
    return Listener(
        protocol=protocol,
        family=6 if ":" in address else 4,
        families=families,
        address=address,
        port=port,
        v6only=families == (6,) if ":" in address else None,
        device=device,
        programs=programs,
        user="www",
        reach=reach(address, families, device, around),
        waiting=0,
        room=128,
    )


def holder(
    state="listen", address="127.0.0.1", *, families=(4,), count=1, left_ns=None, waiting=0, programs=(HTTPD,), **more
):
    return Holder(
        protocol=more.get("protocol", "tcp"),
        family=6 if ":" in address else 4,
        families=families,
        address=address,
        port=80,
        v6only=None,
        device=None,
        state=state,
        count=count,
        remote=None,
        left_ns=left_ns,
        programs=() if left_ns else programs,
        user="www",
        reach=reach(address, families, None, AROUND) if state in ("listen", "bound") else None,
        waiting=waiting,
        room=128,
        network=more.get("network"),
    )


def answer(status, address="127.0.0.1", protocol="tcp", icmp=None):
    return Answer(address=address, port=80, protocol=protocol, status=status, rtt_ns=31_200, icmp=icmp)


FREE, TAKEN = Binding(errno=None, reusing_errno=None), Binding(errno=98, reusing_errno=98, where="tcp 0.0.0.0")
REUSABLE = Binding(errno=98, reusing_errno=None, where="tcp 0.0.0.0")

# ---- who reaches it ----


@pytest.mark.parametrize(
    ("address", "families", "device", "kind"),
    [
        ("127.0.0.1", (4,), None, "machine"),
        ("127.50.50.50", (4,), None, "machine"),
        ("::1", (6,), None, "machine"),
        ("0.0.0.0", (4,), "lo", "machine"),
        ("0.0.0.0", (4,), None, "everyone"),
        ("::", (6,), None, "everyone"),
        ("::", (4, 6), None, "everyone"),
        ("0.0.0.0", (4,), "eth0", "interface"),
        ("192.168.1.5", (4,), "eth0", "interface"),
        ("192.168.1.5", (4,), None, "address"),
        ("192.168.1.6", (4,), None, "nobody"),
        ("2001:db8::7", (6,), None, "nobody"),
        ("192.168.1.255", (4,), None, "group"),
        ("224.0.0.251", (4,), None, "group"),
        ("ff02::fb", (6,), None, "group"),
        ("fe80::7%eth0", (6,), "eth0", "link"),
    ],
)
def test_who_reaches_a_socket(address, families, device, kind):
    found = reach(address, families, device, AROUND)
    assert found.kind == kind
    assert found.who
    assert bool(found.warning) == (kind == "everyone")
    assert reach(address, families, device, ALONE).kind == "namespace"
    assert reach(address, families, device, ALONE).warning is None


def test_the_warning_tells_which_families_are_taken():
    warnings = {families: reach("::", families, None, AROUND).warning for families in ((6,), (4, 6))}
    assert "takes IPv6 by" in warnings[6,]
    assert "takes IPv4 and IPv6, as it is not V6ONLY," in warnings[4, 6]
    assert "bind to 127.0.0.1 and ::1" in warnings[4, 6]
    assert "takes IPv4 by" in reach("0.0.0.0", (4,), None, AROUND).warning


def test_what_takes_what_is_sent_to_an_address():
    assert takes(listener("127.0.0.1"), "127.0.0.1")
    assert not takes(listener("127.0.0.1"), "127.0.0.2")
    assert takes(listener("0.0.0.0"), "127.0.0.2")
    assert not takes(listener("0.0.0.0"), "::1")
    assert takes(listener("::", families=(4, 6)), "127.0.0.1")
    assert takes(listener("::", families=(4, 6)), "::1")
    assert not takes(listener("::", families=(6,)), "127.0.0.1")
    assert takes(listener("0.0.0.0", device="lo"), "127.0.0.1")
    assert not takes(listener("0.0.0.0", device="eth0"), "192.168.1.5")  # which goes by lo here
    assert takes(listener("::", families=(6,), device="eth0"), "fe80::7%eth0")


# ---- what a user gives ----


@pytest.mark.parametrize("port", [1, 80, 65_535, "8080"])
def test_a_port(port):
    assert parse_port(port) == int(port)


@pytest.mark.parametrize("text", ["0", "65536", "99999", "-1", "http", "", "80.0", "８０", " 80", True, 10**30])
def test_what_is_no_port(text):
    with pytest.raises(lab.UsageError, match="1 to 65535"):
        parse_port(text)


def test_ranges_are_put_in_order_and_together():
    assert parse_ranges("22") == [range(22, 23)]
    assert parse_ranges("8000-8100, 22,80") == [range(22, 23), range(80, 81), range(8000, 8101)]
    assert parse_ranges("1-10,5-20,21") == [range(1, 22)]
    assert parse_ranges("1-65535") == [range(1, 65_536)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no range of ports"),
        ("80,,81", "is no range of ports"),
        ("80-", "is no range of ports"),
        ("-80", "is no range of ports"),
        ("8100-8000", "8100-8000 runs backwards: give 8000-8100"),
        ("0-100", "port 0: give 1 to 65535"),
        ("1-65536", "port 65536: give 1 to 65535"),
        ("ssh", "'ssh' is no port"),
        ("1-2-3", "'2-3' is no port"),
    ],
)
def test_what_is_no_range(text, said):
    with pytest.raises(lab.UsageError) as caught:
        parse_ranges(text)
    assert said in str(caught.value)


@given(st.sets(st.integers(1, 65_535), min_size=1, max_size=50))
def test_ranges_are_written_as_they_are_read(ports):
    assert [port for each in parse_ranges(as_text(ports)) for port in each] == sorted(ports)


def test_only_own_addresses_are_asked():
    assert parse_addresses("127.0.0.1, [::1],127.0.0.1,0:0::1") == ["127.0.0.1", "::1"]
    for address in ("127.0.0.1", "127.9.9.9", "::1", "192.168.1.5", "fe80::7%eth0"):
        assert own_address(address, AROUND) == address
    for address in ("192.168.1.6", "192.0.2.1", "2001:db8::1", "0.0.0.0", "::", "224.0.0.1", "255.255.255.255"):
        with pytest.raises(lab.UsageError, match="is no address of this network's own"):
            own_address(address, AROUND)
    with pytest.raises(lab.UsageError, match="there is no interface 'eth9'; there are lo, eth0"):
        own_address("fe80::7%eth9", AROUND)
    with pytest.raises(lab.UsageError, match="fe80::7%eth0"):
        own_address("fe80::7", AROUND)
    for text in ("localhost", "127.1", "2130706433", "0x7f.1", "", "127.0.0.1:80"):
        with pytest.raises(lab.UsageError, match="is no address"):
            parse_addresses(text)


# ---- what would end it ----

SYSTEM, USER = "/system.slice/nginx.service", "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service"
CONTAINER = "a" * 12 + "b" * 52


@pytest.mark.parametrize(
    ("cgroup", "booted", "command"),
    [
        ("", True, "kill 812"),
        ("/", True, "kill 812"),
        (SYSTEM, True, "systemctl stop nginx.service"),
        (SYSTEM, False, "kill 812"),
        (USER, True, "systemctl --user stop web.service"),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", True, "kill 812"),
        ("/user.slice/user-1000.slice/session-3.scope", True, "kill 812"),
        (f"/system.slice/docker-{CONTAINER}.scope", True, f"docker stop {'a' * 12}"),
        (f"/docker/{CONTAINER}", False, f"docker stop {'a' * 12}"),
    ],
)
def test_the_command_that_would_end_it(cgroup, booted, command):
    one = Program(pid=812, name="x", user="root", cgroup=cgroup)
    assert end_command([one], 80, booted=booted, root=True) == command


def test_parents_are_ended_and_not_their_children():
    master = Program(pid=10, name="nginx", parent=1)
    workers = [Program(pid=pid, name="nginx", parent=10) for pid in (11, 12)]
    assert end_command([*workers, master], 80, booted=False, root=True) == "kill 10"
    assert end_command(workers, 80, booted=False, root=True) == "kill 11 12"


def test_what_is_not_to_be_killed():
    assert end_command([Program(pid=1, name="systemd", cgroup="/init.scope")], 80, booted=True, root=True) == ""
    assert end_command([], 80, booted=True, root=True) == ""
    proxy = Program(pid=5, name="docker-proxy", cgroup="/system.slice/docker.service")
    assert end_command([proxy], 80, booted=True, root=True) == "docker stop $(docker ps -q --filter publish=80)"


def test_another_users_takes_sudo():
    assert end_command([Program(pid=5, name="x", user="somebody else")], 80, booted=False, root=False) == "sudo kill 5"
    served = Program(pid=5, name="x", user="root", cgroup=SYSTEM)
    assert end_command([served], 80, booted=True, root=False) == "sudo systemctl stop nginx.service"


def test_the_unit_is_the_innermost_service():
    assert unit(SYSTEM) == "nginx.service"
    assert unit(USER) == "web.service"
    assert unit("/system.slice/a.service/sub/b.service/x") == "b.service"
    assert unit("/system.slice") is None


# ---- what is odd ----


def odd(answers, here, binding=TAKEN):
    return list(about_port(80, answers, here, binding))


def test_nothing_is_odd_about_a_plain_server_or_a_free_port():
    assert odd([answer("open")], [holder()]) == []
    assert odd([answer("closed"), answer("closed", protocol="udp", icmp=(3, 3))], [], FREE) == []


@pytest.mark.parametrize(
    ("status", "icmp", "said"),
    [
        ("closed", None, "is refused by a reset, though httpd (812) is there: a firewall does that"),
        ("filtered", None, "a firewall drops it"),
        ("filtered", (3, 13), "a firewall answers with ICMP 3/13"),
    ],
)
def test_an_answer_that_is_not_the_servers(status, icmp, said):
    (text,) = odd([answer(status, icmp=icmp)], [holder()])
    assert said in text


def test_an_answer_of_nobody():
    (text,) = odd([answer("open")], [], FREE)
    assert "a rule redirects it" in text
    (text,) = odd([answer("filtered")], [], FREE)
    assert "a firewall drops it" in text


def test_a_server_that_accepts_nothing():
    (text,) = odd([answer("filtered")], [holder(waiting=129)])
    assert "accepts no connections and 129 wait" in text


@pytest.mark.parametrize(("mine", "its"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
def test_a_server_at_one_of_the_two_loopback_addresses(mine, its):
    families = (6,) if ":" in mine else (4,)
    (text,) = odd([answer("open", mine), answer("closed", its)], [holder(address=mine, families=families)])
    assert f"listens at {mine} and not at {its}" in text


def test_why_bind_fails_though_nobody_listens():
    left = holder("time-wait", left_ns=42_000_000_000, count=3)
    (text,) = odd([answer("closed")], [left], TAKEN)
    assert "3 ended connections in TIME_WAIT, the last for 42 s more" in text
    assert "SO_REUSEADDR does not help" in text
    (text,) = odd([answer("closed")], [left], REUSABLE)
    assert "set SO_REUSEADDR before bind()" in text
    (text,) = odd([answer("closed")], [holder("close-wait")], TAKEN)
    assert "1 connection that a server left behind" in text
    (text,) = odd([answer("closed")], [holder("bound")], TAKEN)
    assert "neither listens nor connects" in text
    assert odd([answer("open")], [holder(), left], TAKEN) == []
    (text,) = odd([answer("closed")], [], Binding(errno=errno.EACCES, reusing_errno=errno.EACCES))
    assert "CAP_NET_BIND_SERVICE" in text


def test_what_is_open_to_all_is_told_once_for_each_kind():
    rows = [listener("0.0.0.0", 22), listener("0.0.0.0", 68, protocol="udp"), listener("127.0.0.1", 80)]
    rows += [listener("::", 443, families=(4, 6)), listener("0.0.0.0", 22)]
    first, second = open_to_all(rows)
    assert first.startswith("tcp 22, udp 68: open to all: 0.0.0.0 ")
    assert second.startswith("tcp 443: open to all: :: ")


def test_why_a_socket_has_no_process(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "sudo lab ports" in unseen(2, 5)
    assert "the kernel's own, or those of another PID namespace" in unseen(1, 0)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "even as root" in unseen(2, 5)


# ---- how it looks ----

LONG = Program(pid=4_194_304, name="a-program-of-which-the-name-is-very-long-indeed", user="a-user-with-a-long-name")


def test_the_table_is_80_columns_wide_and_cuts_no_address_and_no_number():
    rows = [
        listener("2001:db8:1111:2222:3333:4444:5555:6666", 65_535, families=(6,), programs=(LONG, HTTPD)),
        listener("0.0.0.0", 22),
        listener("127.0.0.1", 5432, programs=()),
    ]
    text = str(Ports(tuple(rows), ("something " * 20,)))
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"^tcp  2001:db8:1111:2222:3333:4444:5555:6666\n +65535  4194304", text, re.MULTILINE)
    assert "! every interface" in text
    html = Ports(tuple(rows), ("<b>",))._repr_html_()
    assert html.count("<tr>") == 4
    assert "<b>" not in html
    assert "&lt;b&gt;" in html


def test_a_name_can_not_steer_the_terminal():
    evil = Program(pid=7, name="x\x1b[2J", user="me", command=("x", "\x1b]0;title\x07\n"))
    report = Port(80, (), (holder(programs=(evil,)),), TAKEN, 81, "kill 7")
    for text in (str(Ports((listener(programs=(evil,)),))), str(report)):
        assert "\x1b" not in text
        assert "\x07" not in text


def test_a_port_is_told_in_full():
    here = (holder(), holder("time-wait", left_ns=3_000_000_000, count=2), holder(network=99))
    report = Port(80, (answer("open"), answer("closed", protocol="udp", icmp=(3, 3))), here, TAKEN, 81, "kill 812")
    text = str(report)
    assert max(map(len, text.splitlines())) <= 80
    for said in (
        "127.0.0.1  open  31.2 µs  closed, ICMP 3/3",
        "tcp 127.0.0.1: listens; reached by this machine only",
        "process 812, httpd of www, since 2026-09-",
        "2 × TIME_WAIT, of no process any more, gone in 3 s",
        "lab ports 80 --world 99",
        "EADDRINUSE (Address already in use)",
        "free nearby: 81",
    ):
        assert said in text, said
    assert report.open
    assert not report.free
    assert len(report.here) == 2
    document = report.to_json()
    assert (document["format"], document["port"], document["free_nearby"]) == (1, 80, 81)
    assert document["answers"][0]["rtt_ns"] == 31_200
    assert [each["network"] for each in document["holders"]] == [None, None, 99]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0, "0 s"), (119, "119 s"), (180, "3 min"), (7_200, "2 h"), (10 * 86_400, "10 d")],
)
def test_a_span_of_time(seconds, text):
    assert duration_text(seconds * 1_000_000_000) == text


# ---- our own sockets, on this machine's lo ----


@pytest.fixture
def servers():
    """A listening socket, a bound one of UDP, one of TCP that is only bound, and a dual-stack one, all of ours."""
    tcp = socket.create_server(("127.0.0.1", 0))
    udp, bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
    for each in (udp, bound):
        each.bind(("127.0.0.1", 0))
    both = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    with tcp, udp, bound, both:
        yield {"tcp": tcp, "udp": udp, "bound": bound, "both": both}


def test_our_own_sockets_are_listed(servers):
    rows, _hidden = list_listeners()
    at = {(row.protocol, row.port): row for row in rows}
    ports = {name: each.getsockname()[1] for name, each in servers.items()}
    tcp, udp, both = at["tcp", ports["tcp"]], at["udp", ports["udp"]], at["tcp", ports["both"]]
    assert ("tcp", ports["bound"]) not in at
    for row in (tcp, udp, both):
        assert row.first.pid == os.getpid()
        assert row.first.since_ns < 2**63
        assert row.to_json()["pid"] == os.getpid()
    assert (tcp.address, tcp.families, tcp.v6only, tcp.room) == ("127.0.0.1", (4,), None, 128)
    assert (udp.address, udp.waiting, udp.room) == ("127.0.0.1", None, None)
    assert (both.address, both.families, both.v6only) == ("::", (4, 6), False)


def test_a_socket_that_is_only_bound_holds_its_port(servers, missing):
    port = servers["bound"].getsockname()[1]
    if not any(each.local_port == port for each in all_bound(socket.socket)):
        missing("this kernel does not list sockets that are only bound (before 6.8)")
    (found,), _hidden = find_holders(port)
    assert (found.state, found.programs[0].pid, found.takes_all) == ("bound", os.getpid(), False)


def test_a_socket_of_several_processes_is_the_oldest_ones(servers):
    port = servers["tcp"].getsockname()[1]
    child = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        pass_fds=[servers["tcp"].fileno()],
    )  # fmt: skip
    with child:
        child.stdout.readline()
        rows, _hidden = list_listeners()
    (row,) = (row for row in rows if row.port == port and row.protocol == "tcp")
    assert [each.pid for each in row.programs] == [os.getpid(), child.pid]
    assert end_command(row.programs, port, booted=False, root=True) == ""  # not ourselves


def test_a_kernel_without_ipv6():
    def socket_at(family, kind, proto=0):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return socket.socket(family, kind, proto)

    around = look(socket_at)
    assert around.of("127.0.0.1") == "lo"
    assert around.of("::1") is None
    assert absent("::1", socket_at) == errno.EAFNOSUPPORT


def test_a_free_port_nearby_can_be_bound_to(servers):
    port = servers["tcp"].getsockname()[1]
    assert bind_errno(port).errno == errno.EADDRINUSE
    found = free_port(port)
    assert abs(found - port) < 100
    with socket.create_server(("127.0.0.1", found)):
        assert free_port(port) != found
    assert free_port(65_535) < 65_535


def test_our_own_process_is_to_close_its_socket(servers):
    port = servers["tcp"].getsockname()[1]
    report = lab.ports(port, at="127.0.0.1")
    assert report.open
    assert report.end_command is None
    assert any("this very process" in text for text in report.warnings)


def test_sockets_that_share_a_port_are_one_line():
    kept = []
    for _ in range(3):
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(("127.0.0.1", kept[0].getsockname()[1] if kept else 0))
        made.listen()
        kept.append(made)
    port = kept[0].getsockname()[1]
    rows = [row for row in list_listeners()[0] if row.port == port]
    assert len(rows) == 3
    lines = str(Ports(tuple(rows))).splitlines()
    assert len(lines) == 2
    assert f"{os.getpid()} ×3 " in lines[1]
    for each in kept:
        each.close()


def test_a_table_of_polars():
    table = Ports((listener(), listener("::", families=(4, 6), programs=()))).to_polars()
    assert table["address"].to_list() == ["127.0.0.1", "::"]
    assert table["pid"].to_list() == [812, None]
    assert table["families"].to_list() == [[4], [4, 6]]
    assert Ports(()).to_polars().columns == table.columns


def test_loopback_is_our_own():
    around = look(socket.socket)
    assert around.of("127.0.0.1") == around.of("127.255.255.254") == "lo"
    assert around.of("192.0.2.1") is None
    assert isinstance(reach("127.0.0.1", (4,), None, around), Reach)


def test_networks_of_others_that_have_the_port(tmp_path, monkeypatch):
    """Processes 5 and 6 share a network, 7 is in another, and both have the port; 8 is in one that has not."""
    table = "  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A\n"
    for pid, text in ((5, table), (7, table), (8, table.replace("1F90", "1F91"))):
        (tmp_path / str(pid) / "net").mkdir(parents=True)
        (tmp_path / str(pid) / "net" / "tcp").write_text(text)
    (tmp_path / "6" / "net").mkdir(parents=True)
    (tmp_path / "6" / "net" / "tcp").hardlink_to(tmp_path / "5" / "net" / "tcp")
    tried = []

    def refuse(pid, _links):
        tried.append(pid)
        raise lab.Unavailable("cannot join", errno=errno.EACCES, fix="Run as root")

    monkeypatch.setattr(networks, "JoinedWorld", refuse)
    found, (note,) = networks.holders_elsewhere(8080, root=tmp_path)
    assert (found, tried) == ([], [5, 7])
    assert "those of process 5, 7; run it as root (sudo lab ports 8080)" in note
    own = (tmp_path / "6" / "net" / "tcp").stat().st_ino
    tried.clear()
    networks.holders_elsewhere(8080, own=[own], root=tmp_path)
    assert tried == [7]
    assert networks.holders_elsewhere(9090, root=tmp_path) == ([], [])
