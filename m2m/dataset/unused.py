"""Name the columns of a file that neither a question nor an answer is made of."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from m2m.dataset.columns import columns_of, plain
from m2m.dataset.extra_columns import ABOUT, READ, may_be_answer
from m2m.dataset.mapping import RowMapping
from m2m.dataset.row_formats import FORMATS
from m2m.dataset.templates import names_in, texts_of, value_at
from m2m.errors import InputError
from m2m.formats.records import Record

_LOOKED_AT = 200  # rows that show the values of a column
_MOST = 8
_SHOWN = 40  # characters of a value
# Columns that m2m reads by their names, without a mapping.
OWN = {"question", "answer", "choices", *(key for keys, _ in FORMATS.values() for key in keys)}
OWN |= {key for keys in READ.values() for key in keys}


def unused_columns(
    records: Sequence[Record], mapping: RowMapping, texts: Sequence[str]
) -> list[str]:
    """Return the columns with words that the model sees nothing of, without those about a source.

    Args:
        records: rows of a file.
        mapping: how they are read.
        texts: for each of the records all that the model sees of it.
    """
    records = records[:_LOOKED_AT]
    used = {name for template in mapping.templates for name in names_in(template)}
    used |= {name for name, _ in mapping.where} | (set() if mapping.is_custom else OWN)
    varying = may_be_answer(records, "")
    return [
        name
        for name, values in columns_of(records).items()
        if not _is_named(name, used)
        and (not ABOUT.fullmatch(plain(name)) or name in varying)
        and any(character.isalpha() for value in values for character in str(value)[:200])
        and not _is_seen(name, records, texts)
    ]


def _is_named(name: str, used: Collection[str]) -> bool:
    """Return whether a template names a column, or the list or object that it is in."""
    steps = name.split(".")
    above = {".".join(steps[:count]) for count in range(1, len(steps) + 1)}
    return any(
        one in above or one.startswith(f"{name}.") or one.replace(".*", ".0") == name
        for one in used
    )


def _is_seen(name: str, records: Sequence[Record], texts: Sequence[str]) -> bool:
    return all(
        all(" ".join(part.split()) in " ".join(text.split()) for part in _parts(record, name))
        for record, text in zip(records, texts, strict=False)
    )


def _parts(record: Record, name: str) -> list[str]:
    value: Any = value_at(record.fields, name, missing="")
    try:
        return texts_of(value, name) if value is not None else []
    except InputError:  # a list of objects
        return [str(value)]


def unused_words(names: Sequence[str], records: Sequence[Record]) -> str:
    """Say which columns are not used, each with one of its values; "" for none."""
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    many = "columns" if len(names) > 1 else "column"
    columns = columns_of(records[:_LOOKED_AT])
    shown = [f"{name} (such as {_example(columns[name])!r})" for name in names[:_MOST]]
    return f"the model does not see the {many} {', '.join(shown)}{more}" if names else ""


def _example(values: Sequence[Any]) -> str:
    """Return the beginning of a column's first value with letters."""
    texts = [" ".join(str(value).split()) for value in values]
    text = next((text for text in texts if any(map(str.isalpha, text[:200]))), texts[0])
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
