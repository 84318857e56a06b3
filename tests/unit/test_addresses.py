"""Addresses without a kernel: the registries at every edge, the ways to write them, and what can be none."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lab
from lab.addresses import sources
from lab.addresses.forms import embedded_ipv4, forms, network, rfc5952, scope
from lab.addresses.parsing import Literal, Name, is_localhost, parse
from lab.addresses.registry import ENTRIES, MEANINGS, entries, kind_of
from lab.addresses.spelling import readings, url_reading

IPV4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
IPV6 = st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)
#: Addresses of few ones: those in which runs of zeros are found.
SPARSE = st.lists(st.sampled_from([0, 0, 0, 1, 0xABCD]), min_size=8, max_size=8).map(
    lambda groups: ipaddress.IPv6Address(b"".join(group.to_bytes(2, "big") for group in groups))
)


def address(text):
    return ipaddress.ip_address(text)


def public(value):
    entry = next(entries(value), None)
    return kind_of(value) == "public" or bool(entry and entry.globally_reachable)


def edges():
    """For each entry the address before it, its first and last, and the one behind it, where there is one."""
    for entry in ENTRIES:
        first, last = entry.network.network_address, entry.network.broadcast_address
        for number in (int(first) - 1, int(first), int(last), int(last) + 1):
            if 0 <= number < 2**first.max_prefixlen:
                yield type(first)(number)


# ---- the registries ----


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.block)
def test_an_entry_has_what_lies_within_its_edges_and_nothing_beyond(entry):
    first, last = entry.network.network_address, entry.network.broadcast_address
    inside = {first, last} - ({address("::"), address("::1")} if entry.kind == "compatible" else set())
    assert all(entry in entries(value) for value in inside)
    for number in (int(first) - 1, int(last) + 1):
        if 0 <= number < 2**first.max_prefixlen:
            assert entry not in entries(type(first)(number))


def test_of_several_entries_the_narrowest_holds():
    """By counting, without the network's own arithmetic."""
    for value in edges():
        around = [
            entry
            for entry in ENTRIES
            if entry.network.version == value.version
            and 0 <= int(value) - int(entry.network.network_address) < entry.network.num_addresses
            and (entry.kind != "compatible" or int(value) > 1)
        ]
        assert list(entries(value)) == sorted(around, key=lambda entry: entry.network.num_addresses)


def test_each_block_stands_once_and_has_a_meaning():
    assert len({entry.network for entry in ENTRIES}) == len(ENTRIES)
    assert {entry.kind for entry in ENTRIES} | {"public", "unassigned"} == set(MEANINGS)
    for entry in ENTRIES:
        assert entry.rfc.startswith("RFC ")
        columns = (entry.source, entry.destination, entry.forwardable, entry.reserved_by_protocol)
        has_columns = entry.registry == "special-purpose" and entry.terminated is None
        assert all((column is not None) == has_columns for column in columns), entry.block


@pytest.mark.parametrize(
    ("text", "kind", "block"),
    [
        ("127.50.50.50", "loopback", "127.0.0.0/8"),
        ("::1", "loopback", "::1/128"),
        ("0.0.0.0", "unspecified", "0.0.0.0/32"),
        ("0.1.2.3", "this-network", "0.0.0.0/8"),
        ("::", "unspecified", "::/128"),
        ("10.255.255.255", "private", "10.0.0.0/8"),
        ("172.31.255.255", "private", "172.16.0.0/12"),
        ("192.168.1.10", "private", "192.168.0.0/16"),
        ("fd00::1234", "unique-local", "fc00::/7"),
        ("100.64.0.1", "shared", "100.64.0.0/10"),
        ("169.254.1.1", "link-local", "169.254.0.0/16"),
        ("fe80::1", "link-local", "fe80::/10"),
        ("203.0.113.5", "documentation", "203.0.113.0/24"),
        ("2001:db8::1", "documentation", "2001:db8::/32"),
        ("3fff:fff::1", "documentation", "3fff::/20"),
        ("198.19.255.255", "benchmarking", "198.18.0.0/15"),
        ("2001:2::1", "benchmarking", "2001:2::/48"),
        ("224.0.0.251", "multicast", "224.0.0.0/24"),
        ("ff0e::1", "multicast", "ff00::/8"),
        ("255.255.255.255", "broadcast", "255.255.255.255/32"),
        ("255.255.255.254", "reserved", "240.0.0.0/4"),
        ("::ffff:127.0.0.1", "mapped", "::ffff:0:0/96"),
        ("64:ff9b::1", "translation", "64:ff9b::/96"),
        ("2002::1", "6to4", "2002::/16"),
        ("100::1", "discard", "100::/64"),
        ("2001:2f::1", "orchid", "2001:20::/28"),
        ("2001::1", "teredo", "2001::/32"),
        ("8.8.8.8", "public", None),
        ("2606:4700::1", "public", None),
        ("4000::1", "unassigned", None),
    ],
)
def test_what_an_address_is_for(text, kind, block):
    entry = next(entries(address(text)), None)
    assert (kind_of(address(text)), entry and entry.block) == (kind, block)
    assert public(address(text)) == (kind in ("public", "translation", "orchid"))


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("127.0.0.1", (False, False, False, False, True)),
        ("0.0.0.0", (True, False, False, False, True)),
        ("10.0.0.1", (True, True, True, False, False)),
        ("169.254.0.1", (True, True, False, False, True)),
        ("192.0.0.9", (True, True, True, True, False)),
        ("203.0.113.5", (False, False, False, False, False)),
        ("255.255.255.255", (False, True, False, False, True)),
        ("2002::1", (True, True, True, None, False)),
        ("192.88.99.1", (None, None, None, None, None)),
        ("224.0.0.1", (None, None, None, None, None)),
    ],
)
def test_the_columns_of_the_registry(text, columns):
    entry = next(entries(address(text)))
    assert columns == (
        entry.source, entry.destination, entry.forwardable, entry.globally_reachable, entry.reserved_by_protocol
    )  # fmt: skip


def test_python_agrees_on_what_is_loopback_and_the_like():
    for value in edges():
        said = {
            "loopback": value.is_loopback, "multicast": value.is_multicast, "link-local": value.is_link_local,
            "unspecified": value.is_unspecified,
        }  # fmt: skip
        assert said == {kind: kind == kind_of(value) for kind in said}, value


def test_python_disagrees_on_what_is_public_only_where_its_registry_is_older():
    """It has groups as public, and what is held back; and versions differ in what they know of the rest."""
    newer = {
        "192.0.0.0/24", "192.0.0.8/32", "192.88.99.0/24", "192.88.99.2/32", "64:ff9b:1::/48", "100:0:0:1::/64",
        "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:3::/32", "2001:4:112::/48", "2001:20::/28",
        "2001:30::/28", "2002::/16", "3fff::/20", "5f00::/16",
    }  # fmt: skip
    agreed = 0
    for value in edges():
        entry = next(entries(value), None)
        if kind_of(value) in ("multicast", "unassigned", "compatible", "site-local") or (
            entry and entry.block in newer
        ):
            continue
        assert value.is_global == public(value), value
        agreed += 1
    assert agreed > 100


# ---- the ways to write them ----


@pytest.mark.parametrize(
    ("written", "recommended"),
    [
        # RFC 5952: section 2, ways to write one address; 4.1, leading zeros
        *[
            (text, "2001:db8::1:0:0:1")
            for text in (
                "2001:db8:0:0:1:0:0:1", "2001:0db8:0:0:1:0:0:1", "2001:db8::1:0:0:1", "2001:db8::0:1:0:0:1",
                "2001:0db8::1:0:0:1", "2001:db8:0:0:1::1", "2001:db8:0000:0:1::1", "2001:DB8:0:0:1::1",
            )
        ],
        *[(f"2001:db8:aaaa:bbbb:cccc:dddd:eeee:{n}", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:1") for n in ("0001", "01")],
        ("2001:0db8::0001", "2001:db8::1"),
        # 4.2.1, as short as possible
        ("2001:db8:0:0:0:0:2:1", "2001:db8::2:1"),
        ("2001:db8::0:1", "2001:db8::1"),
        # 4.2.2, one group of zeros alone stays
        ("2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        # 4.2.3, the longest run, else the first
        ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        # 4.3, small letters
        ("2001:DB8::ABCD:EF01", "2001:db8::abcd:ef01"),
        # 5, where the last 32 bits are an IPv4 address
        ("::ffff:c000:201", "::ffff:192.0.2.1"),
        ("64:ff9b::c000:221", "64:ff9b::192.0.2.33"),
        ("0:0:0:0:0:0:0:0", "::"),
        ("1:0:0:0:0:0:0:0", "1::"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
    ],
)  # fmt: skip
def test_the_form_that_rfc_5952_recommends(written, recommended):
    assert rfc5952(address(written)) == recommended


@given(IPV6 | SPARSE)
def test_the_recommended_form_is_the_same_address_and_python_s_where_no_ipv4_is_in_it(value):
    assert ipaddress.ip_address(rfc5952(value)) == value
    if "." not in rfc5952(value):
        assert rfc5952(value) == value.compressed


@given(IPV4 | IPV6 | SPARSE)
def test_all_forms_are_the_same_address(value):
    found = forms(value)
    packed = value.packed.hex()
    assert int(found.hexadecimal, 16) == found.integer == int(packed, 16)
    assert ipaddress.ip_address(found.expanded) == ipaddress.ip_address(found.url.strip("[]")) == value
    assert (found.url[0] == "[") == (value.version == 6)
    digits = packed[::-1] if value.version == 6 else [str(byte) for byte in reversed(value.packed)]
    assert found.reverse == ".".join(digits) + (".ip6.arpa" if value.version == 6 else ".in-addr.arpa")


def test_a_zone_is_written_with_the_address():
    found = forms(address("fe80::1"), "eth0")
    assert (found.text, found.url) == ("fe80::1%eth0", "[fe80::1%25eth0]")
    assert found.expanded == "fe80:0000:0000:0000:0000:0000:0000:0001%eth0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.0/8", ("255.0.0.0", 2**24, "10.0.0.0", "10.255.255.255", "10.0.0.1", "10.255.255.254", True)),
        ("127.0.0.0/31", ("255.255.255.254", 2, "127.0.0.0", "127.0.0.1", "127.0.0.0", "127.0.0.1", False)),
        ("127.0.0.1/32", ("255.255.255.255", 1, "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", False)),
        ("0.0.0.0/0", ("0.0.0.0", 2**32, "0.0.0.0", "255.255.255.255", "0.0.0.1", "255.255.255.254", True)),
        ("fd00::/64", ("ffff:ffff:ffff:ffff::", 2**64, "fd00::", "fd00::ffff:ffff:ffff:ffff", None, None, False)),
    ],
)
def test_a_network_and_its_edges(text, expected):
    found = network(ipaddress.ip_network(text))
    assert found.cidr == text
    edges = (found.mask, found.size, found.first, found.last, found.first_host, found.last_host)
    assert (*edges, found.broadcast == found.last) == expected


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("64:ff9b::192.0.2.33", "192.0.2.33"),
        ("2002:c000:204::1", "192.0.2.4"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "192.0.2.45"),  # RFC 4380's way: inverted
        ("2001:db8::1", None),
        ("10.0.0.1", None),
    ],
)
def test_the_ipv4_address_that_an_ipv6_address_stands_for(text, inner):
    assert embedded_ipv4(address(text)) == (inner and address(inner))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", "host"), ("::1", "host"), ("169.254.0.1", "link-local"), ("fe80::1", "link-local"),
        ("224.0.0.1", "link-local"), ("ff02::1", "link-local"), ("ff01::1", "interface-local"), ("ff0e::1", "global"),
        ("ff15::1", "site-local"), ("fec0::1", "site-local"), ("fd00::1", "global"), ("8.8.8.8", "global"),
        ("0.0.0.0", "none"), ("::", "none"), ("255.255.255.255", "link-local"), ("239.0.0.1", "global"),
    ],
)  # fmt: skip
def test_how_far_an_address_is_valid(text, expected):
    assert scope(address(text)) == expected


# ---- numbers that some programs take for addresses ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.1", "127.0.0.1"),
        ("1.2.3", "1.2.0.3"),
        ("2130706433", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0x7F000001", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.000.000.001", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("127.65535", "127.0.255.255"),
    ],
)
def test_short_octal_and_hexadecimal_numbers_are_told_with_who_reads_them(text, expected):
    literal = parse(text)
    said = {reading.reader: reading.address for reading in literal.readings}
    assert str(literal.address) == expected
    assert said["inet_aton"] == said["URL standard"] == expected == socket.inet_ntoa(socket.inet_aton(text))
    assert said["inet_pton"] is said["ipaddress"] is None


def test_zeros_in_front_lead_to_two_machines():
    said = {reading.reader: reading.address for reading in readings("0177.0.0.1")}
    assert (said["inet_aton"], said["decimal"]) == ("127.0.0.1", "177.0.0.1")


def test_four_plain_numbers_are_read_alike_by_all():
    assert parse("127.50.50.50") == Literal("127.50.50.50", address("127.50.50.50"), None, None, ())
    assert {reading.address for reading in readings("127.50.50.50")} == {"127.50.50.50"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1.", "127.0.0.1"), ("0x", "0.0.0.0"), ("256", "0.0.1.0"), ("1.2.3.256", None), ("1.2.65536", None),
        ("4294967295", "255.255.255.255"), ("4294967296", None), ("08.0.0.1", None), ("1..2", None),
        ("1.2.3.4.5", None), ("0xg", None), ("1.2.3.4..", None),
    ],
)  # fmt: skip
def test_the_parser_of_the_url_standard(text, expected):
    assert url_reading(text) == expected


@given(st.lists(st.sampled_from(["0", "1", "127", "255", "256", "0x7f", "0177", "010", "08", "65535"]), max_size=5))
def test_where_inet_aton_and_the_url_standard_read_a_text_they_read_the_same(parts):
    said = {reading.reader: reading.address for reading in readings(".".join(parts))}
    if said["inet_aton"]:
        assert said["URL standard"] == said["inet_aton"]


# ---- what is given ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.1.2.3/8", Literal("10.1.2.3/8", address("10.1.2.3"), None, 8, ())),
        ("fe80::1%eth0", Literal("fe80::1%eth0", address("fe80::1"), "eth0", None, ())),
        ("fe80::1%eth0/64", Literal("fe80::1%eth0/64", address("fe80::1"), "eth0", 64, ())),
        ("FF02::1%4", Literal("FF02::1%4", address("ff02::1"), "4", None, ())),
        ("localhost", Name("localhost", "localhost")),
        ("a_b.example.", Name("a_b.example.", "a_b.example.")),
        ("bücher.example", Name("bücher.example", "xn--bcher-kva.example")),
        ("dead.beef", Name("dead.beef", "dead.beef")),
    ],
)
def test_what_is_an_address_and_what_a_name(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("256.1.1.1", "no IPv4 address (256 is above 255)"),
        ("1.2.3.4.5", "it has 5 parts"),
        ("09.0.0.1", "09 is no octal number"),
        ("99999999999", "99999999999 is above 4294967295"),
        ("web.1", "names don't end in a number; give four numbers from 0 to 255"),
        ("1..2", "a number is missing between its dots"),
        ("::1::", "no IPv6 address (at most one '::' allowed)"),
        ("12345::", "at most 4 characters allowed in '12345'"),
        ("1:2:3", "give up to eight groups"),
        ("::g", "only hex digits allowed in 'g'"),
        ("127.0.0.1:80:90", "no IPv6 address"),
        ("10.0.0.0/33", "prefixes of IPv4 are 0 to 32 bits long"),
        ("::1/129", "prefixes of IPv6 are 0 to 128 bits long"),
        ("10.0.0.0/-1", "prefixes of IPv4 are 0 to 32 bits long"),
        ("10.0.0.0/255.0.0.0", "give the mask as the length of the prefix, 10.0.0.0/8"),
        ("10.0.0.0/", "no length of a prefix follows the /"),
        ("10/8", "give all four"),
        ("localhost/8", "localhost is a name, and a prefix or zone belongs to an address"),
        ("127.0.0.1%lo", "only IPv6 addresses have zones; leave %lo out"),
        ("2001:db8::1%eth0", "2001:db8::1 means the same on every interface"),
        ("fe80::1%", "no zone follows the %"),
        ("http://localhost:8080/", "that is a URL; give its host, localhost"),
        ("http://[::1", "that is a URL"),
        ("localhost:80", "that is HOST:PORT; give localhost, and lab ports 80"),
        ("[::1]:80", "that is HOST:PORT; give ::1, and lab ports 80"),
        ("[::1]", "brackets belong into a URL; give ::1"),
        ("me@host", "give the host alone, host"),
        ("", "nothing was given"),
        ("  ", "nothing was given"),
        ("local host", "neither addresses nor names have spaces"),
        ("a\x1b[31mb", "neither addresses nor names have spaces or signs of control"),
        ("x" * 64, "a part of 64 letters, where 63 is the most"),
        ("a." * 127 + "a", "255 letters, where 253 is the most"),
        ("x" * 2000, "2,000 characters"),
        ("a..b", "a part between its dots is empty"),
        ("-a", "holds other signs than letters, digits and hyphens"),
        ("a!b", "holds other signs than letters"),
        ("１２７.0.0.1", "give it in ASCII, 127.0.0.1"),
        ("ü" * 64, "no name can be so"),
    ],
)  # fmt: skip
def test_what_is_neither_is_refused_in_a_line_that_says_what_to_give(text, said):
    with pytest.raises(lab.UsageError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_name_or_refused(text):
    try:
        found = parse(text)
    except lab.UsageError:
        return
    assert found.given == text
    assert isinstance(found, Literal) or found.name.isascii()


def test_names_of_localhost():
    assert all(map(is_localhost, ("localhost", "LOCALHOST.", "app.localhost", "a.b.localhost")))
    assert not any(map(is_localhost, ("localhost.example", "mylocalhost", "localhost6")))


# ---- files ----


def test_the_sources_of_names_and_what_follows_from_what_they_say():
    lines = [
        "# hosts: nis",
        "passwd: files",
        "hosts:  files mdns4_minimal [NOTFOUND=return] dns [!UNAVAIL=return] x # y",
    ]
    number, text, services = sources.nsswitch(lines)
    assert (number, text) == (3, "files mdns4_minimal [NOTFOUND=return] dns [!UNAVAIL=return] x")
    assert [service.name for service in services] == ["files", "mdns4_minimal", "dns", "x"]
    assert services[1].actions["notfound"] == "return"
    assert services[2].actions == {
        "success": "return", "notfound": "return", "tryagain": "return", "unavail": "continue"
    }  # fmt: skip
    assert sources.nsswitch(["passwd: files"]) is None


@pytest.mark.parametrize(
    ("said", "decided"),
    [
        ({"files": "success", "dns": "success"}, "files"),
        ({"files": "notfound", "dns": "success"}, "dns"),
        ({"files": "notfound", "dns": "unavail", "myhostname": "success"}, "myhostname"),
        ({"files": "notfound", "dns": "notfound", "myhostname": "success"}, "dns"),
        ({"files": "notfound", "dns": "unavail", "myhostname": "notfound"}, None),
    ],
)
def test_which_source_decides(said, decided):
    _, _, services = sources.nsswitch(["hosts: files dns [NOTFOUND=return] myhostname"])
    assert sources.deciding(services, said) == decided


def test_lines_of_the_hosts_file():
    lines = [
        "127.0.0.1 localhost # me",
        "# ::1 localhost",
        "",
        "::1\tip6 LocalHost.",
        "999.1.1.1 localhost",
        "127.0.0.1",
    ]
    found = [(line.number, line.address, line.valid) for line in sources.hosts_lines(lines, "localhost")]
    assert found == [(1, "127.0.0.1", True), (4, "::1", True), (5, "999.1.1.1", False)]


def test_where_dns_is_asked():
    found = sources.resolver(
        ["nameserver 127.0.0.53", "options edns0 timeout:1 attempts:3", "search a b", "# nameserver x"]
    )
    assert found == sources.Resolver(("127.0.0.53",), False, ("a", "b"), 3)
    assert not found.leaves
    assert sources.resolver([]) == sources.Resolver(("127.0.0.1",), True, (), 10)
    four = sources.resolver([f"nameserver 192.0.2.{n}" for n in range(4)])
    assert (four.leaves, len(four.servers), four.patience_s) == (True, 3, 30)
