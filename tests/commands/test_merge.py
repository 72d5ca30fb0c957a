from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from m2m.adapter import load_adapter, save_adapter
from m2m.checkpoint import BaseModel
from m2m.cli.main import cli
from m2m.commands.chat import Chat
from m2m.commands.eval import compare_models
from m2m.commands.merge import Merged, merge_adapters
from m2m.errors import InputError
from m2m.formats.gguf import GGUFFile
from m2m.llamacpp.generate import Sampling
from m2m.merge.merger import Merger
from m2m.nn.lora import lora_delta
from m2m.recipe import Merge, Target
from tests.merge.conftest import adapter
from tests.tiny import pico_model, pico_target


class Scene:
    """A base and two adapters on the disk."""

    def __init__(self, folder: Path) -> None:
        self.base = BaseModel.open(pico_model(folder))
        self.adapters = [str(folder / name) for name in ("a", "b")]
        for seed, path in enumerate(self.adapters):
            save_adapter(Path(path), adapter(self.base, seed))

    def merge(
        self, out: Path, *, kind: str = "f16", rank: int | None = None, **options: float | str
    ) -> Merged:
        chosen = Merge(**options)  # type: ignore[arg-type]
        return merge_adapters(str(self.base.path), self.adapters, chosen, kind, rank, out)

    def delta(self, module: str, **options: float | str) -> np.ndarray:
        loaded = {path: load_adapter(Path(path)) for path in self.adapters}
        merger = Merger(self.base, loaded, Merge(**options))  # type: ignore[arg-type]
        found = merger.delta(module, self.adapters, [0.5, 0.5])
        assert found is not None
        return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("scene"))


def test_a_rank_makes_an_adapter_in_either_format(scene: Scene, tmp_path: Path) -> None:
    module = "model.layers.0.self_attn.k_proj"
    found = scene.merge(tmp_path / "peft", rank=8)
    assert found.type == "lora"
    assert found.delta_survival == pytest.approx({"gain": 1.0, "cosine": 1.0}, abs=1e-6)
    pair = load_adapter(tmp_path / "peft").pairs[module]
    np.testing.assert_allclose(lora_delta(pair), scene.delta(module), atol=1e-6)
    scene.merge(tmp_path / "lora.gguf", rank=8)
    assert GGUFFile(tmp_path / "lora.gguf").value("adapter.lora.alpha") == 8.0
    low = scene.merge(tmp_path / "low", rank=1)
    assert low.remedy == "a higher rank keeps more"
    assert low.warnings == [f"rank 1 keeps too little of the fine-tune; {low.remedy}"]


@pytest.mark.slow
def test_the_base_with_the_lora_scores_as_the_merged_model(scene: Scene, tmp_path: Path) -> None:
    scene.merge(tmp_path / "merged.gguf", kind="f32")
    scene.merge(tmp_path / "lora.gguf", rank=8)
    task = pico_target(tmp_path / "dev.jsonl", "copy")
    base, lora = str(scene.base.gguf.path), tmp_path / "lora.gguf"
    models = [str(tmp_path / "merged.gguf"), f"{base}+{lora}", base]
    found = compare_models(models, [task], Target("t", task)).as_json()["results"]
    merged, both, alone = (each["metrics"] for each in found)
    value = merged["bits_per_byte"]["value"]
    assert both["bits_per_byte"]["value"] == pytest.approx(value, abs=0.01)
    assert abs(alone["bits_per_byte"]["value"] - value) > 0.05


def test_options_arrive(scene: Scene, tmp_path: Path) -> None:
    module = "model.layers.0.mlp.up_proj"
    for options in ({"method": "slerp"}, {"scale": 0.5}, {"method": "dare_linear", "seed": 3}):
        scene.merge(tmp_path / "out.gguf", kind="f32", **options)
        written = GGUFFile(tmp_path / "out.gguf").array("blk.0.ffn_up.weight")
        change = written - scene.base.weights[f"{module}.weight"]
        np.testing.assert_allclose(change, scene.delta(module, **options), atol=1e-6)


def test_a_type_that_loses_the_delta_says_what_keeps_it(scene: Scene, tmp_path: Path) -> None:
    found = scene.merge(tmp_path / "out.gguf", kind="q4_0", scale=0.01)
    assert found.remedy is not None
    assert found.remedy.startswith("f16 keeps 0.")
    assert found.remedy.endswith(
        "unchanged base: merge to an adapter of rank 8 in place of a model"
    )
    assert found.warnings == [f"q4_0 keeps too little of the fine-tune; {found.remedy}"]
    whole = scene.merge(tmp_path / "out.gguf", kind="f16")
    assert (whole.remedy, whole.warnings) == (None, [])


def test_an_adapter_says_how_to_talk_to_it_and_what_its_rank_lost(
    scene: Scene, tmp_path: Path
) -> None:
    def merged(rank: int, out: str, *options: str) -> Result:
        adapters = [word for path in scene.adapters for word in ("--adapter", path)]
        line = ["merge", "--model", str(scene.base.path), *adapters, "--rank", str(rank)]
        found = CliRunner().invoke(cli, [*line, "--out", str(tmp_path / out), *options])
        assert found.exit_code == 0, found.stderr
        return found

    found = merged(8, "lora.gguf")
    next_line = f"m2m chat {scene.base.path} --lora {tmp_path / 'lora.gguf'}"
    assert found.stdout.endswith(f"Next       {next_line}\n")
    assert "Rounding" not in found.stdout
    assert "This rank kept the fine-tune with gain 1.00" in found.stdout
    with Chat(str(scene.base.path), Sampling(max_tokens=1), lora=tmp_path / "lora.gguf"):
        pass
    assert "Next" not in merged(8, "peft").stdout
    told = merged(1, "low.gguf")
    assert "Warning: rank 1 keeps too little of the fine-tune; a higher rank" in told.stderr
    data = json.loads(merged(1, "low.gguf", "--json").stdout)
    assert [data["remedy"] in warning for warning in data["warnings"]] == [True]


@pytest.mark.parametrize("rank", [None, 4])
def test_a_folder_that_is_something_else_is_not_replaced(
    scene: Scene, tmp_path: Path, rank: int | None
) -> None:
    (tmp_path / "precious.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="exists and is not a model or adapter"):
        scene.merge(tmp_path, rank=rank)
    assert (tmp_path / "precious.txt").is_file()
    scene.merge(tmp_path / "new", rank=rank)
    scene.merge(tmp_path / "new", rank=rank)
