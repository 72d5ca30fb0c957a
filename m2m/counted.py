"""Write numbers with their noun."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return "1 mixture" or "1,234 mixtures", for nouns whose plural has an s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
