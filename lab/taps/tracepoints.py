"""The kernel's tracepoints: their numbers, the layout of their records, and the names that they give to values.

All of it is text in tracefs (Documentation/trace/events.rst), read afresh for the kernel that runs: no offset and no
name stands here. Where tracefs is not mounted, we mount it for a moment, where nobody else sees it.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab.errors import Unavailable

__all__ = ["Field", "Tracepoint", "find_tracepoint", "parse_format"]

_TRACEFS = Path("/sys/kernel/tracing")
_CLONE_NEWNS = 0x20000  # linux/sched.h
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x8, 0x4000, 0x40000  # linux/mount.h
_FIX = (
    "It takes root on the machine itself and a kernel with tracing (CONFIG_TRACING, CONFIG_PERF_EVENTS); "
    "in a container, --privileged"
)

_FIELD = re.compile(r"^\s*field:[^;]*?(\w+)(?:\[\w*\])?;\s*offset:(\d+);\s*size:(\d+);\s*signed:([01]);", re.MULTILINE)
_SYMBOLIC = re.compile(r"__print_symbolic\(REC->(\w+),\s*(\{.*?\})\s*\)", re.DOTALL)
#: What a kernel could not resolve, and so left as the name of a C constant, is no value and has no entry.
_SYMBOL = re.compile(r'\{\s*(-?(?:0x[0-9a-fA-F]+|\d+))[UuLl]*\s*,\s*"([^"]*)"\s*\}')


@dataclass(frozen=True)
class Field:
    """A number in the records of a tracepoint: where it begins and how long it is, in bytes."""

    offset: int
    size: int
    signed: bool

    def read(self, raw: bytes) -> int:
        """Its value in a record, in the machine's byte order."""
        return int.from_bytes(raw[self.offset : self.offset + self.size], sys.byteorder, signed=self.signed)


@dataclass(frozen=True)
class Tracepoint:
    """A tracepoint of the kernel that runs.

    name: "skb/kfree_skb". number: what perf_event_open(2) calls it. fields: by name, the common ones too. symbols: by
    field and value, what the kernel's own print format says for it.
    """

    name: str
    number: int
    fields: dict[str, Field]
    symbols: dict[str, dict[int, str]]

    def field(self, name: str) -> Field:
        """Raises Unavailable if this kernel's records don't have it."""
        if name not in self.fields:
            raise Unavailable(
                f"the kernel's tracepoint {self.name} has no {name}", errno=None, fix="Run a newer kernel"
            )
        return self.fields[name]


def find_tracepoint(name: str) -> Tracepoint:
    """A tracepoint by its name, as in "skb/kfree_skb". Raises Unavailable where tracefs can't be read.

    The kernel holds on to nothing: this changes no setting of tracing.
    """
    folder = _TRACEFS / "events" / name
    try:
        # A look at /sys/kernel/debug/tracing, too, would mount tracefs there for everybody.
        number, text = _texts(folder) if os.access(folder / "id", os.R_OK) else _apart(folder)
    except OSError as error:
        what = f"cannot look at the kernel's tracepoint {name} ({error.filename or 'tracefs'})"
        raise Unavailable(what, errno=error.errno, fix=_FIX) from error
    return Tracepoint(name, int(number), *parse_format(text))


def parse_format(text: str) -> tuple[dict[str, Field], dict[str, dict[int, str]]]:
    """The fields of a tracepoint's records, and the names of their values, from its file ``format``."""
    fields = {name: Field(int(offset), int(size), signed == "1") for name, offset, size, signed in _FIELD.findall(text)}
    symbols = {
        name: {int(value, 0): said for value, said in _SYMBOL.findall(table)}
        for name, table in _SYMBOLIC.findall(text)
    }  # fmt: skip
    return fields, symbols


def _texts(folder: Path) -> tuple[str, str]:
    return (folder / "id").read_text(), (folder / "format").read_text()


def _apart(folder: Path) -> tuple[str, str]:
    """The texts, with tracefs mounted in a mount namespace that one thread has to itself, and that ends with it.

    unshare(2) moves a thread, not the process; so this one must do nothing else ever after. Raises OSError.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(_mount_and_read, folder).result()


def _mount_and_read(folder: Path) -> tuple[str, str]:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    if libc.unshare(_CLONE_NEWNS):
        _raise("unshare(CLONE_NEWNS)")
    if libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None):  # or the machine would see ours
        _raise("mount(MS_PRIVATE)")
    if libc.mount(b"tracefs", os.fsencode(_TRACEFS), b"tracefs", ctypes.c_ulong(flags), None):
        _raise("mount(tracefs)")
    return _texts(folder)


def _raise(call: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), call)
