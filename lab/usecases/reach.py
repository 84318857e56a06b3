"""Who reaches a port: the test with a telnet-like client, and a panel that is for this machine alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.firewall import FirewallRule
from lab.units import format_ns
from lab.usecases.needs import program, server
from lab.usecases.seen import Talk
from lab.usecases.stage import Done, Stage, Step, in_url
from lab.usecases.telling import handshake, quoted, readable, refused
from lab.usecases.usecase import Finding, UseCase, either_way

__all__ = ["CASES"]

_OPEN, _CLOSED, _FILTERED, _REJECTED = 2525, 2526, 2527, 2528
#: Longer than the kernel waits before it sends a SYN again: 1 s (TCP_TIMEOUT_INIT in include/net/tcp.h).
_PATIENCE_S = "1.3"
_PANEL = 8080
_PAGE = "<h1>A page on loopback</h1>"
#: How curl ends: it could not connect; it took too long.
_COULD_NOT, _TOO_LATE = 7, 28


def _port_test(stage: Stage) -> Iterator[Finding]:
    stage.serve("smtp", port=_OPEN)
    rules = [FirewallRule(verdict="reject", protocol="tcp", port=_REJECTED)]
    if not stage.changed:
        rules.append(FirewallRule(verdict="drop", protocol="tcp", port=_FILTERED))
    stage.hold(stage.world.firewall(*rules))

    def knock(text: str, port: int) -> tuple[Step, Done]:
        url = f"telnet://{in_url(stage.loopback)}:{port}"
        return stage.run(text, "curl", "-sS", "-g", "--connect-timeout", _PATIENCE_S, url, typed="QUIT\r\n")

    opened, greeted = knock("Knock at a port where a mail server listens, and say QUIT", _OPEN)
    closed, second = knock("Knock where nothing listens", _CLOSED)
    filtered, third = knock("Knock at a port whose packets a firewall drops", _FILTERED)
    rejected, fourth = knock("Knock at a port that a firewall rejects", _REJECTED)
    stage.look()
    stage.show([*closed.talks[:1], *filtered.talks[:1], *rejected.talks[:1]])
    greeting = greeted.out.startswith("220 ") and greeted.code == 0
    yield handshake(opened.at(stage.loopback, _OPEN), "server")
    yield Finding("open", "An open port answers: the service tells its name", greeting, _said(greeted))
    says = "A closed port is refused at once: SYN, and RST comes back"
    yield Finding("closed", says, refused(closed.talks) and second.code == _COULD_NOT, _told(closed, second))
    yield _silence(filtered, third)
    says = "A rejected one is refused as well, but by an ICMP error: a firewall's answer, not that of TCP"
    errors = [talk for talk in rejected.talks if talk.protocol.startswith("icmp")]
    holds = bool(errors) and not refused(rejected.talks) and fourth.code == _COULD_NOT
    yield Finding("rejected", says, holds, _told(rejected, fourth))


def _silence(step: Step, done: Done) -> Finding:
    asked = [packet for talk in step.talks for packet in talk.packets]
    answered = [packet for packet in asked if not packet.to_server]
    says = "A filtered port is silent: SYN is sent again after a second, and nothing comes back"
    holds = len(asked) >= 2 and not answered and done.code == _TOO_LATE
    wait = f", {format_ns(asked[1].time_ns - asked[0].time_ns)} apart" if len(asked) > 1 else ""
    return Finding("filtered", says, holds, _told(step, done) + wait)


def _told(step: Step, done: Done) -> str:
    each = "; ".join(f"{talk.protocol}: {talk.opening()}" for talk in step.talks)
    return f"{each or 'no packet'}; {_said(done)}"


def _admin_panel(stage: Stage) -> Iterator[Finding]:
    link = stage.world.links["veth"]
    address = link.near[stage.family]
    for private in (True, False):
        bound = stage.loopback if private != stage.changed else stage.everywhere
        port = _PANEL if private else _PANEL + 1
        stage.serve("nginx", address=bound, port=port)

    def ask(text: str, host: str, port: int, end: str) -> tuple[Step, Done]:
        url = f"http://{in_url(host)}:{port}/"
        return stage.run(text, "curl", "-sS", "-g", "--connect-timeout", _PATIENCE_S, url, end=end)

    here, own = ask("This machine asks the panel that is bound to loopback", stage.loopback, _PANEL, "near")
    there, theirs = ask("A neighbour asks it, by this machine's address", address, _PANEL, "far")
    itself, lost = ask("The neighbour asks its own loopback", stage.loopback, _PANEL, "far")
    wide, shown = ask("The neighbour asks the panel that is bound to all addresses", address, _PANEL + 1, "far")
    stage.look()
    seen = [
        each.at(port=port) for each, port in ((here, _PANEL), (there, _PANEL), (itself, _PANEL), (wide, _PANEL + 1))
    ]
    stage.show([*seen[1][:1], *seen[3][:1]])
    yield Finding("here", "This machine gets its panel", _PAGE in own.out, _outcome(seen[0], own))
    yield handshake(seen[0])
    says = "The neighbour is refused where the panel is bound to loopback"
    kept_out = refused(seen[1]) and _PAGE not in theirs.out
    yield Finding("neighbour-refused", says, kept_out, _outcome(seen[1], theirs))
    says = f"The neighbour's {stage.loopback} is the neighbour itself: nothing comes over the link"
    yield Finding("own-loopback", says, not seen[2] and lost.code == _COULD_NOT, _outcome(seen[2], lost))
    says = f"Bound to {stage.everywhere}, it answers the neighbour"
    yield Finding("neighbour-answered", says, _PAGE in shown.out, _outcome(seen[3], shown))
    found = readable("What the neighbour gets", [_PAGE], seen[3])
    yield Finding("on-the-link", "The page of that panel crosses the link, readable", found.holds, found.evidence)


def _outcome(talks: Sequence[Talk], done: Done) -> str:
    what = "curl: the page" if _PAGE in done.out else _said(done)
    return f"{talks[0].opening() if talks else 'no packet here'}; {what}"


def _said(done: Done) -> str:
    """What curl printed; its errors begin with its name."""
    return f"curl: {quoted(done.out.removeprefix('curl: '))}"


CASES = (
    UseCase(
        id="port-test",
        title="Is the port open? The test with a telnet-like client",
        question="How does one tell a port that is open from one that is closed, filtered or rejected?",
        server="aiosmtpd at one port, nothing at another, a firewall before two more",
        client="curl telnet://",
        needs=(server("smtp"), program("curl")),
        play=_port_test,
        explanation=(
            "To connect is the test: no tool is needed but one that opens a connection. The answer comes in three "
            "kinds. Somebody listens: the connection is there. Nobody listens: the kernel itself says so, at once. "
            "A firewall drops what comes: there is no answer, and the sender tries again, after one second, two, "
            "four, and so on. A firewall may also reject, and then a program can't tell it from a closed port; "
            "the packets can, as it is an ICMP error and no RST."
        ),
        remember="Refused at once: nothing listens. Silence: something on the way drops it.",
        changed_if="the firewall does not drop",
        flips=either_way("filtered"),
    ),
    UseCase(
        id="admin-panel",
        title="An admin panel for this machine alone",
        question="Who reaches a panel that is bound to 127.0.0.1, and who one that is bound to 0.0.0.0?",
        server="nginx, twice",
        client="curl, here and at a neighbour on the other end of a veth link",
        needs=(server("nginx"), program("curl")),
        play=_admin_panel,
        explanation=(
            "The address that a server binds to decides who can reach it, before any password does. Bound to loopback, "
            "it is not there for others: their packets arrive, and are refused like those for a port where nothing "
            "listens. 0.0.0.0 means all addresses of this machine, those of the network card as well. To "
            "reach a panel on loopback from elsewhere, one goes by way of the machine itself, with an SSH tunnel."
        ),
        remember="Bind to 127.0.0.1 or ::1 what is for this machine alone; 0.0.0.0 and :: are for everybody.",
        changed_if="the addresses are swapped: the private panel listens on all, the other on loopback",
        flips=either_way("neighbour-refused", "neighbour-answered", "on-the-link"),
        links=("lo", "veth"),
        captured="lo,near:veth",
    ),
)
