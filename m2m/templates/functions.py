"""The parent's side of task files: functions and templates for many rows at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m2m.templates.parent import NUMBERS, RENDERER, Process, Template, keep, message_of

_ROWS = 256  # that are sent to the child at once


class Function:
    """A function of a task file's Python modules, computed from its syntax tree and never run.

    Args:
        sources: the texts of the modules by name.
        imports: by the name of a module, which other module each of its imports means.
        module: the name of the function's module.
        function: its name there.
        name: its name in errors; it should name the file.
        folder: the name of the folder of the modules.
        files: texts of data files that the modules may read, by their paths in the folder above.

    Raises:
        Refused: there is no such function, or it is more than a formula over plain values.
        LimitError: reading it exceeds a limit.
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        imports: Mapping[str, Mapping[str, str]],
        module: str,
        function: str,
        name: str,
        folder: str = "",
        files: Mapping[str, str] | None = None,
    ) -> None:
        self._name, self.number = name, next(NUMBERS)
        self._definition = {
            "modules": {
                "sources": dict(sources),
                "imports": {key: dict(value) for key, value in imports.items()},
                "folder": folder,
                "files": dict(files or {}),
            },
            "module": module,
            "name": function,
        }
        RENDERER.ask(name, self.kept)

    def table(
        self, rows: Sequence[Mapping[str, Any]], lines: Sequence[int]
    ) -> tuple[list[dict[str, Any]], list[int]]:
        """Return the rows of a split after the function, and the line of each.

        Raises:
            Refused: the function does more than map and pick rows, or the rows do not fit.
            LimitError: it exceeds a limit.
        """
        message = message_of("table", number=self.number, rows=rows, lines=lines)

        def ask(process: Process) -> bytes:
            if self.number not in process.kept:
                self.kept(process)
            return process.ask(message)

        made, places = RENDERER.ask(self._name, ask)
        return made, places

    def kept(self, process: Process) -> bytes:
        """Let the child read and keep the function."""
        return keep(process, "function", self.number, self._definition)


def imports_of(source: str, name: str) -> tuple[list[str], list[str]]:
    """Return the modules that the text of a module imports names from, with their dots, and files.

    The files are texts in it that look like names of data files.

    Raises:
        Refused: the text is not Python.
        LimitError: reading it exceeds a limit.
    """
    message = message_of("imports", source=source)
    modules, files = RENDERER.ask(name, lambda process: process.ask(message))
    return modules, files


def cells(
    programs: Sequence[tuple[Template | Function, str]],
    rows: Sequence[Mapping[str, Any]],
    name: str,
) -> list[list[tuple[bool, Any]]]:
    """Return for each row what each template or function makes of it, or why it fails.

    Args:
        programs: each with how a template's text is read: "text", "literal", or "list" (a literal
            if it has brackets around it).
        rows: the fields of each.
        name: the subject in errors; it should name the file.

    Raises:
        Refused: a function is more than a formula over plain values.
        LimitError: one of them exceeds a limit.
    """
    made: list[list[tuple[bool, Any]]] = []
    numbers = [(program.number, how) for program, how in programs]
    for start in range(0, len(rows), _ROWS):
        message = message_of("cells", programs=numbers, rows=rows[start : start + _ROWS])

        def ask(process: Process, message: bytes = message) -> bytes:
            while lacking := [p for p, _ in programs if p.number not in process.kept]:
                lacking[0].kept(process)
            return process.ask(message)

        for row in RENDERER.ask(name, ask):
            made.append([(done, restored(value) if done else value) for done, value in row])
    return made


@dataclass(frozen=True)
class Other:
    """A set or a similar value; only its text is known."""

    text: str

    def __repr__(self) -> str:
        return self.text


def restored(value: Any) -> Any:
    """Return a value from the child; what JSON lacks becomes `Other`."""
    if isinstance(value, list):
        return [restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "other" in value:
        return Other(value["other"])
    if "tuple" in value:
        return tuple(map(restored, value["tuple"]))
    return {restored(key): restored(item) for key, item in value["dict"]}
