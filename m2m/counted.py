"""Write numbers with their noun."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return "1 mixture" or "1,234 mixtures"; the plural is the noun with an s if none is given."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def are(count: int, noun: str, plural: str = "") -> str:
    """Return "1 row is" or "1,234 rows are"."""
    return f"{counted(count, noun, plural)} {'is' if count == 1 else 'are'}"


def millions(count: int) -> str:
    """Return "135 M"; the whole number below a million, such as "52,336"."""
    return f"{count / 1e6:,.0f} M" if count >= 1e6 else f"{count:,}"
