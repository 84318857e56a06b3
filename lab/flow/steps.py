"""From a capture to its ladder: whose packets are shown, between which columns, and what is told of each."""

from __future__ import annotations

from collections.abc import Sequence

from lab.flow.ladders import Ladder
from lab.taps.frames import FrameFile

__all__ = ["find_ladder"]


def find_ladder(
    frames: FrameFile,
    flows: Sequence[int] = (),
    *,
    by: str = "endpoint",
    both_copies: bool = False,
    packets: int = 40,
    to_scale: bool = False,
    large: bool = False,
) -> Ladder:
    """The ladder of some conversations of a capture, the first ones if none is named.

    by: what has a column of its own, an "endpoint" or a "process" (of which the capture is sure). both_copies: whether
    the two copies of a packet on lo are two arrows, by way of the device. packets: how many rows there are at most; the
    least interesting ones beyond are folded. to_scale, large: as ``Ladder`` has them.

    Raises UsageError for a flow that is not there, CaptureError for a capture with no conversation.
    """
    raise NotImplementedError
