"""Of where loopback leads: whose services answer there, whether that can be changed, and who reads what is said."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Iterator

from lab.errors import errno_name
from lab.firewall import FirewallRule
from lab.sayings.claim import DEPENDS, FALSE, HOLDS, IN_PART, Change, Claim, Outcome
from lab.sayings.crossing import ask_across, let_pass
from lab.sayings.scene import LOOPBACK, Scene

__all__ = ["CLAIMS"]

_ADDRESS = LOOPBACK[4]
_PORT, _OTHER_PORT = 8080, 9090
_LINKS = ("lo", "veth")
_ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - that is the subject
_ETH_P_ALL = 3
_SECRETS = {4: b"mellon", 6: b"sesame"}
#: How two services ask to share a port; it is the same option for both.
_SHARING = {
    "by themselves": None,
    "both with SO_REUSEADDR": socket.SO_REUSEADDR,
    "both with SO_REUSEPORT": socket.SO_REUSEPORT,
}
#: Tries to open a packet socket as a program that may do nothing special: as another user, if it can, and by rights.
_READER = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
try:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
except OSError:
    pass
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
assert libc.capset(header, (ctypes.c_uint32 * 6)()) == 0
try:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
except OSError as error:
    print(error.errno)
else:
    print(0)
"""


# ---- whose services answer ----


def _redirect(scene: Scene) -> Iterator[Outcome]:
    ours = "our service"
    # It serves at every address, so that it is there even if this machine should have lost 127.0.0.1.
    scene.serve(_ANY[4], _PORT, ours)
    scene.serve(_ANY[4], _OTHER_PORT, "another program")
    scene.serve(_ANY[4], _PORT, "the neighbour", end="far")
    scene.world.add_route(f"{_ADDRESS}/32", gateway=scene.far("veth", 4))
    answer = scene.ask(_ADDRESS, _PORT)
    yield Outcome(f"a route sends {_ADDRESS} to the neighbour", answer.by == ours, str(answer))
    rule = FirewallRule(verdict=("redirect", _OTHER_PORT), hook="output", protocol="tcp", port=_PORT)
    with scene.world.firewall(rule):
        answer = scene.ask(_ADDRESS, _PORT)
    yield Outcome(f"a rule of nftables redirects port {_PORT} to {_OTHER_PORT}", answer.by == ours, str(answer))


def _move_to_neighbour(scene: Scene) -> None:
    scene.world.remove_address("lo", f"{_ADDRESS}/8")
    let_pass(scene)


def _always(scene: Scene) -> Iterator[Outcome]:
    for end, name in (("near", "the service here"), ("far", "the container's own service")):
        scene.serve(_ANY[4], _PORT, name, end=end)
    for end, case in (("near", "a program here"), ("far", "a program in a network namespace of its own (a container)")):
        answer = scene.ask(_ADDRESS, _PORT, end=end)
        yield Outcome(f"{case} asks {_ADDRESS}", answer.by == "the service here", str(answer))


def _lead_here(scene: Scene) -> None:
    let_pass(scene)
    ask_across(scene, 4)


def _shadow(scene: Scene) -> Iterator[Outcome]:
    port = _PORT
    for kind in ("tcp", "udp"):
        for how, option in _SHARING.items():
            scene.server_options = [] if option is None else [(socket.SOL_SOCKET, option, 1)]
            told, right = [], True
            for family, address in LOOPBACK.items():
                scene.serve(_ANY[family], port, "the first", kind=kind, v6only=True)
                number = scene.bind(address, port, name="the second", kind=kind)
                answer = scene.ask(address, port, kind=kind)
                right = right and answer.by == "the first"
                bound = errno.errorcode[number] if number else "bound"
                told.append(f"at {address} the second is {bound}; {answer}")
            yield Outcome(f"{kind.upper()}, {how}", right, "; ".join(told))
            port += 1


def _third(scene: Scene) -> None:
    for kind in ("tcp", "udp"):
        scene.serve("::", _OTHER_PORT, "a third", kind=kind, v6only=False)
        rule = FirewallRule(verdict=("redirect", _OTHER_PORT), hook="output", protocol=kind, device="lo")
        scene.opened.enter_context(scene.world.firewall(rule))


# ---- who reads ----


def _read(scene: Scene) -> Iterator[Outcome]:
    readers = {end: _reader(scene, end) for end in ("near", "far")}
    for family, address in LOOPBACK.items():
        scene.serve(address, _PORT, _SECRETS[family].decode(), end=scene.home)
        scene.ask(address, _PORT, end=scene.home)
    cases = {
        "near": "a program here that may capture (CAP_NET_RAW)",
        "far": "a program with all rights in another network namespace",
    }
    for end, case in cases.items():
        found = _secrets(readers[end])
        told = f"reads {' and '.join(found)}" if found else "reads neither of the two passwords"
        yield Outcome(case, not found, told)
    printed = scene.run(sys.executable, "-c", _READER).stdout.strip()
    number = int(printed)
    told = errno_name(number) if number else "a packet socket is opened"
    yield Outcome("a program without rights asks for a packet socket", bool(number), told)


def _reader(scene: Scene, end: str) -> socket.socket:
    """Hears all that passes the interfaces of a namespace from now on."""
    everything = socket.htons(_ETH_P_ALL)
    reader = scene.opened.enter_context(scene.world.socket(socket.AF_PACKET, socket.SOCK_RAW, everything, end=end))
    reader.setblocking(False)
    return reader


def _secrets(reader: socket.socket) -> list[str]:
    """Which of the passwords are in what was heard."""
    heard = []
    with contextlib.suppress(BlockingIOError):
        while frame := reader.recv(65536):
            heard.append(frame)
    return [word.decode() for word in _SECRETS.values() if any(word in frame for frame in heard)]


def _talk_elsewhere(scene: Scene) -> None:
    scene.home = "middle"


CLAIMS = (
    Claim(
        id="leaves-redirect",
        says="127.0.0.1 can't be redirected: who asks a port there gets whoever serves that port on this machine.",
        statements=(43,),
        prediction="neither a route nor a rule of the firewall leads a client of 127.0.0.1:8080 elsewhere",
        expected=IN_PART,
        experiment=_redirect,
        links=_LINKS,
        refuted_by=Change(
            text="lo has lost 127.0.0.1, and route_localnet is 1 at both ends of the cable",
            make=_move_to_neighbour,
            becomes=FALSE,
        ),
        decided_by=(
            "fib_find_alias in net/ipv4/fib_trie.c: of routes for one prefix, that of the table local is first; "
            "nf_nat_redirect_ipv4 in net/netfilter/nf_nat_redirect.c"
        ),
        remember="A route alone does not move 127.0.0.1, but a firewall does, and so does taking it from lo.",
    ),
    Claim(
        id="leaves-always",
        says="At 127.0.0.1, every program on this computer reaches the services of this computer.",
        statements=(1, 44),
        prediction="two programs that ask 127.0.0.1:8080 are answered by the same service",
        expected=DEPENDS,
        mixed=DEPENDS,
        experiment=_always,
        links=_LINKS,
        refuted_by=Change(
            text="the container has no 127.0.0.1 but a route to ours, with route_localnet=1 at both ends",
            make=_lead_here,
            becomes=HOLDS,
        ),
        decided_by="network_namespaces(7); net/core/net_namespace.c: each network namespace has a loopback device",
        remember="127.0.0.1 is this network namespace: in a container, it is the container, not the computer.",
    ),
    Claim(
        id="leaves-shadow",
        says="Who asks a port of the loopback address reaches the service that has that port at 0.0.0.0 or ::.",
        statements=(1, 5, 78),
        prediction="a second service can't get the port at 127.0.0.1, and the first one answers",
        expected=DEPENDS,
        mixed=DEPENDS,
        experiment=_shadow,
        refuted_by=Change(
            text="a rule of nftables redirects all that goes out by lo to the port of a third service",
            make=_third,
            becomes=FALSE,
        ),
        decided_by=(
            "inet_csk_get_port in net/ipv4/inet_connection_sock.c, udp_lib_get_port and compute_score in "
            "net/ipv4/udp.c; socket(7): SO_REUSEADDR, SO_REUSEPORT"
        ),
        remember="Where services let a port be shared, one at 127.0.0.1 takes local clients from that at 0.0.0.0.",
    ),
    Claim(
        id="leaves-read",
        says="Nobody can listen in on what passes loopback.",
        statements=(11,),
        prediction="no other program gets to see a password that is sent over loopback",
        expected=DEPENDS,
        mixed=DEPENDS,
        experiment=_read,
        links=_LINKS,
        refuted_by=Change(
            text="both ends of the conversation run in a network namespace that the listeners are not in",
            make=_talk_elsewhere,
            becomes=HOLDS,
        ),
        decided_by="packet_create in net/packet/af_packet.c: CAP_NET_RAW in the namespace; packet(7)",
        remember="Whoever may capture reads loopback like any network: what is secret has to be encrypted there, too.",
    ),
)
