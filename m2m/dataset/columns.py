"""The columns of a file's rows, and their names: letters of options, languages, or no names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from m2m.dataset.templates import field_names, is_empty, parsed, value_at
from m2m.formats.records import Record

_LANGUAGE = re.compile(r"(?:(?:text|sentence|sent)_)?([a-z]{2,3})(?:[_-][a-z]{2,4})?")
_MARKED = re.compile(
    r"(|(?:choices|options)\.|option|opt|op|choice|answer|ans|mc_answer|ending|sol|candidate|alternative|chaguo|jibu)"
    r"_?([a-h]|\d)"
)
_LONGEST_NAME = 4  # words of a column's name

Columns = Mapping[str, list[Any]]  # the values of each column that are not empty

# Two columns with names of languages are a text and its translation.
LANGUAGE_NAMES = frozenset(
    re.findall(
        r"\w+",
        "english french portuguese arabic spanish german swahili kiswahili yoruba hausa igbo "
        "amharic tigrinya oromo somali zulu isizulu xhosa isixhosa shona ndebele sesotho sotho "
        "setswana tswana sepedi tsonga venda swati afrikaans kinyarwanda kirundi luganda ganda luo "
        "dholuo kikuyu gikuyu kamba lingala wolof fula fulah fulfulde bambara ewe twi akan fon "
        "mossi moore pidgin naija chichewa nyanja bemba tumbuka kikongo malagasy kabyle tamazight "
        "berber nko dinka nuer kanuri tiv edo efik ibibio urhobo ga dagbani",
    )
)

# Codes of languages (ISO 639) that columns of translations have. Words of two and three letters are
# also in the first row of a word list, so only these are languages by their name alone.
LANGUAGE_CODES = frozenset(
    re.findall(
        r"\w+",
        "en eng fr fra fre pt por ar ara arb es spa de deu ger it ita zh zho hi hin ru rus tr tur "
        "sw swa swh swc yo yor ha hau ig ibo am amh ti tir om orm gaz so som zu zul xh xho sn sna "
        "nd nde nr nbl st sot tn tsn ts tso ve ven ss ssw nso af afr rw kin rn run lg lug luo ki "
        "kik kam ln lin kg kon lua wo wol ff ful fuv bm bam ee ewe tw twi ak aka fon mos pcm ny "
        "nya bem tum mg mlg plt kab tzm ber nqo din dik nus kr knc tiv efi ibb urh gaa dag dyu "
        "dje sg sag umb kmb kea mey shi zgh bbj kln mas mer guz luy nyn teo ach",
    )
)


def columns_of(records: Sequence[Record]) -> dict[str, list[Any]]:
    """Return the columns that templates can name, with their values that are not empty."""
    columns: dict[str, list[Any]] = {}
    for record in records:
        opened = {key: _opened(value) for key, value in record.fields.items()}
        for name in field_names(opened):
            if not is_empty(value := value_at(record.fields, name, missing=None)):
                columns.setdefault(name, []).append(value)
    return columns


def _opened(value: Any) -> Any:
    """Return the object that a cell of a table holds as text."""
    is_object = isinstance(value, str) and value[:1] == "{" and value.rstrip()[-1:] == "}"
    return parsed(value) if is_object else value


def plain(name: str) -> str:
    """Return a column's name in small letters, with `_` for other signs than points."""
    return re.sub(r"[^\w.]+", "_", name.strip().lower()).strip("_")


def option_columns(names: Sequence[str]) -> list[str]:
    """Return the columns of the choices, in their order: A, B, C, D or choice1, choice2."""
    groups: dict[tuple[str, bool], dict[str, str]] = {}
    for name in names:
        if match := _MARKED.fullmatch(plain(name)):
            stem, mark = match.groups()
            groups.setdefault((stem, mark.isdecimal()), {})[mark] = name
    for (_, decimal), group in groups.items():
        marks = sorted(group)
        order = "0123456789" if decimal else "abcdefgh"
        first = order.find(marks[0])
        if len(marks) > 1 and first < 2 and order[first : first + len(marks)] == "".join(marks):
            return [group[mark] for mark in marks]
    return []


def languages_of(columns: Columns) -> list[str]:
    """Return the columns of texts that are named by a language.

    Words of three letters are names of languages only if more than words is in the column: the
    first row of a word list may be such a word.
    """
    return [
        name
        for name, values in columns.items()
        if (known := _is_language(plain(name)))
        and all(isinstance(value, str) for value in values)
        and (known == "name" or sum(len(value.split()) for value in values) > 2 * len(values))
    ]


def _is_language(name: str) -> str:
    """Return how sure it is that a name is a language: "name", "code" (perhaps) or ""."""
    match = _LANGUAGE.fullmatch(name)
    if name in LANGUAGE_NAMES or (match and match[1] in LANGUAGE_CODES):
        return "name"
    return "code" if match and match[1] not in ("id", "no", "tag", "key", "num", "ref") else ""


def looks_like_data(name: str) -> bool:
    """Return whether a column's name is rather a cell of a table without a header."""
    return (
        len(name.split()) > _LONGEST_NAME
        or bool(re.fullmatch(r"-?\d+([.,]\d+)?|https?://.*", name.strip()))
        or name.rstrip()[-1:] in (".", "!", "?", "\u061f", "\u1362")
    )
