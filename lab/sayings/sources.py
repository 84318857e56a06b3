"""Where programs in a scene get names from: files in place of this machine's, and a DNS server of the scene's own."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import Unavailable
from lab.sayings.programs import serving
from lab.sayings.scene import LOOPBACK

if TYPE_CHECKING:
    from lab.sayings.scene import Scene
    from lab.taps.live import LiveCapture

__all__ = [
    "DNS",
    "HOSTS",
    "NO_LINE",
    "ORDER",
    "PREFERENCES",
    "answer_to",
    "nobody_answers",
    "questions",
    "replace",
    "resolver",
]

HOSTS, ORDER, DNS, PREFERENCES = "/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf", "/etc/gai.conf"
#: A hosts file that does not know localhost.
NO_LINE = "127.0.1.1 box\n"
#: As on most machines; the DNS server is in the scene, where nobody listens unless ``resolver`` does.
_ORDINARY = {
    HOSTS: "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 box\n",
    ORDER: "hosts: files dns\n",
    DNS: "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
    "/etc/host.conf": "multi on\n",
    PREFERENCES: "",
}
_NEEDED = (HOSTS, ORDER, DNS)
# RFC 1035, 3.2.2 and 4.1.1; RFC 3596
_TYPES = {1: 4, 28: 6}
_ANSWER, _NO_SUCH_NAME = 0x8180, 0x8183
_HEADER = struct.Struct("!6H")
_TTL_S = 60


def replace(scene: Scene, path: str, text: str) -> None:
    """What programs read there from now on. Raises Unavailable if this machine has no such file to put it over."""
    if not Path(path).is_file():
        raise Unavailable(f"{path} can't be replaced", errno=errno.ENOENT, fix=f"Make one (touch {path})")
    scene.files[path] = text


def nobody_answers(scene: Scene) -> None:
    """Files as on most machines, but for those that were replaced already, and a DNS server that is not there."""
    for path, text in _ORDINARY.items():
        if path not in scene.files and (path in _NEEDED or Path(path).is_file()):
            replace(scene, path, text)


@contextlib.contextmanager
def questions(scene: Scene) -> Iterator[LiveCapture]:
    """The packets to DNS servers within the block."""
    with scene.watched("lo", filter="dst port 53") as capture:
        yield capture


@contextlib.contextmanager
def resolver(scene: Scene, known: Mapping[str, Mapping[int, str]]) -> Iterator[None]:
    """A DNS server at 127.0.0.1 that knows these names, and all below them: the address of each family, by name."""
    from socketserver import BaseRequestHandler, UDPServer

    class Answer(BaseRequestHandler):
        def handle(self) -> None:
            question, back = self.request
            back.sendto(answer_to(question, known), self.client_address)

    server = UDPServer((LOOPBACK[4], 53), Answer, bind_and_activate=False)
    server.socket.close()  # of this machine's network
    server.socket = scene.listen(LOOPBACK[4], 53, kind="udp").socket
    with serving(server):
        yield


def answer_to(question: bytes, known: Mapping[str, Mapping[int, str]]) -> bytes:
    """The reply to one question (RFC 1035, 4.1), of a message without anything else."""
    number, *_rest = _HEADER.unpack_from(question)
    labels, at = [], _HEADER.size
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
        at += 1 + length
    asked = question[_HEADER.size : at + 5]
    (kind,) = struct.unpack_from("!H", question, at + 1)
    name = ".".join(labels)
    found = next((known[each] for each in known if name == each or name.endswith(f".{each}")), None)
    address = (found or {}).get(_TYPES.get(kind, 0))
    flags = _NO_SUCH_NAME if found is None else _ANSWER
    header = _HEADER.pack(number, flags, 1, 1 if address else 0, 0, 0)
    if not address:
        return header + asked
    packed = ipaddress.ip_address(address).packed
    # The name is that at byte 12 of the message: a pointer (4.1.4).
    return header + asked + struct.pack("!HHHIH", 0xC00C, kind, 1, _TTL_S, len(packed)) + packed
