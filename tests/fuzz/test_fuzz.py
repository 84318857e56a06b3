"""Each fuzz_*.c for a while with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer: no input is a finding.

LAB_FUZZ_SECONDS: how long each runs, 20 by default. LAB_FUZZ_CORPUS: a folder to keep what was found worth keeping in,
and to begin from the next time; it has a folder for each target.
"""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parents[1] / "native"
SECONDS = int(os.environ.get("LAB_FUZZ_SECONDS", "20"))
BUILD_LIMIT_S = 300
MOST_BYTES = 4096

FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-pthread", "-fno-sanitize-recover=all", f"-I{NATIVE}")


@pytest.fixture(scope="module")
def objects(tool, missing, tmp_path_factory) -> list[Path]:
    """native/ as every target wants it. Skips where clang has no libFuzzer."""
    clang, folder = tool("clang"), tmp_path_factory.mktemp("objects")
    trivial = folder / "trivial.c"
    trivial.write_text("int LLVMFuzzerTestOneInput(const char *bytes, long size) { return bytes && size < 0; }\n")
    tried = subprocess.run(
        [clang, "-fsanitize=fuzzer,address,undefined", trivial, "-o", folder / "trivial"],
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        missing(f"clang can't build with -fsanitize=fuzzer: {tried.stderr.strip().splitlines()[-1]}")
    sources = [path for path in sorted(NATIVE.glob("*.c")) if path.name != "prelude.c"]
    command = [clang, *FLAGS, "-fsanitize=fuzzer-no-link,address,undefined", "-c", *sources]
    subprocess.run(command, cwd=folder, check=True, timeout=BUILD_LIMIT_S)
    return sorted(folder.glob("*.o"))


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    ends = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + ends + body + ends


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def captures() -> list[bytes]:
    """Small files of either format and byte order, with a frame of UDP over IPv4 in each kind of block."""
    udp = struct.pack("!4H", 5678, 53, 11, 0) + b"abc"
    frame = (
        bytes(12) + b"\x08\0" + struct.pack("!BBHHHBBHII", 0x45, 0, 31, 1, 0, 64, 17, 0, 0x7F000001, 0x7F000001) + udp
    )
    made = []
    for order in "<>":
        said = option(order, 1, b"said") + option(order, 2, struct.pack(order + "I", 1)) + bytes(4)
        times = option(order, 9, b"\x09") + option(order, 14, struct.pack(order + "q", 1))
        section = block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1) + said[:8])
        interface = block(order, 1, struct.pack(order + "HHI", 1, 0, 0) + times + option(order, 2, b"lo"))
        head = struct.pack(order + "4I", 0, 7, len(frame), len(frame))
        blocks = [
            block(order, 6, struct.pack(order + "I", 0) + head + frame + b"\0" * (-len(frame) % 4) + said),
            block(order, 2, struct.pack(order + "HH", 0, 0) + head + frame),
            block(order, 3, struct.pack(order + "I", len(frame)) + frame),
            block(order, 5, struct.pack(order + "3I", 0, 0, 0) + option(order, 4, bytes(8)) + said[:8]),
        ]
        made += [section + interface + b"".join(blocks), *(section + interface + each for each in blocks)]
        for magic in (0xA1B2C3D4, 0xA1B23C4D):
            record = struct.pack(order + "4I", 1, 2, len(frame), len(frame)) + frame
            made.append(struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 96, 1) + record * 2)
    return made


@pytest.mark.parametrize("target", [path.stem.removeprefix("fuzz_") for path in sorted(HERE.glob("fuzz_*.c"))])
def test_nothing_is_found(target, objects, tool, tmp_path):
    program, corpus, seeds = tmp_path / target, tmp_path / "corpus", tmp_path / "seeds"
    if keep := os.environ.get("LAB_FUZZ_CORPUS"):
        corpus = Path(keep).resolve() / target
    corpus.mkdir(parents=True, exist_ok=True)
    seeds.mkdir()
    for number, seed in enumerate(captures()):
        (seeds / str(number)).write_bytes(seed)
    build = [tool("clang"), *FLAGS, "-fsanitize=fuzzer,address,undefined", HERE / f"fuzz_{target}.c", *objects, "-lm"]
    subprocess.run([*build, "-o", program], check=True, timeout=BUILD_LIMIT_S)
    limits = [f"-max_total_time={SECONDS}", f"-max_len={MOST_BYTES}", "-timeout=10", "-rss_limit_mb=2048"]
    done = subprocess.run(
        [program, *limits, f"-artifact_prefix={corpus}/", corpus, seeds],
        capture_output=True,
        text=True,
        timeout=SECONDS + 120,
    )
    assert done.returncode == 0, done.stderr[-6000:]
