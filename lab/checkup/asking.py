"""Asks a web server of this machine, address by address, as a client would; any answer in HTTP will do."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from lab.checkup.network import Network, family_of
from lab.errors import errno_name

__all__ = ["Reply", "ask", "ask_in_turn"]


@dataclass(frozen=True)
class Reply:
    """What came of asking one address. outcome: http, tcp (connected, but no HTTP came), or failed, with its errno.

    told: the status line, what came instead of HTTP, or why nothing did.
    """

    address: str
    outcome: str
    told: str
    errno: int | None = None

    @property
    def connected(self) -> bool:
        return self.outcome != "failed"

    @property
    def refused(self) -> bool:
        """An RST came back, or what looks like one."""
        return self.errno == errno.ECONNREFUSED


def ask(
    network: Network,
    address: str,
    port: int,
    authority: str,
    path: str = "/",
    *,
    tls: bool = False,
    patience_s: float = 2.0,
) -> Reply:
    """One request to one address. authority: host and port, as a URL has them.

    Only an address with a local route is asked: others lie beyond this machine, whatever they are called.
    """
    route = network.route(address)
    if route.kind != "local":
        return Reply(address, "failed", f"not asked, as it has no local route ({route})")
    try:
        end = network.socket_at(family_of(address), socket.SOCK_STREAM)
    except OSError as error:
        return Reply(address, "failed", errno_name(error.errno or 0), error.errno)
    with end:
        end.settimeout(patience_s)
        try:
            end.connect((address, port))
        except TimeoutError:
            return Reply(address, "failed", f"no answer to the SYN in {patience_s:.0f} s", errno.ETIMEDOUT)
        except OSError as error:
            return Reply(address, "failed", errno_name(error.errno or 0), error.errno)
        try:
            with _secured(end, authority) if tls else end as channel:
                return Reply(address, "http", _status(channel, authority, path))
        except TimeoutError:
            return Reply(address, "tcp", f"connected, but no answer in {patience_s:.0f} s")
        except ssl.SSLError as error:
            return Reply(address, "tcp", f"connected, but no TLS: {error.reason}")
        except (http.client.HTTPException, OSError) as error:
            return Reply(address, "tcp", f"connected, but no HTTP: {_why(error)}")


def ask_in_turn(replies: Iterable[Reply]) -> tuple[Reply | None, list[Reply]]:
    """As programs do with the addresses of a name: the first that a connection can be made to, and those before it."""
    failed: list[Reply] = []
    for reply in replies:
        if reply.connected:
            return reply, failed
        failed.append(reply)
    return None, failed


def _secured(end: socket.socket, authority: str) -> ssl.SSLSocket:
    """TLS without a look at the certificate: whether it answers is the question, not who it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(end, server_hostname=urlsplit(f"//{authority}").hostname)


def _status(channel: socket.socket, authority: str, path: str) -> str:
    """The status line of what a GET gets."""
    connection = http.client.HTTPConnection(authority)
    connection.sock = channel
    connection.request("GET", path, headers={"Host": authority, "Connection": "close", "User-Agent": "lab-doctor"})
    with connection.getresponse() as response:
        return f"{response.status} {response.reason}".strip()


def _why(error: Exception) -> str:
    if isinstance(error, http.client.BadStatusLine):
        line = str(error).strip("'\"")
        return f"it said {line[:40]!r}" if line else "it said nothing"
    return errno_name(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__
