"""What a reader of one condition's figures should know before resting on them, each with a remedy. Pure."""

from __future__ import annotations

from lab.conditions import largest_payload

__all__ = ["doubts"]


def doubts(
    link: str, family: int, probe: str, size: int, *, mtu: int, unsent: int, foreign: int, corrupting: bool = False
) -> list[str]:
    """mtu: the link's, in bytes. unsent, foreign: probes never sent, and messages that were no replies.

    corrupting: whether the link is made to corrupt packets.
    """
    found = []
    largest = largest_payload(family, probe, mtu)
    what = f"{link} IPv{family} {probe}"
    if size > largest:
        cut = "segments" if probe == "tcp" else "fragments"
        found.append(f"{what}: {size} bytes leave in {cut} (MTU {mtu}); -s {largest} fits")
    if unsent:
        found.append(f"{what}: {unsent} probes were never sent, as the device's queue was full; give a smaller size")
    if foreign:
        whose = "they came corrupted, as was asked for" if corrupting else "something else uses this network"
        found.append(f"{what}: {foreign} messages were no replies and were ignored; {whose}")
    return found
