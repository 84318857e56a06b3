"""Of the range: which addresses are loopback's, and who answers at them."""

from __future__ import annotations

from collections.abc import Iterator

from lab.sayings.claim import HOLDS, IN_PART, Change, Claim, Outcome
from lab.sayings.scene import Scene

__all__ = ["CLAIMS"]

_SOURCE_SAMPLE = ("127.0.0.1", "127.0.0.2", "127.1.1.1", "127.50.50.50", "127.255.255.254")


def _source(scene: Scene) -> Iterator[Outcome]:
    for address in _SOURCE_SAMPLE:
        answer = scene.ping(address)
        yield Outcome(f"ping {address}", answer.source == address, f"{answer}, asked from {answer.local or 'nowhere'}")


def _hide_from_others(scene: Scene) -> None:
    scene.world.remove_route("127.0.0.0/8", device="lo", kind="local")


CLAIMS = (
    Claim(
        id="range-source",
        says="An address of 127.0.0.0/8 that is asked is the one that answers, whichever it is.",
        statements=(24, 66),
        prediction="the reply to a ping of 127.50.50.50 comes from 127.50.50.50",
        expected=HOLDS,
        experiment=_source,
        refuted_by=Change(
            text="the local route for 127.0.0.0/8 is taken away, and that for 127.0.0.1 stays",
            make=_hide_from_others,
            becomes=IN_PART,
        ),
        decided_by="fib_table_lookup in net/ipv4/fib_trie.c: local 127.0.0.0/8 dev lo; RFC 1122, 3.2.1.3 (g)",
        remember="All of 127.0.0.0/8 is this machine, and each address of it answers for itself.",
    ),
)
