"""A web server and a browser, and a service that is asked by a program."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from lab.browsing import Visit, visiting
from lab.usecases.needs import CHROMIUM, program, server
from lab.usecases.seen import Talk
from lab.usecases.stage import LOOPBACK, Stage, Step, in_url
from lab.usecases.telling import asked_nobody, handshake, many, quoted, readable, refused
from lab.usecases.usecase import Finding, UseCase, either_way

__all__ = ["CASES"]

_PORT = 8080


def _web(stage: Stage) -> Iterator[Finding]:
    for address in [stage.loopback] if stage.changed else LOOPBACK.values():
        stage.serve("nginx", address=address, port=_PORT)
    # That which is no address first: nothing that a browser does after a page can be taken for its doing.
    hosts = ["::1", "127.0.0.1", "[::1]", "localhost", "0.0.0.0"]  # noqa: S104 - asked, not bound
    urls = {host: f"http://{host}:{_PORT}/" for host in hosts}
    steps: dict[str, tuple[Step, Visit]] = {}
    with contextlib.closing(visiting(urls.values(), popen=stage.world.popen)) as visits:
        for host, url in urls.items():
            steps[host] = stage.step("The browser is given an address", lambda: next(visits), f"chromium {url}")
    seen = stage.look()
    page = steps[in_url(stage.loopback)][0].at(stage.loopback, _PORT)
    stage.show([talk for talk in page if talk.first_words][:1] or page[:1])  # not one that was opened in store
    for host, name in (("127.0.0.1", "ipv4"), ("[::1]", "ipv6")):
        yield _loads(name, f"The page comes from {host}", *steps[host], host.strip("[]"))
    yield _either(*steps["localhost"])
    yield _unspecified(*steps["0.0.0.0"])  # noqa: S104
    step, visit = steps["::1"]
    yield Finding(
        "no-brackets",
        "An IPv6 address without brackets is no URL: the browser sends nothing",
        not visit.loaded and not step.packets,
        f"{visit.error}; {many(step.packets, 'packet')}",
    )
    yield handshake(page)
    yield readable("Request and page", ["GET / HTTP/1.1", "HTTP/1.1 200 OK", "<h1>A page on loopback</h1>"], page)
    yield asked_nobody(seen)


def _loads(name: str, says: str, step: Step, visit: Visit, address: str) -> Finding:
    asked = step.at(address, _PORT)
    evidence = f"{visit}; {_connections(asked)}"
    return Finding(name, says, visit.loaded and any(talk.state != "refused" for talk in asked), evidence)


def _connections(asked: tuple[Talk, ...]) -> str:
    how = " refused (SYN, and RST comes back)" if refused(asked) else ""
    return many(len(asked), "connection") + how


def _either(step: Step, visit: Visit) -> Finding:
    asked = [f"{in_url(talk.server)}{' refused' if talk.state == 'refused' else ''}" for talk in step.at(port=_PORT)]
    says = "localhost is loopback: the browser asks ::1 or 127.0.0.1, and takes the one that answers"
    holds = visit.loaded and visit.address in LOOPBACK.values()
    return Finding("localhost", says, holds, f"{visit}; asked: {', '.join(dict.fromkeys(asked)) or 'nobody'}")


def _unspecified(step: Step, visit: Visit) -> Finding:
    asked = {talk.server for talk in step.at(port=_PORT)}
    says = "0.0.0.0 in a URL is asked at 127.0.0.1: the kernel puts that in its place"
    evidence = f"{visit}; in the packets: {', '.join(sorted(asked)) or 'nothing'}"
    return Finding("unspecified", says, visit.loaded and asked == {"127.0.0.1"}, evidence)


def _rest(stage: Stage) -> Iterator[Finding]:
    notes = f"http://{in_url(stage.loopback)}:{stage.serve('notes').port}/notes"
    command = ["curl", "-sS", "-g", "-w", "%{stderr}%{http_code}\n"]
    command += ["-H", "Connection: close"] if stage.changed else []
    requests: list[list[str]] = [
        ["-H", "Content-Type: application/json", "-d", '{"text": "buy milk"}', notes],
        [f"{notes}/1"],
        ["-X", "DELETE", f"{notes}/1"],
        [f"{notes}/1"],
    ]
    arguments: list[str] = command[1:] + requests[0]
    for request in requests[1:]:
        arguments += ["--next", *command[1:], *request]
    step, done = stage.run("Make a note, read it, delete it, and read it again", "curl", *arguments)
    stage.look()
    talks = step.at(stage.loopback)
    stage.show(talks[:1])
    yield handshake(talks)
    says = "One connection carries all four requests"
    yield Finding("one-connection", says, len(talks) == 1, f"{many(len(talks), 'connection')}, {step.packets} packets")
    words = ["POST /notes HTTP/1.1", "GET /notes/1 HTTP/1.1", "DELETE /notes/1 HTTP/1.1", "HTTP/1.1 201 Created"]
    yield readable("Methods, addresses, status codes and JSON", [*words, '{"text": "buy milk"}'], talks)
    codes = [line[-3:] for line in done.out.splitlines() if line[-3:].isdecimal()]
    says = "The status tells what came of it: 201 made, 200 read, 204 deleted, 404 gone"
    yield Finding("status", says, codes == ["201", "200", "204", "404"], f"curl was told {', '.join(codes)}")
    made = _document(done.out)
    says = "What was sent comes back with an address of its own"
    yield Finding("resource", says, made == {"id": 1, "text": "buy milk"}, f"it returned {quoted(json.dumps(made))}")


def _document(out: str) -> Any:
    """The first JSON object that was printed; None: there was none."""
    start = out.find("{")
    return json.JSONDecoder().raw_decode(out[start:])[0] if start >= 0 else None


CASES = (
    UseCase(
        id="web",
        title="A web server on this machine, and a browser",
        question="Which of the addresses that one may type reach it, and what does each make of the network?",
        server="nginx, on 127.0.0.1 and on ::1",
        client="Chromium",
        needs=(server("nginx"), CHROMIUM),
        play=_web,
        explanation=(
            "A site under development runs on the machine that it is written on. 127.0.0.1 and ::1 are two addresses "
            "of two protocols: a server that listens on one of them only is not there on the other, and a browser "
            "that is given localhost tries both. 0.0.0.0 is a wish of servers, to listen everywhere; that it also "
            "works as an address to ask is a habit of the Linux kernel. A browser opens more connections than "
            "it needs for the page: it keeps one in store, and asks for an icon."
        ),
        remember="If localhost works and 127.0.0.1 does not, the server listens on ::1 alone; put IPv6 in brackets.",
        changed_if="nginx listens on the loopback address of one family only",
        flips={4: frozenset({"ipv6"}), 6: frozenset({"ipv4", "unspecified"})},
    ),
    UseCase(
        id="rest",
        title="A REST call to a service on this machine",
        question="What goes to and fro when a program makes, reads and deletes something by HTTP?",
        server="a small JSON service in Python",
        client="curl",
        needs=(server("notes"), program("curl")),
        play=_rest,
        explanation=(
            "Services are tried on loopback before anybody else can see them. Each request names a method and a path; "
            "the answer begins with a status. HTTP/1.1 keeps the connection for the next request, so the three packets "
            "that make one are paid once. Nothing is encrypted here: who may capture on lo reads all of it."
        ),
        remember="Many requests should share one connection: curl does so by itself within one command.",
        changed_if="each request asks for the connection to be closed after it",
        flips=either_way("one-connection"),
    ),
)
