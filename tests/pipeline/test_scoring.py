"""How the recipe's [quantize] and [limits] reach the surrogates."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2m.errors import InputError
from m2m.llamacpp import bindings as c
from m2m.llamacpp.scratch_model import Surrogate
from m2m.mix.mixture import BASE, Mixture
from m2m.pipeline import scorer as scorer_module
from m2m.pipeline.inputs import read_inputs
from m2m.pipeline.scorer import open_scorer
from m2m.pipeline.search import rounding_warnings
from m2m.pipeline.trained_run import TrainedRun
from m2m.progress import Silent
from m2m.recipe import load_recipe
from tests.pipeline.scenario import copied


@pytest.fixture
def recipe(trained_run: Path, tmp_path: Path) -> Path:
    return copied(trained_run, tmp_path)


def warnings(recipe: Path, finalists: list[Mixture]) -> list[str]:
    inputs = read_inputs(load_recipe(recipe))
    experts = {name: inputs.files.adapters / name for name in inputs.corpora}
    return rounding_warnings(TrainedRun(inputs, experts, Silent()), finalists)


def quantize(recipe: Path, text: str) -> None:
    whole = recipe.read_text(encoding="utf-8") + f"\n[quantize]\n{text}\n"
    recipe.write_text(whole, encoding="utf-8")


def test_a_pick_that_the_export_type_would_change_is_told(recipe: Path) -> None:
    """Whichever of two leads at the export type, exactly the other one as a pick is warned of."""
    quantize(recipe, 'type = "f16"\nexport = "q4_0"')
    pair = [Mixture.uniform(["copy"]), Mixture.uniform(["reverse", "upper"])]
    there, back = warnings(recipe, pair), warnings(recipe, pair[::-1])
    assert len(there) + len(back) == 1
    assert "Rounding changes which mixture is best:" in (there + back)[0]


@contextmanager
def reloading_spare(surrogate: Surrogate) -> Iterator[Surrogate]:
    """A second scratch model as a GPU has one; both are read again for each mixture."""
    surrogate.patch = False
    with Surrogate(
        surrogate.base, surrogate.type, surrogate.path.parent, patch=False, threads=1, name="next"
    ) as spare:
        yield spare


def test_a_mixture_that_is_written_during_the_last_one_has_the_same_scores(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was expected: the right mixture, another one, or none."""
    one, two, three = (Mixture.uniform([name]) for name in ("copy", "reverse", "upper"))
    pairs = [(BASE, one), (one, two), (two, one), (three, None), (one, three), (three, None)]
    inputs = read_inputs(load_recipe(recipe))
    experts = {name: inputs.files.adapters / name for name in inputs.corpora}
    found: list[dict[Mixture, bytes]] = []
    written: list[str] = []
    real = Surrogate.write

    def write(surrogate: Surrogate, tensors: Any) -> None:
        written.append(threading.current_thread().name)
        real(surrogate, tensors)

    monkeypatch.setattr(Surrogate, "write", write)
    for expecting in (False, True):
        if expecting:
            monkeypatch.setattr(scorer_module, "_spare", reloading_spare)
        with open_scorer(inputs, experts, inputs.dev) as scorer:
            scores = {}
            for mixture, following in pairs:
                scorer.expect(following)
                scores[mixture] = scorer.score(mixture).scores["copying"].loglik.tobytes()
            found.append(scores)
    assert found[0] == found[1]
    assert len({*found[0].values()}) == 4
    assert sum(name != "MainThread" for name in written) == 4
    assert len(written) == 6 + 7  # the one that was wrongly expected is written once more


def test_the_same_type_needs_no_second_scoring(recipe: Path) -> None:
    pair = [Mixture.uniform(["copy"]), Mixture.uniform(["upper"])]
    assert warnings(recipe, pair) == warnings(recipe, pair[::-1]) == []
    assert not (load_recipe(recipe).folder / "study.jsonl").exists()


def test_auto_is_one_of_the_fine_types_and_has_its_own_results(recipe: Path) -> None:
    keys = []
    for text in ("", '\n[quantize]\ntype = "auto"\n', '\n[quantize]\ntype = "q4_0"\n'):
        changed = recipe.with_name(f"{len(keys)}.toml")
        changed.write_text(recipe.read_text(encoding="utf-8") + text, encoding="utf-8")
        inputs = read_inputs(load_recipe(changed))
        with open_scorer(inputs, {}, inputs.dev) as scorer:
            keys.append((scorer._surrogate.type.name, scorer.key(BASE)))
    kinds, _ = zip(*keys, strict=True)
    assert kinds[0] == "q8_0"
    assert kinds[1] in ("f16", "bf16", "q8_0")
    assert len(set(keys)) == len(set(kinds))


@pytest.mark.slow
def test_the_regime_decides_how_far_merges_reach(recipe: Path) -> None:
    """With growth 1 a pair is merged as with scale 2; single datasets are what they were."""
    one, pair = Mixture.uniform(["copy"]), Mixture.uniform(["copy", "upper"])
    found = {}
    for name, text in {
        "mean": "",
        "scale": "[merge]\nscale = 2.0",
        "sum": "[merge]\ngrowth = 1",
        "fine-tunes": '[confirm]\nbudget = "proportional"',
        "root": "[merge]\ngrowth = 0.5",
    }.items():
        changed = recipe.with_name(f"{name}.toml")
        whole = (
            recipe.read_text(encoding="utf-8")
            .replace("[confirm]\ntop = 2\n", "")
            .replace('budget = "fixed"\n', "")
        )
        changed.write_text(f"{whole}\n{text}\n", encoding="utf-8")
        inputs = read_inputs(load_recipe(changed))
        adapters = load_recipe(recipe).folder / "adapters"
        experts = {each: adapters / each for each in inputs.corpora}
        with open_scorer(inputs, experts, inputs.dev) as scorer:
            scores = scorer.score(pair).scores["copying"].loglik
            found[name] = scores, scorer.key(one), scorer.key(pair)
    np.testing.assert_array_equal(found["sum"][0], found["scale"][0])
    np.testing.assert_array_equal(found["root"][0], found["fine-tunes"][0])
    assert not np.array_equal(found["root"][0], found["mean"][0])
    assert found["mean"][1] == found["sum"][1] == found["root"][1]
    assert found["root"][2] == found["fine-tunes"][2]
    assert len({found[name][2] for name in ("mean", "scale", "sum", "root")}) == 4


def test_gpu_layers_are_refused_before_any_work_where_there_is_no_gpu(recipe: Path) -> None:
    if c.llama_supports_gpu_offload():
        pytest.skip("this llama.cpp has a GPU")
    text = recipe.read_text(encoding="utf-8").replace("threads = 1", "threads = 1\ngpu_layers = 4")
    recipe.write_text(text.replace('dev = "dev.jsonl"', 'dev = "recipe.toml"'), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_inputs(load_recipe(recipe))
    assert "gpu_layers = 4, and this llama.cpp can use no GPU" in caught.value.message
    assert "recipe.toml" in caught.value.message  # the other problem is told too
