"""The shop: a web server that a puzzle is about, as a command: ``shop start|stop|restart|status``.

It listens at the addresses that ``shop.conf`` names, a line each, at one port. Its folder is that of this puzzle alone.
"""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

__all__ = ["GREETING", "PORT", "start", "stop"]

PORT = 8080
GREETING = "the shop is open"
_CONF, _PID = "shop.conf", "shop.pid"
_START_S, _STOP_S, _STEP_S = 10, 10, 0.01


class _Handler(http.server.BaseHTTPRequestHandler):
    """Greets whoever comes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Any page is the same."""
        body = f"{GREETING}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - of the base class
        """Keeps no log."""


class _Server(http.server.ThreadingHTTPServer):
    """At one address of either family, and nothing beside it."""

    daemon_threads = True

    def __init__(self, address: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, PORT), _Handler)

    def server_bind(self) -> None:
        """Leaves IPv4 to another socket. Looks no name up, as the base class does: just that may be broken."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = str(self.server_address[0]), PORT


def start(folder: Path) -> str:
    """Starts it in the background, unless it runs; says how it went."""
    if pid := _running(folder):
        return f"the shop is open already, process {pid}"
    ready, told = os.pipe()
    command = [sys.executable, "-P", "-m", "lab.puzzles.shop", str(folder), "serve", str(told)]
    with open(ready, encoding="utf-8") as answer:  # noqa: PTH123 - a descriptor
        subprocess.Popen(
            command, pass_fds=[told], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        os.close(told)
        return answer.read().strip() or "the shop did not open"


def stop(folder: Path) -> str:
    """Ends it; says how it went."""
    pid = _running(folder)
    if not pid:
        return "the shop is closed already"
    try:
        end = os.pidfd_open(pid)
    except ProcessLookupError:  # it has ended just now
        return "the shop is closed"
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(end, signal.SIGTERM)
    deadline_s = time.monotonic() + _STOP_S
    while _running(folder) and time.monotonic() < deadline_s:
        time.sleep(_STEP_S)
    os.close(end)
    return f"the shop does not close, process {pid}" if _running(folder) else "the shop is closed"


def _running(folder: Path) -> int | None:
    """The number of its process; a number that is another's by now is not in its own folder."""
    try:
        pid = int((folder / _PID).read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if os.fsencode(folder) in command and state != "Z" else None


def _serve(folder: Path, told: int) -> None:
    """Serves until SIGTERM, and tells whoever started it whether it could begin."""
    servers = []
    with open(told, "w", encoding="utf-8") as tell:
        try:
            addresses = [line.strip() for line in (folder / _CONF).read_text().splitlines()]
        except OSError as error:
            print(f"the shop can't open: {_CONF}: {error.strerror}", file=tell)
            return
        for address in (each for each in addresses if each and not each.startswith("#")):
            try:
                servers.append(_Server(address))
            except OSError as error:
                print(f"the shop can't open at {address} port {PORT}: {error.strerror}", file=tell)
                return
        if not servers:
            print(f"the shop can't open: {_CONF} names no address", file=tell)
            return
        (folder / _PID).write_text(f"{os.getpid()}\n")
        print(f"the shop is open, process {os.getpid()}", file=tell)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.sigwait([signal.SIGTERM])


def main() -> None:
    """The command."""
    folder, verb = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    if verb == "serve":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        with contextlib.suppress(KeyboardInterrupt):
            _serve(folder, int(sys.argv[3]))
    elif verb in ("start", "restart"):
        if verb == "restart":
            print(stop(folder))
        print(start(folder))
    elif verb == "stop":
        print(stop(folder))
    elif verb == "status":
        pid = _running(folder)
        print(f"the shop is open, process {pid}" if pid else "the shop is closed")
    else:
        print("usage: shop start|stop|restart|status", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
