"""Find regular expressions whose time grows faster than the text: near misses of every kind.

`expressions` lists those of the package by reading its source. `slow_text` makes texts from the
parts of an expression, as somebody would who wants it to take long, and measures two lengths.
"""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from re import _constants as codes
from re import _parser as parser
from typing import Any

import m2m
from tests.sources import tree

ROOT = Path(m2m.__file__).parent
_FUNCTIONS = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall"}
_FUNCTIONS |= {"finditer"}
_OF_TEXTS = {"split"}  # a method of texts, too
# Growing lengths: an expression that doubles its time with each character stops at the first ones.
_LENGTHS = (12, 16, 20, 24, 28, 32, 40, 64, 250)
_SHORT, _LONG = 3_000, 24_000  # characters: linear time grows by 8, quadratic time by 64
_GROWTH = 24
# Seconds for _SHORT characters: a linear expression takes 0.0001, a quadratic one 0.004 or more.
_SOON = 0.002
_LATE = 0.02  # seconds for any of these texts: a linear expression is never near it
_FEW = 64  # repeats of which the time counts


@dataclass(frozen=True)
class Expression:
    """A regular expression in the source.

    Attributes:
        place: file and line.
        pattern: its text; None if only the running program knows it.
        flags: of `re`.
        functions: those that use it: "search", "sub", ...
    """

    place: str
    pattern: str | bytes | None
    flags: int
    functions: tuple[str, ...]


def expressions(root: Path = ROOT) -> Iterator[Expression]:
    """Yield all calls of `re` in the package with the expression that each of them compiles."""
    texts = {path: path.read_text("utf-8") for path in sorted(root.rglob("*.py"))}
    makers = {path: tree(path) for path, text in texts.items() if "import re\n" in text}
    named = {
        getattr(node.targets[0], "id", "")
        for module in makers.values()
        for node in ast.walk(module)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and _is_re(node.value.func)
    }
    public = re.compile("|".join(rf"\b{name}\b" for name in named if name and name[0] != "_"))
    trees = makers | {
        path: tree(path)
        for path, text in texts.items()
        if path not in makers and public.search(text)
    }
    used: dict[tuple[Path | None, str], set[str]] = {}  # functions by name; "": any other value
    for path, module in trees.items():
        for node in ast.walk(module):
            if isinstance(node, ast.Attribute) and node.attr in _FUNCTIONS - {"compile"}:
                name = getattr(node.value, "id", getattr(node.value, "attr", ""))
                if name != "re":
                    used.setdefault(_key(path, name if name in named else ""), set()).add(node.attr)
    for path in makers:
        names = {
            id(node.value): getattr(node.targets[0], "id", "")
            for node in ast.walk(trees[path])
            if isinstance(node, ast.Assign)
        }
        for node in ast.walk(trees[path]):
            if isinstance(node, ast.Call) and _is_re(node.func):
                name = names.get(id(node), "")
                other = used.get(_key(path, ""), set()) - _OF_TEXTS
                yield _expression(
                    path, root, node, used.get(_key(path, name), other) if name else other
                )


def _key(path: Path, name: str) -> tuple[Path | None, str]:
    """Return the key of an expression's name; private names are those of one module."""
    return (path if name.startswith("_") or not name else None), name


def _is_re(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == "re"
        and function.attr in _FUNCTIONS
    )


def _expression(path: Path, root: Path, call: ast.Call, used: set[str]) -> Expression:
    name = ".".join(path.relative_to(root.parent).with_suffix("").parts)
    scope = vars(importlib.import_module(name.removesuffix(".__init__")))
    own = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    flags = [word.value for word in call.keywords if word.arg == "flags"]
    if own == "compile":
        flags += call.args[1:2]
    functions = tuple(sorted(used)) or ("search", "fullmatch") if own == "compile" else (own,)
    place = f"{path.relative_to(root.parent)}:{call.lineno}"
    return Expression(
        place,
        _value(call.args[0], scope),
        int(_value(flags[0], scope) or 0) if flags else 0,
        functions,
    )


def _value(node: ast.expr, scope: dict[str, Any]) -> Any:
    """Return the value of an expression of constants; None if it needs a running function."""
    try:
        return eval(compile(ast.Expression(node), "constant", "eval"), scope)
    except NameError:
        return None


def slow_text(expression: Expression, every: int = 1) -> str | bytes | None:
    """Return a text for which an expression takes more than linear time, or None.

    Of the texts, the first of `every` are tried.
    """
    pattern = expression.pattern
    assert pattern is not None
    tree = parser.parse(pattern, expression.flags)
    if not any(_long(tree)):
        return None
    nested = any(repeat[1] > _FEW and _branches(repeat[2]) for _, repeat in _repeats(tree))
    compiled = re.compile(pattern, expression.flags)
    for function in expression.functions:
        run = _runner(compiled, function)
        for begin, unit, end in islice(_attacks(tree), None, None, every):
            make = _maker(begin, unit, end, isinstance(pattern, bytes))
            if is_slow(run, make, nested):
                return make(64)
    return None


def _maker(begin: str, unit: str, end: str, is_bytes: bool) -> Callable[[int], Any]:
    def make(count: int) -> str | bytes:
        text = begin + unit * (count // len(unit)) + end
        return text.encode("latin-1", "replace") if is_bytes else text

    return make


def _runner(compiled: Any, function: str) -> Callable[[Any], object]:
    if function in ("sub", "subn"):
        return lambda text: getattr(compiled, function)(text[:0], text)
    if function == "finditer":
        return lambda text: [*compiled.finditer(text)]
    return getattr(compiled, function)


def is_slow(run: Callable[[Any], object], make: Callable[[int], Any], nested: bool = False) -> bool:
    for count in _LENGTHS if nested else _LENGTHS[-1:]:
        if _seconds(run, make(count)) > _LATE and _seconds(run, make(count)) > _LATE:
            return True
    short = make(_SHORT)
    if _seconds(run, short) < _SOON or _seconds(run, short) < _SOON:
        return False

    # The best of several: another program can only make a time longer. It can do so for a while.
    def grows(times: int) -> bool:
        before = min(_seconds(run, short) for _ in range(times + 1))
        after = min(_seconds(run, make(_LONG)) for _ in range(times))
        return before > _LATE or after > _GROWTH * before

    return all(map(grows, (2, 5, 10)))


def _seconds(run: Callable[[Any], object], text: Any) -> float:
    begin = time.thread_time()
    run(text)
    return time.thread_time() - begin


def _long(tree: Any) -> Iterator[bool]:
    """Yield True for each part that can be repeated many times."""
    for _, repeat in _repeats(tree):
        yield repeat[1] > _FEW


def _branches(tree: Any) -> bool:
    """Return whether a repeated part may match in several ways, which can take exponential time."""
    return any(
        code is codes.BRANCH
        or code in (codes.MAX_REPEAT, codes.MIN_REPEAT)
        or any(_branches(inner) for inner in _inside(code, value))
        for code, value in tree
    )


def _repeats(tree: Any) -> Iterator[tuple[Any, Any]]:
    for code, value in tree:
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            yield code, value
            yield from _repeats(value[2])
        else:
            for inner in _inside(code, value):
                yield from _repeats(inner)


def _inside(code: Any, value: Any) -> list[Any]:
    """Return the parts inside of a group, a branch or an assertion."""
    if code is codes.SUBPATTERN:
        return [value[3]]
    if code is codes.ATOMIC_GROUP:
        return [value]
    if code is codes.BRANCH:
        return [*value[1]]
    if code in (codes.ASSERT, codes.ASSERT_NOT):
        return [value[1]]
    if code is codes.GROUPREF_EXISTS:
        return [part for part in value[1:] if part is not None]
    return []


_MISSES = ("", "\0", "\n")


def _attacks(tree: Any) -> Iterator[tuple[str, str, str]]:
    """Yield (begin, unit, end): texts of the form begin + unit * n + end."""
    seen = set()
    for begin, units in _places(tree, [""]):
        for start, unit, end in product(dict.fromkeys(["", *begin[:2]]), units, _MISSES):
            if unit and (start, unit, end) not in seen:
                seen.add((start, unit, end))
                yield start, unit, end


def _places(tree: Any, before: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield, for every part that is repeated, texts that lead to it, and texts to repeat.

    The beginning of the expression up to any part is also repeated: each copy of it can be the
    start of a search.
    """
    for number, (code, value) in enumerate(tree):
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            inner = _samples(value[2])
            if value[1] > _FEW:
                after = _samples(tree[number + 1 :])[:2]
                whole = [f"{one}{two}" for one in inner[:3] for two in after]
                yield before, [*inner, *whole, *(f"{b}{i}" for b in before[:2] for i in inner[:3])]
            yield from _places(value[2], before)
        else:
            for inside in _inside(code, value):
                yield from _places(inside, before)
        if number + 1 < len(tree):
            before = _joined(before, _samples(tree[number : number + 1]))
            yield [""], before[:4]


def _joined(one: Sequence[str], two: Sequence[str]) -> list[str]:
    return [*dict.fromkeys(a + b for b, a in product(two, one))][:6]


def _samples(tree: Any) -> list[str]:
    """Return some texts that a part of an expression fits."""
    texts = [""]
    for code, value in tree:
        texts = _joined(texts, _pieces(code, value))
    return texts


def _pieces(code: Any, value: Any) -> list[str]:
    if code is codes.LITERAL:
        return [chr(value)]
    if code in (codes.ANY, codes.NOT_LITERAL):
        return [c for c in ("a", " ", '"', "<") if code is codes.ANY or c != chr(value)]
    if code is codes.IN:
        return _characters(value)
    if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        least, _, inner = value
        texts = _samples(inner)
        return [text * max(least, 1) for text in texts[:3]] + ([""] if least == 0 else [])
    if code in (codes.ASSERT, codes.ASSERT_NOT, codes.AT, codes.GROUPREF):
        return [""]
    return [text for part in _inside(code, value) for text in _samples(part)[:3]][:6] or [""]


_KINDS = "a A0_ \t\n\u00e9\u0301\u0663-.,:;/\"'()[]{}<>=@#|\\?*+\u200b\u4e00"


def _characters(items: Any) -> list[str]:
    """Return one character of each kind that a class has."""
    found = [chr(v) if c is codes.LITERAL else chr(v[0]) for c, v in items
             if c in (codes.LITERAL, codes.RANGE)]  # fmt: skip
    test = re.compile(_class(items), re.DOTALL)
    kinds = [character for character in _KINDS if test.fullmatch(character)]
    return [*dict.fromkeys([*kinds[:4], *(f for f in found[:3] if test.fullmatch(f))])] or ["a"]


_CATEGORIES = {
    codes.CATEGORY_DIGIT: r"\d", codes.CATEGORY_NOT_DIGIT: r"\D", codes.CATEGORY_SPACE: r"\s",
    codes.CATEGORY_NOT_SPACE: r"\S", codes.CATEGORY_WORD: r"\w", codes.CATEGORY_NOT_WORD: r"\W",
}  # fmt: skip


def _class(items: Any) -> str:
    parts = []
    for code, value in items:
        if code is codes.NEGATE:
            parts.append("^")
        elif code is codes.LITERAL:
            parts.append(re.escape(chr(value)))
        elif code is codes.RANGE:
            parts.append(f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}")
        elif code is codes.CATEGORY:
            parts.append(_CATEGORIES[value])
    return f"[{''.join(parts)}]"
