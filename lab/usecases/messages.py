"""Mail that goes nowhere, and names that are asked for."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial

from lab.services.dnsmasq import NAMES
from lab.usecases.needs import program, server
from lab.usecases.seen import Talk
from lab.usecases.stage import Stage, Step, in_url
from lab.usecases.telling import handshake, many, quoted, readable, refused
from lab.usecases.usecase import Finding, UseCase, either_way

__all__ = ["CASES"]

_SMTP_PORT, _DNS_PORT = 2525, 53
_LETTER = "From: app@lab.test\r\nTo: you@lab.test\r\nSubject: It works\r\n\r\nHello from loopback.\r\n"
(_NAME,) = NAMES
_UNKNOWN = "nowhere.lab.test"
#: The code of a DNS reply for a name that does not exist (RFC 1035, 4.1.1).
_NXDOMAIN = 3


def _smtp(stage: Stage) -> Iterator[Finding]:
    server = None if stage.changed else stage.serve("smtp", port=_SMTP_PORT)
    url = f"smtp://{in_url(stage.loopback)}:{_SMTP_PORT}/app.lab.test"
    step, done = stage.run(
        "A program sends mail", "curl", "-sS", "-g", url, "--mail-from", "app@lab.test", "--mail-rcpt", "you@lab.test",
        "-T", "-", typed=_LETTER,
    )  # fmt: skip
    kept = [] if server is None else [path.read_text() for path in (server.folder / "mail/new").iterdir()]
    seen = stage.look()
    talks = step.at(stage.loopback, _SMTP_PORT)
    stage.show(talks)
    yield handshake(talks, "server")
    words = ["MAIL FROM:<app@lab.test>", "RCPT TO:<you@lab.test>", "Subject: It works", "Hello from loopback."]
    yield readable("Addresses and letter", words, talks)
    held = len(kept) == 1 and "Hello from loopback." in kept[0] and done.code == 0
    told = f"{len(kept)} in the server's folder" + (f"; curl: {quoted(done.out)}" if done.code else "")
    yield Finding("kept", "The letter is kept for the developer to look at", held, told)
    elsewhere = [talk for talk in seen.talks if talk not in talks]
    says = "Nothing goes on to anybody else: there was one conversation, of this machine with itself"
    holds = not elsewhere and len(talks) == 1 and talks[0].state != "refused"
    evidence = f"{many(len(talks), 'conversation')} with the mail server, {len(elsewhere)} with others"
    yield Finding("goes-nowhere", says, holds, f"{evidence}: refused" if refused(talks) else evidence)


def _dns(stage: Stage) -> Iterator[Finding]:
    stage.serve("dnsmasq", port=_DNS_PORT)
    hosts = "127.0.0.1 localhost\n::1 localhost\n"
    if stage.changed:
        hosts += "".join(f"{address} {_NAME}\n" for address in NAMES[_NAME])
    files = {
        "/etc/hosts": hosts,
        "/etc/nsswitch.conf": "hosts: files dns\n",
        "/etc/resolv.conf": f"nameserver {stage.loopback}\n",
    }
    ask = partial(stage.run, files=files)
    asked, found = ask("Resolve a name that the server knows", "getent", "ahosts", _NAME)
    local, itself = ask("Resolve localhost", "getent", "ahosts", "localhost")
    numeric, given = ask("Resolve an address", "getent", "ahosts", stage.loopback)
    unknown, none = ask("Resolve a name that nobody has", "getent", "ahosts", _UNKNOWN)
    stage.look()
    stage.show(asked.talks or unknown.talks)
    wanted = NAMES[_NAME]
    evidence = f"getent: {quoted(found.out)}"
    says = f"The name leads to {' and '.join(wanted)}"
    yield Finding("resolved", says, all(address in found.out for address in wanted), evidence)
    yield _datagrams(asked, stage)
    says = "localhost and numeric addresses are asked of nobody: no packet"
    known = stage.loopback in itself.out and stage.loopback in given.out
    evidence = f"{local.packets} and {numeric.packets} packets; getent: {quoted(itself.out)}, {quoted(given.out)}"
    yield Finding("known", says, known and not local.packets and not numeric.packets, evidence)
    codes = [_code(talk) for talk in unknown.talks]
    says = "For a name that nobody has, the answer is that it does not exist (NXDOMAIN), and not silence"
    evidence = f"reply codes {', '.join(map(str, codes)) or 'none'}; getent ended with {none.code}"
    yield Finding("nxdomain", says, bool(codes) and set(codes) == {_NXDOMAIN} and none.code != 0, evidence)


def _datagrams(step: Step, stage: Stage) -> Finding:
    """A question and a reply, without a handshake."""
    talks = step.at(stage.loopback, _DNS_PORT)
    each = [f"{talk.protocol}: {talk.opening(4)}" for talk in talks]
    ways = [[packet.to_server for packet in talk.packets] for talk in talks]
    paired = bool(ways) and all(sum(way) * 2 == len(way) and way[0] for way in ways)
    holds = paired and all(talk.protocol == "udp" for talk in talks)
    says = f"A datagram to port 53 of {stage.loopback} asks, and one answers: no connection is made"
    return Finding("datagrams", says, holds, "; ".join(each) or "nobody was asked")


def _code(talk: Talk) -> int | None:
    """The reply code of the first answer (the low four bits of the second word); None: there was none."""
    answers = talk.carrying(to_server=False)
    return struct.unpack_from("!2H", answers[0].payload)[1] & 0xF if answers else None


CASES = (
    UseCase(
        id="smtp",
        title="A mail server for tests, which delivers nothing",
        question="How does one see the mail that a program sends, without sending any?",
        server="aiosmtpd, in Python",
        client="curl",
        needs=(server("smtp"), program("curl")),
        play=_smtp,
        explanation=(
            "A program under test is told that its mail server is on loopback. What listens there takes every letter "
            "and keeps it, so that no customer gets one by mistake. In SMTP the server speaks first, with 220; a "
            "client that hears nothing has not reached a mail server. Port 25 is for root, so tests use another."
        ),
        remember="Whoever speaks first tells the protocol: a mail server greets, a web server waits.",
        changed_if="no mail server runs",
        flips=either_way("three-packets", "readable", "kept", "goes-nowhere"),
    ),
    UseCase(
        id="dns",
        title="A name server on this machine",
        question="Which names are asked of a name server on loopback, and which of nobody?",
        server="dnsmasq",
        client="getent, which asks as most programs do",
        needs=(server("dnsmasq"), program("getent")),
        play=_dns,
        explanation=(
            "Many machines have a name server on loopback that remembers answers. The line nameserver 127.0.0.1 in "
            "/etc/resolv.conf sends a program there. Before that it looks into /etc/hosts, where localhost is, and "
            "what is an address already needs no server at all."
        ),
        remember="A line of /etc/hosts goes before every name server: look there first when a name leads astray.",
        changed_if="the name stands in /etc/hosts as well",
        flips=either_way("datagrams"),
    ),
)
