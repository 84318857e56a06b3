"""What the kernel counted while a stream ran, beside what the stream saw itself. Reads /proc and the sockets."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Accounts", "accounting", "softnet_dropped"]

_SO_INCOMING_NAPI_ID = 56  # asm-generic/socket.h
_TCP_INFO_BYTES = 104  # linux/tcp.h: struct tcp_info up to tcpi_total_retrans
_TCPI_RTT, _TCPI_TOTAL_RETRANS = 68, 100  # offsets therein


class Ends(Protocol):
    """The two ends of a stream."""

    @property
    def near(self) -> Any: ...
    @property
    def far(self) -> Any: ...
    @property
    def kind(self) -> str: ...


@dataclass
class Accounts:
    """Of one stream, warm-up included; None where the kernel does not tell.

    migrations: how often the near end's thread changed its CPU, though it is pinned. softnet_dropped: packets that any
    CPU dropped, as its backlog was full, whoever they belonged to. napi_ids: of the queue that each end's last packet
    came from; 0: from none. tcp: each end's smoothed round trip in ns, and the segments it sent again.
    """

    migrations: int | None = None
    softnet_dropped: int | None = None
    napi_ids: dict[str, int] | None = None
    tcp: dict[str, dict[str, int]] | None = None


@contextlib.contextmanager
def accounting(ends: Ends, root: Path = Path("/proc")) -> Iterator[Accounts]:
    """Accounts that are filled at the end of the block, which the near end's thread runs. root: where /proc lies."""
    accounts = Accounts()
    dropped, migrations = softnet_dropped(root), _migrations(root)
    try:
        yield accounts
    finally:
        accounts.migrations = _since(migrations, _migrations(root))
        accounts.softnet_dropped = _since(dropped, softnet_dropped(root))
        sockets = {
            name: end for name, end in (("near", ends.near), ("far", ends.far)) if isinstance(end, socket.socket)
        }
        accounts.napi_ids = {
            name: end.getsockopt(socket.SOL_SOCKET, _SO_INCOMING_NAPI_ID) for name, end in sockets.items()
        }
        if ends.kind == "tcp":
            accounts.tcp = {name: _tcp_info(end) for name, end in sockets.items()}


def _since(before: int | None, now: int | None) -> int | None:
    return None if before is None or now is None else now - before


def softnet_dropped(root: Path = Path("/proc")) -> int | None:
    """Packets that any CPU dropped since the machine started, as its backlog was full; None where it is hidden.

    The second column of each CPU's line, hexadecimal (net/core/net-procfs.c).
    """
    try:
        lines = (root / "net/softnet_stat").read_text().splitlines()
    except OSError:  # it is hidden in some containers
        return None
    return sum(int(line.split()[1], 16) for line in lines)


def _migrations(root: Path) -> int | None:
    """Of the calling thread. Kernels without CONFIG_SCHED_DEBUG don't tell."""
    with contextlib.suppress(OSError):
        for line in (root / "thread-self/sched").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "se.nr_migrations":
                return int(value)
    return None


def _tcp_info(end: socket.socket) -> dict[str, int]:
    info = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    (rtt_us,) = struct.unpack_from("=I", info, _TCPI_RTT)
    (retransmits,) = struct.unpack_from("=I", info, _TCPI_TOTAL_RETRANS)
    return {"rtt_ns": rtt_us * 1000, "retransmits": retransmits}
