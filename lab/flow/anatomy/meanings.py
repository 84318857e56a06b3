"""What the values of fields mean, in words: of the layers that lessons take apart."""

from __future__ import annotations

from collections.abc import Mapping

from lab.flow.anatomy.meanings_ip import IP_LAYERS
from lab.flow.anatomy.meanings_link import LINK_LAYERS, Rule
from lab.flow.anatomy.meanings_transport import TRANSPORT_LAYERS
from lab.flow.anatomy.placing import Place

__all__ = ["meaning_of"]

_LAYERS: dict[str, dict[str, Rule]] = LINK_LAYERS | IP_LAYERS | TRANSPORT_LAYERS


def meaning_of(place: Place) -> str:
    """What the value of a field says; "" if nothing is known of it. Layers say what those do that they are based on."""
    name = place.key[1]
    for kind in type(place.owner).__mro__:
        rule = _LAYERS.get(kind.__name__, {}).get(name)
        if rule is not None:
            break
    else:
        return ""
    if isinstance(rule, str):
        return rule
    try:
        if isinstance(rule, Mapping):
            return rule.get(int(place.value), "")
        return rule(place)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return ""  # of a malformed packet, what the rule goes by may not be there
