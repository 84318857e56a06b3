"""HOST:PORT: a server that is there already, and the address at which it is asked."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

from lab.conditions import NIC
from lab.errors import Unavailable, UsageError

__all__ = ["Server", "find_server"]

_HOST_PORT = re.compile(r"(?:\[(?P<address>[^\[\]]+)\]|(?P<host>[^\[\]:]+)):(?P<port>[0-9]+)", re.ASCII)
_DOMAINS = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True)
class Server:
    """One address of a host, its family (4 or 6), and the port of a TCP server there."""

    address: str
    family: int
    port: int


def find_server(text: str, family: int | None) -> Server | None:
    """The server that HOST:PORT names, with an IPv6 address in brackets; None if `text` has not that form.

    A name may have addresses of both families: `family` chooses, and None prefers IPv4. Raises UsageError for a port
    that none can be, a name that none can be, and a link-local address, which would need an interface beside it;
    Unavailable if the host has no such address.
    """
    match = _HOST_PORT.fullmatch(text)
    if match is None or text.startswith(NIC):
        return None
    host, port = match["address"] or match["host"], int(match["port"])
    if not 0 < port < 1 << 16:
        raise UsageError(f"{text}: ports are from 1 to 65535")
    try:
        found = socket.getaddrinfo(host, port, _DOMAINS[family], socket.SOCK_STREAM)
    except UnicodeError:  # of a name that the encoding of domain names has no place for
        raise UsageError(f"{host!r} can be no host's name: give HOST:PORT, such as localhost:22") from None
    except socket.gaierror as error:
        which = "address" if family is None else f"IPv{family} address"
        raise Unavailable(
            f"{host} has no {which} ({error.strerror})", errno=None, fix="Give another name, or an address"
        ) from None
    domain, *_rest, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    if domain == socket.AF_INET6 and ipaddress.ip_address(address[0]).is_link_local:
        raise UsageError(f"{text}: a link-local address is of one interface only; give another address of that host")
    return Server(str(address[0]), 4 if domain == socket.AF_INET else 6, port)
