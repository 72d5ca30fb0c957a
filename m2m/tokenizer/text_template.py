"""Jinja templates over the fields of a row, rendered as lm-evaluation-harness does, but bounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined

from m2m.errors import InputError
from m2m.tokenizer.sandbox import COMPILE_ERRORS, RENDER_ERRORS, Sandbox


class TextTemplate:
    """A template of a task file, in the sandbox that chat templates run in.

    White space stays as it is and a field that a row lacks is an error (lm_eval/utils.py, `env`).

    Args:
        source: the template.

    Raises:
        InputError: it is not valid Jinja, or uses a filter that the sandbox does not have.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._sandbox = Sandbox()
        self._sandbox.trim_blocks = self._sandbox.lstrip_blocks = False
        self._sandbox.keep_trailing_newline = True
        self._sandbox.undefined = StrictUndefined
        try:
            self._template = self._sandbox.from_string(source)
        except COMPILE_ERRORS as error:
            raise InputError(f"the template {source!r:.60} is not understood: {error}") from error

    def render(self, fields: Mapping[str, Any]) -> str:
        """The text for one row.

        Raises:
            InputError: the row does not fit, or the template does not come to an end.
        """
        try:
            return self._sandbox.render(self._template, **fields)
        except RENDER_ERRORS as error:
            raise InputError(f"the template {self.source!r:.60} fails: {error}") from error
