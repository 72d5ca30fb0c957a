"""Unicode's normal forms: in which one texts are, and texts in another one.

NFC writes a letter and its mark as one character if there is one ("é"); NFD writes two. They look
alike, and to a model they are different words.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

from m2m.dataset.row import Row
from m2m.formats.spooled import made

AS_IS = "as is"
FORMS = (AS_IS, "NFC", "NFD")
_FEW = 0.02  # of the texts that show a form; fewer in the other are slips
Value = TypeVar("Value")


def form_of(texts: Iterable[str]) -> str:
    """Return "NFC", "NFD" or "mixed"; "" if no text has a letter that the two write differently."""
    composed = apart = 0
    for text in texts:
        if text.isascii():
            continue
        if not unicodedata.is_normalized("NFC", text):
            apart += 1
        elif not unicodedata.is_normalized("NFD", text):
            composed += 1
    total = composed + apart
    if not total:
        return ""
    if apart <= _FEW * total:
        return "NFC"
    return "NFD" if composed <= _FEW * total else "mixed"


def disagreement(forms: Mapping[str, str]) -> str:
    """Say which parts of the data are in different forms; "" if all agree.

    Args:
        forms: the `form_of` each part, by its name.
    """
    known = {name: form for name, form in forms.items() if form}
    if len(set(known.values())) < 2 and "mixed" not in known.values():
        return ""
    parts = []
    for form, words in (("NFC", "NFC"), ("NFD", "NFD"), ("mixed", "both forms")):
        if names := [name for name, own in known.items() if own == form]:
            parts.append(f"{', '.join(names)} in {words}")
    return (
        f"the same letters are written in two ways (Unicode normal forms): {'; '.join(parts)}. To "
        "the model these are different words."
    )


REMEDY = (
    'write `normalise = "NFC"` under [data] in the recipe: it changes datasets and targets alike'
)


def normalised(value: Value, form: str) -> Value:
    """Return a text, or all texts in lists, dictionaries and dataclasses, in a form of `FORMS`."""
    if form == AS_IS:
        return value
    return cast("Value", _normalised(value, cast("Literal['NFC', 'NFD']", form)))


def _normalised(value: Any, form: Literal["NFC", "NFD"]) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else unicodedata.normalize(form, value)
    if isinstance(value, tuple | list):
        return type(value)(_normalised(item, form) for item in value)
    if isinstance(value, Mapping):
        return {key: _normalised(item, form) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {
            spec.name: _normalised(getattr(value, spec.name), form)
            for spec in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **changes)
    return value


def normalised_rows(rows: Sequence[Row], form: str) -> Sequence[Row]:
    """Return training rows with all their texts in a form of `FORMS`."""
    return rows if form == AS_IS else made(rows, lambda row: normalised(row, form))
