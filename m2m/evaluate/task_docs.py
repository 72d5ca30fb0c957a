"""Turn the rows of a task of lm-evaluation-harness into questions, to the letter.

Every function here follows a method of ConfigurableTask (lm_eval/api/task.py), which its docstring
names. Templates and functions are computed in the child process (m2m.templates).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from m2m.errors import InputError
from m2m.evaluate.json_types import typed_rows
from m2m.evaluate.task_config import Config, Side
from m2m.evaluate.task_data import TaskData, TaskRows
from m2m.evaluate.task_functions import TaskFunctions, remedy
from m2m.formats.yaml import Tagged
from m2m.templates.functions import Function, cells
from m2m.templates.parent import Refused, Template
from m2m.tokenizer.template import TODAY

# `isdigit` and then `ast.literal_eval`: that takes no leading zero, no "²" and no 5,000 digits.
_PLACE = re.compile(r"0|[1-9][0-9]{0,17}")
# A text without a template is asked in every row; one of these was meant as a field's name. No task
# that lm-eval ships asks such a text.
_LIKE_A_NAME = re.compile(r"[^\W\d]([\w .-]*\w)?")
_ASKED = ("doc_to_text", "doc_to_target")


@dataclass(frozen=True)
class Doc:
    """What the keys of a task file make of one row.

    Attributes:
        line: of the row.
        fields: the row itself, after `process_docs`.
        text: the question, or a place of a choice if the choices are in the questions.
        target: the right answer, its place, or a list of these.
        choices: the possible answers; None if the task has none.
        prefix: the beginning of the answer that the model is given (`gen_prefix`).
        head: the text before everything (`description`).
    """

    line: int
    fields: Mapping[str, Any]
    text: Any
    target: Any
    choices: list[Any] | None
    prefix: str
    head: str = ""
    fault: str = ""


@dataclass
class _Column:
    """How a key of the task file becomes a value of each row: a constant, a field, a program."""

    constant: Any = None
    name: str = ""
    program: tuple[Template | Function, str] | None = None
    values: list[tuple[bool, Any]] = field(default_factory=list)


class TaskDocs:
    """Reads the rows of a task's splits and computes its keys for them.

    Args:
        config: of the task file.
        data: reads rows.
        functions: reads functions.
    """

    def __init__(self, config: Config, data: TaskData, functions: TaskFunctions) -> None:
        self.config, self._data, self._functions = config, data, functions
        self._rows: dict[tuple[str, Any], TaskRows] = {}
        self._templates: dict[str, Template] = {}

    def rows(self, split: str, process: Any) -> TaskRows:
        """Return the rows of a split after a function has picked or changed them.

        Raises:
            InputError: they cannot be read, or the function is more than a formula.
        """
        known = (split, process)
        if known not in self._rows:
            rows = self._data.split(split)
            self._rows[known] = rows if process is None else self._processed(rows, process)
        return self._rows[known]

    def _processed(self, rows: TaskRows, process: Any) -> TaskRows:
        function = self._functions.function(process, "process_docs")
        try:
            fields, lines = function.table(list(rows.fields), list(rows.lines))
        except Refused as error:
            raise self._functions.refused(process, "process_docs", str(error)) from None
        if not fields:
            raise InputError(
                f"{self.config.path}: `process_docs` leaves no row of {rows.name}",
                "a task needs an example: see that these are the rows that it expects",
            )
        fields, _ = typed_rows(fields, moments=False)
        return TaskRows(fields, lines, rows.files, rows.marks, rows.moments)

    def docs(self, rows: TaskRows, side: Side, columns: Sequence[str], *, head: bool) -> list[Doc]:
        """Return the keys' values of all rows.

        Args:
            rows: of a split.
            side: the keys.
            columns: the names of the fields of the tested rows: a key that is one of them is a
                field, not a template.
            head: whether the description is computed, too.
        """
        chosen = self.config.asked.choice is not None
        parts = {
            "doc_to_text": self._column(side.text, "doc_to_text", columns, "text"),
            "doc_to_target": self._column(side.target, "doc_to_target", columns, "list"),
            "doc_to_choice": self._column(side.choice, "doc_to_choice", columns, "literal"),
            "gen_prefix": self._column(side.prefix or None, "gen_prefix", columns, "text"),
        }
        if head:
            text = self.config.keys.get("description") or None
            parts["description"] = self._column(text, "description", rows.columns, "text")
        self._compute(parts, rows)
        made = []
        for place, (line, fields) in enumerate(zip(rows.lines, rows.fields, strict=True)):
            values, fault = {}, ""
            for key, column in parts.items():
                done, value = self._value(key, column, place, fields)
                values[key] = value if done else None
                fault = fault or ("" if done else f"{key}: {value}")
            text, target = values["doc_to_text"], values["doc_to_target"]
            if chosen and _is_template(side.text, parts["doc_to_text"]):
                text = _place(text)
            if chosen and _is_template(side.target, parts["doc_to_target"]):
                target = _place(target)
            choices = values["doc_to_choice"]
            choices = list(choices.values()) if isinstance(choices, dict) else choices
            prefix, above = values["gen_prefix"] or "", values.get("description") or ""
            made.append(Doc(line, fields, text, target, choices, prefix, above, fault))
        return made

    def _column(self, rule: Any, key: str, columns: Sequence[str], how: str) -> _Column:
        if isinstance(rule, Tagged):
            return _Column(program=(self._functions.function(rule, key), how))
        if not isinstance(rule, str):
            return _Column(constant=rule)
        if rule in columns:
            return _Column(name=rule)
        if key in _ASKED and self._is_missing_field(key, rule):
            raise InputError(
                f"{self.config.path}: {key} is {rule!r:.60}, and the rows have no such field; they "
                f"have {', '.join(columns):.200}",
                "name a field, or write a template with it: {{FIELD}}",
            )
        if how == "text" and "{" not in rule and "\r" not in rule:
            return _Column(constant=rule)
        if rule not in self._templates:
            name = f"the template {rule!r:.60} of {self.config.path}"
            try:
                self._templates[rule] = Template(rule, "text", name, TODAY.isoformat())
            except Refused as error:
                hint = f'write it anew in a child file: `{key}: "{{{{FIELD}}}}"`'
                words = f"{self.config.path}: {key} is not understood: {error}"
                raise InputError(words, hint) from error
        return _Column(program=(self._templates[rule], how))

    def _is_missing_field(self, key: str, rule: str) -> bool:
        """Return whether a text without a template looks like a name, and is no choice."""
        choices = self.config.asked.choice
        if key == "doc_to_target" and choices is not None:
            listed = list(choices.values()) if isinstance(choices, dict) else choices
            if not isinstance(listed, list) or rule in listed:
                return False
        return bool(_LIKE_A_NAME.fullmatch(rule))

    def _compute(self, parts: Mapping[str, _Column], rows: TaskRows) -> None:
        """Let the child process compute all programs for all rows."""
        asked = [column for column in parts.values() if column.program]
        if not asked:
            return
        programs = [column.program for column in asked if column.program]
        try:
            table = cells(programs, rows.fields, f"{self.config.path}")
        except Refused as error:
            keys = [k for k, c in parts.items() if c.program and isinstance(c.program[0], Function)]
            raise self._functions.blamed(str(error)) or InputError(
                f"{self.config.path}: {', '.join(keys)}: {error!s:.300}",
                remedy(self.config.path, keys),
            ) from None
        for number, column in enumerate(asked):
            column.values = [row[number] for row in table]

    @staticmethod
    def _value(
        key: str, column: _Column, place: int, fields: Mapping[str, Any]
    ) -> tuple[bool, Any]:
        if column.program:
            done, value = column.values[place]
            if key in _ASKED and value == "None" and None in fields.values():
                null = ", ".join(str(name) for name, each in fields.items() if each is None)[:60]
                return False, f"it is the text None, and {null} is null in this row"
            return done, value
        if not column.name:
            return True, column.constant
        value = fields.get(column.name)
        if value is None and key in ("gen_prefix", "description"):
            return True, ""
        if value is None:
            return False, f"the row has no {column.name!r:.40}, or it is null"
        return True, value


def _is_template(rule: Any, column: _Column) -> bool:
    return isinstance(rule, str) and not column.name


def _place(value: Any) -> Any:
    """Return a text of digits as a number."""
    return int(value) if isinstance(value, str) and _PLACE.fullmatch(value) else value


def turn(question: str, answer: str | None, prefix: str, delimiter: str, separator: str) -> str:
    """Return a question, with its answer if it is a solved example (`build_qa_turn`)."""
    if answer:
        between = "" if prefix and not _needs(question, prefix) else delimiter
        return f"{question}{between}{_joined(prefix, answer)}{separator}"
    if prefix:
        return f"{question}{delimiter if _needs(question, prefix) else ''}{prefix}"
    return question


def _needs(before: str, after: str) -> bool:
    """Return whether two texts need something between them (`requires_delimiter`)."""
    return before != "" and not (before[-1].isspace() or after[0].isspace())


def _joined(prefix: str, answer: str) -> str:
    """Return prefix and answer with a space, unless one of them has it (`maybe_delimit`)."""
    if not prefix:
        return answer
    return prefix + (" " if not (prefix[-1].isspace() or answer[0].isspace()) else "") + answer
