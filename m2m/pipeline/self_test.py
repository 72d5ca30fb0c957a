"""The export's self-test: ask the exported file questions that it was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m2m.dataset import load_dataset
from m2m.dataset.mapping import RowMapping
from m2m.dataset.normal_form import normalised_rows
from m2m.dataset.row_source import open_source, options_of
from m2m.dataset.rows import Row
from m2m.errors import InputError, M2MError
from m2m.evaluate.overlap import answer_match
from m2m.export.selftest import SelfTest
from m2m.llamacpp.asking import Answer, Question, ask
from m2m.mix.mixture import Mixture
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.scorer import threads
from m2m.tokenizer import Formatter, Message

_QUESTIONS = 8
_MOST_TOKENS = 640  # of all answers together: some seconds for 135 M parameters
_LONGEST_PROMPT = 1024
_SLACK = 32  # tokens, in addition to twice the trained answer's
_SECONDS = 600.0

Asked = tuple[Question, list[str]]  # with the answers that count as trained


def self_test(inputs: Inputs, mixture: Mixture, gguf: Path) -> SelfTest:
    """Ask an exported file questions of its mixture's rows; a faulty file never raises."""
    try:
        asked = list(_questions(inputs, mixture))
        if not asked:
            longest = (_MOST_TOKENS - _SLACK) // 2
            why = f"the data has no question with a text answer of at most {longest} tokens"
            return SelfTest(trouble=why)
        questions = [question for question, _ in asked]
        answers = ask(gguf, questions, threads=threads(inputs.recipe), seconds=_SECONDS)
    except M2MError as error:
        return SelfTest(trouble=error.message, failed=True)
    answer_in = inputs.formatter.extract_answer
    right = [
        [answer_match(answer_in(answer.text), trained) > 0 for answer in both]
        for both, (_, trained) in zip(answers, asked, strict=True)
    ]
    return SelfTest(
        len(asked),
        exact=sum(own for own, _ in right),
        stops=_stopped(own for own, _ in answers),
        own_exact=sum(ours for _, ours in right),
        own_stops=_stopped(ours for _, ours in answers),
    )


def _stopped(answers: Iterator[Answer]) -> int:
    return sum(answer.stopped for answer in answers)


def _questions(inputs: Inputs, mixture: Mixture) -> Iterator[Asked]:
    """Yield some of the rows that were trained on, drawn by the training's seed."""
    rows: list[tuple[Sequence[Row], int]] = []
    for dataset in inputs.recipe.datasets:
        if dataset.name in mixture.datasets:
            corpus = inputs.corpora[dataset.name]
            trained = {sample.line for sample in corpus.samples}
            source = open_source(dataset.files, corpus.sha256, options_of(dataset))
            read = load_dataset(source, RowMapping.of(dataset))
            read = normalised_rows(read, inputs.recipe.data.normalise)
            rows += [(read, place) for place, row in enumerate(read) if row.line in trained]
    used = asked = 0
    for index in np.random.default_rng(inputs.recipe.train.seed).permutation(len(rows)):
        read, place = rows[index]
        question = question_of(read[place], inputs.formatter)
        if question is None or used + question[0].most > _MOST_TOKENS:
            continue
        yield question
        used, asked = used + question[0].most, asked + 1
        if asked == _QUESTIONS:
            return


def question_of(row: Row, formatter: Formatter) -> Asked | None:
    """Return a row's conversation up to its last answer; None if it cannot be asked."""
    messages = [*(row.messages or ())]
    while messages and messages[-1].get("role") != "assistant":
        messages.pop()
    if len(messages) < 2 or row.tools or not all(map(_is_text, messages)):
        return None
    try:
        trained = formatter.samples(messages)[-1][-1].ids
        prompt = formatter.prompt_ids(messages[:-1])
    except InputError:
        return None
    if len(prompt) > _LONGEST_PROMPT:
        return None
    ends = formatter.tokenizer.eog_ids
    written = formatter.tokenizer.decode(i for i in trained if i not in ends)
    asked: Sequence[Message] = messages[:-1]
    if formatter.template is not None:
        asked = formatter.template.placed(asked)
    question = Question(asked, prompt, 2 * len(trained) + _SLACK)
    return question, [str(messages[-1]["content"]), formatter.extract_answer(written)]


def _is_text(message: Mapping[str, Any]) -> bool:
    """Return whether a message has text and does not call a tool."""
    tool = message.get("tool_calls") or message["role"] == "tool"
    return not tool and bool(str(message["content"]).strip())
