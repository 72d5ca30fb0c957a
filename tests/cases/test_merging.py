"""Merges and accumulated steps that are not what they say, as reported of neighbouring tools.

Each report with its own smallest input: peft 1155, 3449, 3737 and 3761, mlx-lm 1119 and 1544 (with
transformers 35203), and what came up while they were tried.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from m2m.adapter import CONFIG, WEIGHTS, load_adapter, save_adapter
from m2m.checkpoint import BaseModel
from m2m.cli.main import cli
from m2m.errors import InputError
from m2m.formats.safetensors import TensorSpec, write_safetensors
from m2m.merge.merger import Merger
from m2m.nn.decoder import Decoder
from m2m.nn.lora import LoraPair, lora_delta
from m2m.recipe import MERGE_METHODS, Merge, Train
from m2m.tuner.callbacks import Step
from m2m.tuner.trainer import Origin, Trainer, TrainResult
from tests.merge.conftest import adapter
from tests.tiny import pico_model
from tests.tuner.conftest import pico_samples


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return BaseModel.open(pico_model(tmp_path_factory.mktemp("models")))


def merge(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["merge", *map(str, arguments)], catch_exceptions=False)


def test_one_rslora_adapter_of_bfloat16_stays_itself(base: BaseModel, tmp_path: Path) -> None:
    """peft 3449 and 3761: sqrt(rank) too large. Names of adapters in keys, as PEFT has them."""
    made, tensors = adapter(base, 1), {}
    for module, pair in made.pairs.items():
        for side, array in (("A", pair.a), ("B", pair.b)):
            name = f"base_model.model.{module}.lora_{side}.lora.weight"
            tensors[name] = (array.view(np.uint32) >> 16).astype(np.uint16)
    specs = [TensorSpec(name, "BF16", array.shape) for name, array in tensors.items()]
    write_safetensors(tmp_path / WEIGHTS, specs, tensors.values())
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": True}
    (tmp_path / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    theirs = load_adapter(tmp_path)
    one, _ = Merger(base, {"a": theirs}).adapter(["a"], [1.0], rank=4)
    save_adapter(tmp_path / "one", one)
    for module, pair in load_adapter(tmp_path / "one").pairs.items():
        stored = tensors[f"base_model.model.{module}.lora_A.lora.weight"]
        a = (stored.astype(np.uint32) << 16).view(np.float32)
        stored = tensors[f"base_model.model.{module}.lora_B.lora.weight"]
        b = (stored.astype(np.uint32) << 16).view(np.float32)
        np.testing.assert_allclose(lora_delta(pair), 8 / 4**0.5 * b @ a, atol=1e-5)


@pytest.mark.parametrize("method", MERGE_METHODS)
def test_an_adapter_of_weight_zero_is_as_if_it_were_not_there(base: BaseModel, method: str) -> None:
    """peft 1155: weights 1 and 0 were not the first adapter alone."""
    merger = Merger(base, {"a": adapter(base, 1), "b": adapter(base, 2)}, Merge(method=method))
    for module in merger.modules:
        both = merger.delta(module, ["a", "b"], [1.0, 0.0])
        alone = merger.delta(module, ["a"], [1.0])
        assert both is not None
        assert alone is not None
        np.testing.assert_array_equal(both, alone)


def test_a_merge_of_ranks_that_differ_can_be_read_again(base: BaseModel, tmp_path: Path) -> None:
    """peft 3737: the rank of each module was lost."""
    first, second = adapter(base, 1), adapter(base, 2)
    module, pair = next(iter(second.pairs.items()))
    second.pairs[module] = LoraPair(pair.a[:2], pair.b[:, :2], 3.0)
    merged, _ = Merger(base, {"a": first, "b": second}).adapter(["a", "b"], [0.5, 0.5], rank=8)
    save_adapter(tmp_path / "merged", merged)
    for name, found in load_adapter(tmp_path / "merged").pairs.items():
        wanted = 0.5 * lora_delta(first.pairs[name]) + 0.5 * lora_delta(second.pairs[name])
        np.testing.assert_allclose(lora_delta(found), wanted, atol=1e-6)


def test_an_adapter_of_mlx_is_named(tmp_path: Path) -> None:
    """mlx-lm 1119, the other way round; the hint spoke of pickled files."""
    (tmp_path / CONFIG).write_text('{"fine_tune_type": "lora"}', encoding="utf-8")
    write_safetensors(tmp_path / "adapters.safetensors", [], [])
    with pytest.raises(InputError, match="has no adapter_model") as caught:
        load_adapter(tmp_path)
    assert "mlx_lm.fuse" in str(caught.value.hint)


def test_the_same_folder_in_two_spellings_is_not_counted_twice(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_adapter(tmp_path / "a", adapter(base, 1))
    monkeypatch.chdir(tmp_path)
    asked = ("--model", base.path, "--out", "m.gguf", "--adapter", "a=1", "--adapter")
    assert "is given twice" in merge(*asked, "./a=1").stderr
    shutil.copytree("a", "b")
    assert merge(*asked, "b=1").exit_code == 0


@pytest.mark.parametrize("weight", ["nan", "inf", "1e400", "x"])
def test_a_weight_that_is_no_number_is_not_blamed_on_the_adapter(
    base: BaseModel, tmp_path: Path, weight: str
) -> None:
    save_adapter(tmp_path / "a", adapter(base, 1))
    asked = ("--model", base.path, "--out", tmp_path / "m.gguf", "--adapter")
    assert "is not a number" in merge(*asked, f"{tmp_path / 'a'}={weight}").stderr
    found = merge(*asked, tmp_path / "a", "--scale", "nan")
    assert found.exit_code == 2
    assert "nan is not a number" in found.stderr


class Norms:
    """Notes the gradients' norms."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_start(self, total_steps: int, done_steps: int) -> None: ...

    def on_step(self, step: Step) -> None:
        self.found.append(step.gradient_norm)

    def on_end(self, result: TrainResult) -> None: ...

    def stop_requested(self) -> bool:
        return False


def test_accumulated_batches_of_unequal_size_weigh_by_their_tokens(
    base: BaseModel, tmp_path: Path
) -> None:
    """mlx-lm 1544 and transformers 35203: a mean of means favours the short rows."""
    rows = sorted(pico_samples("copy", 40), key=lambda row: int(row.loss_mask.sum()))
    two = [rows[0], rows[-1]]
    assert two[0].loss_mask.sum() < two[1].loss_mask.sum()
    longest = max(map(len, two))
    losses, norms = [], Norms()
    for name, accumulate, size in (("parts", 2, longest), ("whole", 1, 2 * longest)):
        config = Train(steps=1, accumulate=accumulate, batch_tokens=size, rank=4)
        decoder = Decoder(base.config, base.weights, threads=1)
        origin = Origin(name, "pico", "x", "y")
        folder = tmp_path / name
        made = Trainer(decoder, two, config, folder=folder, origin=origin, callbacks=[norms]).run()
        losses += made.losses
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert norms.found[0] == pytest.approx(norms.found[1], rel=1e-5)
