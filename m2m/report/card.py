"""The model card: README.md next to an exported model, as the Hugging Face hub reads it.

Front matter: base_model, datasets, language, license (huggingface_hub, `ModelCardData`). Texts
from the recipe can come from strangers, so they are quoted as YAML and escaped as Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from m2m.escaping import markdown_text as _text
from m2m.escaping import quoted
from m2m.export.licences import hub_licence, remarks
from m2m.formats.atomic import write_text
from m2m.results.confirmation import Confirmation, confirmed_table
from m2m.results.facts import DatasetFacts, source_table
from m2m.results.table import as_markdown

_JUDGED, _MADE = "What people prefer", "How it was made"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")


@dataclass(frozen=True)
class Card:
    """The content of a model card.

    Attributes:
        base: the base model's identifier on the hub, or its name here.
        sources: the datasets of the mixture, with their weights.
        confirmation: the models that were compared, and the verdict.
        made: sentences on how it was made.
        files: (name, purpose) of the files in the card's folder.
        compared: sentences on how this model does against the others.
        warnings: warnings of the run.
        serving: if programs ask the model in another way than it was trained, how, and the remedy.
        judged: sentences on whose answers people preferred.
    """

    name: str
    base: str
    base_licence: str
    sources: Sequence[DatasetFacts]
    confirmation: Confirmation
    made: Sequence[str]
    files: Sequence[tuple[str, str]]
    compared: Sequence[str] = ()
    warnings: Sequence[str] = ()
    serving: Sequence[str] = ()
    judged: Sequence[str] = ()

    @property
    def remarks(self) -> list[str]:
        """The demands and limits of the licences of base and data, one sentence each."""
        base = (f"base model {self.base}", self.base_licence)
        return remarks([base, *((source.name, source.licence) for source in self.sources)])

    @property
    def languages(self) -> list[str]:
        """The languages of the data, each once."""
        return list(dict.fromkeys(code for source in self.sources for code in source.languages))

    @property
    def licence(self) -> str:
        """The hub's name of the model's licence; "other" if people have to read the parts."""
        return hub_licence(self.base_licence, [source.licence for source in self.sources])


def write_card(card: Card, folder: Path) -> Path:
    """Write `README.md` into `folder`; returns its path."""
    path = folder / "README.md"
    write_text(path, card_text(card))
    return path


def with_judged(card: str, sentences: Sequence[str]) -> str:
    """Return a card's text with these sentences on whose answers people preferred."""
    without = re.sub(rf"## {_JUDGED}\n\n(?:- .*\n)+\n", "", card)
    section = _section(_JUDGED, _bullets(sentences))
    return without.replace(f"## {_MADE}\n", f"{section}\n\n## {_MADE}\n", 1)


def card_text(card: Card) -> str:
    """Return the text of the card: front matter and Markdown."""
    verdict = card.confirmation.verdict
    parts = [
        f"---\n{_front_matter(card)}---",
        f"# {_text(card.name)}",
        "**Made with --anyway, against the verdict.**" if verdict.withheld else "",
        _text(f"Verdict: {verdict.kind}. {verdict.sentence}"),
        _bullets(verdict.reasons),
        _opening(card),
        _section("Before you pass it on", _bullets(card.remarks, "Nothing beyond attribution.")),
        _section("What it was fine-tuned on", as_markdown(source_table(card.sources), _text)),
        _section("How good it is", _scores(card)),
        _section(_JUDGED, _bullets(card.judged)),
        _section(_MADE, _bullets(card.made)),
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
        "datasets": [source.name for source in card.sources],
        "language": card.languages,
        "license": card.licence,
        "license_name": "see-model-card" if card.licence == "other" else "",
        "pipeline_tag": "text-generation",
        "tags": ["gguf", "lora", "merge-to-mix", "m2m"],
    }
    return "".join(f"{key}: {quoted(value)}\n" for key, value in fields.items() if value)


def _opening(card: Card) -> str:
    named = " + ".join(_code(source.name) for source in card.sources)
    languages = _text(", ".join(card.languages))
    spoken = f" Languages of the data: {languages}." if languages else ""
    return (
        f"{_code(card.base)} fine-tuned with LoRA on {named}, the mixture that m2m chose for the "
        f"target {_code(card.confirmation.target)}.{spoken}"
    )


def _scores(card: Card) -> str:
    confirmation = card.confirmation
    # Without words on who is better, no differences either.
    shown = confirmation if card.compared else replace(confirmation, ahead=None)
    table = confirmed_table(shown, 0)
    courses = confirmation.courses
    ended = courses.sentences[: 1 + len(courses.spoiled)] if courses else ()
    caption = _text(" ".join([f"{table.caption}.", confirmation.chosen_by, *ended]))
    parts = (as_markdown(table, _text), caption, _bullets(card.compared))
    return "\n\n".join(part for part in parts if part)


def _limits(card: Card) -> list[str]:
    return [
        f"It was measured on {card.confirmation.target} and on nothing else. On other tasks it may "
        "be worse than the base model.",
        "A small model makes things up; let somebody who knows the language and the subject check "
        "what it says before others rely on it.",
        *card.warnings,
    ]


def _section(title: str, content: str) -> str:
    return f"## {title}\n\n{content}" if content else ""


def _bullets(items: Sequence[str], none: str = "") -> str:
    return "\n".join(f"- {_text(item)}" for item in items) or none


def _files(card: Card) -> str:
    return "\n".join(f"- {_code(name)}: {_text(description)}" for name, description in card.files)


def _code(name: str) -> str:
    """Return a name as Markdown code if it has only plain characters; else escape it."""
    return f"`{name}`" if _PLAIN.fullmatch(name) else _text(name)
