"""What a real browser makes of a server of this machine, where one is installed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

from lab.browsing import Visit, visits
from lab.checkup.findings import Item
from lab.checkup.naming import NAME
from lab.checkup.network import LOOPBACK, Network
from lab.checkup.targets import Target
from lab.errors import Unavailable

__all__ = ["browser"]

_EMPTY_ERROR = "net::ERR_HTTP_RESPONSE_CODE_FAILURE"
_COST = "whether a browser shows it is not known"


def browser(network: Network, target: Target, timeout_s: float = 5) -> Item:
    """The item browser: the server as 127.0.0.1, [::1], localhost and whatever it was asked for as."""
    popen: Callable[..., subprocess.Popen[Any]] | None = getattr(network.place, "popen", None)
    if popen is None and not network.own:
        fix = "Run lab doctor in that network, by lab exec"
        return Item("browser", "partial", "no browser is started in the network of a process", fix, _COST)
    urls = list(dict.fromkeys([target.url(), *(target.url(host) for host in (*LOOPBACK.values(), NAME))]))
    try:
        came = visits(urls, popen=popen or subprocess.Popen, timeout_s=timeout_s)
    except Unavailable as error:
        return Item("browser", "partial", error.reason, error.fix, _COST)
    evidence = "; ".join(map(str, came))
    if all(map(_answered, came)):
        return Item("browser", "ok", evidence)
    status = "partial" if _answered(came[0]) else "missing"
    return Item("browser", status, evidence, _fix(came), "a browser shows an error in place of the page")


def _answered(visit: Visit) -> bool:
    """An empty page with a status that tells of an error isn't shown, but the server did answer."""
    return visit.loaded or visit.error == _EMPTY_ERROR


def _fix(came: list[Visit]) -> str:
    shown = [visit.url for visit in came if _answered(visit)]
    return f"Give browsers {shown[0]}" if shown else "See the items before this one"
