"""The C loop: each case of the check program under the sanitizers, the compilers' opinion, and what both sides share.

The cases are in check_*.c; ``check.h`` says what they have in common. Each is a test here, and a process of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from lab._native import ffi, lib

from lab import conditions, records

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parents[1] / "native"
SOURCES = sorted(path for path in NATIVE.glob("*.c") if path.name != "prelude.c")
WRAPPED = (
    "send", "sendto", "recv", "recvmsg", "connect", "accept4", "read", "write", "sendmmsg", "recvmmsg",
    "pthread_create", "clock_gettime",
)  # fmt: skip
DIALECT = ("-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra")
ASAN = "address,undefined"
TSAN = "thread"

CANNOT_RUN = 77  # the program's exit code for a case that this machine can't run
LIMIT_S = 60
BUILD_LIMIT_S = 300


def missing(reason: str) -> NoReturn:
    """Skips the test, or fails it where LAB_REQUIRE says that nothing may be missing."""
    (pytest.fail if os.environ.get("LAB_REQUIRE") else pytest.skip)(reason)
    raise AssertionError


def cases(trait: str = "") -> list[str]:
    """The names of the cases with that trait, read from the tables so that collecting the tests builds nothing."""
    names = []
    for path in sorted(HERE.glob("check_*.c")):
        for name, traits in re.findall(r"^    CASE\((\w+), ([^)]*)\)", path.read_text(), re.MULTILINE):
            if trait in traits:
                names += (f"{name}-4", f"{name}-6") if "BOTH_FAMILIES" in traits else (name,)
    return names


# ---- building and running the program ----


def run(*command: str | Path, timeout: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def build(folder: Path, sanitizers: str) -> tuple[str, ...]:
    """Compiles the program and returns the command that runs it. Skips the test if the compiler can't sanitize."""
    cc = shutil.which("cc") or missing("cc is not installed")
    flags = (*DIALECT, "-g", "-O1", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-pthread")
    trivial, program = folder / "trivial.c", folder / "check"
    trivial.write_text("int main(void) { return 0; }\n")
    if (tried := run(cc, *flags, trivial, "-o", program)).returncode:
        missing(f"cc can't build with -fsanitize={sanitizers}: {tried.stderr.strip()}")
    # ThreadSanitizer's shadow has its place, which addresses chosen at random may be in.
    launcher = ("setarch", "-R") if sanitizers == TSAN and not run("sh", "-c", "setarch -R true").returncode else ()
    if (tried := run(*launcher, program)).returncode:
        missing(f"-fsanitize={sanitizers} can't run here: {tried.stderr.strip()}")
    wraps = [f"-Wl,--wrap={name}" for name in WRAPPED]
    files = [*SOURCES, *sorted(HERE.glob("*.c"))]
    built = run(cc, *flags, f"-I{NATIVE}", *files, "-o", program, *wraps, "-lm", timeout=BUILD_LIMIT_S)
    assert built.returncode == 0, built.stderr
    return (*launcher, str(program))


@pytest.fixture(scope="session")
def program(tmp_path_factory) -> tuple[str, ...]:
    return build(tmp_path_factory.mktemp("asan"), ASAN)


@pytest.fixture(scope="session")
def tsan_program(tmp_path_factory) -> tuple[str, ...]:
    return build(tmp_path_factory.mktemp("tsan"), TSAN)


def run_case(command: tuple[str, ...], case: str) -> None:
    done = run(*command, case)
    if done.returncode == CANNOT_RUN:
        missing(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"ok {case}\n"
    assert not done.stderr


# ---- the cases ----


@pytest.mark.parametrize("case", cases())
def test_case(program, case):
    run_case(program, case)


@pytest.mark.parametrize("case", cases("THREADS"))
def test_case_has_no_data_race(tsan_program, case):
    run_case(tsan_program, case)


def test_every_case_of_the_program_is_a_test(program):
    assert sorted(run(*program, "--list").stdout.split()) == sorted(cases())
    assert sorted(run(*program, "--list-threads").stdout.split()) == sorted(cases("THREADS"))


def test_an_unknown_case_is_no_success(program):
    assert run(*program, "no-such-case").returncode == 1


# ---- the compilers ----


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_compiler_warns_of_nothing(compiler):
    found = shutil.which(compiler) or missing(f"{compiler} is not installed")
    files = sorted(NATIVE.glob("*.c"))
    done = run(found, *DIALECT, "-Wconversion", "-Werror", "-pthread", "-fsyntax-only", *files)
    assert done.returncode == 0, done.stderr


# ---- what C and Python share ----


@pytest.mark.parametrize(
    ("name", "layout"),
    [("lab_record", records.RECORD), ("lab_stamps", records.STAMPS), ("lab_wire_event", records.WIRE_EVENT)],
    ids=str,
)
def test_layout_is_the_same_on_both_sides(name, layout):
    fields = ffi.typeof(f"struct {name}").fields
    assert layout.names == tuple(name for name, _ in fields)
    assert layout.itemsize == ffi.sizeof(f"struct {name}")
    for field_name, field in fields:
        dtype, offset = layout.fields[field_name][:2]
        array = field.type.kind == "array"
        kind = field.type.item if array else field.type
        assert offset == ffi.offsetof(f"struct {name}", field_name), field_name
        assert dtype.base == np.dtype(kind.cname.removesuffix("_t").replace("unsigned char", "uint8")), field_name
        assert dtype.shape == ((field.type.length,) if array else ()), field_name


@pytest.mark.parametrize("name", ["UNSENT", "LOST", "LATE", "RECEIVED"])
def test_status_is_the_same_on_both_sides(name):
    assert getattr(records, name) == getattr(lib, f"LAB_{name}")
    assert records.STATUSES[getattr(records, name)] == name.lower()


@pytest.mark.parametrize(("prefix", "flags"), [("LAB_FLAG_", records.FLAGS), ("LAB_WIRE_", records.WIRE_FLAGS)])
def test_flags_are_the_same_on_both_sides(prefix, flags):
    native = {name.removeprefix(prefix).lower(): getattr(lib, name) for name in dir(lib) if name.startswith(prefix)}
    assert native == flags


def test_payload_limits_are_the_same_on_both_sides():
    assert conditions.MAX_PAYLOAD == lib.LAB_MAX_PAYLOAD
    assert (
        dict.fromkeys(conditions.BASELINES, lib.LAB_MIN_PAYLOAD)
        | dict.fromkeys(conditions.EMPTY, 0)
        | {
            "icmp": lib.LAB_MIN_PAYLOAD_ICMP,
            "udp": lib.LAB_MIN_PAYLOAD,
            "tcp": lib.LAB_MIN_PAYLOAD,
        }
        == conditions.MIN_PAYLOAD
    )
