"""Who has a column in a ladder: the ends of the conversations that are shown."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lab.flow.ladder.ladders import Participant
from lab.taps.speakers import endpoint
from lab.texts import printable

__all__ = ["BY", "Cast", "Flow", "place_of"]

#: What may have a column of its own.
BY = ("endpoint", "process")
_SIDES = ("client", "server")
#: What tells two ends apart that have the same address, and no port.
_ASKING, _SENDING = ("asks", "answers"), ("sends", "receives")
#: Endpoints of a process that are told.
_TOLD = 2

Flow = Mapping[str, Any]  # a row of lab.taps.flows
Key = tuple[Hashable, ...]


def _keys_of(flow: Flow, by: str) -> tuple[Key, Key]:
    """What tells a flow's client and its server from others; if all else is the same for both, then the side does."""
    ports = [(flow[side], flow[f"{side}_port"]) for side in _SIDES]
    keys: list[Key] = [("endpoint", *each) for each in ports]
    if by == "process":
        pids = [flow[f"{side}_pid"] for side in _SIDES]
        if pids[0] != pids[1]:  # a process that speaks to itself is two endpoints
            keys = [key if pid is None else ("process", pid) for key, pid in zip(keys, pids, strict=True)]
    if keys[0] == keys[1]:
        return (*keys[0], "client"), (*keys[1], "server")
    return keys[0], keys[1]


class Cast:
    """The conversations of a ladder, and the columns of their ends, in the order in which they are needed."""

    def __init__(self, by: str) -> None:
        self._by = by
        self._keys: list[Key] = []
        self._ends: dict[int, tuple[Key, Key]] = {}
        self._ports: dict[int, int | None] = {}
        self._flows: dict[Key, list[tuple[Flow, str]]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def wanted(self, flow: Flow) -> int:
        """How many columns more a flow takes."""
        return len(set(_keys_of(flow, self._by)) - set(self._keys))

    def add(self, flow: Flow) -> None:
        """Gives both ends of a flow their columns."""
        keys = _keys_of(flow, self._by)
        for key, side in zip(keys, _SIDES, strict=True):
            if key not in self._keys:
                self._keys.append(key)
            self._flows.setdefault(key, []).append((flow, side))
        self._ends[flow["flow"]] = keys
        self._ports[flow["flow"]] = flow["client_port"]

    @property
    def flows(self) -> tuple[int, ...]:
        """Their numbers."""
        return tuple(self._ends)

    def add_device(self, interface: int, name: str) -> None:
        """Gives an interface a column behind that of the first client."""
        self._keys.insert(1, ("device", interface, name))

    def device_columns(self, interfaces: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The columns of interfaces, −1 of those that have none. interfaces: their numbers, shape (n,)."""
        found = np.full(len(interfaces), -1)
        for column, key in enumerate(self._keys):
            if key[0] == "device":
                found[interfaces == key[1]] = column
        return found

    def ends(self, flow: int) -> tuple[int, int]:
        """The columns of a flow's client and of its server."""
        client, server = self._ends[flow]
        return self._keys.index(client), self._keys.index(server)

    def shared(self, flow: int) -> bool:
        """Whether another conversation has the same two columns, and a client at another port."""
        port, keys = self._ports[flow], {*self._ends[flow]}
        return any(keys == {*ends} and port != self._ports[other] for other, ends in self._ends.items())

    def participants(self) -> tuple[Participant, ...]:
        """The columns, from the left."""
        return tuple(self._participant(key) for key in self._keys)

    def _participant(self, key: Key) -> Participant:
        if key[0] == "device":
            return Participant(name=printable(str(key[2])), kind="device")
        flow, side = self._flows[key][0]
        process = f"{printable(flow[f'{side}_process'])} {flow[f'{side}_pid']}"
        known = flow[f"{side}_pid"] is not None
        if key[0] == "process":
            places = list(dict.fromkeys(place_of(flow, side) for flow, side in self._flows[key]))
            more = f", {len(places) - _TOLD} more" if len(places) > _TOLD else ""
            return Participant(name=process, note=", ".join(places[:_TOLD]) + more, kind="process")
        if len(key) == 4:  # both ends have the same address
            words = _ASKING if flow["icmp_id"] is not None else _SENDING
            return Participant(name=place_of(flow, side), note=words[_SIDES.index(side)])
        return Participant(name=place_of(flow, side), note=process if known else "")


def place_of(flow: Flow, side: str) -> str:
    """Address and port of one side of a flow, "client" or "server"."""
    port = flow[f"{side}_port"]
    return str(flow[side]) if port is None else endpoint(flow[side], port)
