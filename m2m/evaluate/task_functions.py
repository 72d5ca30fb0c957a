"""Find the Python functions that a task file marks with `!function`, and read them as formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from m2m.errors import InputError
from m2m.evaluate.task_files import TaskFiles
from m2m.formats.yaml import Tagged
from m2m.opening import refuse_outside
from m2m.templates.functions import Function, cells, imports_of
from m2m.templates.parent import Refused

_MODULES = 16  # of one task
_FILES = 16  # that they read
# Calls `process_results` of a whole text with a log-likelihood, which must come back as it is.
_NATS = -1.5
_SIZES = f"""
from theirs import {{name}} as theirs

def sizes(doc):
    made = theirs(doc, ({_NATS},)).items()
    return dict([(name, size) for name, (nats, size) in made if nats == {_NATS}])
"""
_LINES = {
    "process_results": "`process_results: null`",
    "process_docs": "`process_docs: null`, and give it rows that are ready",
    "doc_to_choice": '`doc_to_choice: ["...", "..."]`',
}
Known = dict[tuple[Any, ...], Function | Refused]


class TaskFunctions:
    """Reads the modules of one task, each once.

    Args:
        files: reads them.
        known: functions of other tasks, or why they are refused, by the texts of their modules;
            gets this task's.
    """

    def __init__(self, files: TaskFiles, known: Known | None = None) -> None:
        self._files = files
        self._known = {} if known is None else known
        self._sources: dict[str, str] = {}
        self._imports: dict[str, dict[str, str]] = {}
        self._functions: dict[tuple[str, str], Function] = {}
        self._data: dict[str, str] = {}  # texts of files by their paths in the folder above
        self._outside: list[InputError] = []  # files that m2m may not read

    def function(self, tag: Tagged, key: str) -> Function:
        """Return the function that a tag names.

        Args:
            tag: from the task file, such as `!function utils.doc_to_text`.
            key: its key there, for messages.

        Raises:
            InputError: there is no such function, or it is more than a formula over plain values.
        """
        module, _, name = tag.text.rpartition(".")
        if tag.tag != "!function" or not module:
            raise InputError(f"{tag.place}: `{key}` has {tag!s:.60}", "write a template or a text")
        place = self._place(tag)
        try:
            found = self._module(place)
            if (found, name) not in self._functions:
                self._functions[found, name] = self._read(found, name, f"{name} of {place}")
            return self._functions[found, name]
        except Refused as error:
            raise self.refused(tag, key, str(error)) from None

    def _place(self, tag: Tagged) -> Path:
        """Return the file of a tag's module."""
        module = tag.text.rpartition(".")[0]
        place = Path(tag.source).parent / f"{module.replace('.', '/')}.py"
        return place if place.is_file() else self._elsewhere(place, module) or place

    def _read(self, module: str, name: str, about: str) -> Function:
        folder = self._files.path.absolute().parent.name
        texts = (*self._sources.items(), str(self._imports), str(self._data), module, name)
        if any("__file__" in source for source in self._sources.values()):
            texts = (folder, *texts)
        if texts not in self._known:
            try:
                made = Function(
                    self._sources, self._imports, module, name, about, folder, self._data
                )
                self._known[texts] = made
            except Refused as error:
                self._known[texts] = error
        known = self._known[texts]
        if isinstance(known, Refused):
            raise Refused(str(known), known.line)
        return known

    def sizes(self, tag: Tagged, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
        """Return by metric what `process_results` of whole texts divides their likelihood by.

        Args:
            tag: the function; it returns a log-likelihood and a number of words or bytes.
            rows: the fields of each text.

        Raises:
            InputError: it does more.
        """
        key = "process_results"
        self.function(tag, key)
        try:
            module = self._module(self._place(tag))
            name = tag.text.rpartition(".")[2]
            program = Function(
                {**self._sources, "m2m": _SIZES.format(name=name)},
                {**self._imports, "m2m": {"theirs": module}},
                *("m2m", "sizes", f"{tag.place}: {key}", self._files.path.absolute().parent.name),
                self._data,
            )
            made = [row[0] for row in cells([(program, "text")], rows, f"{tag.place}: {key}")]
        except Refused as error:
            raise self.refused(tag, key, str(error)) from None
        if wrong := next((why for done, why in made if not done), None):
            raise self.refused(tag, key, str(wrong))
        found: list[dict[str, Any]] = [sizes for _, sizes in made]
        names = [name for name in found[0] if all(_is_size(sizes.get(name)) for sizes in found)]
        if not names:
            raise self.refused(tag, key, "it does more than count words and bytes")
        return {name: [float(sizes[name]) for sizes in found] for name in names}

    def refused(self, tag: Tagged, key: str, why: str) -> InputError:
        """Return the error of a function that is more than a formula."""
        return self.blamed(why) or InputError(
            f"{tag.place}: `{key}` is {tag!s:.60}; {why:.300}", remedy(self._files.path, [key])
        )

    def blamed(self, why: str) -> InputError | None:
        """Return the error of a data file that m2m may not read, if a function needed one."""
        return self._outside[0] if self._outside and "is not here" in why else None

    def marks(self) -> dict[str, str]:
        """Return the texts of the modules that were read, by name, and of their files."""
        return self._sources | self._data

    def _module(self, path: Path) -> str:
        """Read a module and the modules that it takes names from; return its name."""
        name = path.stem if str(path.parent) == str(self._files.path.parent) else str(path)
        if name in self._sources:
            return name
        if len(self._sources) >= _MODULES:
            raise Refused(f"it needs more than {_MODULES} modules", None)
        self._sources[name] = source = self._files.module(path)
        self._imports[name] = known = dict[str, str]()
        spellings, data = imports_of(source, str(path))
        for spelled in spellings:
            if other := self._file_of(path, spelled):
                known[spelled] = self._module(other)
        for file in data:
            self._read_data(path, file)
        return name

    def _read_data(self, module: Path, name: str) -> None:
        """Read a file that a module names, in the module's folder or in the one above."""
        folder = module.absolute().parent
        for place, key in ((folder / name, f"{folder.name}/{name}"), (folder.parent / name, name)):
            try:
                refuse_outside(place, self._files.path.parent, self._files.roots)
            except InputError as error:
                self._outside.append(error)
                continue
            if place.is_file() and len(self._data) < _FILES:
                text = self._files.module(place)
                if self._data.setdefault(key, text) != text:
                    raise Refused(f"it reads two files that are called {key:.80}", None)

    def _file_of(self, path: Path, spelled: str) -> Path | None:
        """Return the file of a module that another one imports names from."""
        dotted = spelled.lstrip(".")
        level = len(spelled) - len(dotted)
        if level:
            folder = path.parents[level - 1] if level <= len(path.parents) else path.parent
            place = folder / f"{dotted.replace('.', '/')}.py"
            return place if dotted and place.is_file() else None
        return self._elsewhere(path, spelled) if spelled.startswith("lm_eval.tasks.") else None

    @staticmethod
    def _elsewhere(path: Path, dotted: str) -> Path | None:
        """Return the file of `lm_eval.tasks.a.b`, seen from a folder of tasks."""
        if not dotted.startswith("lm_eval.tasks."):
            return None
        inner = dotted.removeprefix("lm_eval.tasks.").replace(".", "/") + ".py"
        places = (parent / inner for parent in path.parents)
        return next((place for place in places if place.is_file()), None)


def _is_size(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def remedy(path: Path, keys: Sequence[str]) -> str:
    """Return what to write in place of the functions of a task file."""
    lines = [_LINES.get(key, f'`{key}: "{{{{FIELD}}}}"`') for key in keys]
    return (
        "m2m runs no code from a file: write a child file next to it with the lines `include: "
        f"{path.name}`, {', '.join(lines)}"
    )
