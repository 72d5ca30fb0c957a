"""The model card: README.md next to an exported model, as the Hugging Face hub reads it.

Front matter: base_model, datasets, language, license (huggingface_hub, `ModelCardData`). Texts
from the recipe can come from strangers, so they are quoted as YAML and escaped as Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from m2m.escaping import markdown_text as _text
from m2m.escaping import quoted
from m2m.export.licences import hub_licence, remarks
from m2m.formats.atomic import write_text

Measured = Mapping[str, Mapping[str, float]]  # metric -> {"value", "stderr"}

_METRICS = 3
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")


@dataclass(frozen=True)
class CardDataset:
    """A dataset of the mixture, as the recipe describes it."""

    name: str
    share: float
    licence: str = ""
    source: str = ""
    notes: str = ""
    languages: tuple[str, ...] = ()


@dataclass(frozen=True)
class CardScore:
    """A model's scores; `compared` says how the exported model did against it on test."""

    model: str
    dev: Measured
    test: Measured
    compared: str = ""


@dataclass(frozen=True)
class Card:
    """The content of a model card.

    Attributes:
        base: the base model's identifier on the hub, or its name in m2m.
        metric: the recipe's metric, which is shown first.
        made: sentences about how the model was made.
        files: (name, description) of the files next to the card.
        cautions: the warnings of the run.
        serving: how other programs ask the model differently than in training, and the remedy.
        verdict: the sentences of the run's answer; the first one is shown first.
        warning: why this model should not have been made.
        chosen: how the model was chosen, and how far to trust its test score.
    """

    name: str
    base: str
    base_licence: str
    datasets: Sequence[CardDataset]
    target: str
    metric: str
    scores: Sequence[CardScore]
    made: Sequence[str]
    files: Sequence[tuple[str, str]]
    cautions: Sequence[str] = ()
    serving: Sequence[str] = ()
    verdict: Sequence[str] = ()
    warning: str = ""
    chosen: str = ""

    @property
    def remarks(self) -> list[str]:
        """The demands and limits of the licences of base and data, one sentence each."""
        base = (f"base model {self.base}", self.base_licence)
        return remarks([base, *((each.name, each.licence) for each in self.datasets)])

    @property
    def languages(self) -> list[str]:
        """The languages of the data, each once."""
        return list(dict.fromkeys(code for each in self.datasets for code in each.languages))

    @property
    def licence(self) -> str:
        """The hub's name of the model's licence; "other" if people have to read the parts."""
        return hub_licence(self.base_licence, [each.licence for each in self.datasets])


def write_card(card: Card, folder: Path) -> Path:
    """Write `README.md` into `folder`; returns its path."""
    path = folder / "README.md"
    write_text(path, card_text(card))
    return path


def card_text(card: Card) -> str:
    """Return the text of the card: front matter and Markdown."""
    parts = [
        f"---\n{_front_matter(card)}---",
        f"# {_text(card.name)}",
        f"**{_text(card.warning)}**" if card.warning else "",
        "\n\n".join(map(_text, card.verdict[:1])),
        _bullets(card.verdict[1:]),
        _opening(card),
        _section("Before you pass it on", _bullets(card.remarks, "Nothing beyond attribution.")),
        _section("What it was fine-tuned on", _datasets(card)),
        _section("How good it is", _scores(card)),
        _section("How it was made", _bullets(card.made)),
        _section("Files", _files(card)),
        _section("How to ask it", _bullets(card.serving)),
        _section("Limits", _bullets(_limits(card))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(card: Card) -> str:
    """Return the YAML 1.2 of the card; every string is quoted as in JSON, which YAML includes."""
    fields: dict[str, str | list[str]] = {
        "base_model": card.base,
        "base_model_relation": "finetune",
        "datasets": [each.name for each in card.datasets],
        "language": card.languages,
        "license": card.licence,
        "license_name": "see-model-card" if card.licence == "other" else "",
        "pipeline_tag": "text-generation",
        "tags": ["gguf", "lora", "merge-to-mix", "m2m"],
    }
    return "".join(f"{key}: {quoted(value)}\n" for key, value in fields.items() if value)


def _opening(card: Card) -> str:
    named = " + ".join(_code(each.name) for each in card.datasets)
    languages = _text(", ".join(card.languages))
    spoken = f" Languages of the data: {languages}." if languages else ""
    return (
        f"{_code(card.base)} fine-tuned with LoRA on {named}, the mixture that m2m chose for the "
        f"target {_code(card.target)}.{spoken}"
    )


def _datasets(card: Card) -> str:
    rows = [
        (
            _code(each.name),
            f"{100 * each.share:.0f} %",
            ", ".join(each.languages) or "not given",
            each.licence or "not given",
            each.source or "not given",
            each.notes,
        )
        for each in card.datasets
    ]
    named = [(row[0], *map(_text, row[1:])) for row in rows]
    return _table(("dataset", "share", "languages", "licence", "source", "notes"), named)


def _scores(card: Card) -> str:
    present = [m for score in card.scores for m in (*score.dev, *score.test)]
    metrics = sorted(dict.fromkeys(present), key=lambda m: m != card.metric)[:_METRICS]
    columns = [(part, metric) for metric in metrics for part in ("dev", "test")]
    heads = ("model", *(f"{part} {_text(metric)}" for part, metric in columns))
    rows = [
        (
            _text(score.model),
            *(_score(getattr(score, part).get(metric)) for part, metric in columns),
        )
        for score in card.scores
    ]
    compared = _bullets([score.compared for score in card.scores if score.compared])
    said = f"Value ± standard error over the questions. {_text(card.chosen)}".strip()
    return "\n\n".join(part for part in (_table(heads, rows), said, compared) if part)


def _score(found: Mapping[str, float | None] | None) -> str:
    if not found:
        return "-"
    error = found.get("stderr")
    known = error is not None and error == error
    return f"{found['value']:z.3f} ± {error:z.3f}" if known else f"{found['value']:z.3f}"


def _limits(card: Card) -> list[str]:
    return [
        f"It was measured on {card.target} and nothing else: other tasks, and what the base model "
        "could do before, may have become worse.",
        "A small model makes things up; let somebody who knows the language and the subject check "
        "what it says before others rely on it.",
        *card.cautions,
    ]


def _section(title: str, content: str) -> str:
    return f"## {title}\n\n{content}" if content else ""


def _bullets(items: Sequence[str], none: str = "") -> str:
    return "\n".join(f"- {_text(item)}" for item in items) or none


def _files(card: Card) -> str:
    return "\n".join(f"- {_code(name)}: {_text(what)}" for name, what in card.files)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(name: str) -> str:
    """Return a name as Markdown code if it has only plain characters; else escape it."""
    return f"`{name}`" if _PLAIN.fullmatch(name) else _text(name)
