"""The service of notes itself: ``python -P -m lab.services.notes_server ADDRESS PORT``."""

from __future__ import annotations

import json
import socket
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lab.services.renouncing import announce, renounce

__all__: list[str] = []

_MOST_BYTES = 1 << 16


class _Server(ThreadingHTTPServer):
    """Holds the notes, by their numbers."""

    def __init__(self, address: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.notes: dict[int, Any] = {}
        super().__init__((address, port), _Handler)

    def server_bind(self) -> None:
        """Without looking up its own name, which http.server would; and :: is IPv6 alone, as for the other servers."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment: the second of two would wait for a delayed ACK (RFC 896)
    server_version, sys_version = "notes", ""

    def do_GET(self) -> None:
        """/notes: all; /notes/N: one."""
        if self.path == "/notes":
            self._answer(HTTPStatus.OK, [{"id": number, **note} for number, note in self.server.notes.items()])
        elif (number := self._number()) is not None:
            self._answer(HTTPStatus.OK, {"id": number, **self.server.notes[number]})
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"error": f"no {self.path}"})

    def do_POST(self) -> None:
        """/notes: adds one, and tells where it is."""
        try:
            length = int(self.headers.get("Content-Length", "0"))
            note = json.loads(self.rfile.read(length)) if 0 < length <= _MOST_BYTES else None
        except ValueError:
            note = None
        if self.path != "/notes" or not isinstance(note, dict):
            self._answer(HTTPStatus.BAD_REQUEST, {"error": "POST an object to /notes"})
            return
        number = max(self.server.notes, default=0) + 1
        self.server.notes[number] = note
        self._answer(HTTPStatus.CREATED, {"id": number, **note}, {"Location": f"/notes/{number}"})

    def do_DELETE(self) -> None:
        """/notes/N: takes one away."""
        number = self._number()
        if number is None:
            self._answer(HTTPStatus.NOT_FOUND, {"error": f"no {self.path}"})
            return
        del self.server.notes[number]
        self._answer(HTTPStatus.NO_CONTENT)

    def _number(self) -> int | None:
        """Of the note that is asked for; None: there is none."""
        head, _, number = self.path.rpartition("/")
        return int(number) if head == "/notes" and number.isdecimal() and int(number) in self.server.notes else None

    def _answer(self, status: HTTPStatus, document: Any = None, headers: dict[str, str] | None = None) -> None:
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        if body:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Keeps notes until it is stopped."""
    address, port = sys.argv[1:]
    renounce()
    server = _Server(address, int(port))
    announce()
    server.serve_forever()


if __name__ == "__main__":
    main()
