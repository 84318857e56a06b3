"""Visits of a browser: what became of an address that was typed.

Chromium runs without a window, on an empty profile that is removed, and looks up no name but those of the pages that
it is asked to visit: nothing that it would like to tell its makers leaves.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lab.browsing.devtools import DevTools, Ended, Refused, TooLate
from lab.errors import Unavailable, UsageError
from lab.texts import printable

__all__ = ["Visit", "browse", "chromium", "visiting", "visits"]

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_FIX = "Install it (apt install chromium on Debian, dnf install chromium on Fedora)"
_START_FIX = (
    "See that the temporary folder (TMPDIR) has room and a short name, and can be entered by the user that it runs as"
)
_FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",  # small in containers
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",  # its own, which take a fifth of the time that it needs to start
    "--disable-component-extensions-with-background-pages",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    "--password-store=basic",
)
_START_S, _END_S = 30, 15
#: Characters of a page's text that are kept.
_TEXT = 1000
_PAGE = f"[document.title, (document.body ? document.body.innerText : '').slice(0, {_TEXT})]"


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What a browser made of an address.

    url: as it was typed. asked: as the browser read it, such as http://127.0.0.1:8080/ of http://127.1:8080; None: not
    at all. loaded: whether a page came, be it one that tells of an error of the server's (`status`, of HTTP). address,
    port: of whom it came from, as the browser tells them. title, text: of the page, the beginning. error: why there is
    no page, in the browser's words ("net::ERR_CONNECTION_REFUSED").
    """

    url: str
    asked: str | None = None
    loaded: bool = False
    status: int | None = None
    address: str | None = None
    port: int | None = None
    title: str = ""
    text: str = ""
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.loaded:
            return f"{printable(self.url)}: {self.error}"
        return f"{printable(self.url)}: HTTP {self.status} from {self.address} port {self.port}"


def browse(url: str, *, popen: Callable[..., subprocess.Popen[Any]] = subprocess.Popen, timeout_s: float = 10) -> Visit:
    """Visits one page; see ``visits``."""
    (visit,) = visits([url], popen=popen, timeout_s=timeout_s)
    return visit


def visits(
    urls: Iterable[str], *, popen: Callable[..., subprocess.Popen[Any]] = subprocess.Popen, timeout_s: float = 10
) -> list[Visit]:
    """Visits pages one after another, with one browser: as if each were typed into its address bar.

    popen: starts the browser, such as ``world.popen``, for another network than this process's own. timeout_s: for a
    page; one that has not come by then has the error "no answer in 10 s". It runs as your user, or as "nobody" if you
    are root. Raises UsageError for an address that is none of http, Unavailable where there is no Chromium, or where it
    does not start.
    """
    return list(visiting(urls, popen=popen, timeout_s=timeout_s))


def visiting(
    urls: Iterable[str], *, popen: Callable[..., subprocess.Popen[Any]] = subprocess.Popen, timeout_s: float = 10
) -> Generator[Visit, None, None]:
    """As ``visits``, each as soon as it is over; the next begins when it is asked for. Close it, or take all."""
    typed = list(urls)
    if not all(url.startswith(("http://", "https://")) for url in typed):
        raise UsageError(f"{typed}: give addresses of web pages, such as http://127.0.0.1:8080/")
    with _browser(popen, typed) as devtools:
        for url in typed:
            yield _visit(devtools, url, timeout_s)


def chromium() -> str:
    """The path of the browser. Raises Unavailable."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        raise Unavailable(f"no browser: {', '.join(_NAMES)} in PATH", errno=errno.ENOENT, fix=_FIX)
    return found


@contextmanager
def _browser(popen: Callable[..., subprocess.Popen[Any]], urls: list[str]) -> Iterator[DevTools]:
    """A browser that has started; it and its folder are gone afterwards."""
    folder = Path(tempfile.gettempdir(), f"lab-chromium-{secrets.token_hex(4)}").absolute()
    command = [chromium(), *_FLAGS, f"--user-data-dir={folder / 'profile'}", _no_names_but(urls), "about:blank"]
    to_read, we_write = os.pipe()
    we_read, to_write = os.pipe()
    theirs, ours = [to_read, to_write], [we_read, we_write]
    try:
        try:
            keeper = popen(
                [sys.executable, "-P", "-m", "lab.browsing.keeper", str(folder), *map(str, theirs), *command],
                pass_fds=theirs,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        with keeper:
            devtools = DevTools(we_read, we_write)
            try:
                devtools.call("Browser.getVersion", deadline_s=time.monotonic() + _START_S)
                yield devtools
            except (Ended, TooLate) as error:
                how = "did not start in time" if isinstance(error, TooLate) else "ended"
                what = f"Chromium {how}: {_reason(_end(keeper, ours))}"
                raise Unavailable(what, errno=None, fix=_START_FIX) from error
            finally:
                _end(keeper, ours)
    finally:
        for descriptor in ours:
            os.close(descriptor)


def _end(keeper: subprocess.Popen[Any], pipes: list[int]) -> str:
    """Has the browser end, which it does when its pipe does; what it had written to its log."""
    while pipes:
        os.close(pipes.pop())
    if keeper.stdout is None or keeper.stdout.closed:
        return ""
    try:
        log, _none = keeper.communicate(timeout=_END_S)
    except subprocess.TimeoutExpired:
        keeper.terminate()  # it ends the browser by force
        log, _none = keeper.communicate()
    return bytes(log).decode(errors="replace")


def _reason(log: str) -> str:
    """The line of a log that says best why there is no browser: the gravest, which is also the last that matters."""
    lines = [printable(line.strip()) for line in log.splitlines() if line.strip()]
    return next((line for line in lines if "FATAL" in line or "cannot" in line), lines[-1] if lines else "no log")


def _no_names_but(urls: list[str]) -> str:
    """A flag: all hosts but those of these addresses are not found. Numeric ones are hosts as well."""
    hosts: dict[str, None] = {}
    for url in urls:
        with suppress(ValueError):  # no address at all, as the browser will tell
            hosts |= dict.fromkeys(_readings(urlsplit(url).hostname or ""))
    return "--host-resolver-rules=" + ",".join(["MAP * ~NOTFOUND", *(f"EXCLUDE {host}" for host in hosts if host)])


def _readings(host: str) -> Iterator[str]:
    """A host as it was typed, and as the browser may write it: 127.1 is 127.0.0.1, and 0:0::1 is [::1]."""
    yield host
    with suppress(OSError):
        yield socket.inet_ntoa(socket.inet_aton(host))
    with suppress(ValueError):
        yield f"[{ipaddress.ip_address(host)}]"


def _visit(devtools: DevTools, url: str, timeout_s: float) -> Visit:
    """In a window of its own."""
    deadline_s = time.monotonic() + timeout_s
    target: str | None = None
    devtools.events.clear()
    try:
        target = devtools.call("Target.createTarget", deadline_s=deadline_s, url="about:blank")["targetId"]
        attached = devtools.call("Target.attachToTarget", deadline_s=deadline_s, targetId=target, flatten=True)
        return _navigate(devtools, attached["sessionId"], url, deadline_s)
    except TooLate:
        return _told(devtools, url, error=f"no answer in {timeout_s:g} s")
    finally:
        if target is not None:
            with suppress(TooLate, Refused, Ended):
                devtools.call("Target.closeTarget", deadline_s=time.monotonic() + _END_S, targetId=target)


def _navigate(devtools: DevTools, session: str, url: str, deadline_s: float) -> Visit:
    def call(method: str, **parameters: Any) -> dict[str, Any]:
        return devtools.call(method, deadline_s=deadline_s, session=session, **parameters)

    call("Network.enable")
    call("Page.enable")
    call("Page.setLifecycleEventsEnabled", enabled=True)
    try:
        loader = call("Page.navigate", url=url)
    except Refused as error:  # it is no address
        return Visit(url=url, error=str(error))
    if error_text := loader.get("errorText"):
        return _told(devtools, url, error=error_text)
    loaded = {"name": "load", "loaderId": loader["loaderId"]}
    devtools.wait_for(
        lambda event: event["method"] == "Page.lifecycleEvent" and loaded.items() <= event["params"].items(),
        deadline_s=deadline_s,
    )
    title, text = call("Runtime.evaluate", expression=_PAGE, returnByValue=True)["result"]["value"]
    return _told(devtools, url, loaded=True, title=title, text=text)


def _told(devtools: DevTools, url: str, **found: Any) -> Visit:
    """A visit, with what the browser told of its requests and answers for the page itself: the last of each counts."""
    documents = [
        event["params"]
        for event in devtools.events
        if event["method"].startswith("Network.re") and event["params"].get("type") == "Document"
    ]
    for each in documents:
        if "request" in each:
            found["asked"] = each["request"]["url"]
        if response := each.get("response"):
            found |= {
                "status": response["status"],
                "address": response.get("remoteIPAddress", "").strip("[]") or None,
                "port": response.get("remotePort"),
            }
    return Visit(url=url, **found)
