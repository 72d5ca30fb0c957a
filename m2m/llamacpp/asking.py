"""Ask a GGUF questions as an outside user would: llama-cpp-python with the file's own template.

This runs in a child process: if llama.cpp crashes on the file, only the child ends.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.errors import LlamaError
from m2m.limits import refuse_ended

_START = "from m2m.llamacpp.asking import main; main()"
_ROOM = 512  # most tokens by which a template's prompt may exceed m2m's prompt


@dataclass(frozen=True)
class Question:
    """A conversation that waits for an answer.

    Attributes:
        messages: list of {"role", "content"}.
        prompt: the ids that m2m makes from the messages.
        most: most tokens of the answer.
    """

    messages: Sequence[Mapping[str, Any]]
    prompt: Sequence[int]
    most: int


@dataclass(frozen=True)
class Answer:
    """A model's answer, and whether it stopped by itself."""

    text: str
    stopped: bool


def ask(
    path: Path, questions: Sequence[Question], *, threads: int, seconds: float
) -> list[tuple[Answer, Answer]]:
    """Return the greedy answers to questions: with the file's own template, and m2m's prompt.

    Args:
        path: a GGUF file with a chat template.
        questions: at least one.
        threads: CPU threads.
        seconds: time limit for all answers.

    Raises:
        LlamaError: llama.cpp crashes, refuses, or takes too long.
    """
    job = {
        "path": str(path.absolute()),
        "questions": [dataclasses.asdict(question) for question in questions],
        "threads": threads,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", _START],
            input=json.dumps(job).encode(),
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LlamaError(f"{path.name}: no answers within {seconds:.0f} seconds") from None
    except OSError as error:
        raise LlamaError(f"{path.name}: no process for the answers: {error}") from error
    refuse_ended(done.returncode, f"while {path.name} answered questions")
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [""]
        raise LlamaError(f"{path.name}: llama.cpp ended with {done.returncode}: {lines[-1][:200]}")
    answers = json.loads(done.stdout)
    return [(Answer(*own), Answer(*ours)) for own, ours in answers]


def own_template(template: str) -> str:
    """Return the template, changed so that llama-cpp-python really uses it.

    llama-cpp-python replaces a few known templates by its own formatters, which write other
    prompts: for ChatML an empty system turn (llama_chat_format.py,
    guess_chat_format_from_gguf_metadata).
    """
    from llama_cpp.llama_chat_format import guess_chat_format_from_gguf_metadata as guess

    replaced = guess({"tokenizer.chat_template": template}) is not None
    return f"{{# #}}{template}" if replaced else template


def main() -> None:
    """Run in the child: read a job from stdin, write the answers to stdout."""
    from llama_cpp import Llama

    job = json.load(sys.stdin)
    cells = max(len(question["prompt"]) + question["most"] for question in job["questions"]) + _ROOM
    count = job["threads"]
    model = Llama(job["path"], n_ctx=cells, n_threads=count, n_threads_batch=count, verbose=False)
    with model._stack:  # closes llama.cpp's objects in order
        answers = [_both(model, question) for question in job["questions"]]
    sys.stdout.write(json.dumps(answers))


def _both(model: Any, question: Mapping[str, Any]) -> list[tuple[str, bool]]:
    settings = {"temperature": 0.0, "max_tokens": question["most"]}
    response = model.create_chat_completion(messages=question["messages"], **settings)
    text = response["choices"][0]["message"]["content"] or ""
    own = text, response["choices"][0]["finish_reason"] == "stop"
    if model.input_ids[: response["usage"]["prompt_tokens"]].tolist() == question["prompt"]:
        return [own, own]  # the same prompt gets the same answer
    choice = model.create_completion(question["prompt"], **settings)["choices"][0]
    return [own, (choice["text"], choice["finish_reason"] == "stop")]
