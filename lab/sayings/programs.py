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
    from socketserver import BaseServer

    from lab.sayings.scene import Scene, Server

__all__ = ["chromium", "connect", "curl", "each_program", "glibc", "listed", "python", "serving", "web"]

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
#: Of create_connection: whom it reached, "" if nobody, and in words.
_CONNECT = """
import errno, json, socket, sys
names = {getattr(socket, name): name for name in dir(socket) if name.startswith("EAI_")}
try:
    with socket.create_connection(sys.argv[1:3], timeout=2) as reached:
        address = reached.getpeername()[0]
        print(json.dumps([address, f"connected to {address}"]))
except socket.gaierror as error:
    print(json.dumps(["", f"{names.get(error.errno, error.errno)} ({error.strerror})"]))
except OSError as error:
    print(json.dumps(["", f"{errno.errorcode.get(error.errno, error)} ({error.strerror})"]))
"""


@contextlib.contextmanager
def web(scene: Scene, *addresses: str, port: int = 8080) -> Iterator[None]:
    """Web servers at these addresses, within the block; the title of each one's page is its address."""
    with contextlib.ExitStack() as ending:
        for address in addresses:
            ending.enter_context(serving(_page(address, scene.listen(address, port))))
        yield


@contextlib.contextmanager
def serving(server: BaseServer) -> Iterator[None]:
    """A server of the standard library's that serves meanwhile."""
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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
        told = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise Unavailable(f"{sys.executable}: {told[-1]}", errno=None, fix="See that it works: lab doctor")
    return done.stdout.strip()


def listed(found: list[str] | str) -> str:
    """What ``glibc`` found, in words; an address that it tells twice, once."""
    return found if isinstance(found, str) else ", then ".join(dict.fromkeys(found))


def glibc(scene: Scene, host: str | None, *, family: int = socket.AF_UNSPEC, flags: int = 0) -> list[str] | str:
    """The addresses that ``getaddrinfo`` gives a program, in order; if there is none, the name of its error."""
    found: list[str] | str = json.loads(python(scene, _LOOK_UP, json.dumps([host, family, flags])))
    return found


def connect(scene: Scene, host: str, port: int = 8080) -> tuple[str, str]:
    """What a Python program reaches that tries all that glibc tells it, in order; as ``curl`` tells it."""
    address, told = json.loads(python(scene, _CONNECT, host, str(port)))
    return address, told


def curl(scene: Scene, url: str) -> tuple[str, str]:
    """Of whose address curl got the page, "" if there was none; and what it says."""
    told = scene.run(*_CURL, "--write-out", _CURL_TELLS, url).stdout
    status, _, rest = told.partition(" ")
    address, _, error = rest.partition(" ")
    return (address, f"HTTP {status} from {address}") if status != "000" else ("", error)


def chromium(scene: Scene, urls: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What Chromium made of each, as ``curl`` tells it. Where it can't be had, nothing, and a note."""
    popen = functools.partial(scene.world.popen, files=scene.files or None)
    try:
        visited = visits(urls, popen=popen, timeout_s=5)
    except Unavailable as error:
        scene.note(f"without Chromium: {error.reason}")
        return
    for visit in visited:
        address = (visit.address or "") if visit.loaded else ""
        yield address, f"HTTP {visit.status} from {address}" if visit.loaded else visit.error or "no page"


def each_program(scene: Scene, *places: str, browser: bool = True) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Whom programs reach at places such as "localhost:8080": the name of each, and what it made of them, in order.

    Each tells the address that it reached, "" if none, and says it in words. browser: also Chromium, which takes
    longer than all the others.
    """
    split = [place.rsplit(":", 1) for place in places]
    urls = [f"http://{place}/" for place in places]
    yield "Python by glibc", [connect(scene, host.strip("[]"), int(port)) for host, port in split]
    yield "curl", [curl(scene, url) for url in urls]
    if browser and (seen := list(chromium(scene, urls))):
        yield "Chromium", seen
