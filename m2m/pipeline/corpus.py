"""One dataset as a run trains on it: its samples, or an adapter that was trained elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from m2m.adapter import check_adapter, load_adapter
from m2m.checkpoint import BaseModel
from m2m.dataset import RowLimit, Sample, dataset_fingerprint, encode
from m2m.dataset.characters import words_of_lost
from m2m.dataset.long_rows import NONE, LongRows, fitted
from m2m.dataset.mapping import RowMapping
from m2m.dataset.noise import closed_set
from m2m.dataset.normal_form import AS_IS, form_of, normalised_rows
from m2m.dataset.row_source import left_out, open_source, options_of
from m2m.dataset.rows import checked_rows, read_rows
from m2m.errors import InputError
from m2m.merge.belonging import adapter_doubts
from m2m.merge.peft_names import from_peft
from m2m.recipe import Dataset, Recipe, Train
from m2m.store import fingerprint
from m2m.tokenizer import Formatter
from m2m.tuner.row_mix import hold_out

Opened = tuple[BaseModel, Formatter]


@dataclass(frozen=True)
class Corpus:
    """One dataset as samples, with the fingerprint of the file and all settings that made them.

    `held_out` are not trained on: they choose the step whose adapter is kept. `sha256` is the hash
    of the file's bytes; "" for rows of several files. `long_rows` are those that were cut or
    skipped; `form` is the Unicode normal form of the texts (`m2m.dataset.normal_form.form_of`);
    `skipped` bad rows are left out; `reading` says which rows `where` picked and how their answers
    are read. `labels` are the answers, if they are a few that come again and again. `expert` is the
    folder of an adapter that was trained elsewhere, with its SHA-256 and the doubts about it; then
    there may be no samples.
    """

    name: str
    samples: Sequence[Sample]
    held_out: Sequence[Sample]
    fingerprint: str
    sha256: str = ""
    long_rows: LongRows = NONE
    form: str = ""
    skipped: int = 0
    reading: str = ""
    labels: tuple[str, ...] = ()
    expert: Path | None = None
    expert_sha256: str = ""
    doubts: tuple[str, ...] = ()


def row_limit(train: Train, base: BaseModel) -> RowLimit:
    """Return the limit for the rows that are trained on."""
    context = base.config.exact_length
    return RowLimit(train.max_length, train.batch_tokens, context, train.long_rows)


def read_corpus(dataset: Dataset, opened: Opened | None, recipe: Recipe) -> Corpus | None:
    """Return a dataset's samples and adapter; without a model, only check its rows."""
    if dataset.adapter is None:
        return _rows(dataset, opened, recipe)
    corpus = (
        _rows(dataset, opened, recipe) if dataset.has_rows else Corpus(dataset.name, [], [], "")
    )
    if opened is None or corpus is None:
        return None
    base = opened[0]
    adapter = from_peft(load_adapter(dataset.adapter), base.config)
    check_adapter(adapter, base.config, base.fingerprint)
    where = f"its expert is the adapter {dataset.adapter}, which was trained elsewhere"
    apart = f"{dataset.name} has no rows: it is merged and scored, but never fine-tuned for real"
    doubts = adapter_doubts(dataclasses.replace(adapter, name=dataset.name), base)
    return dataclasses.replace(
        corpus,
        fingerprint=corpus.fingerprint or fingerprint(adapter=adapter.sha256),
        reading="; ".join(filter(None, [corpus.reading, where])),
        expert=dataset.adapter,
        expert_sha256=adapter.sha256,
        doubts=(*doubts, *([] if dataset.has_rows else [apart])),
    )


def _rows(dataset: Dataset, opened: Opened | None, recipe: Recipe) -> Corpus | None:
    """Return a dataset's samples; without a model, only check its rows."""
    file, mapping = open_source(dataset.files, options=options_of(dataset)), RowMapping.of(dataset)
    read = checked_rows(file, read_rows(file, mapping), mapping)
    if opened is None:
        return None
    base, formatter = opened
    limit = row_limit(recipe.train, base)
    form = recipe.data.normalise
    rows = normalised_rows(read.rows, form)
    rows, long_rows = fitted(rows, formatter, limit)
    samples = encode(rows, formatter, limit, dataset.path)
    if not samples:
        raise InputError(
            f"{dataset.path}: every row is longer than {limit.tokens} tokens ({limit.name})",
            'raise the limit, or set long_rows = "truncate" in [train]',
        )
    mark = dataset_fingerprint(file, formatter, limit.tokens, mapping)
    if form != AS_IS or long_rows.any:  # other settings change no sample
        mark = fingerprint(rows=mark, normalise=form, long_rows=limit.long_rows)
    kept, held_out = hold_out(samples, recipe.train)
    own = form_of(row.plain_text for row in rows)
    notes = [note for note in read.notes if note != left_out(read.skipped)]
    lost = words_of_lost((row.plain_text for row in rows), "row")
    reading = "; ".join(filter(None, [*notes, lost]))
    labels = tuple(closed_set(row.sides[1] for row in rows if row.text is None))
    return Corpus(
        dataset.name, kept, held_out, mark, file.sha256, long_rows, own, read.skipped, reading,
        labels,
    )  # fmt: skip
