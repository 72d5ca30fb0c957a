"""Jinja templates over the fields of a row, rendered like in lm-evaluation-harness, with limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from m2m.errors import InputError
from m2m.templates.functions import literal
from m2m.templates.parent import Refused, Template
from m2m.tokenizer.template import TODAY


class TextTemplate:
    """A template of a task file, rendered in the child process for chat templates.

    White space stays as it is, and a field that a row lacks is an error (lm_eval/utils.py, `env`).

    Args:
        source: the template.
        file: the file of the template, for errors.

    Raises:
        InputError: it is not valid Jinja, or it uses a filter that the sandbox does not have.
        LimitError: compiling it takes more memory or time than a stranger's file gets.
    """

    def __init__(self, source: str, file: str = "a task file") -> None:
        self.source = source
        self._name = f"the template {source!r:.60} of {file}"
        try:
            self._template = Template(source, "text", self._name, TODAY.isoformat())
        except Refused as error:
            raise InputError(f"the template {source!r:.60} is not understood: {error}") from error

    @property
    def compiled(self) -> Template:
        """Return the template, for many rows at once (`m2m.templates.functions.cells`)."""
        return self._template

    def render(self, fields: Mapping[str, Any]) -> str:
        """Return the text for one row.

        Raises:
            InputError: the row does not fit, or the template does not end.
            LimitError: it takes more memory or time than a stranger's file gets.
        """
        try:
            return self._template.render(fields)
        except Refused as error:
            raise InputError(f"the template {self.source!r:.60} fails: {error}") from error

    def literal(self, text: str) -> Any:
        """Read the Python literal, such as a list, that the template wrote; see `parent.literal`.

        Raises:
            InputError: the text is not a literal.
            LimitError: reading it takes more memory or time than a stranger's file gets.
        """
        try:
            return literal(text, self._name)
        except Refused as error:
            raise InputError(f"the template {self.source!r:.60} gives {text!r:.40}") from error
