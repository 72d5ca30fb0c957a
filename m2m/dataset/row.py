"""One training row, whatever the format of its file was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One training row; exactly one of `messages`, `text` and `pieces` is set.

    Attributes:
        line: its first line in the file, counted from 1.
        messages: a conversation of {"role", "content"}; the assistant's turns are trained on.
        text: a bare text, trained on as a whole.
        pieces: (text, trained) stretches written out with their special tokens.
        tools: the value of `tools` for a chat template.
    """

    line: int
    messages: tuple[Mapping[str, Any], ...] | None = None
    text: str | None = None
    pieces: tuple[tuple[str, bool], ...] | None = None
    tools: tuple[Any, ...] | None = None

    @property
    def plain_text(self) -> str:
        """Return all text that people wrote in it, each part on its own line."""
        if self.messages is not None:
            return "\n".join(str(message["content"]) for message in self.messages)
        if self.pieces is not None:
            return "".join(text for text, _ in self.pieces)
        return self.text or ""

    @property
    def sides(self) -> tuple[str, str]:
        """Return the question and the text that is trained on; a bare text has the question ""."""
        if self.messages is not None:
            texts: tuple[list[str], list[str]] = ([], [])
            for message in self.messages:
                texts[message["role"] == "assistant"].append(str(message["content"]))
            return "\n".join(texts[0]), "\n".join(texts[1])
        if self.pieces is not None:
            question = "".join(text for text, trained in self.pieces if not trained)
            return question, "".join(text for text, trained in self.pieces if trained)
        return "", self.text or ""
