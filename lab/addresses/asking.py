"""Asks the C library for a name, from within a network: ``python -P -m lab.addresses.asking QUESTION``.

QUESTION is JSON: the name; whether it is one of localhost's, for which DNS on another machine is not asked (RFC 6761,
6.3); join, a process whose user, mount and network namespace to enter first, or null; and parent, the process that
asks. The answer is JSON on standard output: what the files say, what each source says that is asked alone, and what
programs get.

Each question is asked by a process of its own: which sources are asked is set for a whole process
(``__nss_configure_lookup``), all are asked at a time, and one that does not answer in time can be ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.addresses import sources
from lab.processes import fork_into
from lab.world import kernel

__all__ = ["PATIENCE_S"]

#: How long an answer is waited for. glibc gives up by itself after 10 s, with one server and one name to try.
PATIENCE_S = 15.0
_MAX_ANSWER = 1 << 16
_BUILT_IN = ("files", "dns")  # of glibc since 2.34, or beside it
_NOT_FOUND = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", -5), getattr(socket, "EAI_ADDRFAMILY", -9))


@dataclass(frozen=True)
class Question:
    """service: which source is asked alone, or several in order, as in nsswitch.conf; None: as programs ask."""

    name: str
    service: str | None
    flags: int


def main() -> None:
    """Enters where it is told to, asks, and prints the answers."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends this quietly: it is the asker who tells
    told = json.loads(sys.argv[1])
    _go_with(told["parent"])
    try:
        if told["join"] is not None:
            _enter(told["join"])
    except OSError as error:
        print(json.dumps({"error": {"errno": error.errno, "call": str(error.filename)}}))
        return
    print(json.dumps(_answers(told["name"], told["localhost"])))


def _go_with(parent: int) -> None:
    """Ends this process when its parent ends, or now, if it has."""
    kernel.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _enter(pid: int) -> None:
    """Enters the namespaces of a process that we are not in already: the user namespace first, as it has the rights."""
    opened = {}
    for kind, flag in (("user", kernel.CLONE_NEWUSER), ("mnt", kernel.CLONE_NEWNS), ("net", kernel.CLONE_NEWNET)):
        path = f"/proc/{pid}/ns/{kind}"
        if os.stat(path).st_ino != os.stat(f"/proc/self/ns/{kind}").st_ino:  # noqa: PTH116 - symbolic, not a path
            opened[flag] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    for flag, descriptor in opened.items():
        kernel.setns(descriptor, flag)
        os.close(descriptor)


def _lines(path: str) -> tuple[list[str], int | None]:
    """The lines of a file, and the errno of reading it, if it can't be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines(), None
    except OSError as error:
        return [], error.errno


def _answers(name: str, localhost: bool) -> dict[str, Any]:
    switch_lines, switch_errno = _lines("/etc/nsswitch.conf")
    hosts, hosts_errno = _lines("/etc/hosts")
    resolver = sources.resolver(_lines("/etc/resolv.conf")[0])
    switch = sources.nsswitch(switch_lines)
    # Without that line glibc asks both; in which order depends on its version.
    services = switch[2] if switch else tuple(map(sources.Service, _BUILT_IN))
    names = list(dict.fromkeys(service.name for service in services))
    configurable = _configure is not None
    withheld = [each for each in names if each == "dns" and localhost and resolver.leaves and configurable]
    kept = " ".join(each for each in names if each not in withheld)
    told: dict[str, Any] = {}
    questions = []
    for each in names if configurable else ():
        if each in withheld:
            told[each] = {"status": "not-asked"}
        elif each not in _BUILT_IN and not _installed(each):
            told[each] = {"status": "not-installed"}
        else:
            questions.append(Question(name, each, 0))
    programs = kept if withheld else None
    questions += [Question(name, programs, 0), Question(name, programs, socket.AI_ADDRCONFIG)]
    answers = _ask_all(questions)
    told |= {question.service or "": answer for question, answer in zip(questions, answers[:-2], strict=False)}
    return {
        "services": [{"service": each, **told[each]} for each in names if each in told],
        "order": {"line": switch and switch[0], "text": switch and switch[1], "errno": switch_errno},
        "hosts_errno": hosts_errno,
        "hosts": [asdict(line) for line in sources.hosts_lines(hosts, name)],
        "resolver": asdict(resolver) | {"leaves": resolver.leaves},
        "programs": answers[-2],
        "addrconfig": answers[-1],
        "withheld": withheld,
        "decided_by": _decided(switch and switch[2], told) if configurable else None,
    }


def _decided(services: Iterable[sources.Service] | None, told: dict[str, dict[str, Any]]) -> str | None:
    statuses = {
        "found": "success", "not-found": "notfound", "not-asked": "notfound", "try-again": "tryagain",
        "no-answer": "tryagain",
    }  # fmt: skip
    said = {name: statuses.get(answer["status"], "unavail") for name, answer in told.items()}
    return sources.deciding(map(sources.Service, told) if services is None else services, said)


_configure: Callable[[bytes, bytes], int] | None = getattr(ctypes.CDLL(None), "__nss_configure_lookup", None)


def _installed(service: str) -> bool:
    try:
        ctypes.CDLL(f"libnss_{service}.so.2")
    except OSError:
        return False
    return True


def _ask_all(questions: list[Question]) -> list[dict[str, Any]]:
    """The answers to all questions, asked at a time; one that takes too long is given up."""
    children: dict[int, tuple[int, int]] = {}
    own = os.getpid()
    for number, question in enumerate(questions):
        reading, writing = os.pipe()
        child = fork_into(lambda question=question, writing=writing: _answer_into(writing, question, own))  # type: ignore[misc]
        os.close(writing)
        children[reading] = (number, child)
    answers: list[dict[str, Any]] = [{"status": "no-answer", "addresses": [], "text": None} for _ in questions]
    texts: dict[int, bytes] = dict.fromkeys(children, b"")
    deadline = time.monotonic() + PATIENCE_S
    while children and (left := deadline - time.monotonic()) > 0:
        for reading in select.select(list(children), [], [], left)[0]:
            data = os.read(reading, _MAX_ANSWER)
            texts[reading] += data
            if not data:
                number, child = children.pop(reading)
                answers[number] = json.loads(texts[reading] or b'{"status": "crashed", "addresses": [], "text": null}')
                os.close(reading)
                os.waitpid(child, 0)
    for reading, (_number, child) in children.items():
        os.kill(child, signal.SIGKILL)
        os.close(reading)
        os.waitpid(child, 0)
    return answers


def _answer_into(writing: int, question: Question, parent: int) -> int:
    _go_with(parent)
    with open(writing, "w", encoding="utf-8") as file:
        json.dump(_answer(question), file)
    return 0


def _answer(question: Question) -> dict[str, Any]:
    if question.service is not None and _configure is not None:
        _configure(b"hosts", question.service.encode())
    start_ns = time.monotonic_ns()
    addresses: list[str] = []
    text, number = None, None
    name = question.name.encode("ascii")  # a str takes modules to encode, which another mount namespace may not have
    try:
        found = socket.getaddrinfo(name, None, socket.AF_UNSPEC, socket.SOCK_STREAM, 0, question.flags)
    except socket.gaierror as error:
        number, text = error.errno, error.strerror
        again = {socket.EAI_AGAIN: "try-again"}
        status = "not-found" if number in _NOT_FOUND else again.get(number or 0, "failed")
    except OSError as error:  # EAI_SYSTEM
        number, text, status = error.errno, error.strerror, "failed"
    else:
        addresses, status = list(dict.fromkeys(_text(entry[4]) for entry in found)), "found"
    return {
        "status": status,
        "addresses": addresses,
        "text": text,
        "number": number,
        "took_ns": time.monotonic_ns() - start_ns,
    }


def _text(address: tuple[Any, ...]) -> str:
    """An address of the socket module, with its zone."""
    if len(address) == 4 and address[3]:
        with contextlib.suppress(OSError):  # an interface that has gone
            return f"{address[0].partition('%')[0]}%{socket.if_indextoname(address[3])}"
    return str(address[0])


if __name__ == "__main__":
    main()
