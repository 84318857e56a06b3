"""Whether a web server on loopback is reached as 127.0.0.1, [::1] and localhost: one of our own, for a moment."""

from __future__ import annotations

import contextlib
import errno
import http.server
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from lab.checkup.asking import Reply, ask, ask_in_turn
from lab.checkup.findings import Item
from lab.checkup.naming import NAME, Names
from lab.checkup.network import LOOPBACK, Network, family_of, is_loopback
from lab.checkup.targets import bracketed
from lab.errors import errno_name

__all__ = ["web"]

_COST = "no web server of this machine is reached so"
_TRIES = 5
_PATIENCE_S = 1.0


def web(network: Network, known: Names, see: list[str]) -> Iterator[Item]:
    """The items web-ipv4, web-ipv6 and web-localhost. see: items that may explain it if one is not reached."""
    named = list(known.addresses) if all(map(is_loopback, known.addresses)) else []
    with contextlib.ExitStack() as held:
        port, failures = _serve(network, held)
        asked = [*((address, bracketed(address)) for address in LOOPBACK.values()), *((each, NAME) for each in named)]
        pool = held.enter_context(ThreadPoolExecutor(len(asked)))
        replies = dict(zip(asked, pool.map(lambda each: _ask(network, port, *each), asked), strict=True))
    for family, address in LOOPBACK.items():
        if family in failures:
            evidence = f"no server can listen on {address}: {errno_name(failures[family])}"
            yield Item(f"web-ipv{family}", "missing", evidence, _fix(see), _COST)
        else:
            host = bracketed(address)
            yield _reached(f"web-ipv{family}", replies[address, host], host, see)
    if named:
        reply, failed = ask_in_turn(replies[address, NAME] for address in named)
        yield _reached("web-localhost", reply or failed[-1], NAME, see)
        return
    astray = [address for address in known.addresses if not is_loopback(address)]
    why = f"localhost is {astray[0]}, which isn't asked" if astray else "localhost has no address"
    yield Item("web-localhost", "missing", why, "See localhost, above", _COST)


def _ask(network: Network, port: int, address: str, host: str) -> Reply:
    return ask(network, address, port, f"{host}:{port}", patience_s=_PATIENCE_S)


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
