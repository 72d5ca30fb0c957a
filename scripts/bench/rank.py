"""Which kinds of surrogate rank mixtures as the F16 merge does, and what each costs.

    python scripts/bench/rank.py RECIPE [--mixtures 32] [--examples 65] [--kinds f16 lora:q4_0 ...]

Needs the trained adapters of a run of RECIPE (`m2m train RECIPE`, or --adapters FOLDER). Scores a
seeded draw of the subsets of its datasets on a seeded draw of dev examples. "lora:TYPE" leaves the
base at TYPE as it is and puts the mixture on it as one concatenated runtime adapter. All kinds
score each mixture in turn, so that their times compare. What is scored is kept in --journal, and a
second call goes on from there. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from m2m.adapter import Adapter, load_adapter
from m2m.checkpoint import find_model
from m2m.evaluate.evaluator import Evaluator
from m2m.evaluate.metrics import METRICS
from m2m.evaluate.tasks import load_task
from m2m.export.lora_gguf import export_lora
from m2m.formats.journal import Journal
from m2m.llamacpp.applied_lora import AdaptedModel
from m2m.llamacpp.filetypes import file_type
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.scratch_model import Surrogate
from m2m.merge.merger import Merger
from m2m.mix.mixture import Mixture, subsets
from m2m.mix.surrogate import adapted_tensors
from m2m.nn.lora import LoraPair
from m2m.pipeline.inputs import make_formatter, model_folders
from m2m.recipe import load_recipe

KINDS = ["f16", "bf16", "q8_0", "q4_0", "lora:f16", "lora:q8_0", "lora:q4_0"]
Load = Callable[[Mixture], LlamaModel]


def merged(stack: ExitStack, merger: Merger, kind: str, folder: Path) -> Load:
    """Mixtures merged and quantised."""
    surrogate = stack.enter_context(Surrogate(merger.base.gguf, file_type(kind), folder))
    return lambda mixture: surrogate.load(adapted_tensors(merger, mixture))


def adapted(stack: ExitStack, merger: Merger, kind: str, folder: Path) -> Load:
    """The base at a type with a mixture as one adapter beside it."""
    surrogate = Surrogate(merger.base.gguf, file_type(kind), folder, patch=False)
    stack.enter_context(surrogate)
    lora = folder / "mixture.gguf"
    open_models: list[LlamaModel] = []

    def load(mixture: Mixture) -> LlamaModel:
        while open_models:
            open_models.pop().close()
        pairs = {}
        for name, change in merger.changes(mixture.datasets, mixture.weights):
            if not isinstance(change, LoraPair):
                raise TypeError("only sums can be left as factors")
            pairs[name.removesuffix(".weight")] = change
        rank = max(pair.rank for pair in pairs.values())
        base = merger.base
        export_lora(Adapter(rank, float(rank), pairs, base.name, base.fingerprint), base, lora)
        open_models.append(AdaptedModel(surrogate.path, lora))
        return open_models[0]

    def close() -> None:
        for model in open_models:
            model.close()

    stack.callback(close)
    return load


def score_all(options: argparse.Namespace, merger: Merger, evaluator: Evaluator) -> dict[str, Any]:
    """Score every drawn mixture with every kind; the journal's entries by kind."""
    journal = Journal(options.journal)
    entries = {(e["kind"], e["mixture"], e["examples"]): e for e in journal.replay()}
    rng = np.random.default_rng(options.seed)
    every = list(subsets(list(merger.adapters)))
    drawn = [every[i] for i in rng.permutation(len(every))[: options.mixtures]]
    metric = METRICS["choice_bits"]
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ram_disk())))
        loads = {}
        for kind in options.kinds:
            folder = work / kind.replace(":", "-")
            folder.mkdir()
            make = adapted if kind.startswith("lora:") else merged
            loads[kind] = make(stack, merger, kind.removeprefix("lora:"), folder)
        for number, mixture in enumerate(drawn):
            for kind, load in loads.items():
                key = (kind, mixture.label, options.examples)
                if key in entries:
                    continue
                started = time.perf_counter()
                model = load(mixture)
                ready = time.perf_counter() - started
                scores = evaluator.evaluate(model)
                spent = time.perf_counter() - started - ready
                entries[key] = {
                    **dict(zip(("kind", "mixture", "examples"), key, strict=True)),
                    "bits": float(metric.value(scores, None)[0]),
                    "accuracy": float(METRICS["accuracy"].value(scores, None)[0]),
                    "tokens": scores.decoded_tokens,
                    "ready": ready,
                    "seconds": spent,
                }
                journal.append(entries[key])
            print(f"{number + 1} of {len(drawn)}: {mixture.label}", file=sys.stderr, flush=True)
    labels = [mixture.label for mixture in drawn]
    return {k: [entries[k, label, options.examples] for label in labels] for k in options.kinds}


def ram_disk() -> Path | None:
    """The RAM disk, where there is one."""
    return Path("/dev/shm") if Path("/dev/shm").is_dir() else None


def agreement(entries: Sequence[dict[str, Any]], truth: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How one kind's ranking agrees with another's, and what it costs."""
    ours, theirs = (np.array([e["bits"] for e in x]) for x in (entries, truth))
    ranks = [np.argsort(np.argsort(x)) for x in (ours, theirs)]
    pick = int(ours.argmax())
    return {
        "spearman": round(float(np.corrcoef(ranks[0], ranks[1])[0, 1]), 4),
        "pearson": round(float(np.corrcoef(ours, theirs)[0, 1]), 4),
        "largest_difference": round(float(np.abs(ours - theirs).max()), 4),
        "same_pick": bool(pick == int(theirs.argmax())),
        "regret": round(float(theirs.max() - theirs[pick]), 4),
        "ready_seconds": round(float(np.median([e["ready"] for e in entries])), 3),
        "tokens_per_second": round(
            float(np.median([e["tokens"] / e["seconds"] for e in entries])), 1
        ),
    }


def main(arguments: Sequence[str]) -> int:
    """Print a line per kind, then all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--adapters", type=Path, help="folder of trained adapters")
    parser.add_argument("--journal", type=Path, default=Path("bench-rank.jsonl"))
    parser.add_argument("--mixtures", type=int, default=32)
    parser.add_argument("--examples", type=int, default=65)
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    recipe = load_recipe(options.recipe)
    base = find_model(recipe.base.model, model_folders(options.recipe))
    folder = options.adapters or recipe.folder / "adapters"
    experts = {dataset.name: load_adapter(folder / dataset.name) for dataset in recipe.datasets}
    task = load_task(recipe.targets[0].dev)
    chosen = np.random.default_rng(options.seed).permutation(len(task.examples))
    task = replace(
        task, examples=tuple(task.examples[i] for i in sorted(chosen[: options.examples]))
    )
    evaluator = Evaluator(task, make_formatter(base.gguf, recipe.base.template))
    entries = score_all(options, Merger(base, experts, recipe.merge), evaluator)
    table = {kind: agreement(entries[kind], entries[options.kinds[0]]) for kind in options.kinds}
    for kind, row in table.items():
        print(kind, row, file=sys.stderr)
    print(json.dumps(table))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
