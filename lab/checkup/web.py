"""Whether a web server on loopback is reached as 127.0.0.1, [::1] and localhost: one of our own, for a moment."""

from __future__ import annotations

import contextlib
import errno
import http.server
import socket
import threading
from collections.abc import Iterator

from lab.checkup.asking import Reply, ask, ask_in_turn
from lab.checkup.findings import Item
from lab.checkup.hosts import is_loopback
from lab.checkup.naming import NAME, Names
from lab.checkup.network import LOOPBACK, Network, family_of
from lab.errors import errno_name

__all__ = ["web"]

_COST = "no web server of this machine is reached so"
_TRIES = 5
_PATIENCE_S = 1.0


def web(network: Network, known: Names, see: list[str]) -> Iterator[Item]:
    """The items web-ipv4, web-ipv6 and web-localhost. see: items that may explain it if one is not reached."""
    with contextlib.ExitStack() as held:
        port, failures = _serve(network, held)
        for family, address in LOOPBACK.items():
            host = f"[{address}]" if family == 6 else address
            if family in failures:
                evidence = f"no server can listen on {address}: {errno_name(failures[family])}"
                yield Item(f"web-ipv{family}", "missing", evidence, _fix(see), _COST)
                continue
            yield _reached(f"web-ipv{family}", ask(network, address, port, host, patience_s=_PATIENCE_S), host, see)
        yield _by_name(network, known, port, see)


def _by_name(network: Network, known: Names, port: int, see: list[str]) -> Item:
    """As a browser would: each address of the name in turn. One that isn't loopback is not asked."""
    name = "web-localhost"
    astray = [address for address in known.addresses if not is_loopback(address)]
    if astray or not known.addresses:
        why = f"localhost is {astray[0]}, which isn't asked" if astray else "localhost is nothing"
        return Item(name, "missing", why, "See localhost, above", _COST)
    reply, failed = ask_in_turn(
        ask(network, address, port, NAME, patience_s=_PATIENCE_S) for address in known.addresses
    )
    return _reached(name, reply or failed[-1], NAME, see)


def _reached(name: str, reply: Reply, host: str, see: list[str]) -> Item:
    by = f" at {reply.address}" if host == NAME else ""
    if reply.outcome == "http":
        return Item(name, "ok", f"a server of our own answers as {host}{by}: {reply.told}")
    return Item(name, "missing", f"a server of our own, asked as {host}{by}: {reply.told}", _fix(see), _COST)


def _fix(see: list[str]) -> str:
    return f"See {', '.join(see)}, above" if see else "See transport, above"


class _Page(http.server.BaseHTTPRequestHandler):
    """Says nothing, well."""

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Is silent."""


class _Server(http.server.HTTPServer):
    """Serves on a socket that is bound already."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener.getsockname()[:2], _Page, bind_and_activate=False)
        self.socket.close()
        self.socket = listener


def _serve(network: Network, held: contextlib.ExitStack) -> tuple[int, dict[int, int]]:
    """Serves on one free port of both loopback addresses, or of one. Returns it, and errnos by family."""
    for _ in range(_TRIES):
        port, listeners, failures = 0, [], {}
        for family, address in LOOPBACK.items():
            try:
                listener = network.socket_at(family_of(address), socket.SOCK_STREAM)
                held.enter_context(listener)
                listener.bind((address, port))
                listener.listen()
            except OSError as error:
                failures[family] = error.errno or 0
                continue
            port = listener.getsockname()[1]
            listeners.append(listener)
        if errno.EADDRINUSE not in failures.values():
            break
        held.close()  # another program has the port of that number in the other family
    for listener in listeners:
        _run(_Server(listener), held)
    return port, failures


def _run(server: _Server, held: contextlib.ExitStack) -> None:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    held.callback(thread.join)
    held.callback(server.shutdown)
