"""The demands of common licences of data and models: a small table, not legal advice.

Identifiers are those of SPDX, as people write them, and those of the hub's list of licences.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

NON_COMMERCIAL = "forbids commercial use: ask its owner before you sell the model or earn with it"
NO_DERIVATIVES = "forbids passing on changed versions: ask its owner before you publish the model"
SHARE_ALIKE = "asks that everything made from it is passed on under the same licence"
RESTRICTED = "restricts the use of models: pass its conditions on with the model"

# Identifier in the form of `_key` -> the hub's identifier ("" if it has none) and the demands.
_KNOWN: dict[str, tuple[str, tuple[str, ...]]] = {
    **{
        name: (name, ())
        for name in (
            "apache-2.0", "mit", "isc", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "zlib",
            "unlicense", "pddl", "odc-by", "ofl-1.1", "cdla-permissive-1.0",
            "cdla-permissive-2.0", "postgresql",
        )
    },
    **{name: ("", ()) for name in ("unicode-3.0", "unicode-dfs-2016", "wordnet", "public-domain")},
    **{
        name: (name, (SHARE_ALIKE,))
        for name in (
            "gpl-2.0", "gpl-3.0", "agpl-3.0", "lgpl-2.1", "lgpl-3.0", "mpl-2.0", "odbl", "gfdl",
            "eupl-1.2", "cdla-sharing-1.0",
        )
    },
    **{
        name: (name, (RESTRICTED,))
        for name in (
            "gemma", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "openrail",
            "bigscience-openrail-m", "bigcode-openrail-m",
        )
    },
}  # fmt: skip
# Versions that the hub lists for the Creative Commons licences.
_HUB_CC = {
    "by": ("2.0", "2.5", "3.0", "4.0"),
    "by-sa": ("3.0", "4.0"),
    "by-nc": ("2.0", "3.0", "4.0"),
    "by-nd": ("4.0",),
    "by-nc-nd": ("3.0", "4.0"),
    "by-nc-sa": ("2.0", "3.0", "4.0"),
}
_CC = re.compile(r"cc-(by(?:-nc)?(?:-nd|-sa)?)(?:-(\d\.\d))?")
_ALIASES = {
    "cc0": "cc0-1.0", "apache2": "apache-2.0", "apache-2": "apache-2.0", "odbl-1.0": "odbl",
    "odc-by-1.0": "odc-by", "pddl-1.0": "pddl", "gfdl-1.3": "gfdl", "mit-license": "mit",
    "unicode": "unicode-3.0",
}  # fmt: skip


def terms(licence: str) -> tuple[str, ...] | None:
    """Return the demands of a licence or of an expression such as "MIT and GPL-2.0-or-later".

    For alternatives ("A or B"), only the demands that all of them make count. Returns None if a
    part is not known.
    """
    alternatives = []
    for alternative in re.split(" or ", " ".join(licence.split()), flags=re.IGNORECASE):
        asked: list[str] = []
        for part in re.split(" and |[,;&/]", alternative, flags=re.IGNORECASE):
            known = _look_up(part)
            if known is None:
                return None
            asked += known[1]
        alternatives.append(dict.fromkeys(asked))
    first, *others = alternatives
    return tuple(term for term in first if all(term in other for other in others))


def remarks(named: Iterable[tuple[str, str]]) -> list[str]:
    """Return the points to check before you pass a model on, one sentence each.

    Args:
        named: (name, licence) of the base and of each dataset.
    """
    sentences, shared = [], {}
    for name, licence in named:
        asked = terms(licence) if licence.strip() else ()
        if not licence.strip():
            sentences.append(
                f"{name}: no licence is given: ask its owner before you pass the model on"
            )
        elif asked is None:
            sentences.append(
                f"{name}: m2m does not know the licence {licence!r}: read its conditions"
            )
        else:
            sentences += [f"{name}: {licence} {term}" for term in asked]
            if SHARE_ALIKE in asked:
                shared[_key(licence)] = licence
    if len(shared) > 1:
        listed = ", ".join(shared.values())
        sentences.append(f"each of {listed} asks for itself: they may not allow a common model")
    return sentences


def hub_licence(base: str, data: Iterable[str]) -> str:
    """Return the hub's identifier: the base's if all data is permissive, else "other"."""
    known = _look_up(base) if base.strip() else None
    free = all(licence.strip() and terms(licence) == () for licence in data)
    return known[0] or "other" if known and free else "other"


def _look_up(licence: str) -> tuple[str, tuple[str, ...]] | None:
    key = _key(licence)
    if match := _CC.fullmatch(key):
        kind, version = match.groups()
        asked = [(NON_COMMERCIAL, "-nc"), (NO_DERIVATIVES, "-nd"), (SHARE_ALIKE, "-sa")]
        hub = key if version in _HUB_CC[kind] else ""
        return hub, tuple(term for term, mark in asked if mark in kind)
    return _KNOWN.get(key)


def _key(licence: str) -> str:
    """Return an identifier in one form: "CC BY-NC 4.0" -> cc-by-nc-4.0, "GPLv2+" -> gpl-2.0."""
    key = re.sub(r"[\s_()]+", "-", licence.strip().lower()).strip("-")
    key = re.sub(r"-(or-later|only|international|deed)$|\+$", "", key)
    key = re.sub(r"^((?:a|l)?gpl|apache|mpl)-?v?(\d)(\.\d)?$", _versioned, key)
    return _ALIASES.get(key, key)


def _versioned(match: re.Match[str]) -> str:
    return f"{match[1]}-{match[2]}{match[3] or '.0'}"
