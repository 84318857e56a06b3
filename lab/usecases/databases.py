"""Databases: PostgreSQL and MariaDB, which mean different things by localhost, and Redis."""

from __future__ import annotations

from collections.abc import Iterator

from lab.services import Service
from lab.usecases.needs import program, server
from lab.usecases.stage import Done, Stage, Step
from lab.usecases.telling import handshake, many, quoted, readable, silent
from lab.usecases.usecase import Finding, UseCase, either_way

__all__ = ["CASES"]

#: Six times seven; the rest is to be found in the packets.
_SQL = "SELECT 6 * 7 AS answer"
_COMMANDS = 10


def _hosts(stage: Stage) -> dict[str, str]:
    """What localhost is, for a program: the address that the server listens on, and that alone."""
    return {"/etc/hosts": f"{stage.loopback} localhost\n", "/etc/nsswitch.conf": "hosts: files\n"}


def _postgresql(stage: Stage) -> Iterator[Finding]:
    database = stage.serve("postgresql")

    def ask(text: str, host: str) -> tuple[Step, Done]:
        told = ["-h", host, "-p", str(database.port), "-U", str(database.user), "-d", str(database.database)]
        return stage.run(text, "psql", "-X", *told, "-Atc", _SQL, files=_hosts(stage))

    by_address, first = ask("Ask by address", stage.loopback)
    by_name, second = ask("Ask by the name localhost", "localhost")
    folder = stage.loopback if stage.changed else str(database.folder)
    by_socket, third = ask("Ask by the folder of its unix socket", folder)
    stage.look()
    talks = by_address.at(stage.loopback, database.port)
    stage.show(talks)
    yield _same([first, second, third])
    yield handshake(talks)
    asked = [talk.said(to_server=False)[:1] for talk in talks]
    says = "The client asks for encryption first, and this server has none"
    yield Finding("no-encryption", says, asked == ["N"], f"the server's first byte: {', '.join(map(quoted, asked))}")
    yield readable("The query and its result", [_SQL, "answer", "42"], talks)
    yield _by_network(by_name, "psql")
    yield silent("socket", "By the unix socket no packet is sent", by_socket, worked=third.out.strip() == "42")


def _mariadb(stage: Stage) -> Iterator[Finding]:
    database = stage.serve("mariadb")

    def ask(text: str, *how: str) -> tuple[Step, Done]:
        told = [*how, "-u", str(database.user), str(database.database)]
        return stage.run(text, "mariadb", "--no-defaults", *told, "-NBe", _SQL, files=_hosts(stage))

    named = ["-h", "localhost", "--socket", str(database.unix_socket)]
    by_address, first = ask("Ask by address", "-h", stage.loopback)
    by_name, second = ask("Ask by the name localhost", *named, *(["--protocol=tcp"] if stage.changed else []))
    insisting, third = ask("The same, with TCP asked for", *named, "--protocol=tcp")
    stage.look()
    talks = by_address.at(stage.loopback, database.port)
    stage.show(talks)
    yield _same([first, second, third])
    yield handshake(talks, "server")
    yield readable("The query and its result", [_SQL, "answer", "42"], talks)
    says = "-h localhost means the unix socket to this client: no packet is sent"
    yield silent("localhost", says, by_name, worked=second.out.strip() == "42")
    yield _by_network(insisting, "mariadb --protocol=tcp")


def _same(answers: list[Done]) -> Finding:
    told = [quoted(done.out) for done in answers]
    holds = all(done.code == 0 and done.out.strip() == "42" for done in answers)
    return Finding("same-answer", "Each way leads to the same answer", holds, ", ".join(told))


def _by_network(step: Step, client: str) -> Finding:
    says = f"localhost is asked over the network by {client}, at its loopback address"
    evidence = f"{many(step.packets, 'packet')} with {', '.join({talk.server for talk in step.talks}) or 'nobody'}"
    return Finding("by-network", says, step.packets > 0, evidence)


def _redis(stage: Stage) -> Iterator[Finding]:
    cache = stage.serve("redis")
    client = ["redis-cli", "-h", stage.loopback, "-p", str(cache.port)]
    _keep, kept = stage.run("Keep a word", *client, "SET", "greeting", "hello")
    read, found = stage.run("Read it again", *client, "GET", "greeting")
    counted, _many = stage.run(
        f"Count to {_COMMANDS}, a command at a time" + (", without waiting" if stage.changed else ""),
        *client, *(["--pipe"] if stage.changed else []), typed="INCR visits\r\n" * _COMMANDS,
    )  # fmt: skip
    by_socket, same = stage.run("Read it by the unix socket", *_by_socket(cache), "GET", "greeting")
    stage.look()
    talks = read.at(stage.loopback, cache.port)
    stage.show(talks)
    held = (kept.out.strip(), found.out.strip()) == ("OK", "hello")
    evidence = f"SET: {quoted(kept.out)}, GET: {quoted(found.out)}"
    yield Finding("kept", "What was kept is there for the next connection", held, evidence)
    yield handshake(talks)
    yield readable("Commands and replies", ["GET", "greeting", "hello"], talks)
    talks = counted.at(port=cache.port)
    # The client asks first which commands there are; integers are replies that begin with a colon (RESP).
    sent = sum(b"INCR" in packet.payload for talk in talks for packet in talk.carrying(to_server=True))
    came = sum(packet.payload.startswith(b":") for talk in talks for packet in talk.carrying(to_server=False))
    yield Finding(
        "one-by-one",
        "Each command goes in a packet of its own, and waits for its reply",
        sent >= _COMMANDS and came >= _COMMANDS,
        f"{_COMMANDS} commands: {many(sent, 'packet')} with commands, {came} with replies",
    )
    yield silent("socket", "By the unix socket no packet is sent", by_socket, worked=same.out.strip() == "hello")


def _by_socket(cache: Service) -> list[str]:
    return ["redis-cli", "-s", str(cache.unix_socket)]


CASES = (
    UseCase(
        id="postgresql",
        title="A database beside the program that uses it: PostgreSQL",
        question="What crosses the network when a program asks a database on the same machine?",
        server="PostgreSQL",
        client="psql",
        needs=(server("postgresql"), program("psql")),
        play=_postgresql,
        explanation=(
            "A database that serves one machine needs no address that others can reach: it listens on loopback, or on "
            "a unix socket, which is a file and no network at all. psql takes a host that begins with a slash for the "
            "folder of that socket; any other name, localhost too, is looked up and asked by TCP."
        ),
        remember="For PostgreSQL localhost is the network; a folder in place of the host is the unix socket.",
        changed_if="the address is given in place of the socket's folder",
        flips=either_way("socket"),
    ),
    UseCase(
        id="mariadb",
        title="A database beside the program that uses it: MariaDB",
        question="Why does it matter to MariaDB whether one says localhost or 127.0.0.1?",
        server="MariaDB",
        client="mariadb",
        needs=(server("mariadb"), program("mariadb")),
        play=_mariadb,
        explanation=(
            "To the clients of MariaDB and MySQL, localhost is no name of a network: they take the unix socket, so a "
            "capture of lo stays empty, and the server sees root@localhost. 127.0.0.1 goes by TCP. Where one of the "
            "two works and the other does not, look at the path of the socket, and at what the server is bound to."
        ),
        remember="-h localhost is the unix socket, -h 127.0.0.1 is TCP; --protocol=tcp makes the name mean TCP too.",
        changed_if="TCP is asked for when the host is localhost",
        flips=either_way("localhost"),
    ),
    UseCase(
        id="redis",
        title="A cache on this machine: Redis",
        question="What does a command to a cache on the same machine cost?",
        server="Redis",
        client="redis-cli",
        needs=(server("redis"), program("redis-cli")),
        play=_redis,
        explanation=(
            "A cache has no password here, and needs none: lo is out of reach for other machines. Each command waits "
            "for its reply, which is one round trip; a program that sends many commands at once, a pipeline, pays "
            "that once for all of them. The unix socket saves the packets altogether."
        ),
        remember="On loopback, too, it is round trips that cost: send commands together where you can.",
        changed_if="the commands are sent as a pipeline, without waiting for replies",
        flips=either_way("one-by-one"),
    ),
)
