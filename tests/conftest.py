"""What tests of every folder share: skipping with a reason, worlds, and running the command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

import lab

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
