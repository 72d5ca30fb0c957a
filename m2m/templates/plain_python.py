"""Compute functions of task files from their syntax tree; Python never runs their code.

Only the child process imports this module. A function that writes a prompt or picks rows is read as
a formula over plain values: texts, numbers, lists and dicts. Anything else in it (files, other
packages, attributes, chance) is not in this language, and the function is refused by name and line.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from m2m.templates.plain_expressions import Frame, Unknown
from m2m.templates.plain_files import reading
from m2m.templates.plain_statements import Compiler
from m2m.templates.plain_values import BUILTINS, LIBRARY, NotUnderstood

_MOST_STEPS = 2**22  # rounds of loops and calls for one row or split
_DATA_FILE = re.compile(r"\w[\w-]{0,60}(/\w[\w-]{0,60}){0,4}\.(json|jsonl|txt|csv|tsv)")
_HELD = (list, dict, set)
# What computing a statement with values that do not fit can raise.
_FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, re.error),
    *(StopIteration, SyntaxError, TypeError, ValueError),
)


class Modules:
    """The modules of one task.

    Args:
        sources: their texts by name.
        imports: by the name of a module, which other module each of its imports means.
        folder: the name of their folder; a module of another folder has its path as its name.
        files: texts of the data files that they may read, by their paths in the folder above.
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        imports: Mapping[str, Mapping[str, str]],
        folder: str,
        files: Mapping[str, str],
    ) -> None:
        self._sources, self._imports, self._folder = sources, imports, folder
        self._library = LIBRARY | reading(files)
        self._builtins = BUILTINS | {"open": self._library.pop("open")}
        # By module, why a statement was not computed that may have set any name.
        self._lost: dict[str, str] = {}
        self._made: dict[str, Frame] = {}
        self._trees: dict[str, ast.Module] = {}
        self._state: list[Any] = []
        self.steps = 0

    def count(self) -> None:
        """Count a step.

        Raises:
            NotUnderstood: there are too many.
        """
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise NotUnderstood("it does not come to an end")

    def remember(self) -> None:
        """Remember the lists, dicts and sets that last from row to row."""
        self._state = [_copied(value) for _, value in self._lasting()]

    def refuse_changed(self) -> None:
        """Refuse a function whose value for a row depends on the rows that it saw before.

        Raises:
            NotUnderstood: a list, dict or set that lasts has changed.
        """
        for (name, value), before in zip(self._lasting(), self._state, strict=False):
            if value != before:
                raise NotUnderstood(
                    f"{name:.60} changes from row to row, and lm-eval calls the function more often"
                )

    def _lasting(self) -> Iterator[tuple[str, Any]]:
        for module, frame in self._made.items():
            for name, value in frame.names.items():
                held = {name: value} if type(value) in _HELD else getattr(value, "preset", {})
                for inner, item in held.items() if isinstance(held, dict) else ():
                    if type(item) in _HELD:
                        yield f"{module}: {inner}", item

    def function(self, module: str, name: str) -> Any:
        """Return a function of a module.

        Raises:
            NotUnderstood: there is none, or it is outside the language.
        """
        frame = self.frame(module)
        if name not in frame.names and module in self._lost:
            raise NotUnderstood(self._lost[module])
        value = frame.get(name)
        if not callable(value):
            raise NotUnderstood(f"{name!r:.60} is not a function")
        for reason in self._called(module, name, set()):
            raise NotUnderstood(reason)
        return value

    def _called(self, module: str, name: str, seen: set[str]) -> Iterator[str]:
        """Yield why packages are not known that a function uses in any case, as chance."""
        names = self.frame(module).names
        for node in self._trees[module].body:
            own = isinstance(node, ast.FunctionDef) and node.name == name
            if not own and not (isinstance(node, ast.Assign) and name in _targets(node)):
                continue
            for call in _always(node):
                inner = names.get(call)
                if isinstance(inner, Unknown) and "the package '" in inner.reason:
                    yield inner.reason
                elif call not in seen:
                    seen.add(call)
                    yield from self._called(module, call, seen)

    def frame(self, module: str) -> Frame:
        """Return the names of a module; its statements are computed once."""
        if module not in self._made:
            # The folders above would differ from machine to machine.
            file = "/".join(PurePath(self._folder, f"{module}.py").parts[-2:])
            frame = Frame({"__name__": module, "__file__": file}, Frame(self._builtins, None))
            frame.names["globals"] = lambda: frame.names
            self._made[module] = frame
            tree = self._trees[module] = parsed(self._sources[module])
            known = self._imports.get(module, {})
            for statement in tree.body:
                self._add(module, statement, frame, known)
        return self._made[module]

    def _add(
        self, module: str, statement: ast.stmt, frame: Frame, known: Mapping[str, str]
    ) -> None:
        """Compute a statement of a module; what it sets is unknown if it cannot be computed."""
        try:
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    top = alias.asname or alias.name.partition(".")[0]
                    missing = Unknown(f"the package {alias.name!r:.60} is not used")
                    frame.names[top] = self._library.get(alias.name, missing)
            elif isinstance(statement, ast.ImportFrom):
                self._import(statement, frame, known)
            else:
                Compiler(module, self).statement(statement)(frame)
        except NotUnderstood as error:
            self._forget(module, statement, frame, f"{module}:{statement.lineno}: {error}")
        except _FAULTS as error:
            reason = f"{module}:{statement.lineno}: {type(error).__name__} {error!s:.80}"
            self._forget(module, statement, frame, reason)

    def _import(self, node: ast.ImportFrom, frame: Frame, known: Mapping[str, str]) -> None:
        spelled = "." * node.level + (node.module or "")
        for alias in node.names:
            name = alias.asname or alias.name
            if spelled in known:
                inner = self.frame(known[spelled])
                if alias.name == "*":
                    frame.names |= {k: v for k, v in inner.names.items() if k[0] != "_"}
                    continue
                unset = Unknown(f"{spelled} has no {alias.name!r:.60}")
                frame.names[name] = inner.names.get(alias.name, unset)
            elif f"{spelled}.{alias.name}" in self._library:
                frame.names[name] = self._library[f"{spelled}.{alias.name}"]
            else:
                missing = Unknown(f"{alias.name!r:.60} of {spelled!r:.60} is not used")
                frame.names[name] = getattr(self._library.get(spelled), "names", {}).get(
                    alias.name, missing
                )

    def _forget(self, module: str, statement: ast.stmt, frame: Frame, reason: str) -> None:
        """Make all names unknown that a statement sets, or may change."""
        self._lost.setdefault(module, reason)
        for node in ast.walk(statement):
            name = getattr(node, "id", None) or getattr(node, "name", None)
            if isinstance(name, str) and (
                not isinstance(node, ast.Name)
                or isinstance(node.ctx, ast.Store)
                or type(frame.names.get(name)) in (list, dict, set)
            ):
                frame.names[name] = Unknown(reason)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return set(value) if isinstance(value, set) else value


def _targets(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


def _always(node: ast.AST) -> Iterator[str]:
    """Yield the names whose functions are called, or that are given to `partial`, in any case."""
    if isinstance(node, ast.Call):
        func = node.func
        while isinstance(func, ast.Attribute):
            func = func.value
        given = [func, *(node.args if isinstance(func, ast.Name) else [])]
        yield from (part.id for part in given if isinstance(part, ast.Name))
    for inner in ast.iter_child_nodes(node):
        if isinstance(node, ast.If | ast.IfExp | ast.Try | ast.BoolOp | ast.While):
            continue
        yield from _always(inner)


def parsed(source: str) -> ast.Module:
    """Return the syntax tree of a module.

    Raises:
        NotUnderstood: it is not Python.
    """
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise NotUnderstood(f"it is not Python: {error}") from None


def imports_of(source: str) -> tuple[list[str], list[str]]:
    """Return the modules that a module imports names from, with their dots, and data files.

    A data file is a text in it that looks like the name of one.
    """
    tree = parsed(source)
    froms = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    files = dict.fromkeys(text for text in texts if _DATA_FILE.fullmatch(text))
    return ["." * node.level + (node.module or "") for node in froms], list(files)
