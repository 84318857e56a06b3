"""What every link is made of: where it is made, its subnets, its description. Runs in the helper."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

from lab.conditions import LINKS as ORDER
from lab.world.link import Link
from lab.world.netlink import Addresses, Network

__all__ = ["ETHERNET", "MODULE_FIX", "Made", "Networks", "Way"]

#: Bytes of an Ethernet header.
ETHERNET = 14
#: What to do where the kernel does not know a type of device.
MODULE_FIX = "Load the kernel module {} (modprobe {}), where the kernel has it"


class Networks(Protocol):
    """What links are made in: namespaces, each made when first asked for. ``middle`` lies between the ends."""

    @property
    def near(self) -> Network: ...
    @property
    def far(self) -> Network: ...
    @property
    def middle(self) -> Network: ...


class Made:
    """A link that is up, and the two descriptors that the wire is to join, where it has them."""

    def __init__(self, link: Link, ports: list[int]) -> None:
        self.link, self.ports = link, ports


class Way(ABC):
    """One kind of link.

    name: as users write it. crosses: what every packet crosses. needs: the kernel module, or the file, that it takes
    beside network namespaces. fix: what to do where it can't be made. wireable: whether the wire can join it. wired:
    whether it always does.
    """

    name: ClassVar[str]
    crosses: ClassVar[str]
    needs: ClassVar[str | None] = None
    fix: ClassVar[str] = "Report it: every kernel that has network namespaces has this"
    wireable: ClassVar[bool] = True
    wired: ClassVar[bool] = False

    def subnet(self, end: int, *, part: int = 0) -> Addresses:
        """The addresses of an end (1 or 2). part 1: of what lies under the link."""
        number = ORDER.index(self.name)
        return {4: f"198.{18 + part}.{number}.{end}", 6: f"2001:2:{part:x}:{number:x}::{end}"}

    @abstractmethod
    def make(self, networks: Networks, *, wired: bool) -> Made:
        """Makes the link. wired: joined by the wire, so that it can be impaired. Raises OSError naming the attempt."""

    def between(
        self, networks: Networks, ports: list[int], device: str, missing: dict[int, int], *, wire: int = ETHERNET
    ) -> Made:
        """The description of a link from near to far whose devices have the same name at both ends."""
        near, far = self.subnet(1), self.subnet(2)
        link = Link(
            name=self.name,
            near={family: address for family, address in near.items() if family not in missing},
            far={family: address for family, address in far.items() if family not in missing},
            far_end="far",
            mtu=networks.near.mtu(device),
            devices={"near": device, "far": device},
            crosses=self.crosses,
            missing=missing,
            wire=wire if ports else None,
        )
        return Made(link, ports)

    def impaired_device(self, device: str) -> str:
        """Where netem is put, for a device that the link's addresses are on."""
        return device

    def configure(self, networks: Networks, device: str) -> dict[int, int]:
        """Gives the device at either end its addresses."""
        missing = networks.near.configure(device, self.subnet(1))
        return missing | networks.far.configure(device, self.subnet(2))
