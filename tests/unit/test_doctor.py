"""What doctor concludes from files, rules and addresses, without a network."""

from __future__ import annotations

import errno
import struct
from dataclasses import replace

import pytest

import lab
from lab.checkup.facts import Facts
from lab.checkup.filtering import firewall
from lab.checkup.findings import Item, Report
from lab.checkup.naming import Line, Names, naming
from lab.checkup.network import Device, Route, is_loopback
from lab.checkup.packets import packets_of
from lab.checkup.reaching import Attempt
from lab.checkup.rules import Chain, Expression, Rule, Rules, Set, Verdict
from lab.checkup.targets import parse_target
from lab.checkup.verdicts import hits
from lab.checkup.wording import deletion, rule_text

ECHO = Attempt("127.0.0.1", "icmp", "silence")
SYN = Attempt("::1", "tcp", "silence", port=8080)


# ---- names ----


V4, V6, AWAY = (
    Line(number, each, f"{each} localhost") for number, each in enumerate(("127.0.0.1", "::1", "10.0.0.1"), 1)
)


@pytest.mark.parametrize(
    ("known", "families", "wanted"),
    [
        (Names("localhost", (V4, V6), None, ("::1", "127.0.0.1"), "files"), (4, 6), {"hosts": "ok", "localhost": "ok"}),
        (Names("localhost", (V4,), None, ("127.0.0.1",), "files"), (4,), {"hosts": "ok", "localhost": "ok"}),
        (Names("localhost", (V4,), None, ("127.0.0.1",), "files"), (4, 6), {"hosts": "partial", "localhost": "ok"}),
        (
            Names("localhost", (V4, V6), None, ("::1", "127.0.0.1"), "files"),
            (4,),
            {"hosts": "ok", "localhost": "partial"},
        ),
        (Names("localhost", (), None, ("::1",), "myhostname"), (4, 6), {"hosts": "partial", "localhost": "ok"}),
        (Names("localhost", (), 2, ("127.0.0.1",), "dns"), (4, 6), {"hosts": "partial", "localhost": "ok"}),
        (Names("localhost", (), 2), (4, 6), {"hosts": "missing", "localhost": "missing"}),
        (
            Names("localhost", (V4, AWAY), None, ("127.0.0.1", "10.0.0.1"), "files"),
            (4, 6),
            {"hosts": "missing", "localhost": "missing"},
        ),
        (Names("localhost", (), None, ("10.0.0.1",), "dns"), (4, 6), {"hosts": "missing", "localhost": "missing"}),
        (Names("localhost", failure="nobody could be asked"), (4, 6), {"localhost": "partial"}),
    ],
)
def test_what_is_concluded_of_localhost(known, families, wanted):
    items = {item.id: item for item in naming(known, families)}
    assert {name: item.status for name, item in items.items()} == wanted
    assert all(item.fix and item.cost for item in items.values() if item.status != "ok")


def test_localhost_tells_its_source():
    (item,) = [
        each
        for each in naming(Names("localhost", (V4, V6), None, ("::1", "127.0.0.1"), "files"), (4, 6))
        if each.id == "localhost"
    ]
    assert item.evidence == "localhost is ::1, then 127.0.0.1, by /etc/hosts, lines 1 and 2"
    (item,) = [
        each for each in naming(Names("localhost", (), None, ("10.0.0.1",), "dns"), (4, 6)) if each.id == "localhost"
    ]
    assert "by dns of /etc/nsswitch.conf" in item.evidence
    assert "mend the source dns" in item.fix


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        *((address, True) for address in ("127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1")),
        *((address, False) for address in ("0.0.0.0", "::", "10.0.0.1", "fe80::1%lo", "localhost", "")),
    ],
)
def test_what_is_loopback(address, wanted):
    assert is_loopback(address) is wanted


# ---- the server that is meant ----


@pytest.mark.parametrize(
    ("server", "url"),
    [
        (8080, "http://localhost:8080/"),
        (" 80 ", "http://localhost/"),
        ("127.0.0.1:3000", "http://127.0.0.1:3000/"),
        ("localhost", "http://localhost/"),
        ("http://[::1]:8080/a?b=c#d", "http://[::1]:8080/a?b=c"),
        ("[::1]:8080", "http://[::1]:8080/"),
        ("https://LocalHost.:8443", "https://localhost:8443/"),
        ("http://a.localhost:80/", "http://a.localhost/"),
    ],
)
def test_servers_of_this_machine(server, url):
    assert parse_target(server).url() == url


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("0", "a port of 0: give 1 to 65,535"),
        ("65536", "a port of 65,536: give 1 to 65,535"),
        (-1, "a port of -1: give 1 to 65,535"),
        ("http://192.0.2.1/", "192.0.2.1 is not this machine's loopback"),
        ("example.org:80", "example.org is not this machine's loopback"),
        ("notlocalhost:80", "notlocalhost is not this machine's loopback"),
        ("http://0.0.0.0:8080/", "0.0.0.0 is not this machine's loopback"),
        ("http://user@[2001:db8::1]/", "2001:db8::1 is not this machine's loopback"),
        ("http://::1:8080/", "stands in brackets"),
        ("::1:8080", "stands in brackets"),
        ("ftp://localhost/", "speaks HTTP and HTTPS only"),
        ("localhost:abc", "is no URL"),
        ("http://[::1/", "is no URL"),
        ("http://localhost:99999/", "is no URL"),
        ("localhost:0", "no server has port 0"),
        ("", "give a port"),
    ],
)
def test_what_is_no_server_of_this_machine(server, said):
    with pytest.raises(lab.UsageError) as caught:
        parse_target(server)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


# ---- rules, as the kernel tells them ----


def nest(*attributes):
    """Attributes by number, packed."""
    packed = b""
    for kind, value in attributes:
        packed += struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
    return packed


def number(value):
    return struct.pack("!I", value)


def meta(key):
    return Expression("meta", {1: number(1), 2: number(key)})


def payload(base, offset, size):
    return Expression("payload", {1: number(1), 2: number(base), 3: number(offset), 4: number(size)})


def compare(value, operator=0):
    return Expression("cmp", {1: number(1), 2: number(operator), 3: nest((1, value))})


def verdict(code, chain=b""):
    parts = [(1, struct.pack("!i", code))] + ([(2, chain + b"\0")] if chain else [])
    return Expression("immediate", {1: number(0), 2: nest((2, nest(*parts)))})


DROP, ACCEPT, JUMP, RETURN = 0, 1, -3, -5
ICMP, TCP = ([meta(16), compare(bytes([protocol]))] for protocol in (1, 6))
RESET = Expression("reject", {1: number(1)})
COUNTER = Expression("counter", {})
DPORT = payload(2, 2, 2)
LIMIT = Expression("limit", {1: bytes(7) + b"\5", 2: bytes(7) + b"\1"})


def ruleset(*rules, helper=(), policy="accept", hook="input", sets=None):
    base = Chain("inet", "t", "base", 1, hook=hook, kind="filter", policy=policy)
    base.rules = [Rule(handle, tuple(rule)) for handle, rule in enumerate(rules, 10)]
    other = Chain("inet", "t", "helper", 2)
    other.rules = [Rule(handle, tuple(rule)) for handle, rule in enumerate(helper, 20)]
    return Rules({("inet", "t", each.name): each for each in (base, other)}, sets or {})


def met(rules, attempt=ECHO):
    """Handle, what it does and whether it is sure, for the first packet of an attempt."""
    found = hits(rules, packets_of(attempt)[0])
    return [(hit.rule.handle if hit.rule else None, hit.does, hit.sure) for hit in found]


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        (ruleset([*ICMP, verdict(DROP)]), [(10, "drop", True)]),
        (ruleset([meta(16), compare(bytes([6])), verdict(DROP)]), []),
        (ruleset([*ICMP, verdict(ACCEPT)], [verdict(DROP)]), []),
        (ruleset(policy="drop"), [(None, "drop", True)]),
        (ruleset([*ICMP, verdict(ACCEPT)], policy="drop"), []),
        (ruleset([*ICMP, verdict(JUMP, b"helper")], helper=[[verdict(DROP)]]), [(20, "drop", True)]),
        (ruleset([verdict(JUMP, b"helper")], helper=[[verdict(RETURN)], [verdict(DROP)]]), []),
        (ruleset([verdict(JUMP, b"helper")], [verdict(DROP)], helper=[[*ICMP, verdict(ACCEPT)]]), []),
        (ruleset([LIMIT, verdict(DROP)]), [(10, "drop", False)]),
        (ruleset([LIMIT, verdict(ACCEPT)], [verdict(DROP)]), [(11, "drop", False)]),
        (ruleset([LIMIT, verdict(ACCEPT)], policy="drop"), [(None, "drop", False)]),
        (ruleset([Expression("match", {1: b"recent\0"}), verdict(DROP)]), [(10, "drop", False)]),
        (ruleset([Expression("reject", {1: number(2), 2: b"\1"})]), [(10, "reject", True)]),
        (ruleset([Expression("target", {1: b"DROP\0"})]), [(10, "drop", True)]),
        (ruleset([meta(6), compare(b"lo".ljust(16, b"\0")), verdict(DROP)]), [(10, "drop", True)]),
        (ruleset([meta(6), compare(b"eth0".ljust(16, b"\0")), verdict(DROP)]), []),
        (ruleset([payload(1, 16, 4), compare(bytes([127, 0, 0, 1])), verdict(DROP)]), [(10, "drop", True)]),
        (
            ruleset([payload(1, 4, 2), compare(bytes(2)), verdict(DROP)]),
            [(10, "drop", False)],
        ),  # an id that isn't known
        (ruleset([verdict(DROP)], hook="forward"), []),
    ],
)
def test_what_rules_make_of_an_echo_request(rules, wanted):
    assert met(rules) == wanted


@pytest.mark.parametrize(
    ("elements", "expression", "wanted"),
    [
        ([(8080, 8080)], {2: number(1)}, [(10, "drop", True)]),
        ([(80, 90)], {2: number(1)}, []),
        ([(8000, 9000)], {2: number(1)}, [(10, "drop", True)]),
        ([(8000, 9000)], {2: number(1), 5: number(1)}, []),  # not in it
        (None, {2: number(1)}, [(10, "drop", False)]),
    ],
)
def test_ports_in_a_set(elements, expression, wanted):
    known = elements and tuple((struct.pack("!H", low), struct.pack("!H", high), None) for low, high in elements)
    rule = [DPORT, Expression("lookup", {1: b"s\0", **expression}), verdict(DROP)]
    assert met(ruleset(rule, sets={("inet", "t", "s"): Set(known)}), SYN) == wanted


def test_a_map_of_verdicts():
    elements = tuple(
        (struct.pack("!H", port), struct.pack("!H", port), Verdict(name))
        for port, name in ((80, "accept"), (8080, "drop"))
    )
    rule = [DPORT, Expression("lookup", {1: b"__map0\0", 2: number(1), 3: number(0)})]
    rules = ruleset(rule, sets={("inet", "t", "__map0"): Set(elements)})
    assert met(rules, SYN) == [(10, "drop", True)]
    chain = rules.chains["inet", "t", "base"]
    assert rule_text(rules, chain, chain.rules[0]) == "th dport vmap { 80 : accept, 8080 : drop }"


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ([*ICMP, payload(2, 0, 1), compare(b"\x08"), COUNTER, verdict(DROP)], "icmp type echo-request counter drop"),
        ([*TCP, DPORT, compare(b"\0\x50"), RESET], "tcp dport 80 reject with tcp reset"),
        ([*TCP, DPORT, compare(b"\0\x50", 5), compare(b"\0\x5a", 3), verdict(DROP)], "tcp dport 80-90 drop"),
        ([meta(6), compare(b"lo".ljust(16, b"\0"), 1), verdict(JUMP, b"helper")], 'iifname != "lo" jump helper'),
        ([payload(1, 12, 1), compare(b"\x7f"), verdict(ACCEPT)], "ip saddr 127.0.0.0/8 accept"),
        ([LIMIT, verdict(DROP)], "limit rate 5/second drop"),
        ([Expression("target", {1: b"LOG\0"})], "jump LOG (of iptables)"),
    ],
)
def test_rules_in_words(rule, wanted):
    rules = ruleset(rule)
    chain = rules.chains["inet", "t", "base"]
    assert rule_text(rules, chain, chain.rules[0]) == wanted
    assert deletion(chain, chain.rules[0]) == "nft delete rule inet t base handle 10"


def test_a_chain_that_jumps_to_itself_comes_to_an_end():
    assert met(ruleset([verdict(JUMP, b"helper")], helper=[[verdict(JUMP, b"helper")]])) == []


# ---- what rules are blamed for ----


@pytest.fixture
def facts():
    """Of a network in which all is well but that 127.0.0.1 answers no echo request."""
    device = Device(1, True, 65536, (("127.0.0.1", 8), ("::1", 128)))
    routes = {"127.0.0.1": Route("local", 1), "::1": Route("local", 1)}
    return Facts(None, device, routes, {4: None, 6: None}, (), (ECHO,), Rules({}, {}), None, ())


def test_rules_of_the_old_iptables_are_suspected_where_no_other_is_to_blame(facts):
    assert [item.status for item in firewall(facts)] == ["ok"]
    (item,) = firewall(replace(facts, legacy=("filter",)))
    assert item.status == "denied"
    assert "iptables-legacy has rules (filter), which can't be read here" in item.evidence
    assert "sudo iptables-legacy -S" in item.fix
    (item,) = firewall(replace(facts, legacy=("filter",), rules=ruleset([*ICMP, verdict(DROP)])))
    assert "ip protocol icmp drop" in item.evidence or "meta l4proto icmp drop" in item.evidence


@pytest.mark.parametrize(
    "cause",
    [{"ignores": (4,)}, {"bound": {4: 99, 6: None}}, {"device": None}, {"device": Device(1, False, 65536, ())}],
    ids=["deaf", "no address", "no lo", "lo down"],
)
def test_no_rule_is_blamed_for_what_fails_anyway(facts, cause):
    assert [item.status for item in firewall(replace(facts, rules=None, refused=errno.EPERM))] == ["denied"]
    (item,) = firewall(replace(facts, rules=None, refused=errno.EPERM, **cause))
    assert item.status == "ok"
    assert "can't be read: EPERM" in item.evidence


def test_a_kernel_without_nf_tables(facts):
    (item,) = firewall(replace(facts, rules=None, refused=errno.EPROTONOSUPPORT))
    assert item.status == "ok"
    assert "no nf_tables" in item.evidence


# ---- reports ----


def test_a_report_is_well_with_what_costs_and_what_is_optional():
    assert Report((Item("a", "ok", "x"), Item("b", "partial", "x"), Item("c", "missing", "x", optional=True))).ok
    for status in ("missing", "denied", "crashed"):
        assert not Report((Item("a", status, "x"),)).ok


def test_a_report_is_80_columns_wide_and_tells_each_group_once():
    words = "evidence of many words, " * 9
    items = [
        Item(f"id{n}", "missing", words, words, words, group=group, windows=words, macos=words)
        for n, group in enumerate(("lab", "loopback", "server", "lab"))
    ]
    text = str(Report((*items, Item("link-lo", "ok", words, crosses=words))))
    assert max(map(len, text.splitlines())) <= 80
    headings = [
        line for line in text.splitlines() if line.startswith(("this network", "the server", "what the lab", "links"))
    ]
    assert headings == [
        "this network's loopback",
        "the server that was asked for",
        "what the lab can measure",
        "links, and what their packets cross",
    ]
    document = Report(tuple(items)).to_json()
    assert document["format"] == 1
    assert {"id", "status", "evidence", "fix", "group", "windows", "macos"} <= set(document["items"][0])
