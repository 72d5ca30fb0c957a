"""Text files that belong together, because each line of one translates the line of the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from m2m.dataset.columns import is_side
from m2m.dataset.mapping import RowMapping
from m2m.dataset.row_source import open_source, part_names
from m2m.dataset.templates import names_in
from m2m.errors import InputError, M2MError
from m2m.formats.nature import UNKNOWN
from m2m.opening import ROWS, read_once

_LONGEST_PART = 8  # letters of a language in a file's name: "swh_Latn"


def grouped(paths: Sequence[Path], text: str = "") -> list[tuple[Path, ...]]:
    """Return the files, those of which the lines belong together as one: train.en and train.yo.

    Args:
        paths: the files.
        text: the template of a bare text that the user gave; with it, each file is alone. So are
            texts in more than two languages.
    """
    groups: list[tuple[Path, ...]] = []
    for path in paths:
        alone = [] if names_in(text) == ["text"] else [one for one in groups if len(one) == 1]
        pair = next((one for one in alone if _are_aligned(one[0], path)), None)
        if pair:
            groups[groups.index(pair)] = (*pair, path)
        else:
            groups.append((path,))
    several = [group for group in groups if len(group) > 1 and _fits_more(group, groups)]
    return [one for g in groups for one in ([(path,) for path in g] if g in several else [g])]


def _fits_more(pair: tuple[Path, ...], groups: Sequence[tuple[Path, ...]]) -> bool:
    """Return whether a pair has its text in a third language, so that any two may be meant."""
    return any(
        all(map(is_side, part_names([pair[0], other[0]]))) and _are_aligned(pair[0], other[0])
        for other in groups
        if other is not pair
    )


def _are_aligned(one: Path, other: Path) -> bool:
    """Return whether two text files differ in one part of their names, as translations do.

    If both parts are names of languages, the files belong together also if one has lost lines: two
    files of bare texts would be read wrong in silence. Other parts need equal numbers of lines.
    """
    names = part_names([one, other])
    named = names != ["0", "1"] and max(map(len, names)) <= _LONGEST_PART
    if not (named and one.parent == other.parent):
        return False
    try:
        if one.stem != other.stem and not all(map(_has_texts, (one, other))):
            return False
        if not all(map(is_side, names)):
            open_source([one, other])
    except M2MError:
        return False
    return read_once(one, ROWS).sha256 != read_once(other, ROWS).sha256


def _has_texts(path: Path) -> bool:
    """Return whether a file is text; alone, m2m reads none such as train.sw or swh_Latn.dev.

    Raises:
        M2MError: it cannot be read.
    """
    try:
        return open_source([path]).kind == "text"
    except InputError as error:
        if UNKNOWN in error.message:
            return True
        raise


def aligned_mapping(files: Sequence[Path]) -> RowMapping:
    """Return the mapping that translates the first of some aligned files into the second."""
    one, two = part_names(files)[:2]
    return RowMapping(prompt=f"{{{one}}}", answer=f"{{{two}}}")
