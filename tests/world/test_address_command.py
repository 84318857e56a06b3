"""``lab address``: what the kernel would do, what each source of names says, and what a user may get wrong.

Nothing here asks a resolver outside: names are looked up in private worlds, in files that a test puts in place.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

import lab
from lab.addresses.looking import address
from lab.addresses.registry import ENTRIES

KINDS = {4: socket.AF_INET, 6: socket.AF_INET6}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
BOTH = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"
RIGHTS = [("root",), ("no-rights",), ("nobody",)]


@pytest.fixture
def own(missing):
    """A world for one test, which may break it."""
    try:
        made = lab.World(["lo", "veth"])
    except lab.Unavailable as error:
        missing(str(error))
    with made:
        yield made


@pytest.fixture
def resolver(own):
    """A DNS server on this world's own 127.0.0.1 that knows 127.0.0.9 of any name, and no IPv6; what it was asked."""
    asked = []
    with own.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))

        def serve():
            while True:
                query, client = server.recvfrom(512)
                if not query:  # the end of the test
                    return
                end = query.index(b"\0", 12) + 5  # of the question (RFC 1035, 4.1.2)
                (kind,) = struct.unpack_from("!H", query, end - 4)
                asked.append(query[12 : end - 4])
                answer = struct.pack("!HHHIH4s", 0xC00C, 1, 1, 60, 4, bytes([127, 0, 0, 9])) if kind == 1 else b""
                counts = struct.pack("!5H", 0x8180, 1, bool(answer), 0, 0)
                server.sendto(query[:2] + counts + query[12:end] + answer, client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            with own.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", ("127.0.0.1", 53))
            thread.join(10)


@pytest.fixture
def told(world):
    """What ``lab address … --json`` says in a private world where these are the files; and its exit code and errors."""

    def told(*arguments, hosts=BOTH, order="files", resolver="", world=world):
        files = {"/etc/hosts": hosts, "/etc/nsswitch.conf": f"hosts: {order}\n", "/etc/resolv.conf": resolver}
        if order is None:
            files["/etc/nsswitch.conf"] = "passwd: files\n"
        command = [sys.executable, "-m", "lab", "address", *arguments, "--json"]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with world.popen(command, files=files, **options) as program:
            output, errors = program.communicate(timeout=60)
        return (json.loads(output) if output else None), program.returncode, errors

    return told


def by_service(document):
    return {each["service"]: each for each in document["sources"]}


# ---- what the kernel would do ----


def test_loopback_is_loopback_in_truth(world, family):
    found = lab.address(LOOPBACK[family], world=world)
    assert (found.route.kind, found.route.device, found.route.source) == ("local", "lo", LOOPBACK[family])
    assert (found.loopback.registry, found.loopback.here) == (True, True)


def test_an_own_address_goes_over_lo_too(world, family):
    mine = world.links["veth"].near[family]
    found = lab.address(mine, world=world)
    assert (found.route.kind, found.route.device, found.route.source) == ("local", "lo", mine)
    assert (found.loopback.registry, found.loopback.here) == (False, True)
    assert "it is this machine's own, of veth" in found.loopback.why


def test_a_neighbour_is_reached_by_the_cable(world, family):
    veth = world.links["veth"]
    found = lab.address(veth.far[family], world=world)
    assert (found.route.kind, found.route.device, found.route.source) == ("unicast", "veth", veth.near[family])
    assert found.loopback.here is False


def test_the_route_is_that_of_a_socket_that_is_connected(world, family):
    """connect(2) of a UDP socket takes the same decision, and sends nothing."""
    veth = world.links["veth"]
    for text in (LOOPBACK[family], veth.near[family], veth.far[family], {4: "127.50.50.50", 6: "::"}[family]):
        with world.socket(KINDS[family], socket.SOCK_DGRAM) as end:
            end.connect((text, 9))
            assert lab.address(text, world=world).route.source == end.getsockname()[0], text


@pytest.mark.parametrize(
    ("text", "kind", "device", "asked"),
    [
        ("127.0.0.0", "local", "lo", "127.0.0.0"),
        ("127.255.255.255", "broadcast", "lo", "127.255.255.255"),
        ("0.0.0.0", "local", "lo", "0.0.0.0"),
        ("::", "local", "lo", "::1"),
        ("::ffff:127.0.0.1", "local", "lo", "127.0.0.1"),
    ],
)
def test_edges_and_addresses_that_stand_for_others(world, text, kind, device, asked):
    found = lab.address(text, world=world)
    assert (found.route.kind, found.route.device, found.route.asked) == (kind, device, asked)
    assert found.loopback.here is True


def test_nowhere_to_go_is_told_with_the_errno(world):
    found = lab.address("203.0.113.5", world=world)
    assert (found.kind, found.public) == ("documentation", False)
    assert found.route.kind is None
    assert "no route leads there: ENETUNREACH" in found.route.error
    assert found.loopback.here is None


@pytest.mark.parametrize(
    ("kind", "name"), [("unreachable", "EHOSTUNREACH"), ("prohibit", "EACCES"), ("blackhole", "EINVAL")]
)
def test_routes_that_lead_nowhere(own, kind, name):
    own.add_route("198.51.100.0/24", kind=kind)
    assert name in lab.address("198.51.100.7", world=own).route.error


def test_a_route_of_this_machine_makes_any_block_its_own(own):
    own.add_route("198.51.100.0/24", device="lo", kind="local")
    found = lab.address("198.51.100.7", world=own)
    assert (found.route.kind, found.route.prefix, found.loopback.here) == ("local", "198.51.100.0/24", True)
    assert "by a route of this machine" in found.loopback.why


def test_lo_down_and_without_its_address(own, family):
    with_length = {4: "127.0.0.1/8", 6: "::1/128"}[family]
    own.set_link("lo", False)
    found = lab.address(LOOPBACK[family], world=own)
    assert (found.loopback.registry, found.loopback.here) == (True, None)
    assert "lo is down: ip link set lo up" in found.notes
    own.set_link("lo", True)
    assert lab.address(LOOPBACK[family], world=own).loopback.here is True
    own.remove_address("lo", with_length)
    found = lab.address(LOOPBACK[family], world=own)
    assert found.loopback.here is None
    assert any(f"lo has no address of IPv{family}: ip address add {with_length} dev lo" in note for note in found.notes)


def test_a_loopback_address_that_is_none_in_truth(own):
    """127.0.0.0/8 is loopback as long as the local table says so: here it leaves by the cable."""
    own.remove_address("lo", "127.0.0.1/8")
    own.add_route("127.0.0.0/8", device="veth")
    found = lab.address("127.50.50.50", world=own)
    assert (found.route.kind, found.route.device) == ("unicast", "veth")
    assert (found.loopback.registry, found.loopback.here) == (True, False)
    assert "a route sends it out by veth, whatever the registry says" in str(found)


def test_a_link_local_address_needs_its_zone(world):
    without = lab.address("fe80::1", world=world)
    assert without.route.asked is None
    assert "that takes a zone" in without.route.error
    found = lab.address("fe80::1%veth", world=world)
    assert (found.address, found.zone, found.route.device) == ("fe80::1%veth", "veth", "veth")
    assert found.forms.url == "[fe80::1%25veth]"
    number = next(each["index"] for each in lab.address(world=world).to_json()["interfaces"] if each["name"] == "veth")
    assert lab.address(f"fe80::1%{number}", world=world).route == found.route
    with pytest.raises(lab.UsageError, match="no interface 'eth7' here: give a zone of lo, veth"):
        lab.address("fe80::1%eth7", world=world)


def test_nothing_is_sent(own, family):
    """Not even a neighbour is looked for (ARP, ND) while its address, and an own one, are looked at."""
    veth = own.links["veth"]
    texts = (veth.far[family], veth.near[family], LOOPBACK[family])

    def heard(work):
        with own.capture("all", filter=f"arp or host {' or host '.join(texts)}") as capture:
            work()
        return len(capture)

    def send():
        with own.socket(KINDS[family], socket.SOCK_DGRAM) as end:
            end.sendto(b"now", (veth.far[family], 9))

    assert heard(lambda: [lab.address(text, world=own) for text in texts]) == 0
    assert heard(send) > 0  # what is sent would be heard


# ---- names ----


def test_a_name_by_its_sources(told):
    found, code, errors = told("localhost")
    assert (code, errors) == (0, "")
    assert [each["address"] for each in found["addresses"]] == found["programs"]["addresses"]
    assert set(found["programs"]["addresses"]) == {"127.0.0.1", "::1"}
    assert by_service(found)["files"]["addresses"] == found["programs"]["addresses"]
    assert found["decided_by"] == "files"
    assert found["order"] == {"line": 1, "text": "files", "errno": None}
    assert [(line["number"], line["address"]) for line in found["hosts_file"]["lines"]] == [
        (1, "127.0.0.1"),
        (2, "::1"),
    ]
    assert all(each["loopback"]["here"] for each in found["addresses"])


def test_a_hosts_file_that_points_localhost_elsewhere(told):
    found, code, _ = told("localhost", hosts="198.51.100.7 localhost\n")
    assert code == 0
    assert found["address"] == "198.51.100.7"
    assert found["addresses"][0]["kind"] == "documentation"
    assert "localhost means 198.51.100.7 here, which is no loopback address: mend /etc/hosts" in found["notes"]


@pytest.mark.parametrize(("line", "family"), [("127.0.0.1 localhost\n", 4), ("::1 localhost\n", 6)])
def test_a_hosts_file_that_has_one_family_only(told, line, family):
    found, _, _ = told("localhost", hosts=line)
    assert (found["family"], found["programs"]["addresses"]) == (family, [LOOPBACK[family]])
    lacks = 10 - family
    assert any(f"it has no IPv{lacks} address here" in note and LOOPBACK[lacks] in note for note in found["notes"])


def test_programs_that_ask_for_usable_families_only_may_get_less(told, own):
    """With AI_ADDRCONFIG the C library leaves a family out that lo alone has."""
    found, _, _ = told("localhost", world=own)
    assert found["addrconfig"]["addresses"] == found["programs"]["addresses"]
    own.sysctl("ipv6/conf/veth/disable_ipv6", 1)
    found, _, _ = told("localhost", world=own)
    assert set(found["programs"]["addresses"]) == {"127.0.0.1", "::1"}
    assert found["addrconfig"]["addresses"] == ["127.0.0.1"]


def test_no_line_of_localhost_and_nobody_who_answers(told):
    """On port 53 of this world's own lo nobody listens: the answer is at once."""
    found, code, errors = told("localhost", hosts="# nothing\n", order="files dns", resolver="nameserver 127.0.0.1\n")
    assert code == 1
    assert (found["address"], found["addresses"], found["decided_by"]) == (None, [], None)
    assert {service: each["status"] for service, each in by_service(found).items()} == {
        "files": "not-found", "dns": "try-again"
    }  # fmt: skip
    assert errors.startswith(
        "lab: error: localhost has no address here: DNS could not be asked (by the server 127.0.0.1"
    )
    assert errors.count("\n") == 1


def test_an_empty_resolver_is_this_machine(told):
    found, code, errors = told("nosuch.example", order="files dns", resolver="# none\n")
    assert (found["resolver"]["servers"], found["resolver"]["default"]) == (["127.0.0.1"], True)
    assert code == 1
    assert "as /etc/resolv.conf names no server" in errors


def test_dns_decides_where_the_files_know_nothing(told, own, resolver):
    options = {"order": "files dns", "resolver": "nameserver 127.0.0.1\n", "world": own}
    found, code, errors = told("db.example", **options)
    assert (code, errors) == (0, "")
    assert {service: each["status"] for service, each in by_service(found).items()} == {
        "files": "not-found", "dns": "found"
    }  # fmt: skip
    assert (found["address"], found["decided_by"], found["addresses"][0]["loopback"]["here"]) == (
        "127.0.0.9",
        "dns",
        True,
    )
    assert set(resolver) == {b"\x02db\x07example\0"}
    found, _, _ = told("db.example", hosts="127.0.0.8 db.example\n", **options)
    assert (found["address"], found["decided_by"]) == ("127.0.0.8", "files")
    assert "the sources do not agree: what files says holds, as it is asked first" in found["notes"]


def test_dns_on_this_machine_is_asked_for_localhost_too(told, own, resolver):
    """As other programs do: the question stays here, whatever the server makes of it (RFC 6761, 6.3)."""
    found, _, _ = told("app.localhost", order="files dns", resolver="nameserver 127.0.0.1\n", world=own)
    assert (found["withheld"], found["decided_by"], found["programs"]["addresses"]) == ([], "dns", ["127.0.0.9"])
    assert set(resolver) == {b"\x03app\x09localhost\0"}


def test_domains_that_are_tried_are_told(own, resolver):
    files = {
        "/etc/hosts": "", "/etc/nsswitch.conf": "hosts: dns\n",
        "/etc/resolv.conf": "nameserver 127.0.0.1\nsearch corp.example\n",
    }  # fmt: skip
    command = [sys.executable, "-m", "lab", "address", "db"]
    with own.popen(command, files=files, stdout=subprocess.PIPE, text=True) as program:
        text = program.communicate(timeout=60)[0]
    assert "by the server 127.0.0.1, in corp.example too" in text
    assert set(resolver) == {b"\x02db\x04corp\x07example\0"}
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", ["localhost", "app.localhost", "LOCALHOST."])
def test_dns_on_another_machine_is_not_asked_for_localhost(told, world, name):
    """Not one datagram is even tried: there is no route to the server here, and the counter of such would tell."""
    before = world.counters()
    found, code, errors = told(name, hosts="# none\n", order="files dns", resolver="nameserver 192.0.2.53\n")
    assert code == 1
    assert by_service(found)["dns"]["status"] == "not-asked"
    assert found["withheld"] == ["dns"]
    assert "DNS is not asked for names of localhost" in errors
    after = world.counters()
    assert [after[each] - before[each] for each in ("Ip.OutNoRoutes", "Udp.OutDatagrams")] == [0, 0]


def test_dns_on_another_machine_is_asked_for_other_names(told, world):
    """The counter that the test above rests on does count."""
    before = world.counters()["Ip.OutNoRoutes"]
    found, code, _ = told("nosuch.example", order="files dns", resolver="nameserver 192.0.2.53\n")
    assert (code, found["withheld"]) == (1, [])
    assert world.counters()["Ip.OutNoRoutes"] > before


def test_a_resolver_that_says_nothing_ends_within_its_own_time(told, world):
    with world.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 53))
        resolver = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"
        started = time.monotonic()
        found, code, errors = told("nosuch.example", order="files dns", resolver=resolver)
        took = time.monotonic() - started
        asked = silent.recv(512)
    assert code == 1
    assert b"\x06nosuch\x07example" in asked
    assert found["resolver"]["patience_s"] == 1
    assert 1e9 <= by_service(found)["dns"]["took_ns"] < took * 1e9
    assert "DNS could not be asked" in errors


def test_a_resolver_of_endless_patience_is_not_waited_for(world):
    """The bound is 15 s; here a shorter one stands in its place."""
    with world.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 53))
        code = (
            "import json, lab.addresses.asking as asking; asking.PATIENCE_S = 0.5\n"
            "print(json.dumps(asking._answers('nosuch.example', False)))"
        )
        files = {"/etc/nsswitch.conf": "hosts: dns\n", "/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:30\n"}
        with world.popen([sys.executable, "-c", code], files=files, stdout=subprocess.PIPE, text=True) as program:
            found = json.loads(program.stdout.read())
    assert [each["status"] for each in found["services"]] == ["no-answer"]
    assert found["programs"]["status"] == "no-answer"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_ends_it_ends_those_who_ask_for_it(world, number):
    files = {"/etc/nsswitch.conf": "hosts: dns\n", "/etc/resolv.conf": "nameserver 127.0.0.1\n"}
    command = [sys.executable, "-m", "lab", "address", "nosuch.example"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    with world.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 53))
        silent.settimeout(60)
        with world.popen(command, files=files, **options) as program:
            silent.recv(512)  # it is under way, and glibc would go on for 10 s
            if number == signal.SIGINT:
                os.killpg(program.pid, number)  # as a terminal does
            else:
                program.send_signal(number)
            # All who hold its output have ended, else there would be no end of it.
            output = program.communicate(timeout=8)[0]
    assert output == ("lab: error: interrupted\n" if number == signal.SIGINT else "")
    assert program.returncode == (130 if number == signal.SIGINT else -number)


def test_a_c_library_without_such_sources_is_asked_as_programs_ask_it(world):
    """As musl is, which has no ``__nss_configure_lookup``."""
    code = (
        "import json, lab.addresses.asking as asking; asking._configure = None\n"
        "print(json.dumps(asking._answers('localhost', True)))"
    )
    files = {"/etc/hosts": BOTH, "/etc/nsswitch.conf": "hosts: files\n"}
    with world.popen([sys.executable, "-c", code], files=files, stdout=subprocess.PIPE, text=True) as program:
        found = json.loads(program.stdout.read())
    assert (found["services"], found["decided_by"]) == ([], None)
    assert set(found["programs"]["addresses"]) == {"127.0.0.1", "::1"}


def test_sources_that_are_not_installed_and_those_that_end_the_search(told):
    found, _, _ = told("odd.example", hosts="127.0.0.9 odd.example\n", order="nosuch files [SUCCESS=return] dns")
    assert by_service(found)["nosuch"]["status"] == "not-installed"
    assert found["decided_by"] == "files"
    found, code, _ = told("odd.example", hosts="127.0.0.9 odd.example\n", order="nosuch [UNAVAIL=return] files")
    assert (code, found["decided_by"], found["programs"]["addresses"]) == (1, "nosuch", [])
    assert by_service(found)["files"]["addresses"] == ["127.0.0.9"]


def test_no_order_of_sources_and_a_line_that_is_none(told):
    found, _, _ = told("odd.example", hosts="999.1.1.1 odd.example\n127.0.0.9 odd.example\n", order=None)
    assert found["order"] == {"line": None, "text": None, "errno": None}
    assert found["programs"]["addresses"] == ["127.0.0.9"]
    assert [line["valid"] for line in found["hosts_file"]["lines"]] == [False, True]
    assert "line 1 of /etc/hosts begins with 999.1.1.1, which is no address" in found["notes"]


def test_no_hosts_file(run):
    done = run("address", "localhost", faults=("no-hosts",))
    assert done.returncode == 1
    assert "/etc/hosts can't be read: ENOENT (No such file or directory)" in done.stdout
    assert done.stderr.startswith("lab: error: localhost has no address here: there is no /etc/hosts")
    assert "Write one: 127.0.0.1 localhost, ::1 localhost" in done.stderr


def test_an_address_is_no_name_nobody_is_asked(told):
    """Also with no source of names at all."""
    found, code, _ = told("127.50.50.50", hosts="", order="nosuch [UNAVAIL=return]")
    assert (code, found["address"]) == (0, "127.50.50.50")
    assert "sources" not in found


def test_an_interface_s_name_is_not_looked_up(run):
    done = run("address", "lo", faults=("no-rights",))
    assert done.returncode == 2
    assert "lo is an interface here; lab address alone tells its addresses: for the name give 'lo.'" in done.stderr


# ---- own addresses, worlds, rights ----


def test_own_addresses(world):
    found = lab.address(world=world).to_json()
    assert (found["format"], found["address"], found["world"]) == (1, None, "new")
    known = {each["name"]: each for each in found["interfaces"]}
    assert set(known) == set(world.interfaces())
    assert known["lo"]["loopback"]
    assert known["lo"]["up"]
    assert {(own["address"], own["prefix"], own["scope"]) for own in known["lo"]["addresses"]} >= {
        ("127.0.0.1", 8, "host"), ("::1", 128, "host")
    }  # fmt: skip
    assert {own["address"] for own in known["veth"]["addresses"]} > set(world.links["veth"].near.values())
    assert found["public_address"]["asked"] is False


def test_states_of_addresses_and_interfaces(own):
    own.set_link("veth", False)
    own.remove_address("lo", "127.0.0.1/8")
    own.remove_address("lo", "::1/128")
    found = lab.address(world=own)
    known = {each.name: each for each in found.interfaces}
    assert not known["veth"].up
    assert "no interface has a loopback address: ip address add 127.0.0.1/8 dev lo" in found.notes
    own.set_link("lo", False)
    assert any("lo is down" in note for note in lab.address(world=own).notes)


@pytest.mark.parametrize("faults", RIGHTS, ids="-".join)
def test_it_needs_no_rights(run, faults):
    for what in ([], ["127.50.50.50"], ["fe80::1%lo"]):
        done = run("address", *what, faults=faults)
        assert (done.returncode, done.stderr) == (0, ""), what
        assert max(map(len, done.stdout.splitlines())) <= 80
    for what in (["127.1"], ["localhost"]):
        document = json.loads(run("address", *what, "--json", faults=faults).stdout)
        assert (document["format"], document["world"], document["address"]) == (1, "host", "127.0.0.1")


def test_ipv6_switched_off(run):
    found = json.loads(run("address", "::1", "--json", faults=("no-rights", "ipv6-off")).stdout)
    assert found["loopback"] == {"registry": True, "here": None, "why": found["route"]["error"]}
    assert any("lo has no address of IPv6" in note for note in found["notes"])


def test_lo_down(run):
    done = run("address", faults=("no-rights", "lo-down"))
    assert "lo is down, so that nothing answers on 127.0.0.1 or ::1: ip link set lo up" in " ".join(done.stdout.split())


def test_a_new_world_and_one_of_a_process(run, world):
    found = json.loads(run("address", "--world", "new", "--json").stdout)
    assert [each["name"] for each in found["interfaces"]] == ["lo"]
    with world.popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, files={"/etc/hosts": BOTH}) as program:
        try:
            found = json.loads(run("address", "--world", str(program.pid), "--json").stdout)
            assert (found["world"], {each["name"] for each in found["interfaces"]}) == (
                str(program.pid), set(world.interfaces())
            )  # fmt: skip
            found = json.loads(run("address", "localhost", "--world", str(program.pid), "--json").stdout)
        finally:
            program.communicate(b"\n")
    assert found["addresses"][0]["world"] == str(program.pid)
    assert [line["text"] for line in found["hosts_file"]["lines"]] == BOTH.splitlines()


def test_every_edge_of_every_block_can_be_told(world):
    """In 80 columns, and as JSON, whatever the address."""
    for entry in ENTRIES:
        for value in (entry.network.network_address, entry.network.broadcast_address):
            found = address(str(value), world=world)
            assert max(map(len, str(found).splitlines())) <= 80
            document = json.loads(json.dumps(found.to_json()))
            assert ipaddress.ip_address(document["address"]) == value
            assert document["registry"]["block"] == next(iter([found.entry.block]))
            assert document["network"]["cidr"] == found.entry.block


def test_a_notebook_gets_a_table(world):
    page = lab.address("127.0.0.1", world=world)._repr_html_()
    assert re.findall("<th[^>]*>(.*?)</th>", page)[:3] == ["meaning", "public", "registry"]
    assert "RFC 1122, section 3.2.1.3" in page
    assert "<script" not in lab.address("10.0.0.1", world=world)._repr_html_()
    assert "<table" in lab.address(world=world)._repr_html_()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("256.1.1.1", "256 is above 255"),
        ("12345::", "at most 4 characters allowed"),
        ("10.0.0.0/33", "0 to 32 bits long"),
        ("127.0.0.1%lo", "only IPv6 addresses have zones"),
        ("http://[::1]:80/", "give its host, ::1"),
        ("127.0.0.1:80", "give 127.0.0.1, and lab ports 80"),
        ("a b", "neither addresses nor names have spaces"),
        ("", "nothing was given"),
        ("fe80::1%nope", "no interface 'nope' here: give a zone of lo"),
    ],
)
def test_bad_usage_exits_2_with_one_line(run, given, said):
    done = run("address", given, faults=("no-rights",))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lab: error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_a_process_that_there_is_not(run):
    done = run("address", "::1", "--world", "4194305")
    assert done.returncode == 1
    assert "cannot join the network of process 4194305" in done.stderr
