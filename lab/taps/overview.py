"""What a capture holds, counted in one pass over a few columns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lab.taps.frames import HAS
from lab.taps.lines import protocol_name
from lab.units import format_ns

if TYPE_CHECKING:
    from lab.taps.frames import FrameFile

__all__ = ["Overview", "survey"]


@dataclass(frozen=True)
class Overview:
    """Counts of a capture.

    dropped: frames that the writer, or the kernel for it, lost; None: the file does not say. unlinked: of an interface
    where packets leave two copies, frames without the other one. fault: why the file could not be read to its end.
    """

    frames: int = 0
    bytes: int = 0
    start_ns: int = 0
    end_ns: int = 0
    truncated: int = 0
    unlinked: int = 0
    dropped: int | None = None
    protocols: Counter[str] = field(default_factory=Counter)
    fault: str | None = None

    @property
    def lossless(self) -> bool | None:
        """Whether nothing is missing; None: nothing that is known of, but the file does not say."""
        if self.truncated or self.fault or self.dropped:
            return False
        return None if self.dropped is None else True

    def sentences(self) -> list[str]:
        """All of it in two or three lines."""
        told = [f"{self.frames:,} frames, {self.bytes:,} bytes"]
        if self.frames > 1:
            told[0] += f" in {format_ns(self.end_ns - self.start_ns)}"
        if self.protocols:
            told.append(", ".join(f"{name} {count:,}" for name, count in self.protocols.most_common()))
        lost = [] if self.dropped is None else [f"{self.dropped:,} dropped"]
        lost += [f"{self.truncated:,} cut short"] if self.truncated else []
        lost += [f"{self.unlinked:,} without their other copy"] if self.unlinked else []
        return [*told, *([", ".join(lost)] if lost else []), *([self.fault] if self.fault else [])]


def survey(frames: FrameFile) -> Overview:
    """Reads seven columns of all frames, in batches."""
    count = size = truncated = dropped = 0
    start_ns, end_ns = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    protocols, ethertypes = np.zeros(1 << 8, np.int64), np.zeros(1 << 16, np.int64)
    others = 0
    linked, unlinked = Counter[int](), Counter[int]()  # frames by interface
    names = ("time_ns", "length", "captured", "has", "protocol", "ethertype", "interface", "packet_id", "dropped")
    for batch in frames.batches(*names):
        count += len(batch["time_ns"])
        size += int(batch["length"].sum(dtype=np.int64))
        truncated += int(np.count_nonzero(batch["captured"] < batch["length"]))
        dropped += int(batch["dropped"].sum())
        start_ns = min(start_ns, int(batch["time_ns"].min(initial=start_ns)))
        end_ns = max(end_ns, int(batch["time_ns"].max(initial=end_ns)))
        is_ip, has_type = (batch["has"] & HAS[layer] != 0 for layer in ("ip", "ethertype"))
        protocols += np.bincount(batch["protocol"][is_ip], minlength=len(protocols))
        ethertypes += np.bincount(batch["ethertype"][has_type & ~is_ip], minlength=len(ethertypes))
        others += int(np.count_nonzero(~has_type & ~is_ip))
        for counter, those in ((linked, batch["packet_id"] != 0), (unlinked, batch["packet_id"] == 0)):
            found, times = np.unique(batch["interface"][those], return_counts=True)
            counter.update(dict(zip(found.tolist(), times.tolist(), strict=True)))
    named = Counter({protocol_name(number, None): seen for number, seen in enumerate(protocols.tolist()) if seen})
    named += Counter({protocol_name(None, number): seen for number, seen in enumerate(ethertypes.tolist()) if seen})
    named += Counter({"other": others})
    return Overview(
        frames=count,
        bytes=size,
        start_ns=start_ns if count else 0,
        end_ns=end_ns if count else 0,
        truncated=truncated,
        unlinked=sum(unlinked[interface] for interface in linked),
        dropped=_dropped(frames, dropped),
        protocols=named,
        fault=frames.fault,
    )


def _dropped(frames: FrameFile, noted: int) -> int | None:
    """Frames lost by the statistics of all interfaces, or as noted beside frames, if that is more."""
    told = [source.dropped for source in frames.sources] + [source.os_dropped for source in frames.sources]
    known = [count for count in told if count is not None]
    if not known and not noted:
        return None
    return max(sum(known), noted)
