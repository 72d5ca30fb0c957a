"""The fields of a recipe's datasets and targets: their files, and how the rows are read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

METRICS = (
    "auto",
    "choice_bits",
    "contrast_bits",
    "bits_per_byte",
    "accuracy",
    "accuracy_norm",
    "macro_f1",
    "ece",
    "answer_match",
    "f1",
    "chrf",
    "perplexity",
    # Of lm-evaluation-harness:
    "acc_norm",
    "weighted_f1",
    "mcc",
    "brier_score",
    "exact_match",
    "bleu",
    "bleu_intl",
    "bleu_char",
    "chrf++",
    "ter",
)
STYLES = ("auto", "chat", "plain", "raw")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")  # BCP 47
_NAME = {
    "pattern": NAME,
    "expected": "only letters from a to z, digits, dots, - and _, a letter or a digit first",
}
_LANGUAGE = {"pattern": LANGUAGE, "expected": "a code such as sw, swh or zh-Hant"}


def optional(default: Any, text: str, **rules: Any) -> Any:
    """Declare a field with default, help and rules for its value (`choices`, `low`, `high`)."""
    return field(default=default, metadata={"help": text, **rules})


def needed(text: str, **rules: Any) -> Any:
    """Declare a field without a default."""
    return field(metadata={"help": text, **rules})


def _later(default: Any, text: str, **rules: Any) -> Any:
    """Declare a field that older recipes do not have; see `as_json`."""
    return optional(default, text, later=True, **rules)


def _hidden() -> Any:
    """Declare a field that a recipe cannot set by its name: the other aligned files."""
    return optional((), "", later=True, hidden=True)


def _prompt(later: bool = True) -> Any:
    text = "template of the question, with the row's fields in braces: {text}, {translation.sw}, "
    text += "{answers.0}; {field?} may be empty; default: the row's question or prompt"
    return optional("", text, later=later)


def _system() -> Any:
    return _later("", "template of the system message; default: the row's system, if it has one")


def _text() -> Any:
    return _later("", "template of a bare text, in place of a question and an answer")


def _messages() -> Any:
    return _later("", "the field with a conversation, in braces: {conversation}")


def _choices(later: bool) -> Any:
    text = "the possible answers: labels for all rows, or a template for each choice "
    text += '(["{A}", "{B}"]), or one field that is a list ("{options}")'
    return optional((), text, later=later, one=True)


def _answers(later: bool) -> Any:
    return optional(
        "auto",
        "how an answer names its choice: by its text, its letter, its place counted from 0 or "
        "from 1, or the name that the row gives to it; auto: as all rows show",
        choices=("auto", "text", "letter", "index0", "index1", "name"),
        later=later,
    )


def _labels() -> Any:
    text = 'words for values of the answer: { 0 = "bad", 1 = "good" }, or a list of words from 0'
    return _later((), text, table="labels")


def _where() -> Any:
    return _later((), 'only rows with these values: { lang = "swh" }', table="where")


def _encoding() -> Any:
    text = 'encoding of a text file, such as "cp1252"; default: UTF-8, or UTF-16 if its bytes '
    return _later("", text + "show it")


def _header() -> Any:
    text = (
        "whether the first row of a table names its columns (without names they are 1, 2, 3 ...),"
    )
    text += " or the number of the line that names them, if titles stand above it"
    return _later("auto", text, choices=("auto", "yes", "no"), low=1)


def _quotes() -> Any:
    text = 'quotation marks in a table are around fields (backslash: \\" is one inside), or belong '
    text += "to the text"
    return _later("auto", text, choices=("auto", "fields", "backslash", "text"))


def _bad_rows() -> Any:
    text = "rows that cannot be read stop the run (refuse), or are left out and counted (skip)"
    return _later("refuse", text, choices=("refuse", "skip"))


def _like() -> Any:
    text = "name of the dataset or target whose prompt, answer, system, text, messages, choices, "
    text += "answers and labels are also those of this one"
    return _later("", text)


@dataclass(frozen=True)
class Dataset:
    """`[[datasets]]`: one candidate training set."""

    name: str = needed("short name, unique in the recipe", **_NAME)
    path: Path = needed(
        "file of rows: JSONL, JSON, CSV, TSV, text, Excel, OpenDocument, Parquet, Arrow, PO, TMX "
        "or XLIFF, also packed; or a list of text files whose lines belong together; not needed "
        "with an adapter",
        exists=True,
        aligned="path_aligned",
    )
    licence: str = optional(
        "",
        "licence of the data, carried into the report and the model card; `license` is the same",
        also="license",
    )
    source: str = optional("", "origin of the data")
    notes: str = optional("", "anything a reader should know")
    languages: tuple[str, ...] = optional(
        (), 'codes of the rows\' languages, such as ["sw", "en"]', **_LANGUAGE
    )
    prompt: str = _prompt()
    completion: str = _later(
        "", "template of the right answer, which is trained on; `answer` is the same", also="answer"
    )
    system: str = _system()
    text: str = _text()
    messages: str = _messages()
    choices: tuple[str, ...] = _choices(later=True)
    answers: str = _answers(later=True)
    labels: tuple[tuple[str, str], ...] = _labels()
    where: tuple[tuple[str, tuple[str, ...]], ...] = _where()
    like: str = _like()
    encoding: str = _encoding()
    header: str | int = _header()
    quotes: str = _quotes()
    bad_rows: str = _bad_rows()
    adapter: Path | None = _later(
        None,
        "PEFT folder of a LoRA for this base, trained elsewhere, which is the dataset's expert",
        exists=True,
    )
    control: bool = _later(
        False, "its answers are wrong on purpose: it is scored, and no baseline trains on it"
    )
    path_aligned: tuple[Path, ...] = _hidden()

    @property
    def has_rows(self) -> bool:
        """Return whether it has rows: without, `path` is the adapter's folder (`load_recipe`)."""
        return self.path != self.adapter

    @property
    def files(self) -> tuple[Path, ...]:
        """Return its file, or its aligned files."""
        return (self.path, *self.path_aligned)


@dataclass(frozen=True)
class Target:
    """`[[targets]]`: the task that the model shall do well."""

    name: str = needed("short name, unique in the recipe", **_NAME)
    dev: Path = needed(
        "examples that the search may see: rows, or a task file (YAML) of lm-evaluation-harness",
        exists=True,
        aligned="dev_aligned",
    )
    test: Path | None = optional(
        None, "examples kept for the confirmation", exists=True, aligned="test_aligned"
    )
    metric: str = optional(
        "auto", "the score that is compared; auto follows the kind of the target", choices=METRICS
    )
    weight: float = optional(1.0, "weight in the mean over several targets", low=0.0)
    prompt: str = _prompt(later=False)
    answer: str = optional(
        "",
        "template of the right answer; default: the row's answer; `completion` is the same",
        also="completion",
    )
    choices: tuple[str, ...] = _choices(later=False)
    answers: str = _answers(later=False)
    template: str = optional(
        "auto",
        "how a row is asked: in the chat template, as prompt, newline, answer (plain), or with "
        "nothing between (raw); auto follows [base], and is raw for a task file",
        choices=STYLES,
    )
    instruction: str = optional("", "said before anything else")
    shots: int = optional(0, "solved examples before the question", low=0)
    shots_from: Path | None = optional(
        None, "rows that they are drawn from; none: the dev set", exists=True
    )
    shots_seed: int = optional(0, "seed of that draw", low=0)
    answer_prefix: str = optional(
        "", "words before every answer; they are given with the question and not scored"
    )
    answer_suffix: str = optional(
        "", "words after every solved example's answer; not scored; a written answer ends there"
    )
    stop: tuple[str, ...] = optional((), "texts that end a written answer")
    max_tokens: str | int = optional(
        "auto",
        "tokens at which a written answer is cut; auto: half as many again as the longest right "
        "answer has, and 16",
        choices=("auto",),
        low=1,
    )
    window: int = optional(
        0,
        "score a text in windows of this many tokens, as llama-perplexity does; 0: row by row",
        low=0,
    )
    system: str = _system()
    text: str = _text()
    messages: str = _messages()
    labels: tuple[tuple[str, str], ...] = _labels()
    where: tuple[tuple[str, tuple[str, ...]], ...] = _where()
    test_where: tuple[tuple[str, tuple[str, ...]], ...] = _later(
        (), "the same for `test`, in place of `where`, if one file has both parts", table="where"
    )
    like: str = _like()
    encoding: str = _encoding()
    header: str | int = _header()
    quotes: str = _quotes()
    bad_rows: str = _bad_rows()
    data_root: Path | None = _later(
        None,
        "folder in which the data of a task file is looked for, before --data-root",
        exists=True,
    )
    dev_aligned: tuple[Path, ...] = _hidden()
    test_aligned: tuple[Path, ...] = _hidden()

    def files(self, part: str) -> tuple[Path, ...]:
        """Return the file of "dev" or "test", or its aligned files; () if there is none."""
        first = self.test if part == "test" else self.dev
        more = self.test_aligned if part == "test" else self.dev_aligned
        return (first, *more) if first else ()
