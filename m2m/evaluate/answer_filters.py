"""Filters of written answers in task files of lm-evaluation-harness (lm_eval/filters).

A task may have several lists of filters, each with a name: the harness judges the answers after
each list. A pattern comes from a stranger's file and can take for ever on a text, so the child
process for templates computes the filters, with its limits.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m2m.errors import InputError
from m2m.formats.yaml import Tagged
from m2m.templates.functions import Function, cells
from m2m.templates.parent import Refused

# Of one answer to each question, or of equal ones, these change nothing.
_IDENTITY = ("take_first", "take_first_k", "majority_vote")
_KNOWN = {
    *(*_IDENTITY, "regex", "multi_choice_regex", "remove_whitespace"),
    *("lowercase", "uppercase", "map", "format_span"),
}
_PATTERN = r"#### (\-?[0-9\.\,]+)"
# RegexFilter, MultiChoiceRegexFilter, WhitespaceFilter, LowercaseFilter, UppercaseFilter, MapFilter
# and SPANFilter.
_SOURCE = r"""
import re
import unicodedata

def filtered(doc):
    text = doc["text"]
    for step in doc["steps"]:
        kind = step["function"]
        if kind == "regex":
            match = matched(step["regex_pattern"], text, step)
            text = match if match is not None else step.get("fallback", "[invalid]")
        elif kind == "multi_choice_regex":
            text = lettered(text, step, doc["choices"])
        elif kind == "remove_whitespace":
            text = text.strip()
        elif kind == "lowercase":
            text = text.lower()
        elif kind == "uppercase":
            text = text.upper()
        elif kind == "map":
            text = (step.get("mapping_dict") or {}).get(text, step.get("default_value"))
        elif kind == "format_span":
            text = entities(text)
    return text

LABELS = {
    "person": "PER", "location": "LOC", "organization": "ORG", "counties": "LOC", "places": "LOC",
    "people": "PER", "persons": "PER", "company": "ORG", "country": "LOC", "continent": "LOC",
    "time": "DATE", "date": "DATE", "per": "PER", "loc": "LOC", "org": "ORG",
}

def entities(text):
    text = text.lower()
    for name, label in LABELS.items():
        text = re.sub("\\b" + name + "\\s*:", label + ":", text)
    text = "$".join(text.split("$$")).rstrip("$").replace("\n", "$").strip()
    made = []
    for label, values in re.findall("\\b(PER|LOC|ORG|DATE):\\s*([^$]+)", text):
        for value in values.split(","):
            if value.strip().lower() != "none":
                made.append(label.lower() + ": " + value.strip())
    return " $ ".join(made)

def matched(pattern, text, step):
    found = re.findall(pattern, text if isinstance(text, str) else "")
    if not found:
        return None
    match = found[step.get("group_select", 0)]
    if isinstance(match, tuple):
        parts = [part for part in match if part]
        if not parts:
            return None
        match = parts[0]
    return match.strip()

def cleaned(text, step):
    for pattern in step.get("regexes_to_ignore") or []:
        text = re.sub(pattern, "", text)
    if step.get("ignore_case"):
        text = text.lower()
    if step.get("ignore_punctuation"):
        text = "".join([c for c in text if not unicodedata.category(c).startswith("P")])
    return text

def lettered(text, step, choices):
    match = matched(step["regex_pattern"], text, step)
    if match:
        return match
    letters = [chr(ord("A") + place) for place in range(len(choices))]
    texts = [cleaned(choice.strip(), step) for choice in choices]
    names = {text: "(" + letter + ")" for text, letter in zip(texts, letters)}
    ways = sorted([re.escape(text) for text in texts], key=len, reverse=True)
    match = matched("|".join(ways), cleaned(text, step), step)
    if match:
        return names.get(match, match)
    match = matched(":[\\s]*(" + "|".join(letters) + ")", text, step)
    return "(" + match + ")" if match else step.get("fallback", "[invalid]")

def ignored(doc):
    text = doc["text"]
    for pattern in doc["patterns"]:
        text = re.sub(pattern, "", text)
    return text
"""


@dataclass(frozen=True)
class Pipeline:
    """A list of filters with its name in results."""

    name: str
    steps: tuple[Mapping[str, Any], ...] = ()


WHOLE = Pipeline("none")  # the harness's name for answers without filters


def pipelines_of(keys: Mapping[str, Any]) -> tuple[list[Pipeline], tuple[str, ...]]:
    """Return the lists of filters that m2m has, one or more, and notes about the others."""
    made, notes = [], []
    for given in keys.get("filter_list") or []:
        listed = given if isinstance(given, dict) else {"filter": given}
        name, steps = str(listed.get("name")), listed.get("filter") or []
        steps = steps if isinstance(steps, list) else [steps]
        if unknown := next((step for step in steps if not _is_known(step)), None):
            kind = unknown.get("function") if isinstance(unknown, dict) else unknown
            notes.append(
                f"filter_list: {name}: the filter {kind!s:.60} is not supported; a child file can "
                f"have another `filter_list`, of {', '.join(sorted(_KNOWN))}"
            )
            continue
        used = [dict(step) for step in steps if step["function"] not in _IDENTITY]
        for step in used:
            if step["function"].endswith("regex"):
                step.setdefault("regex_pattern", _PATTERN)
        made.append(Pipeline(name, tuple(used)))
    if notes and not made:
        notes[-1] += "; metrics of written answers use the whole answer, without filters"
    return made or [WHOLE], tuple(notes)


def _is_known(step: Any) -> bool:
    if not isinstance(step, dict) or not isinstance(step.get("function"), str):
        return False
    return step["function"] in _KNOWN and not holds_tag(step)


def holds_tag(value: Any) -> bool:
    """Return whether a value, or a value in it, has a tag such as `!function`."""
    if isinstance(value, Tagged):
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(holds_tag, inner))


def filtered(
    texts: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    steps: Sequence[Mapping[str, Any]],
    name: str,
) -> list[str]:
    """Return written answers after the filters; an answer that `map` does not know becomes "".

    Args:
        texts: as the model wrote them.
        rows: the fields of each question.
        steps: of a `Pipeline`.
        name: the task file, for errors.

    Raises:
        InputError: a filter does not fit its text, or its pattern is malformed.
        LimitError: a pattern takes too long.
    """
    if not steps:
        return list(texts)
    chosen = any(step["function"] == "multi_choice_regex" for step in steps)
    asked = [
        {"text": text, "steps": steps} | ({"choices": row.get("choices")} if chosen else {})
        for text, row in zip(texts, rows, strict=True)
    ]
    return _computed("filtered", asked, name, "filter_list", "correct the filters")


def exact_matches(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    options: Mapping[str, Any],
    name: str,
) -> tuple[bool, ...]:
    """Return which answers equal a right one (`exact_match_hf_evaluate` in lm_eval/api/metrics.py).

    Args:
        predictions: after the filters.
        references: the right answers to each question.
        options: of `exact_match` in the task file's `metric_list`.
        name: the task file, for errors.

    Raises:
        InputError: a pattern is malformed.
        LimitError: a pattern takes too long.
    """
    right = [text for texts in references for text in texts]
    texts = [*predictions, *right]
    if patterns := options.get("regexes_to_ignore"):
        asked = [{"text": text, "patterns": patterns} for text in texts]
        remedy = "correct regexes_to_ignore"
        texts = _computed("ignored", asked, name, "metric_list: exact_match", remedy)
    if options.get("ignore_case"):
        texts = [text.lower() for text in texts]
    dropped = string.punctuation if options.get("ignore_punctuation") else ""
    dropped += string.digits if options.get("ignore_numbers") else ""
    texts = [text.translate(str.maketrans("", "", dropped)) for text in texts]
    rest = iter(texts[len(predictions) :])
    return tuple(
        text in [next(rest) for _ in known] for text, known in zip(texts, references, strict=False)
    )


def _computed(
    function: str, rows: Sequence[Mapping[str, Any]], name: str, key: str, remedy: str
) -> list[str]:
    if not rows:
        return []
    subject = f"a filter of {name}"
    try:
        program = Function({"filters": _SOURCE}, {}, "filters", function, subject)
        made = [row[0] for row in cells([(program, "text")], rows, subject)]
    except Refused as error:
        raise InputError(f"{name}: {key}: {error}", remedy) from None
    if wrong := next((why for done, why in made if not done), None):
        raise InputError(f"{name}: {key}: {wrong}", remedy)
    return ["" if value is None else str(value) for _, value in made]
