"""Of where localhost comes from: the hosts file, DNS, or the program itself, which glibc, curl and Chromium do each."""

from __future__ import annotations

from collections.abc import Iterator

from lab.firewall import FirewallRule
from lab.sayings.claim import FALSE, HOLDS, IN_PART, Change, Claim, Outcome
from lab.sayings.programs import each_program, web
from lab.sayings.scene import LOOPBACK, Scene
from lab.sayings.sources import HOSTS, NO_LINE, ORDER, nobody_answers, questions, replace, resolver

__all__ = ["CLAIMS"]

_PORT = 8080
_ELSEWHERE = "127.5.5.5"


def _made(scene: Scene, host: str) -> Iterator[tuple[str, str, str]]:
    """Each program, the address that it reached at a host, and what was seen, with the queries that it made."""
    with questions(scene) as asked:
        before = 0
        for program, [(address, told)] in each_program(scene, f"{host}:{_PORT}"):
            yield program, address, f"{told}; {len(asked) - before} DNS queries"
            before = len(asked)


def _file(scene: Scene) -> Iterator[Outcome]:
    replace(scene, HOSTS, NO_LINE)
    nobody_answers(scene)
    with web(scene, *LOOPBACK.values(), port=_PORT):
        for program, address, seen in _made(scene, "localhost"):
            yield Outcome(f"{program}, localhost without a line", not address, seen)


def _ask_localhost(scene: Scene) -> None:
    scene.opened.enter_context(resolver(scene, {"localhost": LOOPBACK}))


def _redirect(scene: Scene) -> Iterator[Outcome]:
    replace(scene, HOSTS, f"{_ELSEWHERE} localhost\n")
    nobody_answers(scene)
    with web(scene, *LOOPBACK.values(), _ELSEWHERE, port=_PORT):
        for program, address, seen in _made(scene, "localhost"):
            yield Outcome(f"{program}, localhost with the line {_ELSEWHERE}", address == _ELSEWHERE, seen)


def _no_files(scene: Scene) -> None:
    replace(scene, ORDER, "hosts: dns\n")


def _star(scene: Scene) -> Iterator[Outcome]:
    nobody_answers(scene)
    with web(scene, *LOOPBACK.values(), port=_PORT):
        for program, address, seen in _made(scene, "foo.localhost"):
            yield Outcome(f"{program}, foo.localhost", address in LOOPBACK.values(), seen)


def _dead(scene: Scene) -> Iterator[Outcome]:
    nobody_answers(scene)
    scene.opened.enter_context(scene.world.firewall(FirewallRule(protocol="udp", port=53)))  # as of one far away
    with web(scene, *LOOPBACK.values(), port=_PORT):
        for program, address, seen in _made(scene, "localhost"):
            yield Outcome(f"{program}, localhost while DNS is silent", not address, seen)


def _order(scene: Scene) -> Iterator[Outcome]:
    replace(scene, HOSTS, f"{LOOPBACK[4]} localhost shop.test\n")
    nobody_answers(scene)
    with (
        resolver(scene, {"shop.test": {4: _ELSEWHERE}}),
        web(scene, LOOPBACK[4], _ELSEWHERE, port=_PORT),
    ):
        for program, address, seen in _made(scene, "shop.test"):
            yield Outcome(f"{program}, shop.test", address == LOOPBACK[4], seen)
    scene.note(f"the hosts file says {LOOPBACK[4]}, and DNS says {_ELSEWHERE}")


def _dns_first(scene: Scene) -> None:
    replace(scene, ORDER, "hosts: dns files\n")


CLAIMS = (
    Claim(
        id="name-file",
        says="localhost comes from the hosts file: without a line there, nobody finds it.",
        statements=(39, 40, 46, 77),
        prediction="with no such line every program says that it can't find localhost",
        expected=IN_PART,
        experiment=_file,
        refuted_by=Change(text="a DNS server knows localhost", make=_ask_localhost, becomes=FALSE),
        decided_by="/etc/nsswitch.conf (files dns) for glibc; RFC 6761, 6.3, for curl since 7.78 and Chromium, which "
        "look nowhere",
        remember="Only glibc needs the line, or another source that knows it; curl and browsers do so by themselves.",
    ),
    Claim(
        id="name-redirect",
        says="A changed hosts file leads localhost elsewhere.",
        statements=(41, 43),
        prediction="with 127.5.5.5 localhost in the file, a page at http://localhost comes from 127.5.5.5",
        expected=IN_PART,
        experiment=_redirect,
        refuted_by=Change(
            text="/etc/nsswitch.conf has programs look names up by DNS alone", make=_no_files, becomes=FALSE
        ),
        decided_by="nss_files of glibc; RFC 6761, 6.3, for Curl_resolv in curl's lib/hostip.c and for Chromium",
        remember="Programs that ask glibc follow the file wherever it leads; curl and Chromium do not, on purpose.",
    ),
    Claim(
        id="name-star",
        says="Every name below localhost, such as foo.localhost, is this machine, too.",
        statements=(22, 39, 51),
        prediction="http://foo.localhost:8080/ shows the local server, without a line in any file",
        expected=IN_PART,
        experiment=_star,
        refuted_by=Change(text="a DNS server knows localhost, and all below it", make=_ask_localhost, becomes=HOLDS),
        decided_by="RFC 6761, 6.3; nss_dns of glibc sends such names to DNS servers, against it, and systemd-resolved, "
        "where that is asked, answers them itself",
        remember="Browsers and curl answer *.localhost themselves; glibc asks whom nsswitch.conf names, mostly DNS.",
    ),
    Claim(
        id="name-dead",
        says="A DNS server that does not answer makes localhost fail.",
        statements=(45, 46),
        prediction="localhost is not found while DNS is broken",
        expected=FALSE,
        experiment=_dead,
        refuted_by=Change(
            text="/etc/nsswitch.conf has programs look names up by DNS alone", make=_no_files, becomes=IN_PART
        ),
        decided_by="/etc/nsswitch.conf: files come first, and who has found stops; nsswitch.conf(5)",
        remember="As long as the hosts file has localhost, and is read, DNS is not even asked.",
    ),
    Claim(
        id="name-order",
        says="The hosts file goes before DNS.",
        statements=(39, 41),
        prediction="for a name that both have, the address is that of the file, and no DNS query is made",
        expected=HOLDS,
        experiment=_order,
        refuted_by=Change(text="/etc/nsswitch.conf has dns before files", make=_dns_first, becomes=FALSE),
        decided_by="the line hosts of /etc/nsswitch.conf, which glibc and Chromium's own resolver both read",
        remember="The order is a setting: hosts: files dns on most machines, not a law.",
    ),
)
