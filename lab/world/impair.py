"""A link worsened on purpose: by netem where the kernel has it, otherwise by the wire. Runs in the helper.

The wire carries out its part in the parent (``lab.wire``); here the link is only joined through it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lab.impairments import Impairment
from lab.world.way import Made, Networks, Way

__all__ = ["make"]


def make(way: Way, networks: Networks, impair: dict[str, Any] | None) -> Made:
    """Makes a link, impaired if so asked. Raises OSError naming the attempt that failed.

    impair: the fields of an ``Impairment``.
    """
    if impair is None:
        return way.make(networks, wired=False)
    wanted = Impairment.from_json(impair)
    if wanted.by != "netem" and way.wired:
        return _by_wire(way, networks)
    if wanted.by == "wire":
        if way.wireable:
            return _by_wire(way, networks)
        raise OSError(None, None, f"{way.name} has no cable that the wire could be put in")
    try:
        options = netem_options(wanted)
        _try_netem(networks, options)
    except OSError:
        if wanted.by == "netem" or not way.wireable:
            raise
        return _by_wire(way, networks)
    return _by_netem(way, networks, options)


def _by_wire(way: Way, networks: Networks) -> Made:
    made = way.make(networks, wired=True)
    return Made(replace(made.link, impaired="wire"), made.ports)


def _try_netem(networks: Networks, options: dict[str, Any]) -> None:
    """Puts netem on a device that nothing uses, so that a link is made only once: with netem, or with the wire."""
    networks.far.netem("lo", options)
    networks.far.remove_qdisc("lo")


def _by_netem(way: Way, networks: Networks, options: dict[str, Any]) -> Made:
    made = way.make(networks, wired=False)
    for end, device in made.link.devices.items():
        (networks.near if end == "near" else networks.far).netem(way.impaired_device(device), options)
    return Made(replace(made.link, impaired="netem"), made.ports)


def netem_options(wanted: Impairment) -> dict[str, Any]:
    """The same in netem's terms, as pyroute2 takes them. Raises OSError for what it can't express."""
    uneven = wanted.ipdv_ns and (wanted.dist != "uniform" or wanted.cut == "redraw")
    if uneven or wanted.burst or wanted.rate_bps or wanted.delay_ns % 1000 or wanted.ipdv_ns % 1000:
        text = "netem can be asked for whole µs, uniform ipdv, independent loss and no rate only"
        raise OSError(None, None, text)
    return {
        "delay": wanted.delay_ns / 1000,
        "jitter": wanted.ipdv_ns / 1000,
        "loss": 100 * wanted.loss,
        "duplicate": 100 * wanted.duplicate,
        "prob_reorder": 100 * wanted.reorder,
        "prob_corrupt": 100 * wanted.corrupt,
        "limit": wanted.limit,
    }
