"""Filters of written answers in task files of lm-evaluation-harness (lm_eval/filters).

A pattern comes from a stranger's file and can take for ever on a text, so the child process for
templates computes the filters, with its limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from m2m.errors import InputError
from m2m.templates.functions import Function, cells
from m2m.templates.parent import Refused

# Of one answer to each question these two change nothing.
_IDENTITY = ("take_first", "majority_vote")
KNOWN = (*_IDENTITY, "regex", "remove_whitespace", "lowercase", "uppercase", "map")
_PATTERN = r"#### (\-?[0-9\.\,]+)"
# RegexFilter, WhitespaceFilter, LowercaseFilter, UppercaseFilter and MapFilter.
_SOURCE = """
import re

def filtered(doc):
    text = doc["text"]
    for step in doc["steps"]:
        kind = step["function"]
        if kind == "regex":
            text = matched(text if isinstance(text, str) else "", step)
        elif kind == "remove_whitespace":
            text = text.strip()
        elif kind == "lowercase":
            text = text.lower()
        elif kind == "uppercase":
            text = text.upper()
        elif kind == "map":
            text = step.get("mapping_dict", {}).get(text, step.get("default_value"))
    return text

def matched(text, step):
    fallback = step.get("fallback", "[invalid]")
    found = re.findall(step["regex_pattern"], text)
    if not found:
        return fallback
    match = found[step.get("group_select", 0)]
    if isinstance(match, tuple):
        parts = [part for part in match if part]
        match = parts[0] if parts else fallback
    return match.strip()
"""


def steps_of(keys: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """Return the filters of the first list in `filter_list`, and a note about what is left out."""
    lists = keys.get("filter_list") or []
    if not lists:
        return [], ""
    first = lists[0] if isinstance(lists[0], dict) else {"filter": lists[0]}
    name, steps = str(first.get("name")), first.get("filter") or []
    steps = steps if isinstance(steps, list) else [steps]
    kinds = [step.get("function") if isinstance(step, dict) else step for step in steps]
    unknown = [str(kind) for kind in kinds if not (isinstance(kind, str) and kind in KNOWN)]
    unknown += [str(step) for step in steps if not isinstance(step, dict)]
    if unknown:
        return [], (
            f"the filter {unknown[0]} is not supported: metrics of written answers are those of "
            "the whole answers"
        )
    note = ""
    if len(lists) > 1:
        note = f"of {len(lists)} lists of filters the first one counts: {name}"
    used = [dict(step) for step in steps if step["function"] not in _IDENTITY]
    for step in used:
        if step["function"] == "regex":
            step.setdefault("regex_pattern", _PATTERN)
    return used, note


def filtered(texts: Sequence[str], steps: Sequence[dict[str, Any]], name: str) -> list[str]:
    """Return written answers after the filters; an answer that `map` does not know becomes "".

    Args:
        texts: as the model wrote them.
        steps: see `steps_of`.
        name: the task file, for errors.

    Raises:
        InputError: a filter does not fit its text, or its pattern is malformed.
        LimitError: a pattern takes too long.
    """
    if not steps or not texts:
        return list(texts)
    try:
        function = Function({"filters": _SOURCE}, {}, "filters", "filtered", f"a filter of {name}")
        rows = [{"text": text, "steps": steps} for text in texts]
        made = [row[0] for row in cells([(function, "text")], rows, f"a filter of {name}")]
    except Refused as error:
        raise InputError(f"{name}: filter_list: {error}", "correct the filters") from None
    if wrong := next((why for done, why in made if not done), None):
        raise InputError(f"{name}: filter_list: {wrong}", "correct the filters")
    return ["" if value is None else str(value) for _, value in made]
