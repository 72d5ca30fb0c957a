"""Epochs and tokens that are not those that were trained (trl and mlx-lm issues on packed rows).

Rows do not fill a batch to its last token, so a budget that divides tokens by the size of a batch
is short: 60 rows of 297 tokens had 35 steps for their one epoch. Here the batches of real trainings
are compared with a simulation of packing that is written apart from m2m's.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from m2m.checkpoint import import_model
from m2m.cli.main import cli
from m2m.dataset import Sample
from m2m.formats.gguf import GGUFValue
from m2m.mix.mixture import Mixture
from m2m.nn.decoder import Batch
from m2m.pipeline.finetunes import FineTuner
from m2m.pipeline.inputs import expert_corpus, read_inputs
from m2m.pipeline.trained_run import TrainedRun
from m2m.progress import Silent
from m2m.recipe import Train, load_recipe
from m2m.tuner.row_mix import budget, passes, stream_of
from tests.pipeline.scenario import make_scenario
from tests.templates import KINDS, turn
from tests.tiny import dataset_rows, pico_gguf, write_jsonl


def rows_of(lengths: list[int], shared: int = 0) -> list[Sample]:
    """Rows with one trained token, the last, that is the row's number."""
    made = []
    for number, length in enumerate(lengths):
        ids = np.full(shared + length, 1000 + number, np.int32)
        ids[:shared] = 7
        mask = np.zeros(len(ids), np.bool_)
        mask[-1] = True
        made.append(Sample(ids, mask, number + 1))
    return made


def trained(samples: list[Sample], train: Train, steps: int) -> tuple[list[Counter[int]], int]:
    """Which rows the steps of a real training take, and how many tokens it reads."""
    stream = stream_of(samples, train)
    batches: list[list[Batch]] = [list(stream.step(train.accumulate)) for _ in range(steps)]
    found = [Counter(int(t) - 1000 for b in step for t in b.loss_target) for step in batches]
    return found, sum(len(batch.tokens) for step in batches for batch in step)


def simulated(own: list[int], shared: int, train: Train, rows: int, tokens: int) -> int:
    """Steps until that many rows and tokens, bin by bin, over the seeded orders of the epochs."""
    order: list[int] = []
    seen = read = steps = epoch = 0
    while seen < rows or read < tokens:
        steps += 1
        for _ in range(train.accumulate):
            size, count = shared, 0
            while True:
                if len(order) <= seen:
                    rng = np.random.default_rng([train.seed, epoch])
                    order += rng.permutation(len(own)).tolist()
                    epoch += 1
                length = own[order[seen]]
                if count and (size + length > train.batch_tokens or (rows and seen == rows)):
                    break
                size, count, seen = size + length, count + 1, seen + 1
            read += size
            if rows and seen == rows:
                break
    return steps


LENGTHS = st.lists(st.integers(2, 60), min_size=1, max_size=25)


@settings(deadline=None)
@given(LENGTHS, st.integers(0, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3))
def test_an_epoch_is_every_row_exactly_once(
    lengths: list[int], shared: int, epochs: int, accumulate: int, seed: int
) -> None:
    train = Train(epochs=float(epochs), batch_tokens=64, accumulate=accumulate, seed=seed)
    samples = rows_of(lengths, shared)
    steps = budget(train, [samples])
    found, _ = trained(samples, train, steps)
    assert sum(found, Counter()) == dict.fromkeys(range(len(lengths)), epochs)
    assert all(found)  # no step is without rows, so none is too many
    assert passes(samples, train, steps) == epochs
    # A beginning that all rows share is read once a batch; one row alone keeps a token of its own.
    prefix = shared if len(lengths) > 1 else max(shared + lengths[0] - 2, 0)
    own = [shared + length - prefix for length in lengths]
    assert steps == simulated(own, prefix, train, epochs * len(lengths), 0)


@settings(deadline=None)
@given(LENGTHS, st.integers(0, 4), st.integers(1, 2000), st.integers(1, 3))
def test_tokens_are_those_that_the_first_steps_to_reach_them_read(
    lengths: list[int], shared: int, tokens: int, accumulate: int
) -> None:
    train = Train(tokens=tokens, batch_tokens=64, accumulate=accumulate)
    samples = rows_of(lengths, shared)
    steps = budget(train, [samples])
    assert trained(samples, train, steps)[1] >= tokens > trained(samples, train, steps - 1)[1]
    prefix = shared if len(lengths) > 1 else max(shared + lengths[0] - 2, 0)
    own = [shared + length - prefix for length in lengths]
    assert steps == simulated(own, prefix, train, 0, tokens)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 30), st.integers(1, 3), st.sampled_from([0.0, 0.5, 1.0]))
def test_passes_are_the_rows_that_were_taken(
    lengths: list[int], steps: int, accumulate: int, epochs: float
) -> None:
    train = Train(epochs=epochs, batch_tokens=64, accumulate=accumulate)
    samples = rows_of(lengths)
    taken = sum(sum(found.values()) for found in trained(samples, train, steps)[0])
    assert passes(samples, train, steps) == pytest.approx(taken / len(lengths))


def test_sixty_rows_that_fill_more_than_half_a_batch_take_sixty_steps() -> None:
    samples = rows_of([297] * 60)
    assert budget(Train(epochs=1.0), [samples]) == 60
    assert budget(Train(tokens=20_000), [samples]) == math.ceil(20_000 / 297)
    found, _ = trained(samples, Train(epochs=1.0), 60)
    assert sum(found, Counter()) == dict.fromkeys(range(60), 1)


def test_a_step_of_a_few_rows_is_not_filled_with_a_second_pass() -> None:
    """Ten short rows fit into one batch two and a half times."""
    samples = rows_of([20] * 10)
    train = Train(epochs=3.0)
    steps = budget(train, [samples])
    assert sum(trained(samples, train, steps)[0], Counter()) == dict.fromkeys(range(10), 3)


def changed(recipe: Path, budget_line: str) -> Path:
    text = recipe.read_text(encoding="utf-8").replace("steps = 12", budget_line)
    recipe.write_text(text, encoding="utf-8")
    return recipe


def test_a_recipe_counts_what_is_trained_held_out_and_replayed_rows_apart(tmp_path: Path) -> None:
    """Rows of 250 are partly held out; half of the rows are replayed; one is not trained."""
    recipe = changed(make_scenario(tmp_path), "epochs = 2\nreplay = 0.5\naccumulate = 2")
    write_jsonl(tmp_path / "copy.jsonl", dataset_rows("copy", 250))
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("[search]", '[search]\nexcluded = ["upper"]'), encoding="utf-8")
    inputs = read_inputs(load_recipe(recipe))
    train = inputs.recipe.train
    assert len(inputs.corpora["copy"].samples) < 250
    needs = []
    for name in ("copy", "reverse"):
        rows = expert_corpus(inputs, inputs.corpora[name]).samples
        alone = dataclasses.replace(train, epochs=2.0)
        needs.append(budget(alone, [rows]))
        stream = stream_of(rows, alone)
        batches = [b for _ in range(needs[-1]) for b in stream.step(train.accumulate)]
        assert sum(len(batch.lengths) for batch in batches) == 2 * len(rows)
    assert train.steps == math.ceil(sum(needs) / 2)
    assert needs[0] > 3 * needs[1]


@pytest.mark.slow
def test_train_and_plan_say_how_often_each_row_is_seen(tmp_path: Path) -> None:
    recipe = changed(make_scenario(tmp_path), "epochs = 2")
    write_jsonl(tmp_path / "upper.jsonl", dataset_rows("upper", 190))
    planned = json.loads(CliRunner().invoke(cli, ["plan", str(recipe), "--json"]).stdout)
    made = json.loads(CliRunner().invoke(cli, ["train", str(recipe), "--json"]).stdout)
    adapters = {each["dataset"]: each["passes"] for each in made["adapters"]}
    assert planned["passes"] == adapters
    assert adapters["upper"] < 2 < adapters["copy"]
    # What a training really took, from its own record.
    record = json.loads(
        (tmp_path / "m2m-runs/recipe/adapters/upper/m2m.json").read_text(encoding="utf-8")
    )
    inputs = read_inputs(load_recipe(recipe))
    _, tokens = trained(inputs.corpora["upper"].samples, inputs.recipe.train, record["steps"])
    assert record["tokens"] == tokens
    assert record["passes"] == adapters["upper"]


def test_a_plan_says_which_rows_no_expert_will_see(tmp_path: Path) -> None:
    recipe = changed(make_scenario(tmp_path), "steps = 2")
    advice = json.loads(CliRunner().invoke(cli, ["plan", str(recipe), "--json"]).stdout)["advice"]
    assert any("some rows will not be trained on" in each for each in advice)


def test_no_row_of_an_excluded_dataset_is_replayed(tmp_path: Path) -> None:
    recipe = changed(make_scenario(tmp_path), "steps = 2\nreplay = 0.5")
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("[search]", '[search]\nexcluded = ["upper"]'), encoding="utf-8")
    inputs = read_inputs(load_recipe(recipe))
    replayed = expert_corpus(inputs, inputs.corpora["copy"]).samples[32:]
    assert {id(row) for row in replayed} <= {id(row) for row in inputs.corpora["reverse"].samples}


def test_rows_of_several_samples_are_counted_as_rows(tmp_path: Path) -> None:
    # With such a template every answer of a conversation is a sample of its own.
    recipe = make_scenario(tmp_path)
    source = pico_gguf(
        tmp_path / "thinks.gguf",
        metadata={"tokenizer.chat_template": GGUFValue.string(KINDS["thinks last"])},
    )
    import_model(source, tmp_path / "models" / "thinks", name="thinks")
    rows = [
        {
            "messages": [
                turn("user", row["prompt"]),
                turn("assistant", row["completion"], reasoning_content="hm"),
                turn("user", "again"),
                turn("assistant", row["completion"], reasoning_content="hm"),
            ]
        }
        for row in dataset_rows("copy", 8)
    ]
    write_jsonl(tmp_path / "copy.jsonl", rows)
    text = recipe.read_text(encoding="utf-8").replace('"pico"', '"thinks"')
    recipe.write_text(text, encoding="utf-8")
    inputs = read_inputs(load_recipe(recipe))
    assert len(inputs.corpora["copy"].samples) == 16
    both = Mixture.uniform(("copy", "reverse"))
    tuner = FineTuner(TrainedRun(inputs, {}, Silent()))
    seen = tuner.seen(both, tuner.adapters([both])[both])["copy"]
    assert (seen.rows, seen.of) == (8, 8)
