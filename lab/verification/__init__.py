"""``lab verify``: does the timing loop tell the truth on this machine?

Each check is a pure judge, from arrays to a finding, and a thin gatherer that measures what the judge needs. What they
measure with, the function that sends a stream, is a parameter: a test gives them one that errs, and sees it found out.
"""

from __future__ import annotations

from lab.verification.findings import Finding, Item, Report
from lab.verification.report import verify

__all__ = ["Finding", "Item", "Report", "verify"]
