"""Of localhost against 127.0.0.1: whether they are the same, and what an address does without a name."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

from lab.sayings.claim import DEPENDS, FALSE, HOLDS, IN_PART, Change, Claim, Outcome
from lab.sayings.programs import chromium, curl, each_program, glibc, listed, python, web
from lab.sayings.scene import LOOPBACK, Scene
from lab.sayings.sources import HOSTS, NO_LINE, ORDER, nobody_answers, questions, replace

__all__ = ["CLAIMS"]

#: The ports of web servers at both loopback addresses, at 127.0.0.1 alone, and at ::1 alone.
_BOTH, _FOUR, _SIX = 8080, 8004, 8006
_PLACES = {
    _BOTH: ("servers at 127.0.0.1 and ::1", (LOOPBACK[4], LOOPBACK[6])),
    _FOUR: ("a server at 127.0.0.1 alone", (LOOPBACK[4],)),
    _SIX: ("a server at ::1 alone", (LOOPBACK[6],)),
}
_NUMERIC = ("127.0.0.1", "[::1]")
_FORMS = ("127.1", "2130706433", "0x7f.1", "0177.1")
_BY_NAME = "import socket; print(socket.gethostbyname('localhost'))"
#: What programs that show names do with an address, such as netstat, or a server with its log.
_NAMES = """
import socket
found = []
for address in ("127.0.0.1", "::1"):
    try:
        found.append(socket.getnameinfo((address, 80), 0)[0])
    except OSError as error:
        found.append(error.strerror)
print(", ".join(found))
"""
_OPEN = """
import json, sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with opener.open(sys.argv[1], timeout=2) as page:
        address = page.read().decode().removeprefix("<title>").removesuffix("</title>")
        print(json.dumps([address, f"HTTP {page.status} from {address}"]))
except OSError as error:
    print(json.dumps(["", str(error.reason)]))
"""
#: Which forms of an address each of two functions takes.
_STRICT = """
import ipaddress, json, socket, sys
functions = {"ipaddress.ip_address": ipaddress.ip_address, "inet_pton": lambda text: socket.inet_pton(2, text)}
found = {name: [] for name in functions}
for name, function in functions.items():
    for text in sys.argv[1:]:
        try:
            function(text)
            found[name].append(text)
        except (OSError, ValueError):
            pass
print(json.dumps(found))
"""


def _same(scene: Scene) -> Iterator[Outcome]:
    nobody_answers(scene)
    places = [f"{host}:{port}" for port in _PLACES for host in ("localhost", LOOPBACK[4])]
    with (
        web(scene, *_PLACES[_BOTH][1], port=_BOTH),
        web(scene, LOOPBACK[4], port=_FOUR),
        web(scene, LOOPBACK[6], port=_SIX),
    ):
        for program, made in each_program(scene, *places):
            reached = [address or "nobody" for address, _told in made]
            for (what, _where), name, number in zip(_PLACES.values(), reached[::2], reached[1::2], strict=True):
                yield Outcome(
                    f"{program}, {what}", name == number, f"localhost reaches {name}, 127.0.0.1 reaches {number}"
                )


def _refuse_ipv6(scene: Scene) -> None:
    for port in _PLACES:
        scene.refuse(LOOPBACK[6], port=port)


def _address(scene: Scene) -> Iterator[Outcome]:
    nobody_answers(scene)
    for what, family in (("getaddrinfo for any family", socket.AF_UNSPEC), ("getaddrinfo for IPv4", socket.AF_INET)):
        found = glibc(scene, "localhost", family=family)
        yield Outcome(what, found[0] == LOOPBACK[4], listed(found))
    found = python(scene, _BY_NAME)
    yield Outcome("gethostbyname, as programs of old call it", found == LOOPBACK[4], found)
    # curl has an order of its own, whatever the file says: 127.0.0.1 first until 2023, since then ::1.
    with web(scene, *LOOPBACK.values(), port=_BOTH):
        _reached, told = curl(scene, f"http://localhost:{_BOTH}/")
        scene.note(f"curl, which asks nobody, with servers at 127.0.0.1 and ::1: {told}")


def _no_ipv6_line(scene: Scene) -> None:
    replace(scene, HOSTS, "127.0.0.1 localhost\n")


def _six(scene: Scene) -> Iterator[Outcome]:
    nobody_answers(scene)
    with web(scene, LOOPBACK[6], port=_SIX):
        for program, [(address, told)] in each_program(scene, f"localhost:{_SIX}", browser=False):
            yield Outcome(f"{program}, a server at ::1 alone", address == LOOPBACK[6], told)
    scene.world.sysctl("ipv6/conf/lo/disable_ipv6", 1)
    found = glibc(scene, "localhost")
    scene.note(f"with IPv6 switched off, getaddrinfo: {listed(found)}")


def _numeric(scene: Scene) -> Iterator[Outcome]:
    nobody_answers(scene)
    with web(scene, *LOOPBACK.values(), port=_BOTH), questions(scene) as asked:
        before = 0
        for program, made in each_program(scene, *(f"{host}:{_BOTH}" for host in _NUMERIC), browser=False):
            told = ", ".join(address or told for address, told in made)
            yield Outcome(f"{program} at addresses", len(asked) == before, f"{told}; {len(asked) - before} DNS queries")
            before = len(asked)
        names = python(scene, _NAMES)
        case = "a program that shows addresses by name (getnameinfo)"
        yield Outcome(case, len(asked) == before, f"{names}; {len(asked) - before} DNS queries")
        before = len(asked)
        glibc(scene, "shop.test")
        scene.note(f"for comparison, getaddrinfo for shop.test: {len(asked) - before} DNS queries")


def _no_line(scene: Scene) -> None:
    replace(scene, HOSTS, NO_LINE)


def _broken(scene: Scene) -> Iterator[Outcome]:
    replace(scene, HOSTS, NO_LINE)
    replace(scene, ORDER, "hosts: dns\n")
    nobody_answers(scene)
    found = glibc(scene, "localhost")
    scene.note(f"meanwhile, getaddrinfo for localhost: {listed(found)}")
    with web(scene, *LOOPBACK.values(), port=_BOTH):
        for program, made in each_program(scene, *(f"{host}:{_BOTH}" for host in _NUMERIC), browser=False):
            for wanted, (address, told) in zip(LOOPBACK.values(), made, strict=True):
                yield Outcome(f"{program} at {wanted}", address == wanted, told)


def _refuse(scene: Scene) -> None:
    scene.refuse(*LOOPBACK.values(), port=_BOTH)


def _brackets(scene: Scene) -> Iterator[Outcome]:
    urls = [f"http://{host}:{_BOTH}/" for host in ("::1", "[::1]")]
    with web(scene, LOOPBACK[6], port=_BOTH):
        python_made = [json.loads(python(scene, _OPEN, url)) for url in urls]
        made = {"Python's urllib": python_made, "curl": [curl(scene, url) for url in urls]}
        if seen := list(chromium(scene, urls)):
            made["Chromium"] = seen
    for program, ((bare, said), (_bracketed, told)) in made.items():
        yield Outcome(f"{program} at {urls[0]}", not bare, f"{said}; in brackets: {told}")


def _forms(scene: Scene) -> Iterator[Outcome]:
    nobody_answers(scene)
    with web(scene, LOOPBACK[4], port=_BOTH):
        for program, made in each_program(scene, *(f"{form}:{_BOTH}" for form in _FORMS)):
            reached = dict(zip(_FORMS, (address or told for address, told in made), strict=True))
            right = all(address == LOOPBACK[4] for address in reached.values())
            alike = f"all four reach {LOOPBACK[4]}"
            yield Outcome(program, right, alike if right else f"{_FORMS[0]}: {reached[_FORMS[0]]}")
    for function, taken in json.loads(python(scene, _STRICT, *_FORMS)).items():
        yield Outcome(function, len(taken) == len(_FORMS), f"takes {' '.join(taken) or 'none'} of {' '.join(_FORMS)}")


CLAIMS = (
    Claim(
        id="name-same",
        says="localhost and 127.0.0.1 do the same.",
        statements=(22, 38, 60, 72),
        prediction="whatever http://127.0.0.1 shows, http://localhost shows, and from the same address",
        expected=DEPENDS,
        mixed=DEPENDS,
        experiment=_same,
        refuted_by=Change(text="a firewall resets what goes to ::1", make=_refuse_ipv6, becomes=HOLDS),
        decided_by="RFC 6761, 6.3: localhost is both addresses of loopback; RFC 6724, 6, and RFC 8305: which is first",
        remember="localhost is a list, of ::1 and 127.0.0.1: they differ wherever a server is at one of them alone.",
    ),
    Claim(
        id="name-address",
        says="localhost is resolved to 127.0.0.1.",
        statements=(22, 31, 40),
        prediction="a program that looks up localhost is told 127.0.0.1 first",
        expected=IN_PART,
        experiment=_address,
        refuted_by=Change(text="the hosts file has no ::1 for localhost", make=_no_ipv6_line, becomes=HOLDS),
        decided_by="RFC 6724, 6, rule 6 and the table in 2.1, in rfc3484_sort of glibc: ::1/128 goes before IPv4",
        remember="Who asks for any family is told ::1 first, where the hosts file has it, and only then 127.0.0.1.",
    ),
    Claim(
        id="name-six",
        says="localhost leads to ::1, too, where IPv6 is on.",
        statements=(73, 72),
        prediction="a server at ::1 alone is found by its name, localhost",
        expected=HOLDS,
        experiment=_six,
        refuted_by=Change(text="the hosts file has no ::1 for localhost", make=_no_ipv6_line, becomes=IN_PART),
        decided_by="nss_files of glibc: the lines of /etc/hosts; Curl_resolv in curl's lib/hostip.c: both addresses",
        remember="For glibc it is the hosts file that has ::1 for localhost or not; IPv6 itself is not asked.",
    ),
    Claim(
        id="name-numeric",
        says="Whoever uses a numeric address makes no DNS query.",
        statements=(27, 42),
        prediction="no packet goes to port 53",
        expected=HOLDS,
        experiment=_numeric,
        refuted_by=Change(text="the hosts file has no name for 127.0.0.1 and ::1", make=_no_line, becomes=IN_PART),
        decided_by="getaddrinfo of glibc tries inet_aton and inet_pton first; RFC 3493, 6.2: getnameinfo looks up",
        remember="An address needs no query to be reached, yet to show it by name a program may make one.",
    ),
    Claim(
        id="name-broken",
        says="127.0.0.1 and ::1 work when names do not: without a line in the hosts file, and without DNS.",
        statements=(44, 45, 77),
        prediction="a page at http://127.0.0.1 still loads when localhost is not found",
        expected=HOLDS,
        experiment=_broken,
        refuted_by=Change(text="a firewall resets what goes to 127.0.0.1 and ::1", make=_refuse, becomes=FALSE),
        decided_by="the table local of the kernel (ip route show table local): no file and no server has a part in it",
        remember="An address needs the kernel alone; so it tells whether the network or the names are broken.",
    ),
    Claim(
        id="name-brackets",
        says="In a URL an IPv6 address without brackets leads nowhere.",
        statements=(65,),
        prediction="http://::1:8080/ is refused as no URL, by whichever program",
        expected=IN_PART,
        experiment=_brackets,
        refuted_by=Change(text="a firewall resets what goes to ::1", make=_refuse, becomes=HOLDS),
        decided_by="RFC 3986, 3.2.2 (IP-literal); http.client of Python splits at the last colon",
        remember="Write brackets: without them some programs guess where the port begins, and others give up.",
    ),
    Claim(
        id="name-forms",
        says="127.1, 2130706433, 0x7f.1 and 0177.1 are other ways to write 127.0.0.1.",
        statements=(42,),
        prediction="any program that takes 127.0.0.1 takes these, and reaches the same server",
        expected=IN_PART,
        experiment=_forms,
        refuted_by=Change(text="a firewall resets what goes to 127.0.0.1 and ::1", make=_refuse, becomes=FALSE),
        decided_by="inet_aton(3), and the URL Standard's IPv4 parser, take them; inet_pton(3) does not (RFC 3493, 6.3)",
        remember="Two families of parsers read addresses: what one refuses may be 127.0.0.1 to the other.",
    ),
)
