"""What tests of every folder share: skipping with a reason, worlds, and running the command."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
from playwright.sync_api import Browser, sync_playwright

import lab
from lab.conditions import LINKS

ROOT = Path(__file__).resolve().parent.parent
LAUNCHER = Path(__file__).with_name("launch.py")


def _missing(reason: str) -> NoReturn:
    """Skips a test for want of something; fails it where LAB_REQUIRE says that everything must be there."""
    if os.environ.get("LAB_REQUIRE"):
        pytest.fail(f"LAB_REQUIRE is set, and {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def missing() -> Callable[[str], NoReturn]:
    return _missing


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """The path of a program that a test needs."""

    def find(name: str) -> str:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
        return found or _missing(f"{name} is not installed")

    return find


@pytest.fixture(scope="module")
def browser(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The machine's Chromium, without a window; its profile and whatever else it keeps are gone afterwards.

    For one module: as long as it is there, playwright's event loop runs in this thread, and no other can.
    """
    chromium = tool("chromium")
    home = str(tmp_path_factory.mktemp("home"))
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium,
            env=os.environ | {"HOME": home, "TMPDIR": home, "XDG_CACHE_HOME": home, "XDG_CONFIG_HOME": home},
        )
        with started:
            yield started


@pytest.fixture(scope="module")
def world() -> Iterator[lab.World]:
    """A private world with every link, for one module."""
    try:
        made = lab.World(["lo", "veth"])
    except lab.Unavailable as error:
        _missing(str(error))
    with made:
        if made.skipped:
            _missing(f"this kernel has no {made.skipped[0].link}: {made.skipped[0].reason}")
        yield made


@pytest.fixture(scope="module")
def every_link() -> Iterator[lab.World]:
    """A private world with every link that this machine can make, for one module."""
    try:
        made = lab.World(LINKS)
    except lab.Unavailable as error:
        _missing(str(error))
    with made:
        yield made


@pytest.fixture(scope="session")
def everywhere() -> set[str]:
    """Links that every kernel with network namespaces has; the others are modules that a kernel may lack for good."""
    return {"lo", "lo-net", "own", "veth", "bridge", "router", "macvlan", "vxlan"}


@pytest.fixture(scope="session")
def available(everywhere: set[str]) -> Callable[[lab.World, str], lab.world.Link]:
    """A link; a test of one that cannot be had here is skipped with the reason, unless every kernel has it."""

    def find(world: lab.World, name: str) -> lab.world.Link:
        if name in world.links:
            return world.links[name]
        (reason,) = (skip.reason for skip in world.skipped if skip.link == name)
        assert name not in everywhere, reason
        assert name not in ("tun", "tap") or not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason
        pytest.skip(reason)

    return find


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def family(request: pytest.FixtureRequest) -> int:
    return request.param


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs ``lab …`` in a folder of its own and returns what came of it.

    faults: runs it inside a namespace with these things wrong (see launch.py).
    """

    def run(*arguments: str, faults: tuple[str, ...] = (), timeout: float = 120) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lab", *arguments]
        if faults:
            command = [sys.executable, str(LAUNCHER), *faults, "--", *command]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=timeout, check=False)
        if faults and done.returncode == 77:
            _missing(done.stderr.strip())
        return done

    return run


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    """Waits for a condition, and fails with `what` if it does not come true in time."""

    def wait_until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
            time.sleep(0.01)

    return wait_until


@pytest.fixture(scope="session")
def read_pcapng() -> Callable[[Path], SimpleNamespace]:
    """Reads a whole little-endian pcapng file of one section by the draft, and checks its structure on the way.

    section: options by code. interfaces: (link type, snaplen, options). frames: time_ns, data, length, flags.
    statistics: counts by option code, with start_ns and end_ns.
    """

    def options(data: bytes) -> dict[int, bytes]:
        found = {}
        while data:
            code, size = struct.unpack_from("<HH", data)
            if code == 0:
                assert data == bytes(4)
                break
            found[code] = data[4 : 4 + size]
            data = data[4 + size + -size % 4 :]
        return found

    def time_ns(data: bytes) -> int:
        high, low = struct.unpack("<II", data)
        return high << 32 | low

    def read(path: Path) -> SimpleNamespace:
        data, at = path.read_bytes(), 0
        file = SimpleNamespace(section=None, interfaces=[], frames=[], statistics=None)
        while at < len(data):
            assert file.statistics is None, "a block after the statistics"
            kind, total = struct.unpack_from("<II", data, at)
            assert total % 4 == 0
            assert struct.unpack_from("<I", data, at + total - 4) == (total,)
            body = data[at + 8 : at + total - 4]
            assert (kind == 0x0A0D0D0A) == (at == 0)
            if kind == 0x0A0D0D0A:
                assert body[:16] == struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
                file.section = options(body[16:])
            elif kind == 1:
                link_type, reserved, snaplen = struct.unpack_from("<HHI", body)
                assert reserved == 0
                file.interfaces.append((link_type, snaplen, options(body[8:])))
            elif kind == 6:
                interface, kept, length = struct.unpack("<I8x2I", body[:20])
                assert interface < len(file.interfaces)
                (flags,) = struct.unpack("<I", options(body[20 + kept + -kept % 4 :])[2])
                frame = SimpleNamespace(
                    time_ns=time_ns(body[4:12]), data=body[20 : 20 + kept], length=length, flags=flags
                )
                file.frames.append(frame)
            elif kind != 4:  # names of addresses
                assert kind == 5
                found = options(body[12:])
                found.pop(1, None)  # comments
                file.statistics = {"start_ns": time_ns(found.pop(2)), "end_ns": time_ns(found.pop(3))}
                found.pop(1, None)  # a comment
                file.statistics |= {code: struct.unpack("<Q", value)[0] for code, value in found.items()}
            at += total
        return file

    return read
