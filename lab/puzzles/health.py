"""Whether all is well with loopback and the shop, as ``python -P -m lab.puzzles.health``: a JSON list of what is not.

A process of its own, as C libraries read their files of names once and keep what they found.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import subprocess
import sys
from collections.abc import Iterator

from lab.errors import errno_name
from lab.puzzles.shop import GREETING, PORT

__all__ = ["complaints"]

_PATIENCE_S = 1.0
_ECHO = {
    "127.0.0.1": (socket.AF_INET, socket.IPPROTO_ICMP, 8),
    "::1": (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128),
}


def complaints() -> list[str]:
    """What is not well here and now, a line each; nothing: all is well."""
    command = [sys.executable, "-P", "-m", "lab.puzzles.health"]
    # In a session of its own: what is typed, such as Ctrl-C, is for the lab, which ends it.
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, start_new_session=True)
    found: list[str] = json.loads(done.stdout)
    return found


def _look() -> Iterator[str]:
    for address in _ECHO:
        if trouble := _ping(address):
            yield f"ping {address}: {trouble}"
    for host in ("127.0.0.1", "[::1]"):
        if trouble := _visit(host.strip("[]")):
            yield f"http://{host}:{PORT}/: {trouble}"
    yield from _localhost()


def _ping(address: str) -> str | None:
    family, protocol, request = _ECHO[address]
    try:
        with socket.socket(family, socket.SOCK_DGRAM, protocol) as client:
            client.settimeout(_PATIENCE_S)
            client.connect((address, 0))
            client.send(bytes([request, 0, 0, 0, 0, 0, 0, 1]))
            client.recv(1024)
    except TimeoutError:
        return "no reply"
    except OSError as error:
        return errno_name(error.errno or 0)
    return None


def _visit(address: str) -> str | None:
    """What is wrong with the page that is served at an address."""
    connection = http.client.HTTPConnection(address, PORT, timeout=_PATIENCE_S)
    try:
        connection.request("GET", "/")
        body = connection.getresponse().read(1024).decode(errors="replace").strip()
    except TimeoutError:
        return "no answer"
    except http.client.HTTPException as error:
        return f"somebody answers, but not in HTTP ({type(error).__name__})"
    except OSError as error:
        return errno_name(error.errno or 0)
    finally:
        connection.close()
    return None if body == GREETING else f"somebody else answers: {body[:40]!r}"


def _localhost() -> Iterator[str]:
    """Localhost should be a name of loopback addresses alone, and the shop be there at each that it gives."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo("localhost", PORT, type=socket.SOCK_STREAM)}
    except socket.gaierror as error:
        yield f"localhost: {error.strerror}"
        return
    for address in sorted(map(str, found)):
        if not ipaddress.ip_address(address).is_loopback:
            yield f"localhost: leads to {address}"
        elif address not in _ECHO and (trouble := _visit(address)):
            yield f"localhost: {address}: {trouble}"
    if not any(ipaddress.ip_address(address).is_loopback for address in found):
        yield "localhost: no loopback address"


if __name__ == "__main__":
    print(json.dumps(list(_look())))
