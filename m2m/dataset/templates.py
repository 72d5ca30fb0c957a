"""Fill templates such as "{translation.sw}" with the fields of a row.

`{name}` is a field, `{a.b}` a field inside an object, `{a.0}` an item of a list, and `{a.*}` all of
them. `{name?}` may be empty or a program's word for that (nan), and then takes the white space
before it away. `{name:letters}`,
`{name:lines}`, `{name:comma}` and `{name:words}` say how a list is written. `{{` is a brace.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from m2m.dataset.conversation import is_blank, is_nothing
from m2m.errors import InputError

BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_ALONE = re.compile(r"\s*\{([^{}]+)\}\s*")
_LONGEST = 100_000  # characters of a list that is written as text
# A text in Python; one that is never closed goes to the end, so that each is looked at once.
_TEXT = re.compile(r"""'(?:[^'\\]|\\.)*+(?:'|\\?\Z)|"(?:[^"\\]|\\.)*+(?:"|\\?\Z)""", re.DOTALL)
_UNSEPARATED = re.compile(r"""['"]\s+['"]""")  # two texts of a list without a comma
_DEEPEST = 20  # brackets inside brackets of such a text
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FORMS: dict[str, Callable[[Sequence[str]], str]] = {
    "comma": ", ".join,
    "words": " ".join,
    "lines": "\n".join,
    "letters": lambda items: "\n".join(
        f"{letter}. {item}" for letter, item in zip(LETTERS, items, strict=False)
    ),
}
_NOTHING = object()

Fields = Mapping[str, Any]
Words = Mapping[str, str]


def names_in(template: str) -> list[str]:
    """Return the fields that a template names, without `?` and forms."""
    found = [match.group(1) for match in BRACES.finditer(template) if match.group(1)]
    return [re.sub(rf"\?$|:({'|'.join(FORMS)})$", "", name) for name in found]


def optional_in(template: str) -> list[str]:
    """Return the fields that a template names with `?`: they may be empty."""
    found = [match.group(1) for match in BRACES.finditer(template) if match.group(1)]
    return [name[:-1] for name in found if name.endswith("?")]


def only_name(template: str) -> str | None:
    """Return the name if the template is one field and nothing else, such as "{answers}"."""
    match = _ALONE.fullmatch(template)
    return match.group(1) if match else None


def is_empty(value: Any) -> bool:
    """Return whether a value holds nothing: null, NaN, an empty or blank text, an empty list."""
    blank = isinstance(value, str) and is_blank(value)
    return value is None or blank or value in ([], {}) or value != value


def fill(template: str, fields: Fields, words: Words | None = None) -> str:
    """Replace the names in braces of a template by the row's fields.

    Args:
        template: see the module.
        fields: of the row.
        words: for values of the fields, the words to write in their place.

    Raises:
        InputError: a field is missing or null, has no word, or is an object; a brace has no
            partner.
    """
    parts: list[str] = []
    skips = False
    for between, name, brace in _cut(template):
        parts.append(between.lstrip() if skips else between)
        skips = False
        if name is None:
            parts.append(brace)
            continue
        value = _written(name, template, fields, words)
        if not value and name.endswith("?"):
            parts[-1] = parts[-1].rstrip()
            skips = not "".join(parts)
        parts.append(value)
    return "".join(parts)


@lru_cache(maxsize=256)
def _cut(template: str) -> tuple[tuple[str, str | None, str], ...]:
    """Return the parts of a template: (text, the name after it or None, a brace that it means).

    Raises:
        InputError: a brace has no partner.
    """
    parts, place = [], 0
    for match in BRACES.finditer(template):
        if match[0] in "{}":
            lone = f"a lone {match[0]} in {template!r:.60}"
            raise InputError(f"{lone}; write it twice to mean itself")
        brace = match.group()[0] if match.group(1) is None else ""
        parts.append((template[place : match.start()], match.group(1), brace))
        place = match.end()
    return (*parts, (template[place:], None, ""))


def _written(name: str, template: str, fields: Fields, words: Words | None) -> str:
    form = "comma"
    if name not in fields and name.rpartition(":")[2] in FORMS:
        name, _, form = name.rpartition(":")
        inner = name if name in fields else name.removesuffix("?")
        if isinstance(held := value_at(fields, inner, missing=None), str):
            fields = {**fields, inner: parsed(held)}  # a list as text
    if name not in fields and name.endswith("?"):
        name = name[:-1]
        value = value_at(fields, name, missing=None)
        if is_empty(value) or is_nothing(value):
            return ""
    else:
        value = value_at(fields, name, template)
    if is_empty(value) and not isinstance(value, str):
        null = " (null)" if value is None else ""
        raise InputError(f'"{name}" is empty{null}')
    return FORMS[form](texts_of(value, name, words))


def texts_of(value: Any, name: str, words: Words | None = None) -> list[str]:
    """Return a field's value as texts: one, or those of a list's items.

    Raises:
        InputError: it is an object, or a list with something else than texts and numbers, or has
            no word.
    """
    if isinstance(value, Mapping):
        inside = " or ".join(f"{{{name}.{key}}}" for key in [*value][:3])
        raise InputError(f"the field {name!r} is an object; write {inside or 'another field'}")
    if not isinstance(value, list | tuple):
        return [_word(value, name, words)]
    for item in value:
        if isinstance(item, Mapping | list | tuple) or item is None:
            inside = f"{name}.0"
            if isinstance(item, Mapping) and item:
                inside += f".{next(iter(item))}"
            raise InputError(f"the field {name!r} is a list; name the part: {{{inside}}}")
    return [_word(item, name, words) for item in value]


def _word(value: Any, name: str, words: Words | None) -> str:
    text = as_text(value)
    if not words:
        return text
    if is_empty(value):
        raise InputError(f'"{name}" is empty')
    if (key := word_key(value)) not in words:
        known = ", ".join(words)
        raise InputError(f"{name} is {text!r:.40}, and `labels` has no word for it, only {known}")
    return words[key]


def as_text(value: Any) -> str:
    """Return a value as text: JSON's true is "true"."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def word_key(value: Any) -> str:
    """Return the key of a value in `labels` and `where`: 1, 1.0 and "1" have the key "1"."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = as_text(value).strip()
    if re.fullmatch(r"-?\d+\.0", text):  # a table with an empty cell writes integers so
        text = text[:-2]
    return text.lower() if text.lower() in ("true", "false") else text


def as_value(key: str) -> str | bool:
    """Return the value that a recipe writes for a key of `word_key`."""
    return key == "true" if key in ("true", "false") else key


def value_at(fields: Fields, name: str, template: str = "", missing: Any = _NOTHING) -> Any:
    """Return the value that a name such as "translation.sw" or "answers.text.0" names.

    Raises:
        InputError: there is none, and no value for a `missing` one is given.
    """
    if name in fields:
        return fields[name]
    if "." not in name and missing is not _NOTHING:
        return missing
    whole = template or f"{{{name}}}"
    value: Any = fields
    steps, place = name.split("."), 0
    while place < len(steps):
        value = parsed(value)
        if steps[place] == "*" and isinstance(value, list):
            rest = ".".join(steps[place + 1 :])
            return [value_at({"": i}, f".{rest}", whole, missing) if rest else i for i in value]
        taken, value = _step(value, steps[place:])
        if not taken:
            if missing is not _NOTHING:
                return missing
            if place and is_empty(value):
                raise InputError(f'"{".".join(steps[:place])}" is empty')
            known = ", ".join(field_names(fields)) or "(none)"
            raise InputError(f"no field {name!r} for {whole!r:.60}; found {known:.300}")
        place += taken
    return value


def _step(value: Any, steps: Sequence[str]) -> tuple[int, Any]:
    """Return how many steps one field's name takes (it may have points in it), and the value."""
    if isinstance(value, Mapping):
        for count in range(1, len(steps) + 1):
            if (key := ".".join(steps[:count])) in value:
                return count, value[key]
    if isinstance(value, list) and steps[0].isdecimal() and int(steps[0]) < len(value):
        return 1, value[int(steps[0])]
    return 0, None


def field_names(fields: Fields, above: str = "") -> list[str]:
    """List the names of a row's fields as templates write them, with those inside of objects."""
    names: list[str] = []
    for key, value in fields.items():
        name = f"{above}{key}"
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            name, value = f"{name}.0", value[0]
        if isinstance(value, Mapping) and value and above.count(".") < 8:
            names += field_names(value, f"{name}.")
        else:
            names.append(name)
    return names


def parsed(value: Any) -> Any:
    """Return the list or object that a text holds, as JSON or as Python writes it."""
    if not isinstance(value, str) or len(value) > _LONGEST or value.strip()[:1] not in ("[", "{"):
        return value
    if max(value.count("["), value.count("{")) > _DEEPEST and _depth(value) > _DEEPEST:
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        if isinstance(found, list) and _UNSEPARATED.search(value):
            return _items_of_numpy(value) or found
        if isinstance(found, list | dict):
            return found
    return value


def _items_of_numpy(text: str) -> list[Any]:
    """Return the texts of an array as NumPy writes it, without commas; [] for any other list.

    To Python `['a' 'b']` is one text, "ab".
    """
    whole = text.strip()[1:-1]
    if "," in _TEXT.sub("", whole) or _TEXT.sub("", whole).strip():
        return []
    return [ast.literal_eval(match[0]) for match in _TEXT.finditer(whole)]


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "[{(") - (character in "]})")
        deepest = max(deepest, depth)
    return deepest
