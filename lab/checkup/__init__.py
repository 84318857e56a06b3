"""``lab doctor``: is this network's loopback well, what can the lab measure here, and how to mend what is not so.

Each check makes an actual attempt and reports what the kernel answered. Nothing is changed. ``examining`` says which
checks there are, and in which order; ``findings`` what they return.
"""

from __future__ import annotations

from lab.checkup.examining import doctor
from lab.checkup.findings import Item, Report

__all__ = ["Item", "Report", "doctor"]
