"""A network of its own for each test: the fixture ``world``, for any project's tests, without privilege.

::

    def test_the_server_answers(world):
        with http.server.HTTPServer(("127.0.0.1", 8080), Handler) as server:  # every test, every worker, has this port
            threading.Thread(target=server.serve_forever).start()
            assert urllib.request.urlopen("http://127.0.0.1:8080").status == 200
            with world.popen(["curl", "-fs", "http://127.0.0.1:8080"]) as client:  # a program is put inside with popen
                assert client.wait() == 0
            server.shutdown()

While the test runs, every IPv4 and IPv6 socket that Python code opens (``socket.socket``, and what rests on it:
http.server, asyncio, urllib, …) belongs to a private network whose only interface is lo. Sockets that C code opens on
its own, and other processes, stay outside: start those with ``world.popen``. Nothing leads out of that network.

Of a test that fails, the frames that passed its lo are kept in a file, which the report names; ``--lab-captures DIR``
says where.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lab.single import World
    from lab.taps.live import LiveCapture

__all__ = ["pytest_addoption", "pytest_runtest_makereport", "world"]

#: Memory for the frames of one test that are on their way to its file.
_BUFFER = "8MiB"
#: Characters of a test's name in that of its file, which may have 255 bytes.
_NAME = 200
_SECTION = "capture of the test's lo"
_CAPTURE: pytest.StashKey[LiveCapture] = pytest.StashKey()
_FAILED: pytest.StashKey[bool] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--lab-captures``."""
    parser.getgroup("lab").addoption(
        "--lab-captures",
        metavar="DIR",
        type=Path,
        help="keep what passed the lo of a failed test in DIR (default: pytest's temporary folder)",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Names the capture of a failed test in its report."""
    report = yield
    if report.failed and (live := item.stash.get(_CAPTURE, None)) is not None:
        item.stash[_FAILED] = True
        live.stop()
        report.sections.append((_SECTION, f"{live.path}: {live.totals.frames:,} frames"))
    return report


def _file(request: pytest.FixtureRequest, temporary: pytest.TempPathFactory) -> Path:
    folder = request.config.getoption("--lab-captures") or temporary.mktemp("world")
    folder.mkdir(parents=True, exist_ok=True)
    return Path(folder, re.sub(r"[^\w.-]+", "_", request.node.nodeid)[-_NAME:] + ".pcapng")


@contextlib.contextmanager
def _captured(made: World, item: pytest.Item, file: Path) -> Iterator[None]:
    """Captures lo, and keeps the file if the test fails meanwhile. Where that can't be done, its report tells why."""
    import lab

    try:
        live = made.capture("lo", file=file, buffer=_BUFFER)
    except lab.Unavailable as error:
        item.add_report_section("call", _SECTION, f"none: {error}")
        yield
        return
    with live:
        item.stash[_CAPTURE] = live
        yield
    if not item.stash.get(_FAILED, False):
        file.unlink()


@pytest.fixture
def world(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A private network of this test's own, a ``lab.World``: lo is up, and every port is free.

    Skips the test, with the reason, on a machine that allows no private network; fails it if LAB_REQUIRE is set.
    """
    import lab

    try:
        made = lab.World(["lo"])
    except lab.Unavailable as error:
        (pytest.fail if os.environ.get("LAB_REQUIRE") else pytest.skip)(str(error))
    opened = socket.socket.__init__

    def opened_inside(
        end: socket.socket,
        family: int = -1,
        type: int = -1,  # noqa: A002 - as in socket.socket
        proto: int = -1,
        fileno: Any = None,
    ) -> None:
        if fileno is None and family in (-1, socket.AF_INET, socket.AF_INET6):
            inside = (max(family, socket.AF_INET), socket.SOCK_STREAM if type == -1 else type, max(proto, 0))
            fileno = made.socket(*inside).detach()
        opened(end, family, type, proto, fileno)

    with made, _captured(made, request.node, _file(request, tmp_path_factory)):
        monkeypatch.setattr(socket.socket, "__init__", opened_inside)
        yield made
        monkeypatch.undo()  # before the world ends, so that what still runs opens its sockets outside
