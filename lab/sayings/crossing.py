"""How loopback addresses are made to cross a cable, which they never do by themselves: for experiments, changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.sayings.scene import LOOPBACK

if TYPE_CHECKING:
    from lab.sayings.scene import Scene

__all__ = ["ask_across", "let_pass"]

_LENGTHS = {4: 8, 6: 128}


def let_pass(scene: Scene) -> None:
    """Has both ends of the cable take in and send out packets of 127.0.0.0/8. IPv6 has no such switch for ::1."""
    for end in ("near", "far"):
        scene.world.sysctl("ipv4/conf/veth/route_localnet", 1, end=end)


def ask_across(scene: Scene, family: int, *, end: str = "far") -> None:
    """Has the machine at `end` forget its own loopback address, and send what is for it across the cable."""
    address, world = LOOPBACK[family], scene.world
    gateway = scene.near("veth", family) if end == "far" else scene.far("veth", family)
    world.remove_address("lo", f"{address}/{_LENGTHS[family]}", end=end)
    world.add_route(f"{address}/{32 if family == 4 else 128}", gateway=gateway, end=end)
