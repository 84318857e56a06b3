"""A capture: its frames as scapy packets, as a table, and at a glance."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy.typing as npt

from lab.managed import Managed
from lab.tables import plain_columns
from lab.taps.frames import FrameFile
from lab.taps.lines import DESCRIBED, HEADINGS, Cells, describe_frames, frame_lines
from lab.taps.overview import Overview, survey
from lab.taps.packets import Dissector, Packet
from lab.taps.tables import frame_table, take
from lab.texts import printable

if TYPE_CHECKING:
    import pandas
    import polars as pl

    from lab.flow.ladder.ladders import Ladder
    from lab.taps.flows import Flows
    from lab.taps.rtts import Rtts
    from lab.taps.transit import Transit

__all__ = ["Capture", "Packets", "read"]

_SHOWN = 10


def read(path: str | os.PathLike[str], *, filter: str | None = None) -> Capture:  # noqa: A002 - as scapy calls it
    """The capture in a pcap or pcapng file, or those of its frames that match a filter such as ``"udp port 53"``.

    Raises CaptureError if it is no capture, UsageError for a filter that libpcap refuses.
    """
    return Capture(FrameFile(path, filter=filter))


class Packets(Sequence[Packet]):
    """Some frames of a capture: a sequence of scapy packets, each dissected when it is taken out.

    A slice is another such sequence, and dissects nothing.
    """

    def __init__(self, frames: FrameFile, dissector: Dissector, numbers: range) -> None:
        """numbers: of the frames, from 0."""
        self.frames = frames
        self._dissector, self._chosen = dissector, numbers

    @property
    def numbers(self) -> range:
        """Those of its frames in ``frames``, from 0."""
        return self._chosen

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Packet: ...
    @overload
    def __getitem__(self, index: slice) -> Packets: ...
    def __getitem__(self, index: int | slice) -> Packet | Packets:
        chosen = self.numbers[index]
        if isinstance(chosen, range):
            return Packets(self.frames, self._dissector, chosen)
        return self._dissector.packet(chosen)

    def __iter__(self) -> Iterator[Packet]:
        return map(self._dissector.packet, self.numbers)

    def to_scapy(self) -> Any:
        """All of them, dissected, as scapy's ``PacketList``."""
        packets = list(self)
        from scapy.plist import PacketList

        return PacketList(packets, self._name)

    def to_polars(self, *names: str) -> pl.DataFrame:
        """A row a frame, with the columns of these names, or all: ``lab.taps.tables`` tells what they mean.

        Raises UsageError for a name that is none of them.
        """
        return frame_table(self.frames, names, self.numbers)

    def to_pandas(self, *names: str) -> pandas.DataFrame:
        """A row a frame, as a pandas frame made without pyarrow; numbers that are null become NaN."""
        import pandas

        return pandas.DataFrame(self.to_numpy(*names))

    def to_numpy(self, *names: str) -> dict[str, npt.NDArray[Any]]:
        """A row a frame, an array a column; numbers that are null become NaN."""
        return plain_columns(self.to_polars(*names))

    def ladder(self, *flows: int, **options: Any) -> Ladder:
        """Its packets as arrows between their ends: ``capture.ladder()``, ``capture[100:140].ladder(to_scale=True)``.

        flows: numbers of those conversations, as ``Capture.flows`` has them; none: the first ones. options: those of
        ``lab.flow.ladder.steps.find_ladder``. Of a slice it shows only those packets, and knows the others.

        Raises UsageError, CaptureError if there is no conversation.
        """
        from lab.flow.ladder.steps import find_ladder

        return find_ladder(self.frames, flows, self.numbers, **options)

    @property
    def _name(self) -> str:
        return printable(Path(self.frames.path).name)

    def _sentences(self) -> list[str]:
        """What is said above the frames."""
        return [f"{len(self):,} of the frames of {self._name}"]

    def _first_cells(self) -> list[Cells]:
        """The first frames, as they are shown."""
        shown = self.numbers[:_SHOWN]
        columns = take(self.frames, DESCRIBED, shown)
        start_ns = int(take(self.frames, ["time_ns"], range(1))["time_ns"][0]) if shown else 0
        return describe_frames(columns, [number + 1 for number in shown], start_ns)

    def _more(self) -> list[str]:
        more = len(self) - _SHOWN
        return [f"and {more:,} more"] if more > 0 else []

    def __str__(self) -> str:
        return "\n".join([*self._sentences(), *frame_lines(self._first_cells()), *self._more()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(tag: str, cells: Sequence[str]) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        def paragraphs(texts: Sequence[str]) -> str:
            return "".join(f"<p>{html.escape(text)}</p>" for text in texts)

        body = "".join(line("td", cells) for cells in self._first_cells())
        table = f"<table><thead>{line('th', HEADINGS)}</thead><tbody>{body}</tbody></table>" if body else ""
        return paragraphs(self._sentences()) + table + paragraphs(self._more())


class Capture(Packets, Managed):
    """All frames of a capture file, while it grows and after. ``frames`` has them as columns, and what describes them.

    A sequence of scapy packets, each dissected when it is taken out. A context manager that closes the file.
    """

    def __init__(self, frames: FrameFile) -> None:
        super().__init__(frames, Dissector(frames), range(0))
        self._overview = Overview()

    @property
    def numbers(self) -> range:
        return range(len(self.frames))

    def _grown(self) -> FrameFile:
        """All frames that there are by now: to count them takes in what has come."""
        len(self)
        return self.frames

    @property
    def path(self) -> str:
        """The file's."""
        return self.frames.path

    @property
    def interfaces(self) -> tuple[str, ...]:
        """Their names, as the file has them; empty where it has none."""
        return tuple(source.name for source in self.frames.sources)

    @property
    def overview(self) -> Overview:
        """What it holds, counted: frames, bytes, protocols, losses. Counted again when the file has grown."""
        if self._overview.frames != len(self):
            self._overview = survey(self.frames)
        return self._overview

    @property
    def dropped(self) -> int | None:
        """Frames that were lost while capturing; None: the file does not say."""
        return self.overview.dropped

    @property
    def truncated(self) -> int:
        """Frames of which a part is missing."""
        return self.overview.truncated

    @property
    def lossless(self) -> bool | None:
        """Whether the file holds all that was there, whole; None: the file does not say."""
        return self.overview.lossless

    def flows(self) -> Flows:
        """Who spoke with whom: conversations of both directions."""
        from lab.taps.flows import find_flows

        return find_flows(self._grown())

    def rtts(self) -> Rtts:
        """Round trips that can be seen in it, without a probe of ours."""
        from lab.taps.rtts import find_rtts

        return find_rtts(self._grown())

    def transit(self) -> Transit:
        """From going out to coming in, for each packet on lo of which it has both copies."""
        from lab.taps.transit import find_transit

        return find_transit(self._grown())

    def _sentences(self) -> list[str]:
        names = ", ".join(dict.fromkeys(filter(None, self.interfaces)))
        on = f" on {printable(names)}" if names else ""
        first, *others = self.overview.sentences()
        return [f"{self._name}: {first}{on}", *others]

    def close(self) -> None:
        """Lets go of the file. What was taken out of it stays."""
        self.frames.close()
