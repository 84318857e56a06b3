"""Real programs in a scene: a web server that they can ask, and what glibc, curl and Chromium make of an address."""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lab.browsing import visits
from lab.errors import Unavailable

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

    from lab.sayings.scene import Scene, Server

__all__ = ["chromium", "curl", "glibc", "python", "web"]

#: How long a server looks for its end between two visitors.
_POLL_S = 0.02
_CURL = ("curl", "-q", "--silent", "--noproxy", "*", "--globoff", "--output", "/dev/null", "--max-time", "2")
_CURL_TELLS = "%{http_code} %{remote_ip} %{errormsg}"
#: Of EAI_AGAIN (-3) and its like, and of what an answer has, the address.
_LOOK_UP = """
import json, socket, sys
host, family, flags = json.loads(sys.argv[1])
try:
    print(json.dumps([a[0] for *_, a in socket.getaddrinfo(host, 80, family, socket.SOCK_STREAM, 0, flags)]))
except OSError as error:
    names = {getattr(socket, name): name for name in dir(socket) if name.startswith("EAI_")}
    print(json.dumps(f"{names.get(error.errno, error.errno)} ({error.strerror})"))
"""


@contextlib.contextmanager
def web(scene: Scene, *addresses: str, port: int = 8080) -> Iterator[None]:
    """Web servers at these addresses, within the block; the title of each one's page is its address."""
    with contextlib.ExitStack() as ending:
        for address in addresses:
            server = _page(address, scene.listen(address, port))
            ending.callback(server.server_close)
            thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), daemon=True)
            thread.start()
            ending.callback(thread.join)
            ending.callback(server.shutdown)
        yield


def _page(title: str, listening: Server) -> ThreadingHTTPServer:
    """A web server at a socket of the world's, with one page."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = f"<title>{title}</title>".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
            """Says nothing."""

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # a visitor may leave when it likes
                super().handle_error(request, client_address)

    server = Quiet(listening.socket.getsockname()[:2], Page, bind_and_activate=False)
    server.socket.close()  # of this machine's network
    server.socket = listening.socket
    return server


def python(scene: Scene, code: str, *arguments: str) -> str:
    """What a Python program prints."""
    done = scene.run(sys.executable, "-I", "-c", code, *arguments)
    if done.returncode:
        raise Unavailable(f"python: {done.stderr.strip().splitlines()[-1]}", errno=None, fix="See lab doctor")
    return done.stdout.strip()


def glibc(scene: Scene, host: str | None, *, family: int = socket.AF_UNSPEC, flags: int = 0) -> list[str] | str:
    """The addresses that ``getaddrinfo`` gives a program, in order; if there is none, the name of its error."""
    found: list[str] | str = json.loads(python(scene, _LOOK_UP, json.dumps([host, family, flags])))
    return found


def curl(scene: Scene, url: str) -> tuple[str, str]:
    """Of whose address curl got the page, "" if there was none; and what it says."""
    told = scene.run(*_CURL, "--write-out", _CURL_TELLS, url).stdout
    status, _, rest = told.partition(" ")
    address, _, error = rest.partition(" ")
    return (address, f"HTTP {status} from {address}") if status != "000" else ("", error)


def chromium(scene: Scene, urls: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Each of these with what Chromium made of it, as ``curl`` tells it. Where it can't be had, none, and a note."""
    popen = functools.partial(scene.world.popen, files=scene.files or None)
    try:
        visited = visits(urls, popen=popen, timeout_s=5)
    except Unavailable as error:
        scene.note(f"without Chromium: {error.reason}")
        return
    for visit in visited:
        address = visit.address or "" if visit.loaded else ""
        yield visit.url, address, f"HTTP {visit.status} from {address}" if visit.loaded else visit.error or "no page"
