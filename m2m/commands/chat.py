"""`m2m chat`: have a conversation with a model, without a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from m2m.commands.models import gguf_of, open_model
from m2m.errors import InputError
from m2m.formats.gguf import GGUFFile
from m2m.llamacpp.generate import Sampling, generate
from m2m.merge.belonging import lora_doubts
from m2m.pipeline.inputs import formatter_as_trained
from m2m.results.confirmation import Confirmation
from m2m.results.folder import CONFIRMED, RunFolder
from m2m.tokenizer import Message
from m2m.tokenizer.vocabulary_warnings import FOLDED

_NO_TEMPLATE = (
    "This model has no chat template. m2m asks it in plain text: a message, a newline, the answer."
)


class Chat:
    """A conversation with a model, which remembers as much of it as its context holds.

    Args:
        model: a GGUF file, or a name under models/.
        sampling: how tokens are chosen, and the most tokens of an answer.
        seed: seed for temperatures above 0.
        system: the system message.
        lora: a GGUF LoRA for the model; `warnings` says why it may be a wrong one.
    """

    def __init__(
        self,
        model: str,
        sampling: Sampling,
        seed: int = 0,
        *,
        system: str | None = None,
        lora: Path | None = None,
    ) -> None:
        path = gguf_of(model)
        self.warnings = lora_doubts(lora, path) if lora else []
        file = GGUFFile(path)
        self._formatter = formatter_as_trained(file, lora)
        if file.value("tokenizer.chat_template") is None:
            self.warnings.append(_NO_TEMPLATE)
        template = self._formatter.template
        if system and template and not template.takes_system:
            self.warnings.append(FOLDED)
        self._sampling = sampling
        self._rng = np.random.default_rng(seed)
        self._told: list[Message] = [{"role": "system", "content": system}] if system else []
        self.turns: list[Message] = []
        self._model = open_model(path, lora)

    def answer(self, text: str) -> Iterator[str]:
        """Yield the model's answer to `text` in pieces, as soon as they are generated.

        If the reader stops an answer, the text so far is remembered.
        """
        self.turns.append({"role": "user", "content": text})
        written = ""
        try:
            pieces = generate(self._model, self._prompt(), self._sampling, self._rng)
            for piece in text_after(self._formatter.shown_head, pieces):
                written += piece
                yield piece
        finally:
            self.turns.append(
                {"role": "assistant", "content": self._formatter.extract_answer(written)}
            )

    def forget(self) -> None:
        """Begin a new conversation."""
        self.turns.clear()

    def _prompt(self) -> list[int]:
        """Return the conversation as ids; drop the oldest turns if it grows too long."""
        while True:
            ids = self._formatter.prompt_ids([*self._told, *self.turns])
            room = self._model.context_trained - self._sampling.max_tokens
            if len(ids) <= room or len(self.turns) <= 1:
                return ids
            del self.turns[:2]

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *error: object) -> None:
        self._model.close()


def questions_of(model: str, most: int = 3) -> list[str]:
    """Return some questions of the target, if the model is the export of a confirmed run.

    Args:
        model: a GGUF file, or a name under models/.
        most: how many.
    """
    folder = RunFolder(Path(model).absolute().parent.parent)
    try:
        confirmed = folder.read(CONFIRMED, Confirmation.from_json)
    except InputError:  # not worth an error: the model can be asked all the same
        return []
    answers = confirmed and confirmed.answers
    texts = [row.question for row in answers.rows] if answers else []
    return [text for text in texts if "\n" not in text][:most]


def text_after(head: str, pieces: Iterator[str]) -> Iterator[str]:
    """Yield an answer's pieces without the head that every answer begins with, if it is there."""
    waiting = ""
    for piece in pieces:
        waiting += piece
        text = waiting.lstrip()
        if head and head.startswith(text):
            continue
        yield text.removeprefix(head).lstrip() if head and text.startswith(head) else waiting
        waiting = head = ""
    if waiting:
        yield waiting


def ask(model: str, questions: Sequence[str], tokens: int = 24) -> list[str]:
    """Return a model's likeliest answer to each question on its own, on one line.

    Args:
        model: a GGUF file, or a name under models/.
        questions: the questions, one conversation each.
        tokens: length of the longest answer.
    """
    answers = []
    with Chat(model, Sampling(max_tokens=tokens)) as talk:
        for question in questions:
            talk.forget()
            answers.append(" ".join("".join(talk.answer(question)).split()))
    return answers
