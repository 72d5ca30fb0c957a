"""The child process: it reads requests on stdin, renders, and answers on stdout.

A request (m2m.templates.message) is an object; its "do" names one of the functions below, "with"
has its arguments. The answer is [true, its result] or [false, reason, line of the template].

This module imports little because a user waits while the child starts.
"""

from __future__ import annotations

import ast
import datetime
import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import jinja2
from jinja2.meta import find_undeclared_variables

from m2m.limits import Limits, allow_processor, impose
from m2m.templates.message import LENGTH, OUT_OF_MEMORY, packed, unpacked
from m2m.templates.plain_python import Modules, imports_of
from m2m.templates.plain_values import NotUnderstood, RowTable, called
from m2m.templates.sandbox import Sandbox

_LONGEST = 500  # characters of a message; a template can raise one of millions


class Refused(Exception):
    """The template is wrong, or its values do not fit it."""


@contextmanager
def _refusing() -> Iterator[None]:
    """Refuse a template for any exception; Jinja and its filters raise many kinds.

    Raises:
        Refused: instead of the template's error.
        MemoryError: the system gives this process no more memory.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        text = str(error) or type(error).__name__
        raise Refused(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...") from error


class Child:
    """Answers requests; keeps compiled templates under the number that the parent gives them."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._granted = limits, 0
        self._sandboxes: dict[tuple[str, str], Sandbox] = {}
        self._templates: dict[int, tuple[Sandbox, jinja2.Template]] = {}
        self._functions: dict[int, tuple[Modules, Callable[..., Any]]] = {}
        # The modules that were read last, as long as no function has run, which could change them.
        self._fresh: tuple[Any, Modules] | None = None

    def answer(self, request: Mapping[str, Any]) -> bytes:
        """Return the answer to a request, as a message."""
        does: dict[str, Callable[..., Any]] = {
            "render": self.render,
            "compile": self.compile,
            "variables": self.variables,
            "imports": imports,
            "function": self.function,
            "table": self.table,
            "cells": self.cells,
        }
        self._granted = allow_processor(self._limits.cpu, self._granted)
        try:
            value = does[request["do"]](**request["with"])
            with _refusing():  # a number may be too long for JSON
                return packed([True, value])
        except Refused as error:
            line = getattr(error.__cause__, "lineno", None)
            return packed([False, str(error), line if isinstance(line, int) else None])

    def compile(self, number: int, source: str, style: str, day: str, forget: bool) -> None:
        """Keep a template for later renderings."""
        self._forget(forget)
        sandbox = self._sandbox(style, day)
        with _refusing():
            self._templates[number] = sandbox, sandbox.from_string(source)

    def _forget(self, forget: bool) -> None:
        if forget:
            self._templates.clear()
            self._functions.clear()
            self._fresh = None
            gc.collect()

    def function(
        self, number: int, modules: dict[str, Any], module: str, name: str, forget: bool
    ) -> None:
        """Keep a function of a task file's modules; see `m2m.templates.plain_python`."""
        self._forget(forget)
        if self._fresh is None or self._fresh[0] != modules:
            self._fresh = modules, Modules(**modules)
        read = self._fresh[1]
        with _refusing():
            self._functions[number] = read, read.function(module, name)
            read.remember()

    def table(self, number: int, rows: list[Any], lines: list[int]) -> list[Any]:
        """Return the rows, and their lines, that a kept function makes of the rows of a split."""
        modules, function = self._functions[number]
        modules.steps, self._fresh = 0, None
        with _refusing():
            made = called(function, [RowTable(rows, lines)], {})
            if not isinstance(made, RowTable):
                raise NotUnderstood(f"it returns a {type(made).__name__}, no dataset")
            modules.remember()
            return [_columns_of(made), list(made.lines)]

    def cells(self, programs: list[Any], rows: list[dict[str, Any]]) -> list[Any]:
        """Return for each row what each template or function makes of it, or why it fails.

        Args:
            programs: numbers, and how a template's text is read: "text", "literal" or "list" (a
                literal if it has brackets around it).
            rows: the fields of each.

        Raises:
            Refused: a function is outside the language.
        """
        made = [[self._cell(number, how, row) for number, how in programs] for row in rows]
        for number in dict(programs).keys() & self._functions.keys():
            with _refusing():
                self._functions[number][0].refuse_changed()
        return made

    def _cell(self, number: int, how: str, row: dict[str, Any]) -> list[Any]:
        try:
            if number in self._templates:
                return [True, self._read(self.render(number, row), how)]
            modules, function = self._functions[number]
            modules.steps, self._fresh = 0, None
            with _refusing():
                return [True, _plain(called(function, [_own(row)], {}))]
        except Refused as error:
            if isinstance(error.__cause__, NotUnderstood):
                raise Refused(f"it is more than a formula: {error}") from None
            return [False, str(error)]

    @staticmethod
    def _read(text: str, how: str) -> Any:
        bracketed = len(text) >= 2 and text[0] == "[" and text[-1] == "]"
        if how == "literal":
            return literal(text)
        if how == "list" and bracketed:
            try:
                return literal(text)
            except Refused:  # a text in brackets
                return text
        return text

    def render(self, number: int, values: dict[str, Any], today: str | None = None) -> str:
        """Return the text of a kept template; `strftime_now` writes `today` if it is given."""
        sandbox, template = self._templates[number]
        if today is not None:
            values["strftime_now"] = lambda form: today
        with _refusing():
            return sandbox.render(template, values)

    def variables(self, source: str, style: str, day: str) -> list[str]:
        """Return the names that a template takes from the program that renders it."""
        sandbox = self._sandbox(style, day)
        with _refusing():
            return sorted(find_undeclared_variables(sandbox.parse(source)))

    def _sandbox(self, style: str, day: str) -> Sandbox:
        if (style, day) not in self._sandboxes:
            today = datetime.date.fromisoformat(day)
            if style == "chat":  # like transformers and llama.cpp
                sandbox = Sandbox(today, trim_blocks=True, lstrip_blocks=True)
                sandbox.filters["safe"] = str  # llama.cpp escapes nothing
            else:  # like lm-evaluation-harness (lm_eval/utils.py, `env`)
                sandbox = Sandbox(
                    today,
                    of_tasks=True,
                    keep_trailing_newline=True,
                    undefined=jinja2.StrictUndefined,
                )
            self._sandboxes[style, day] = sandbox
        return self._sandboxes[style, day]


def literal(text: str) -> Any:
    """Read a Python literal; see `_plain`.

    Raises:
        Refused: the text is not a literal.
    """
    with _refusing():
        try:
            return _plain(ast.literal_eval(text))
        except (ValueError, SyntaxError) as error:
            kept = text if len(text) <= 60 else f"{text[:60]}..."
            words = "malformed: no list or dict as Python writes it, with texts in quotes"
            raise ValueError(f"{words}: {kept!r}") from error


def imports(source: str) -> tuple[list[str], list[str]]:
    """Return the modules that a module imports names from, and its data files.

    Raises:
        Refused: it is not Python.
    """
    with _refusing():
        return imports_of(source)


def _own(row: Any) -> Any:
    """Return a copy of a row that a function may change."""
    if isinstance(row, dict):
        return {key: _own(value) for key, value in row.items()}
    return [_own(value) for value in row] if isinstance(row, list) else row


def _columns_of(table: RowTable) -> list[dict[str, Any]]:
    """Return a table's rows as Arrow keeps them: a tuple is a list.

    Raises:
        NotUnderstood: a field is no plain value.
    """

    def kept(value: Any) -> Any:
        if isinstance(value, (str, int, float, type(None))):
            return value
        if isinstance(value, (list, tuple)):
            return [kept(item) for item in value]
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {key: kept(item) for key, item in value.items()}
        raise NotUnderstood(f"a field is a {type(value).__name__}")

    return [{str(name): kept(value) for name, value in row.items()} for row in table.rows]


def _plain(value: Any) -> Any:
    """Return {"dict": pairs} for a dict, {"tuple": items}, and {"other": text} for other values."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {"dict": [[_plain(key), _plain(item)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_plain(item) for item in value]}
    return value if isinstance(value, (str, int, float, type(None))) else {"other": repr(value)}


def serve(child: Child, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer one request after the other until there are no more."""
    while len(head := source.read(LENGTH.size)) == LENGTH.size:
        data = source.read(LENGTH.unpack(head)[0])
        request = unpacked(data)
        del data
        sink.write(child.answer(request))
        sink.flush()


def main(*numbers: str) -> None:
    """Impose the limits on this process, then serve; called by m2m.templates.parent.

    Args:
        numbers: the fields of `Limits`, in their order.
    """
    limits = Limits(*map(int, numbers))
    impose(limits)
    try:
        serve(Child(limits), sys.stdin.buffer, sys.stdout.buffer)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BrokenPipeError:  # the parent is gone
        os._exit(0)
