"""Texts that somebody else wrote, as they may be shown."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Without what would steer a terminal, or can't be shown: that becomes U+FFFD."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
