"""The capturers in Python that `capturing.py` measures, each in a process of its own.

    python takers.py lab|lab-both|scapy FILE

Captures on lo until SIGINT. Prints a line when it has begun, and at the end, as JSON, what it says of its frames. scapy
counts them, and writes no file.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

Stop = Callable[[], dict[str, Any]]  # ends it, and tells what came of it


@contextmanager
def by_lab(path: str, *, both_copies: bool) -> Iterator[Stop]:
    import lab

    with lab.capture("lo", file=path, both_copies=both_copies) as capture:

        def stop() -> dict[str, Any]:
            capture.stop()
            return asdict(capture.totals) | {"lossless": capture.lossless}

        yield stop


@contextmanager
def by_scapy(_path: str) -> Iterator[Stop]:
    from scapy.sendrecv import AsyncSniffer

    frames = 0

    def count(_packet: Any) -> None:
        nonlocal frames
        frames += 1

    began = threading.Event()
    sniffer = AsyncSniffer(iface="lo", store=False, prn=count, started_callback=began.set)
    sniffer.start()
    began.wait()

    def stop() -> dict[str, Any]:
        sniffer.stop()
        return {"frames": frames}

    yield stop


def main() -> None:
    name, path = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # of every thread to come
    with by_scapy(path) if name == "scapy" else by_lab(path, both_copies=name == "lab-both") as stop:
        print("began", flush=True)
        signal.sigwait([signal.SIGINT])
        print(json.dumps(stop()), flush=True)


main()
