"""Of loopback's being there: whether it works without its interface, its address, other networks, or being set up."""

from __future__ import annotations

import errno
import json
import socket
import struct
import sys
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

from lab.errors import Unavailable, errno_name
from lab.firewall import FirewallRule
from lab.sayings.claim import FALSE, HOLDS, IN_PART, Change, Claim, Outcome
from lab.sayings.crossing import ask_across, let_pass
from lab.sayings.scene import LOOPBACK, Scene

__all__ = ["CLAIMS"]

_PORT = 8080
_LINKS = ("lo", "veth")
_ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - a service for every address
#: What a shell reads when somebody logs in stands for what a system does when it starts.
_STARTUP = "/etc/profile"
_SIOCSIFNAME, _NLM_F_REQUEST, _NLM_F_ACK, _RTM_DELLINK = 0x8923, 1, 4, 17
_LO_INDEX = 1  # in every namespace
#: Makes a network namespace, and has a shell start up in it, as its root, and then run the program that is given.
_IN_FRESH = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
new_user, new_net = 0x10000000, 0x40000000
user = os.geteuid()
if libc.unshare(new_net):
    if libc.unshare(new_user | new_net):
        sys.exit(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    with open("/proc/self/uid_map", "w") as file:
        file.write(f"0 {user} 1")
os.execvp("sh", ["sh", "-c", '. "$1"; shift; exec "$@"', "sh", *sys.argv[1:]])
"""
#: Prints which interfaces there are, and what comes of a TCP connection to each loopback address: an errno, or 0.
_LOOK_ROUND = """
import json, socket
found = {"interfaces": [name for _, name in socket.if_nameindex()]}
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    with socket.socket(family) as server, socket.socket(family) as client:
        client.settimeout(0.25)
        try:
            server.bind(("0.0.0.0" if family == socket.AF_INET else "::", 0))
            server.listen()
            client.connect((address, server.getsockname()[1]))
            found[address] = 0
        except OSError as error:
            found[address] = error.errno or 110
print(json.dumps(found))
"""
_BRING_LO_UP = """{python} -c 'import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 1))'
"""


def _asked(scene: Scene, family: int) -> Iterator[Outcome]:
    """A ping and a TCP connection to the loopback address of a family."""
    address = LOOPBACK[family]
    answer = scene.ping(address)
    yield Outcome(f"ping {address}", answer.came, str(answer))
    answer = scene.ask(address, _PORT)
    yield Outcome(f"TCP to {address}", answer.came, str(answer))


def _served(scene: Scene) -> None:
    """A service at every address of both families."""
    for address in _ANY.values():
        scene.serve(address, _PORT, f"the service at {address}", v6only=True)


# ---- without what it seems to need ----


def _down(scene: Scene) -> Iterator[Outcome]:
    _served(scene)
    scene.world.set_link("lo", False)
    for family in LOOPBACK:
        yield from _asked(scene, family)
    scene.note(f"this machine's own {scene.near('veth', 4)}: {scene.ping(scene.near('veth', 4))}")


def _neighbour_instead(scene: Scene) -> None:
    scene.serve(_ANY[4], _PORT, "the neighbour", end="far")
    let_pass(scene)
    ask_across(scene, 4, end="near")


def _address(scene: Scene) -> Iterator[Outcome]:
    _served(scene)
    for family, address in LOOPBACK.items():
        scene.world.remove_address("lo", f"{address}/{8 if family == 4 else 128}")
    for family in LOOPBACK:
        yield from _asked(scene, family)


def _others_remain(scene: Scene) -> None:
    scene.world.add_address("lo", "127.0.0.2/16")
    scene.world.add_address("lo", "::2/128")
    scene.world.add_route("::/112", device="lo", kind="local")
    scene.until(lambda: scene.ping("::2", timeout_s=0.05).came)  # it is tentative for a moment


def _offline(scene: Scene) -> Iterator[Outcome]:
    _served(scene)
    scene.world.set_link("veth", False)
    for family in LOOPBACK:
        yield from _asked(scene, family)
    for family in LOOPBACK:
        own = scene.near("veth", family)
        scene.note(f"the own address of the card that is down, {own}: {scene.ping(own)}")


def _only_the_card(scene: Scene) -> None:
    rules = FirewallRule(verdict="accept", device="veth"), FirewallRule(verdict="drop")
    scene.opened.enter_context(scene.world.firewall(*rules))


def _six(scene: Scene) -> Iterator[Outcome]:
    for kind in ("tcp", "udp"):
        for family, address in _ANY.items():
            scene.serve(address, _PORT, f"the service at {address}", kind=kind, v6only=family == 6)
    for how in ("ping", "tcp", "udp"):
        answers = [
            scene.ping(each) if how == "ping" else scene.ask(each, _PORT, kind=how) for each in LOOPBACK.values()
        ]
        told = "; ".join(f"{each}: {answer}" for each, answer in zip(LOOPBACK.values(), answers, strict=True))
        yield Outcome(how if how == "ping" else how.upper(), answers[0].came == answers[1].came, told)


def _six_off(scene: Scene) -> None:
    scene.world.sysctl("ipv6/conf/lo/disable_ipv6", 1)


# ---- from the beginning ----


def _fresh(scene: Scene) -> Iterator[Outcome]:
    found = _in_fresh_namespace(scene)
    scene.note(f"its interfaces: {', '.join(found['interfaces'])}")
    for address in LOOPBACK.values():
        number = found[address]
        evidence = errno_name(number) if number else "connected"
        yield Outcome(f"TCP to {address}, in a network namespace just made", not number, evidence)


def _in_fresh_namespace(scene: Scene) -> dict[str, Any]:
    """What a program sees in a network namespace that nobody but the start-up file has touched."""
    if not Path(_STARTUP).is_file():
        raise Unavailable(f"there is no {_STARTUP}", errno=errno.ENOENT, fix="Make an empty one")
    scene.files.setdefault(_STARTUP, "")
    done = scene.run(sys.executable, "-c", _IN_FRESH, _STARTUP, sys.executable, "-c", _LOOK_ROUND)
    if done.returncode:
        fix = "Raise user.max_net_namespaces and user.max_user_namespaces"
        raise Unavailable(done.stderr.strip() or "no network namespace", errno=None, fix=fix)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _started_up(scene: Scene) -> None:
    scene.files[_STARTUP] = _BRING_LO_UP.format(python=sys.executable)


def _built_in(scene: Scene) -> Iterator[Outcome]:
    there = scene.world.interfaces()
    yield Outcome("this network has an interface lo", "lo" in there, f"its interfaces: {', '.join(there)}")
    fresh = _in_fresh_namespace(scene)["interfaces"]
    yield Outcome(
        "so has a network namespace that was just made", fresh == ["lo"], f"its interfaces: {', '.join(fresh)}"
    )
    number = _deletion(scene)
    evidence = errno_name(number) if number else "it is gone"
    yield Outcome("it can't be deleted (RTM_DELLINK)", bool(number), evidence)


def _deletion(scene: Scene) -> int:
    """The errno of an attempt to delete the loopback interface; 0 if it worked."""
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, _LO_INDEX, 0, 0)
    header = struct.pack("=IHHII", 16 + len(body), _RTM_DELLINK, _NLM_F_REQUEST | _NLM_F_ACK, 1, 0)
    with scene.world.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as channel:
        channel.send(header + body)
        reply = channel.recv(4096)
    (number,) = struct.unpack_from("=i", reply, 16)
    return int(-number)


def _rename(scene: Scene) -> None:
    scene.world.set_link("lo", False)  # until Linux 6.2, no interface that is up gets another name
    with scene.world.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        ioctl(channel, _SIOCSIFNAME, struct.pack("16s16s8x", b"lo", b"inside"))
    scene.world.set_link("inside", True)


CLAIMS = (
    Claim(
        id="always-down",
        says="Loopback always works: also when its interface, lo, is down.",
        statements=(3, 49),
        prediction="127.0.0.1 and ::1 answer when lo is switched off",
        expected=FALSE,
        experiment=_down,
        links=_LINKS,
        refuted_by=Change(
            text="127.0.0.1 is taken from lo and routed to a neighbour that serves it, with route_localnet=1: it "
            "works, but it is another machine",
            make=_neighbour_instead,
            becomes=IN_PART,
        ),
        decided_by=(
            "fib_sync_down_dev in net/ipv4/fib_semantics.c: IPv4 keeps local routes, and the queue of lo drops all "
            "(noop_enqueue in net/sched/sch_generic.c); addrconf_ifdown in net/ipv6/addrconf.c: IPv6 removes them"
        ),
        remember="All that a machine says to itself goes by lo: if that is down, even its own addresses are silent.",
    ),
    Claim(
        id="always-address",
        says="127.0.0.1 and ::1 mean this machine in themselves: they work without being assigned.",
        statements=(44, 49),
        prediction="127.0.0.1 and ::1 answer after both were removed from lo",
        expected=FALSE,
        experiment=_address,
        refuted_by=Change(
            text="lo has other addresses, 127.0.0.2/16 and ::2, and a local route ::/112",
            make=_others_remain,
            becomes=HOLDS,
        ),
        decided_by="fib_add_ifaddr, fib_del_ifaddr in net/ipv4/fib_frontend.c; init_loopback in net/ipv6/addrconf.c",
        remember="127.0.0.1 is an address of lo like any other; what makes it this machine is a route in table local.",
    ),
    Claim(
        id="always-fresh",
        says="Wherever Linux runs, loopback works from the beginning.",
        statements=(3, 49),
        prediction="a program in a network namespace that was just made reaches itself at 127.0.0.1",
        expected=FALSE,
        experiment=_fresh,
        refuted_by=Change(
            text="what starts up there (here /etc/profile) brings lo up, as each system does when it boots",
            make=_started_up,
            becomes=HOLDS,
        ),
        decided_by="loopback_net_init in drivers/net/loopback.c: lo is registered, and down",
        remember="The kernel makes lo, but somebody has to bring it up: systemd, the container's tool, or you.",
    ),
    Claim(
        id="always-built-in",
        says="The interface lo is built in: every network has it, and it can't be removed.",
        statements=(49,),
        prediction="there is an interface lo from the first moment on, and the kernel refuses to delete it",
        expected=HOLDS,
        experiment=_built_in,
        refuted_by=Change(text="somebody has renamed it", make=_rename, becomes=IN_PART),
        decided_by=(
            "rtnl_delete_link in net/core/rtnetlink.c: lo has no rtnl_link_ops; loopback_net_init in "
            "drivers/net/loopback.c"
        ),
        remember="Each network namespace has a loopback device as number 1, and lo is no more than its usual name.",
    ),
    Claim(
        id="always-offline",
        says="Loopback needs no other network: it works with all cards off.",
        statements=(3, 29),
        prediction="127.0.0.1 and ::1 answer while the only card is down",
        expected=HOLDS,
        experiment=_offline,
        links=_LINKS,
        refuted_by=Change(
            text="a firewall lets in only what comes by the card, and forgot lo",
            make=_only_the_card,
            becomes=FALSE,
        ),
        decided_by="RFC 1122, 3.2.1.3 (g); ip_route_output_key_hash_rcu in net/ipv4/route.c: local goes by lo",
        remember="Loopback works on an airplane; but a rule that was written with the network in mind can cut it off.",
    ),
    Claim(
        id="always-six",
        says="Where 127.0.0.1 answers, ::1 does, too.",
        statements=(25, 73),
        prediction="what is answered at 127.0.0.1 is answered at ::1",
        expected=HOLDS,
        experiment=_six,
        refuted_by=Change(
            text="IPv6 is off at lo (sysctl net.ipv6.conf.lo.disable_ipv6=1)",
            make=_six_off,
            becomes=FALSE,
        ),
        decided_by="RFC 4291, 2.5.3; addrconf_ifdown and addrconf_notify in net/ipv6/addrconf.c",
        remember="The two loopback addresses are two protocols': either can be off while the other works.",
    ),
)
