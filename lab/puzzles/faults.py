"""What can be wrong in a puzzle: how it is planted, and one way to mend it. Runs inside its world, as root of it."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.puzzles import shop
from lab.taps import nftables as nft
from lab.world import kernel
from lab.world.netlink import Network

__all__ = ["FAULTS", "Fault", "Stage", "files"]

_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
#: The files that the puzzle's programs see in place of the machine's: names are looked up in the hosts file, then asked
#: of a resolver that is not there.
_FILES = {
    "/etc/hosts": _HOSTS,
    "/etc/nsswitch.conf": "hosts: files dns\n",
    "/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
}
_ADDRESSES = {4: "127.0.0.1/8", 6: "::1/128"}
#: Answers in the shop's place: what another program of the same user may have done an hour ago. With SO_REUSEADDR, or
#: its connections in TIME_WAIT would keep the port for a minute after its end.
_SQUATTER = """
import http.server, socket, sys
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name = self.server_port = ""
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"another program")
    def log_message(self, *_): pass
server = Server(("::", int(sys.argv[1])), Handler)
print(flush=True)
server.serve_forever()
"""


def files() -> dict[str, str]:
    """Those of the list that this machine has."""
    return {path: text for path, text in _FILES.items() if Path(path).is_file()}


@dataclass(frozen=True)
class Stage:
    """Where a fault is planted: the network that we are in, the shop's folder, and what chance decides."""

    network: Network
    folder: Path
    chance: random.Random


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that can be wrong. plant: makes it so, and returns commands of a shell that mend it.

    needs: programs without which nobody could mend it. shop: whether the shop is opened before it is planted.
    """

    id: str
    explains: str
    plant: Callable[[Stage], str]
    needs: tuple[str, ...] = ()
    shop: bool = True


def _lo_down(stage: Stage) -> str:
    stage.network.set_link("lo", False)
    return "ip link set lo up"


def _address_missing(stage: Stage) -> str:
    family = stage.chance.choice((4, 6))
    stage.network.change_address("del", "lo", _ADDRESSES[family])
    return f"ip address add {_ADDRESSES[family]} dev lo"


def _echo_dropped(stage: Stage) -> str:
    protocol = stage.chance.choice((socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6))
    hook = stage.chance.choice(("input", "output"))
    rule = [*nft.of_protocol(protocol), nft.count(), nft.drop()]
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, nft.NETLINK_NETFILTER) as channel:
        nft.make_table(channel, "site", [nft.Chain(hook, [rule])])
    return "nft delete table inet site"


def _echo_ignored(stage: Stage) -> str:
    name = stage.chance.choice(("ipv4/icmp_echo_ignore_all", "ipv6/icmp/echo_ignore_all"))
    kernel.net_sysctl(name, "1")
    return f"echo 0 > /proc/sys/net/{name}"


def _localhost_elsewhere(stage: Stage) -> str:
    lines = [f"198.18.0.{stage.chance.randrange(1, 255)}\tlocalhost", "::1\tip6-localhost ip6-loopback"]
    Path("/etc/hosts").write_text("\n".join(lines) + "\n")
    return _rewrite_hosts()


def _no_localhost_line(_stage: Stage) -> str:
    Path("/etc/hosts").write_text("127.0.1.1\tmachine\n::1\tip6-localhost ip6-loopback\n")
    return _rewrite_hosts()


def _rewrite_hosts() -> str:
    return "printf '127.0.0.1 localhost\\n::1 localhost\\n' > /etc/hosts"


def _no_ipv6(stage: Stage) -> str:
    which = stage.chance.choice(("lo", "all"))
    kernel.net_sysctl(f"ipv6/conf/{which}/disable_ipv6", "1")
    return f"echo 0 > /proc/sys/net/ipv6/conf/{which}/disable_ipv6"


def _port_taken(_stage: Stage) -> str:
    squatter = subprocess.Popen(
        [sys.executable, "-c", _SQUATTER, str(shop.PORT)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    if squatter.stdout:
        with squatter.stdout:
            squatter.stdout.readline()  # it listens now
    return f"kill {squatter.pid}; sleep 1; shop start"


def _one_family(address: str) -> Callable[[Stage], str]:
    def plant(stage: Stage) -> str:
        (stage.folder / "shop.conf").write_text(f"{address}\n")
        shop.start(stage.folder)
        return "printf '127.0.0.1\\n::1\\n' > $SHOP/shop.conf; shop restart"

    return plant


FAULTS = (
    Fault(id="lo-down", explains="the interface lo was down", plant=_lo_down, needs=("ip",)),
    Fault(id="address-missing", explains="lo had lost one of its addresses", plant=_address_missing, needs=("ip",)),
    Fault(id="echo-dropped", explains="a firewall rule dropped pings", plant=_echo_dropped, needs=("nft",)),
    Fault(id="echo-ignored", explains="a sysctl told the kernel to ignore pings", plant=_echo_ignored),
    Fault(
        id="localhost-elsewhere",
        explains="the hosts file led localhost to another address",
        plant=_localhost_elsewhere,
    ),
    Fault(id="no-localhost", explains="the hosts file had no line for localhost", plant=_no_localhost_line),
    Fault(id="no-ipv6", explains="IPv6 was switched off by a sysctl", plant=_no_ipv6),
    Fault(id="port-taken", explains="another program had taken the shop's port", plant=_port_taken, shop=False),
    Fault(
        id="only-ipv4",
        explains="the shop listened at 127.0.0.1 alone, and [::1] was asked",
        plant=_one_family("127.0.0.1"),
        shop=False,
    ),
    Fault(
        id="only-ipv6",
        explains="the shop listened at ::1 alone, and 127.0.0.1 was asked",
        plant=_one_family("::1"),
        shop=False,
    ),
)
