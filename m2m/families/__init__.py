"""The model families that m2m computes: one module each, which a new family only adds to.

A family is accepted only after it was compared with llama.cpp and, if transformers has it, with
transformers. tests/families runs these comparisons for every module here.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from m2m.families.family import Family, Field, Flag, Spelling, Stored

__all__ = ["FAMILIES", "KNOWN", "USE_KNOWN", "Family", "Field", "Flag", "Spelling", "Stored"]

_FIRST = ("llama", "mistral", "qwen2", "qwen3", "gemma3")  # in messages; the rest by name


def _order(name: str) -> tuple[int, str]:
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)


_OTHERS = {"family", "refused"}
_NAMES = sorted({module.name for module in iter_modules(__path__)} - _OTHERS, key=_order)
FAMILIES: dict[str, Family] = {name: import_module(f"{__name__}.{name}").FAMILY for name in _NAMES}
KNOWN = ", ".join(family.title for family in FAMILIES.values())
USE_KNOWN = f"use a base model of a known family: {KNOWN}"
