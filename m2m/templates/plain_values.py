"""The values, methods and functions that formulas in task files may use; none reaches outside."""

from __future__ import annotations

import ast
import functools
import html
import itertools
import json
import math
import operator
import re
import string
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Row = dict[str, Any]


class NotUnderstood(Exception):
    """A part of a function is outside the language."""


class Offering:
    """A value of this language's own; formulas may use the names in `offered`."""

    offered: frozenset[str] = frozenset()


class Module:
    """A module of the standard library, as far as formulas may use it."""

    def __init__(self, **names: Any) -> None:
        self.names = names


class RowTable:
    """Rows with the same columns, as a `datasets.Dataset`: only what maps and picks rows.

    Args:
        rows: their fields; a field that a row lacks becomes None.
        lines: the line of each row in its file.
    """

    def __init__(self, rows: Sequence[Row], lines: Sequence[int]) -> None:
        columns = dict.fromkeys(itertools.chain.from_iterable(rows))
        if any(len(row) != len(columns) for row in rows):
            rows = [{name: row.get(name) for name in columns} for row in rows]
        self.rows, self.lines, self.columns = rows, lines, list(columns)

    def __iter__(self) -> Iterator[Row]:
        return map(_copied, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, int):
            return _copied(self.rows[place])
        if isinstance(place, str):
            return [row[place] for row in self.rows]
        raise NotUnderstood("a slice of a dataset")

    def filter(self, function: Any, **options: Any) -> RowTable:
        """Return the rows for which the function is true."""
        _refuse(options, "num_proc", "desc", "load_from_cache_file", "keep_in_memory")
        kept = [place for place, row in enumerate(self) if called(function, [row], {})]
        return self._taken(kept)

    def map(self, function: Any, **options: Any) -> RowTable:
        """Return the rows with the fields that the function returns for them."""
        removed = options.pop("remove_columns", None) or []
        _refuse(options, "num_proc", "desc", "load_from_cache_file", "keep_in_memory")
        removed = [removed] if isinstance(removed, str) else list(removed)
        rows = []
        for row in self:
            made = called(function, [row], {})
            if made is not None and not isinstance(made, dict):
                raise NotUnderstood("`map` with a function that does not return fields")
            kept = {name: value for name, value in row.items() if name not in removed}
            rows.append(kept | (made or {}))
        return RowTable(rows, self.lines)

    def select(self, places: Any, **options: Any) -> RowTable:
        """Return the rows at these places."""
        _refuse(options)
        return self._taken([range(len(self))[place] for place in places])

    def remove_columns(self, names: Any) -> RowTable:
        """Return the rows without some columns."""
        names = [names] if isinstance(names, str) else list(names)
        return self._renamed({name: None for name in names})

    def rename_column(self, old: str, new: str) -> RowTable:
        """Return the rows with another name for a column."""
        return self._renamed({old: new})

    def rename_columns(self, names: Any) -> RowTable:
        """Return the rows with other names for some columns."""
        return self._renamed(dict(names))

    def select_columns(self, names: Any) -> RowTable:
        """Return the rows with some columns only."""
        names = [names] if isinstance(names, str) else list(names)
        return RowTable([{name: row[name] for name in names} for row in self.rows], self.lines)

    def _renamed(self, names: Mapping[str, str | None]) -> RowTable:
        if lacking := [name for name in names if name not in self.columns]:
            raise KeyError(lacking[0])
        new = {name: names.get(name, name) for name in self.columns}
        rows = [{to: row[name] for name, to in new.items() if to} for row in self.rows]
        return RowTable(rows, self.lines)

    def _taken(self, places: Sequence[int]) -> RowTable:
        return RowTable([self.rows[i] for i in places], [self.lines[i] for i in places])


def _refuse(options: Mapping[str, Any], *harmless: str) -> None:
    if others := options.keys() - {*harmless}:
        raise NotUnderstood(f"the option `{min(others)}` of a dataset")


def _copied(value: Any) -> Any:
    """Return a row that a function may change; texts and numbers are shared."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value


def _from_list(rows: Any) -> RowTable:
    rows = list(rows)
    if not all(isinstance(row, dict) for row in rows):
        raise NotUnderstood("a dataset of other than rows")
    return RowTable(rows, range(1, len(rows) + 1))


def _from_dict(columns: Any) -> RowTable:
    names = list(columns)
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return _from_list(rows)


_Pattern, _Match = type(re.compile("")), type(re.match("", ""))
_METHODS: dict[type, frozenset[str]] = {
    kind: frozenset(re.findall(r"\w+", names))
    for kind, names in {
        str: "capitalize casefold center count encode endswith expandtabs find format index "
        "isalnum isalpha isascii isdecimal isdigit islower isnumeric isspace istitle isupper join "
        "ljust lower lstrip partition removeprefix removesuffix replace rfind rindex rjust "
        "rpartition rsplit rstrip split splitlines startswith strip swapcase title upper zfill",
        list: "append copy count extend index insert pop remove reverse sort",
        tuple: "count index",
        dict: "copy get items keys pop setdefault update values",
        set: "add copy difference discard intersection union update",
        bytes: "decode",
        int: "",
        float: "",
        _Pattern: "findall finditer fullmatch match search split sub",
        _Match: "end group groups span start",
        RowTable: "filter map remove_columns rename_column rename_columns select select_columns",
    }.items()
}
_ITEMS = (str, list, tuple, dict, RowTable, _Match)
_PLAIN = (str, int, float, type(None))


def member(owner: Any, name: str) -> Any:
    """Return a name of a module, a column list, or a method.

    Raises:
        NotUnderstood: formulas may not use it.
    """
    if isinstance(owner, Module) and name in owner.names:
        return owner.names[name]
    if isinstance(owner, RowTable) and name in ("column_names", "features"):
        return list(owner.columns)
    if isinstance(owner, RowTable) and name == "num_rows":
        return len(owner)
    if isinstance(owner, Offering) and name in owner.offered:
        return getattr(owner, name)
    if name in _METHODS.get(type(owner), ()):
        if name == "format":
            return functools.partial(_filled, owner)
        return getattr(owner, name)
    raise NotUnderstood(f"`.{name:.40}` of a {type(owner).__name__}")


def called(function: Any, values: list[Any], named: dict[str, Any]) -> Any:
    """Call a function, or do one of the operations that have a sign for a name.

    Raises:
        NotUnderstood: formulas may not call it.
        Exception: the values do not fit.
    """
    if isinstance(function, str):
        return _SIGNS[function](*values)
    if function is str:
        return _text(*values, **named)
    if isinstance(function, Module) or not callable(function):
        raise NotUnderstood(f"a call of a {type(function).__name__}")
    return function(*values, **named)


def _text(value: Any = "") -> str:
    return str(plain(value))


def plain(value: Any) -> Any:
    """Return the value; raise if its text would show more than plain values.

    Raises:
        NotUnderstood: it holds a function, a match or the like.
    """
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, dict):
        for item in (*value, *value.values()):
            plain(item)
        return value
    if isinstance(value, list | tuple | set):
        for item in value:
            plain(item)
        return value
    if type(value) in (type({}.keys()), type({}.values()), type({}.items()), range):
        return value
    raise NotUnderstood(f"the text of a {type(value).__name__}")


class _Formatter(string.Formatter):
    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        """Return the value of a field; a field with an attribute is refused."""
        if "." in field_name:
            raise NotUnderstood(f"the field {{{field_name:.40}}}")
        return super().get_field(field_name, args, kwargs)

    def format_field(self, value: Any, format_spec: str) -> Any:
        """Write a field of plain values."""
        return format(plain(value), format_spec)


def _filled(text: str, *values: Any, **named: Any) -> str:
    return _Formatter().vformat(text, values, named)


def _format(value: Any, how: str, form: str) -> str:
    plain(value)
    return format(repr(value) if how == "r" else str(value) if how else value, form)


def _modulo(left: Any, right: Any) -> Any:
    return left % (plain(right) if isinstance(left, str) else right)


def _item(owner: Any, place: Any) -> Any:
    if not isinstance(owner, _ITEMS):
        if owner is None or isinstance(owner, int | float):
            raise TypeError(f"{owner!r:.20} has no items")
        raise NotUnderstood(f"an item of a {type(owner).__name__}")
    return owner[place]  # type: ignore[index]


def _put(owner: Any, place: Any, value: Any) -> None:
    if not isinstance(owner, list | dict):
        raise NotUnderstood(f"an item of a {type(owner).__name__} that changes")
    owner[place] = value


_SIGNS: dict[str, Callable[..., Any]] = {"[]": _item, "[]=": _put, "%": _modulo, "format": _format}
_KINDS = (str, int, float, bool, list, dict, tuple, set)


def _is_instance(value: Any, kinds: Any) -> bool:
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if not all(kind in _KINDS for kind in kinds):
        raise NotUnderstood("`isinstance` of another kind")
    return isinstance(value, kinds)


def _attribute(owner: Any, name: str, *default: Any) -> Any:
    """Return the default: a row of a dataset is a dict, and its fields are not attributes."""
    if not isinstance(owner, dict) or hasattr(owner, name) or not default:
        raise NotUnderstood("`getattr`")
    return default[0]


BUILTINS: dict[str, Any] = {
    **{kind.__name__: kind for kind in _KINDS},
    **{
        function.__name__: function
        for function in (
            *(abs, all, any, chr, divmod, enumerate, filter, len, map, max, min, ord, range),
            *(reversed, round, sorted, sum, zip),
        )
    },
    "isinstance": _is_instance,
    "getattr": _attribute,
    "print": lambda *values, **named: None,
    "next": lambda values, *default: next(values, *default),
    "repr": lambda value: repr(plain(value)),
}
EXCEPTIONS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        *(Exception, ValueError, KeyError, IndexError, TypeError, AttributeError),
        *(SyntaxError, ZeroDivisionError, AssertionError),
    )
}


def _folder_of(path: str) -> str:
    folder, sign, _ = path.rpartition("/")
    if not sign:
        raise NotUnderstood("folders above a task's own")
    return folder


def _detokenized(text: str) -> str:
    """Return a text as `general_detokenize` of lm_eval/utils.py does."""
    text = text.replace(" n't", "n't").replace(" )", ")").replace("( ", "(")
    text = text.replace('" ', '"').replace(' "', '"')
    return re.sub(r" (['.,])", r"\1", text)


_path = Module(
    basename=lambda path: path.rpartition("/")[2],
    dirname=_folder_of,
    join=lambda *parts: "/".join(parts),
    abspath=lambda path: path,
)
_flags = {name: getattr(re, name) for name in ("IGNORECASE", "I", "MULTILINE", "M", "DOTALL", "S")}
_texts = {name: getattr(string, name) for name in ("ascii_letters", "digits", "punctuation")}
LIBRARY: dict[str, Any] = {
    "re": Module(
        **{
            name: getattr(re, name)
            for name in (
                *("compile", "escape", "findall", "finditer", "fullmatch", "match"),
                *("search", "split", "sub"),
            )
        },
        **_flags,
    ),
    "string": Module(
        ascii_uppercase=string.ascii_uppercase, ascii_lowercase=string.ascii_lowercase, **_texts
    ),
    "ast": Module(literal_eval=ast.literal_eval),
    "json": Module(
        loads=json.loads, dumps=lambda value, **named: json.dumps(plain(value), **named)
    ),
    "functools": Module(partial=functools.partial),
    "itertools": Module(chain=itertools.chain, product=itertools.product),
    "math": Module(floor=math.floor, ceil=math.ceil, isnan=math.isnan, sqrt=math.sqrt),
    # A variable of the environment counts as not set.
    "os": Module(path=_path, getenv=lambda name, default=None: default),
    "os.path": _path,
    "lm_eval.utils": Module(general_detokenize=_detokenized),
    "html": Module(unescape=html.unescape, escape=html.escape),
    "operator": Module(itemgetter=operator.itemgetter),
    "textwrap": Module(dedent=textwrap.dedent),
    "unicodedata": Module(category=unicodedata.category, normalize=unicodedata.normalize),
    "copy": Module(deepcopy=_copied, copy=lambda value: value.copy()),
    "datasets": Module(Dataset=Module(from_list=_from_list, from_dict=_from_dict)),
}
LIBRARY["datasets.Dataset"] = LIBRARY["datasets"].names["Dataset"]
