"""Runs a command while a server listens beside it: python serving.py KIND ADDRESS PORT… -- COMMAND…

KIND: "web", which answers in HTTP; "mute", which accepts and closes; "taken", which is bound and never listens.
"""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener.getsockname()[:2], Page, bind_and_activate=False)
        self.socket.close()
        self.socket = listener


def mute(listener: socket.socket) -> None:
    while True:
        listener.accept()[0].close()


def main() -> None:
    split = sys.argv.index("--")
    kind, *where = sys.argv[1:split]
    for address, port in zip(where[::2], where[1::2], strict=True):
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        if ":" in address:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, int(port)))
        if kind == "taken":
            continue
        listener.listen()
        work = Server(listener).serve_forever if kind == "web" else lambda listener=listener: mute(listener)
        threading.Thread(target=work, daemon=True).start()
    sys.exit(subprocess.run(sys.argv[split + 1 :], check=False).returncode)


main()
