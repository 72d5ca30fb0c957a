"""One recipe on many machines: a share of its adapters or mixtures, made apart and joined later.

A share needs no word from the others. Adapters and mixtures are dealt out in turn, so `2/8` is the
same on every machine; what exists already is not made again. Shares write beside each other: each
has its own journal under `shares/`, and every adapter its own lock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from m2m.errors import InputError, Interrupted
from m2m.formats.journal import Journal
from m2m.mix.mixture import BASE, subsets
from m2m.mix.study import Study
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.results import Trained
from m2m.pipeline.scoring import open_scorer
from m2m.pipeline.tuning import Tuning, expert_corpus
from m2m.progress import Progress
from m2m.store import run_lock
from m2m.tuner.trainer import Origin, finished

SHARES, ADAPTERS, STUDY = "shares", "adapters", "study.jsonl"


@dataclass(frozen=True)
class Share:
    """The `number`th of `total` shares, counted from 1."""

    number: int
    total: int

    def folder(self, run: Path) -> Path:
        """Where a share keeps what is its own."""
        return run / SHARES / f"{self.number}-of-{self.total}"


def train_share(inputs: Inputs, share: Share, progress: Progress) -> list[Trained]:
    """Train every `total`th adapter of a recipe, from the `number`th on.

    Raises:
        BusyError: another process is training one of them.
        Interrupted: the user asked to stop; the state is saved.
    """
    tuning, run = Tuning(inputs, progress), inputs.recipe.folder
    trained = []
    for corpus in [*inputs.corpora.values()][share.number - 1 :: share.total]:
        with run_lock(run / SHARES / f"adapter-{corpus.name}"):
            trained.append(tuning.expert(corpus, run / ADAPTERS / corpus.name))
    return trained


def search_share(inputs: Inputs, share: Share, progress: Progress) -> int:
    """Score every `total`th mixture, from the `number`th on, and the base; return how many.

    Raises:
        InputError: an adapter is not trained yet, or each machine would choose its own type.
        Interrupted: the user asked to stop; what was scored is in the share's journal.
    """
    recipe = inputs.recipe
    if recipe.quantize.type == "auto":
        raise InputError(
            f"{recipe.path}: shares must be scored as one type, and [quantize] type is auto",
            'name the type, such as type = "q8_0"',
        )
    every = list(subsets([*inputs.corpora], recipe.search.max_datasets))
    mixtures = [BASE, *every[share.number - 1 :: share.total]]
    folder = share.folder(recipe.folder)
    with open_scorer(inputs, trained_experts(inputs), inputs.dev, folder) as scorer:
        study = Study(Journal(folder / STUDY), scorer, lambda trial: 0.0)
        progress.start("scoring", len(mixtures), "mixtures")
        for number, mixture in enumerate(mixtures):
            if progress.stop_requested():
                raise Interrupted(f"stopped after {number} scored mixtures of this share")
            study.trial(mixture)
            progress.advance(detail=mixture.label)
        progress.finish()
    return len(mixtures)


def trained_experts(inputs: Inputs) -> dict[str, Path]:
    """The folders of all adapters.

    Raises:
        InputError: some are not trained, or for other settings.
    """
    folders, missing = {}, []
    for name, own in inputs.corpora.items():
        corpus, base = expert_corpus(inputs, own), inputs.base
        origin = Origin(name, base.name, base.fingerprint, corpus.fingerprint)
        folders[name] = inputs.recipe.folder / ADAPTERS / name
        sizes = len(corpus.samples), len(corpus.held_out)
        if finished(folders[name], inputs.recipe.train, origin, *sizes) is None:
            missing.append(name)
    if missing:
        raise InputError(
            f"{inputs.recipe.path}: not trained yet: {', '.join(missing)}",
            "run `m2m train` first, or all shares of it",
        )
    return folders


def join_shares(run: Path) -> int:
    """Put what all shares scored into the run's journal; return how many lines were new."""
    return join_journals(run / STUDY, sorted((run / SHARES).glob(f"*-of-*/{STUDY}")))


def join_journals(into: Path, sources: Iterable[Path]) -> int:
    """Append the lines of other journals that this one has not; return how many.

    A line is known by its key, which covers everything that can change its scores, and by the
    examples that it scored.
    """
    journal = Journal(into)
    known = {_identity(line) for line in journal.replay()}
    added = 0
    for source in sources:
        for line in Journal(source).replay():
            if (mark := _identity(line)) not in known:
                known.add(mark)
                journal.append(line)
                added += 1
    return added


def _identity(line: dict[str, object]) -> str:
    return json.dumps([line.get("key"), line.get("places") or {}], sort_keys=True)
