"""What is known of a link once it is made. Plain data, so that the helper can send it and a study can keep it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Link"]


@dataclass(frozen=True, kw_only=True)
class Link:
    """A way between a near and a far end.

    ``near`` and ``far`` map the family to an address, and are empty for a baseline, which has none. ``far_end`` names
    the end in whose namespace the far address lives; ``devices`` names the device at each end. ``missing`` maps a
    family to the errno of trying to set it up. ``wire`` is how many header bytes the wire passes in front of the IP
    header (14 for Ethernet frames, 0 for bare packets), None where no wire joins the ends. ``impaired`` says what
    worsens the link: netem, the wire, or None. ``hops`` names the device in the middle that each end sends to, where a
    router lies there.
    """

    name: str
    near: dict[int, str]
    far: dict[int, str]
    far_end: str
    mtu: int
    devices: dict[str, str]
    crosses: str
    missing: dict[int, int] = field(default_factory=dict)
    wire: int | None = None
    impaired: str | None = None
    hops: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Link:
        """The link that ``dataclasses.asdict`` and JSON made `value` of (JSON keys are text)."""
        by_family = {name: {int(k): v for k, v in value[name].items()} for name in ("near", "far", "missing")}
        return cls(**{**value, **by_family})
