"""Declare a field of a recipe with its default, its help and the rules for its value."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def optional(default: Any, text: str, **rules: Any) -> Any:
    """Declare a field with default, help and rules for its value (`choices`, `low`, `high`)."""
    return field(default=default, metadata={"help": text, **rules})


def needed(text: str, **rules: Any) -> Any:
    """Declare a field without a default."""
    return field(metadata={"help": text, **rules})
