"""``lab doctor`` finds what a test has planted, says why and what mends it; and without that, it is not there."""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

import lab
from lab import FirewallRule
from lab.checkup.examining import CHECKS
from lab.checkup.network import Network

RIGHTS = {"as root": (), "without rights": ("no-rights", "ping-sockets")}
ANSWERS = ("ping-ipv4", "ping-range", "ping-ipv6", "transport", "web-ipv4", "web-ipv6", "web-localhost")
LOCAL = "Add to /etc/hosts, as root: “127.0.0.1 localhost”"
PINGS = {"ping-ipv4", "ping-range", "ping-ipv6"}


@dataclass
class Fault:
    """What is found: its id and status, what its evidence and its fix say, and what else is trouble because of it."""

    id: str
    status: str
    evidence: str
    fix: str
    besides: set[str]


PLANTED = {
    "lo-down": Fault(
        "lo",
        "missing",
        "lo is down",
        "ip link set lo up",
        {"host-ipv4", "host-ipv6", "routes", "transport", "web-ipv4", "web-ipv6", *PINGS},
    ),
    "no-address": Fault(
        "host-ipv4",
        "missing",
        "bind to 127.0.0.1: EADDRNOTAVAIL",
        "ip address add 127.0.0.1/8 dev lo",
        {"ping-ipv4", "ping-range", "web-ipv4"},
    ),
    "ipv6-off": Fault(
        "host-ipv6",
        "missing",
        "net.ipv6.conf.all.disable_ipv6",
        "sysctl -w net.ipv6.conf.all.disable_ipv6=0",
        {"ping-ipv6", "web-ipv6"},
    ),
    "deaf": Fault(
        "echo",
        "denied",
        "net.ipv4.icmp_echo_ignore_all and net.ipv6.icmp.echo_ignore_all are 1",
        "sysctl -w net.ipv4.icmp_echo_ignore_all=0 net.ipv6.icmp.echo_ignore_all=0",
        PINGS,
    ),
    "hosts-astray": Fault(
        "hosts",
        "missing",
        "/etc/hosts, line 2 (198.51.100.7 localhost): not loopback",
        "Have line 2 of /etc/hosts say “127.0.0.1 localhost”",
        {"localhost"},
    ),
    "no-localhost files-and-dns": Fault("hosts", "missing", "no line for localhost", LOCAL, {"localhost"}),
    "no-hosts files-and-dns": Fault("hosts", "missing", "/etc/hosts can't be read: ENOENT", LOCAL, {"localhost"}),
}


@pytest.fixture
def doctor(run):
    """The findings of ``lab doctor`` in a namespace with these faults, by their ids."""

    def doctor(*faults, arguments=("--loopback",)):
        done = run("doctor", *arguments, "--json", faults=faults or ("lo-up",))
        report = json.loads(done.stdout)
        assert done.stderr == ""
        assert done.returncode == (0 if report["ok"] else 1)
        assert all(item["evidence"] for item in report["items"])
        assert all(item["fix"] and item["cost"] for item in report["items"] if item["status"] != "ok")
        found = {item["id"]: item for item in report["items"]}
        assert len(found) == len(report["items"])
        return found

    return doctor


def well(item):
    return item["status"] in ("ok", "partial")


@pytest.mark.parametrize("rights", RIGHTS)
def test_loopback_that_is_well(doctor, rights):
    found = doctor(*RIGHTS[rights])
    assert {item["group"] for item in found.values()} == {"loopback"}
    assert tuple(found) == CHECKS[: len(found)]
    assert {name for name, item in found.items() if item["status"] != "ok"} <= {"hosts"}  # which may lack ::1
    assert well(found["hosts"])


@pytest.mark.parametrize("rights", RIGHTS)
@pytest.mark.parametrize("fault", PLANTED)
def test_what_is_planted_is_found_and_explained(doctor, fault, rights):
    wanted = PLANTED[fault]
    found = doctor(*fault.split(), *RIGHTS[rights])
    item = found[wanted.id]
    assert item["status"] == wanted.status
    assert wanted.evidence in item["evidence"]
    assert wanted.fix in item["fix"]
    trouble = {name for name, each in found.items() if not well(each)} - {"web-localhost"}  # by the families it has
    assert trouble == {wanted.id, *wanted.besides}
    for name in wanted.besides & {*ANSWERS}:  # which lead to the cause
        assert wanted.id in found[name]["fix"], name
    if "localhost" in wanted.besides:
        assert not well(found["web-localhost"])
        assert "See hosts" in found["localhost"]["fix"]


def test_icmp_that_nf_tables_drops_is_traced_to_the_rule(doctor):
    found = doctor("icmp-dropped")
    for name, protocol, address in (("firewall", "icmp", "127.0.0.1"), ("firewall-2", "ipv6-icmp", "::1")):
        assert found[name]["status"] == "denied"
        assert f"the rule “meta l4proto {protocol} drop” drops the echo request to {address}" in found[name]["evidence"]
        assert ", chain filter_input, hook input, priority 0, handle " in found[name]["evidence"]
        assert "End the program that made this table" in found[name]["fix"]
    assert {found[name]["status"] for name in ("ping-ipv4", "ping-range", "ping-ipv6")} == {"missing"}
    assert "it is ICMP alone" in found["ping-ipv4"]["evidence"]
    assert "See firewall" in found["ping-ipv4"]["fix"]
    assert "netsh int ip reset" in found["ping-ipv4"]["windows"]
    assert found["transport"]["status"] == found["web-ipv4"]["status"] == "ok"


def test_rules_that_may_not_be_read_are_suspected_when_something_fails(doctor):
    found = doctor("icmp-dropped", "no-rights", "ping-sockets")
    assert found["firewall"]["status"] == "denied"
    assert "can't be read: EPERM" in found["firewall"]["evidence"]
    assert "an echo request to 127.0.0.1 gets no answer" in found["firewall"]["evidence"]
    assert "sudo nft list ruleset" in found["firewall"]["fix"]
    assert found["ping-ipv4"]["status"] == "missing"
    well = doctor("no-rights", "ping-sockets")["firewall"]
    assert well["status"] == "ok"
    assert "can't be read: EPERM" in well["evidence"]


def test_without_the_right_to_ping_the_stack_is_asked_by_other_means(doctor):
    found = doctor("no-rights")
    for name in ("ping-ipv4", "ping-range", "ping-ipv6"):
        assert found[name]["status"] == "partial"
        assert "a datagram comes through" in found[name]["evidence"]
        assert "net.ipv4.ping_group_range is " in found[name]["evidence"]
        assert "sysctl -w net.ipv4.ping_group_range=" in found[name]["fix"]
    assert found["transport"]["status"] == "ok"


def test_an_empty_resolver_matters_only_where_the_file_says_nothing(doctor):
    assert well(doctor("no-resolver")["localhost"])
    found = doctor("no-resolver", "no-localhost", "files-and-dns")["localhost"]
    assert found["status"] == "missing"
    assert "127.0.0.1, as /etc/resolv.conf names no server" in found["evidence"]
    assert "etc\\hosts" in found["windows"]


# ---- in a world of the test's own: rules of any kind, and whether the remedies mend ----


@pytest.fixture
def bare():
    with lab.World(["lo"]) as world:
        yield world


def findings(world, server=None):
    return {item.id: item for item in lab.doctor(server, world=world).items}


def shell(world, text, given=""):
    process = world.popen(["sh", "-c", text], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _, errors = process.communicate(given, timeout=20)
    assert process.returncode == 0, errors


def remedy(item):
    """The command that a fix begins with, without where and how long it helps."""
    return item.fix.partition("--net): ")[2].partition("; it is back")[0]


NFT = """
table inet filter {{
    set closed {{ type inet_service; flags interval; elements = {{ 1-1000 }} }}
    chain helper {{
        {helper}
    }}
    chain input {{
        type filter hook input priority filter; policy {policy};
        ct state established,related accept
        iifname "eth0" drop
        ip saddr 10.0.0.0/8 drop
        tcp dport @closed drop
        {last}
    }}
}}
"""
#: By kind: what the helper and the last rule are, which of them is to blame, and what it drops.
RULES = {
    "jump": ("icmp type echo-request counter drop", "jump helper", "helper", "127.0.0.1"),
    "set": ("accept", "icmp type { destination-unreachable, echo-request } drop", "input", "127.0.0.1"),
    "reject": ("accept", "icmpv6 type echo-request reject with icmpv6 port-unreachable", "input", "::1"),
    "prefix": ("accept", "ip daddr 127.0.0.0/8 drop", "input", "127.0.0.1"),
    "map": ("accept", "ip protocol vmap { icmp : drop, tcp : accept }", "input", "127.0.0.1"),
}


@pytest.mark.parametrize("kind", RULES)
def test_rules_as_people_write_them(bare, tool, kind):
    tool("nft")
    helper, last, chain, address = RULES[kind]
    shell(bare, "nft -f -", NFT.format(helper=helper, policy="accept", last=last))
    found = findings(bare)["firewall"]
    assert found.status == "denied"
    words, brace, elements = (helper if chain == "helper" else last).partition(" { ")
    assert f"the rule “{words}{brace}" in found.evidence
    assert all(word in found.evidence for word in elements.replace(",", "").split())
    assert f"the echo request to {address}" in found.evidence
    assert f"table inet filter, chain {chain}, hook input, priority 0, handle" in found.evidence
    assert remedy(found).startswith(f"nft delete rule inet filter {chain} handle ")
    shell(bare, remedy(found))
    assert findings(bare)["firewall"].status == "ok"


def test_a_policy_that_drops(bare, tool):
    tool("nft")
    shell(bare, "nft -f -", NFT.format(helper="accept", policy="drop", last="counter"))
    found = findings(bare)
    assert "the policy of a chain drops" in found["firewall"].evidence
    assert found["web-ipv4"].status == found["transport"].status == "missing"
    shell(bare, remedy(found["firewall"]))
    found = findings(bare)
    assert {found[name].status for name in ("firewall", *ANSWERS)} == {"ok"}


def test_a_rule_that_may_match_is_told_as_such(bare, tool):
    tool("nft")
    limit = "icmp type echo-request limit rate over 1/day burst 1 packets drop"
    shell(bare, "nft -f -", NFT.format(helper="accept", policy="accept", last=limit))
    lab.doctor(world=bare)  # the first is let through
    found = findings(bare)["firewall"]
    assert "may be what drops the echo request" in found.evidence
    assert "limit rate over 1/day" in found.evidence


def test_what_leaves_is_refused_as_it_is_sent(bare):
    with bare.firewall(FirewallRule(verdict="drop", hook="output", protocol="udp", destination="127.0.0.0/8")):
        found = findings(bare)
    assert "EPERM" in found["transport"].evidence
    assert "drops the datagram to 127.0.0.1" in found["firewall"].evidence
    assert "hook output" in found["firewall"].evidence
    assert found["ping-ipv4"].status == "ok"
    assert findings(bare)["firewall"].status == "ok"


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (lambda world: world.set_link("lo", False), "lo"),
        (lambda world: world.remove_address("lo", "127.0.0.1/8"), "host-ipv4"),
        (lambda world: world.remove_address("lo", "::1/128"), "host-ipv6"),
        (lambda world: world.sysctl("ipv6/conf/lo/disable_ipv6", 1), "host-ipv6"),
        (lambda world: world.sysctl("ipv4/icmp_echo_ignore_all", 1), "echo"),
        (lambda world: world.sysctl("ipv6/icmp/echo_ignore_all", 1), "echo"),
    ],
    ids=["lo down", "no 127.0.0.1", "no ::1", "IPv6 off", "deaf", "deaf to IPv6"],
)
def test_the_remedy_mends(bare, tool, plant, name):
    for program in ("ip", "sysctl"):
        tool(program)
    plant(bare)
    found = findings(bare)
    assert not found[name].well
    shell(bare, remedy(found[name]))
    if name == "lo" and not findings(bare)["host-ipv6"].well:  # which went with it
        shell(bare, remedy(findings(bare)["host-ipv6"]))
    found = findings(bare)
    assert {found[each].status for each in ("lo", "host-ipv4", "host-ipv6", "echo", "firewall", *ANSWERS)} == {"ok"}


class WithoutIPv6:
    """A world whose kernel was started with ipv6.disable=1, as far as sockets and sysctls tell."""

    kind = "new"

    def __init__(self, world):
        self._world = world

    def __getattr__(self, name):
        return getattr(self._world, name)

    def socket(self, family, type_, proto=0, *, end="near"):
        if family == socket.AF_INET6:
            raise lab.Unavailable("socket", errno=errno.EAFNOSUPPORT, fix="none")
        return self._world.socket(family, type_, proto, end=end)

    def sysctl(self, name, value=None, *, end="near"):
        if name.startswith("ipv6/"):
            raise lab.UsageError("no such sysctl")
        return self._world.sysctl(name, value, end=end)


def test_a_kernel_without_ipv6(bare):
    found = findings(WithoutIPv6(bare))
    assert found["host-ipv6"].status == found["ping-ipv6"].status == found["web-ipv6"].status == "missing"
    assert "the kernel has no IPv6" in found["host-ipv6"].evidence
    assert "ipv6.disable=1" in found["host-ipv6"].fix
    assert {found[name].status for name in ("host-ipv4", "ping-ipv4", "transport", "web-ipv4")} == {"ok"}


def test_a_small_mtu_and_a_small_prefix_cost_something(bare, tool):
    tool("ip")
    shell(bare, "ip link set lo mtu 1500; ip address add 127.0.0.1/32 dev lo; ip address del 127.0.0.1/8 dev lo")
    found = findings(bare)
    assert found["lo"].status == found["host-ipv4"].status == found["routes"].status == "partial"
    assert "1,500" in found["lo"].evidence
    assert "127.0.0.2: no route" in found["routes"].evidence
    shell(bare, remedy(found["lo"]))
    shell(bare, remedy(found["host-ipv4"]))
    found = findings(bare)
    assert found["lo"].status == found["host-ipv4"].status == found["routes"].status == "ok"


def test_a_route_that_leads_nowhere(bare):
    bare.remove_route("127.0.0.0/8", device="lo", kind="local")
    bare.add_route("127.0.0.0/8", kind="blackhole")
    found = findings(bare)
    assert found["routes"].well or "127.0.0.1" in found["routes"].evidence
    assert "127.50.50.50: blackhole" in found["routes"].evidence
    assert found["ping-range"].status == "missing"


def test_the_loopback_of_a_process(bare, run):
    """Whose lo is down; that of the command's own network is not."""
    bare.set_link("lo", False)
    with bare.popen(["sleep", "60"]) as process:
        try:
            done = run("doctor", "--world", str(process.pid), "--json")
        finally:
            process.kill()
    (found,) = [item for item in json.loads(done.stdout)["items"] if item["id"] == "lo"]
    assert found["evidence"] == "lo is down"
    assert found["fix"] == f"in that network (nsenter --target {process.pid} --net): ip link set lo up"


@pytest.mark.parametrize("world", ["new", "mars", "0"])
def test_a_world_that_cannot_be_examined(run, world):
    done = run("doctor", "--world", world)
    assert done.returncode == (1 if world == "0" else 2)
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_it_prints_is_grouped_and_80_columns_wide(run):
    text = run("doctor", faults=("icmp-dropped", "hosts-astray")).stdout
    headings = [line for line in text.splitlines() if line and not line.startswith(" ") and " " in line]
    order = [text.index(heading) for heading in ("this network's loopback", "what the lab can measure", "links, and")]
    assert order == sorted(order)
    assert text.startswith("this network's loopback\n")
    assert max(map(len, text.splitlines())) <= 80
    assert headings
    assert "Windows: " in text
    assert "macOS: " in text


def test_it_changes_nothing_and_leaves_nothing_open(bare):
    def state():
        network = Network(bare)
        return (
            network.device(),
            network.route("127.0.0.1"),
            sorted(Path("/proc/self/fd").iterdir()),
            threading.active_count(),
        )

    before = state()
    lab.doctor(world=bare)
    assert state() == before
