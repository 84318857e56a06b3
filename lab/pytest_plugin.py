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
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lab.single import World

__all__ = ["world"]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
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

    with made:
        monkeypatch.setattr(socket.socket, "__init__", opened_inside)
        yield made
        monkeypatch.undo()  # before the world ends, so that what still runs opens its sockets outside
