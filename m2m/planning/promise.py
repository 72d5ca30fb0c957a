"""Which datasets to try if there is no time for all: by data check and likeness to the target.

Nothing is trained for it. Datasets whose rows contradict the rows of others come last, and of the
rest those whose tokens are least like the tokens of the dev questions with their answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from m2m.dataset.duplicates import contradicted
from m2m.dataset.grams import comparable
from m2m.dataset.translations import differ_alike, disputed
from m2m.mix.mixture import Mixture
from m2m.mix.similarity import likeness
from m2m.pipeline.corpus import Corpus
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.likeness import token_features

# A file whose rows mostly contradict others is wrong, or answers another task.
_WRONG = 0.5

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Promising:
    """A dataset, and the reason to leave it out before those that come earlier in the order."""

    name: str
    reason: str
    wrong: bool = False


def promising(inputs: Inputs) -> list[Promising]:
    """Return the usable datasets with rows, the most promising first after those required."""
    names = [name for name in inputs.usable_names if inputs.corpora[name].samples]
    wrong = _contradicting({name: inputs.corpora[name] for name in names}, inputs)
    features = token_features(inputs)
    alike = likeness([Mixture.uniform([name]) for name in names], features.datasets,
                     features.target)  # fmt: skip
    order = sorted(range(len(names)), key=lambda i: (names[i] in wrong, -alike[i], i))
    best = max(alike)
    required = inputs.recipe.search.required
    found = [
        Promising(
            names[i],
            wrong.get(names[i])
            or f"its tokens are {-alike[i]:.2f} away from the dev questions, the nearest file's "
            f"{-best:.2f}",
            names[i] in wrong and names[i] not in required,
        )
        for i in order
    ]
    return sorted(found, key=lambda dataset: dataset.name not in required)


def _contradicting(corpora: Mapping[str, Corpus], inputs: Inputs) -> dict[str, str]:
    """Return the datasets of which most rows contradict the others', with the reason.

    The worst is taken out first, because its opposites would be counted as wrong too.
    """
    rows = {name: [*_pairs(corpus, inputs)] for name, corpus in corpora.items()}
    wrong: dict[str, str] = {}
    while counts := {name: _against(name, rows) for name in rows if rows[name]}:
        worst = max(counts, key=lambda name: counts[name] / len(rows[name]))
        if len(counts) < 2 or counts[worst] <= _WRONG * len(rows[worst]):
            return wrong
        wrong[worst] = f"{counts[worst]:,} of its {len(rows[worst]):,} rows contradict other files"
        del rows[worst]
    return wrong


def _against(name: str, rows: Mapping[str, Pairs]) -> int:
    """Return the number of rows whose question other files answer, and only differently."""
    others = [pair for other, pairs in rows.items() if other != name for pair in pairs]
    questions, answers = [q for q, _ in rows[name]], [a for _, a in rows[name]]
    right = {*others}
    against = [
        i
        for i in contradicted(questions, answers, others)
        if (questions[i], answers[i]) not in right
    ]
    asked, said = [questions[i] for i in against], [answers[i] for i in against]
    return 0 if differ_alike(disputed(asked, said, others)) else len(against)


def _pairs(corpus: Corpus, inputs: Inputs) -> Iterator[tuple[str, str]]:
    """Yield question and answer of each row that has both."""
    decode = inputs.formatter.tokenizer.decode
    for sample in corpus.samples:
        question = comparable(decode(map(int, sample.ids[~sample.loss_mask])))
        answer = comparable(decode(map(int, sample.ids[sample.loss_mask])))
        if question and answer:
            yield question, answer
