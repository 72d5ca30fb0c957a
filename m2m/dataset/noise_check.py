"""Report noise in one dataset, and the balance of its labels, for `m2m data check`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from m2m.counted import counted
from m2m.dataset.label_forms import alike_labels, alike_words
from m2m.dataset.noise import NOISE, closed_set, cut_texts, find_noise, lopsided, refusals

if TYPE_CHECKING:
    from m2m.dataset.checked import DatasetFile

_LEAST = 3  # rows; fewer of the noise that is usual in some texts are not reported
_ONE_LABEL = 0.8  # of the rows: a model that always gives this label looks good
_CLEAN = "`m2m data clean RECIPE --out DIR {} {}` takes them out"
_RARE = 5  # rows of a label from which nothing is learned


def check_noise(file: DatasetFile) -> None:
    """Add to a file's result its kinds of noise, and the answers that look wrong."""
    texts = file.plain
    for kind, places in find_noise(texts).items():
        file.result.noise[kind] = len(places)
        noise = NOISE[kind]
        if noise.least and len(places) < max(_LEAST, noise.least * len(texts)):
            continue
        mark = "" if noise.reason.endswith("?") else ";"
        hint = f"{noise.reason}{mark} {_CLEAN.format('--remove', kind)}"
        file.say(kind, f"{counted(len(places), 'row')} with {noise.fault}", hint, places)
    _check_answers(file, file.said)
    if file.result.labels:
        message, hint = unbalanced(file.result.labels, "row")
        if message:
            file.say("labels", message, hint)


def _check_answers(file: DatasetFile, answers: Sequence[str]) -> None:
    """Add refusals, cut answers, lopsided pairs, and the counts of labels."""
    asked = [row.text is None for row in file.rows]
    kinds = {
        "refusal": (
            [i for i in refusals(answers) if asked[i]],
            "whose answer is an assistant's refusal, or speaks of being an AI",
            "write the answers, or the model learns to refuse;",
        ),
        "cut": (
            cut_texts(answers),
            "whose answer seems to be cut off",
            "get the whole texts from the source;",
        ),
        "lopsided": (
            lopsided(*file.sides.values()),
            "with one side far too long or too short for the other",
            "are they translations of each other?",
        ),
    }
    for kind, (places, fault, hint) in kinds.items():
        if places:
            file.result.noise[kind] = len(places)
            hint = f"{hint} {_CLEAN.format('--drop', kind)}"
            file.say(kind, f"{counted(len(places), 'row')} {fault}", hint, places)
    if all(asked):
        file.result.labels = dict(closed_set(answers).most_common())


def unbalanced(labels: dict[str, int], noun: str) -> tuple[str, str]:
    """Return the fault in the counts of labels, and the next step; "" if there is none."""
    total, (most, count) = sum(labels.values()), next(iter(labels.items()))
    if alike := alike_labels(labels):
        listed = alike_words(labels, alike)
        return f"labels that differ only in case or spaces: {listed}", "write each label one way"
    if count > _ONE_LABEL * total:
        message = f"{count:,} of {counted(total, noun)} have the label {most!r:.40}"
        if noun == "question":
            return message, 'set metric = "macro_f1", which counts each label alike'
        return message, "always giving this label looks good; add rows of the other labels"
    rare = [label for label, times in labels.items() if times < _RARE]
    if rare:
        listed = ", ".join(f"{label!r:.40} ({labels[label]})" for label in rare[:4])
        return f"labels with fewer than {_RARE} {noun}s: {listed}", "add some, or leave it out"
    return "", ""
