from __future__ import annotations

import dataclasses
import re
from typing import Any

import gguf
import numpy as np
import pytest

from m2m.adapter import Adapter
from m2m.checkpoint import gguf_rules, hf_rules, hf_to_gguf_name
from m2m.checkpoint.names import keyed
from m2m.errors import InputError
from m2m.families import FAMILIES
from m2m.merge.peft_names import from_peft, to_peft
from m2m.nn.config import DecoderConfig
from m2m.nn.lora import LoraPair, lora_delta
from tests.families.pico import CONFIGS
from tests.tiny import gguf_name, gguf_rows, pico_config, pico_weights


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3", "gemma3"])
def test_names_are_those_of_gguf_py_and_go_both_ways(architecture: str) -> None:
    config = pico_config(tie=False, architecture=architecture)
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    peer = gguf.get_tensor_name_map(kinds[FAMILIES[architecture].architecture], config.num_layers)
    for name in config.weight_shapes():
        stored = hf_to_gguf_name(name, config)
        assert stored == gguf_name(name, config) == peer.get_name(name, (".weight", ".bias"))
        assert gguf_rules(config).parts[stored] == [name]


@pytest.mark.parametrize("name", CONFIGS)
def test_stored_names_of_every_family_are_those_that_gguf_py_gives_its_folders(name: str) -> None:
    config = CONFIGS[name]
    theirs, ours = hf_rules(config), gguf_rules(config)
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    family = FAMILIES[config.architecture]
    peer = gguf.get_tensor_name_map(kinds[family.architecture], config.num_layers)
    in_keys = {name for names in keyed(config).values() for name in names}
    for folder, parts in theirs.parts.items():
        if in_keys.intersection(parts):
            continue
        # bloom.py, stablelm.py and qwen.py of the converter
        again = re.sub(r"\.norms\.\d+", "", folder).replace(".dt_bias", ".dt_proj.bias")
        names = (folder, folder.removeprefix("transformer."), again)
        named = {peer.get_name(name, (".weight", ".bias")) for name in names} - {None}
        assert {ours.stored(part) for part in parts} == named, folder


@pytest.mark.parametrize(
    "name", ["model.layers.0.lm_head.weight", "model.norm", "blk.0.attn_q.weight", "", "x.weight"]
)
def test_names_of_no_tensor_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="none that m2m knows"):
        hf_to_gguf_name(name, pico_config())


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
def test_row_order_is_that_of_the_converter(architecture: str) -> None:
    config = pico_config(architecture=architecture)
    weights = pico_weights(0, config)
    for stored, (name,) in gguf_rules(config).parts.items():
        joined = gguf_rules(config).join(stored, weights.__getitem__)
        np.testing.assert_array_equal(joined, gguf_rows(config, name, weights[name]))
        assert (joined is weights[name]) == (name[-13:] not in ("q_proj.weight", "k_proj.weight"))
    other = dataclasses.replace(config, architecture="qwen2")
    assert gguf_rules(other).join("blk.0.attn_q.weight", lambda name: weights[name]) is not None


@pytest.mark.parametrize("rules", [gguf_rules, hf_rules], ids=["gguf", "hf"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_rule_is_undone(name: str, rules: Any) -> None:
    config = CONFIGS[name]
    table, weights = rules(config), pico_weights(0, config)
    in_keys = (
        {n for names in keyed(config).values() for n in names} if rules is gguf_rules else set()
    )
    weights = {name: array for name, array in weights.items() if name not in in_keys}
    assert {part for parts in table.parts.values() for part in parts} == weights.keys()
    for stored, parts in table.parts.items():
        whole = table.join(stored, weights.__getitem__)
        assert whole.shape == table.shapes[stored]
        for part in parts:
            exact = rules is gguf_rules or not part.endswith("decay.weight")  # else a logarithm
            np.testing.assert_allclose(
                table.part(part, whole), weights[part], rtol=0.0 if exact else 3e-7
            )


@pytest.mark.parametrize("name", ["gpt2", "gptneox", "bloom", "phi3", "llama"])
def test_an_adapter_under_the_names_of_its_hugging_face_class_and_back(name: str) -> None:
    config = CONFIGS[name]
    pairs = {n.removesuffix(".weight"): pair for n, pair in random_pairs(config).items()}
    ours = Adapter(3, 3.0, pairs, "m")
    theirs = to_peft(ours, config)
    again = from_peft(theirs, config)
    for module, pair in pairs.items():
        np.testing.assert_allclose(lora_delta(again.pairs[module]), lora_delta(pair), atol=1e-12)
    for module in again.pairs.keys() - pairs.keys():
        assert not again.pairs[module].b.any()
    stored = hf_rules(config).shapes
    for module, pair in theirs.pairs.items():
        assert sorted(pair.shape) == sorted(stored[f"{module}.weight"])


def random_pairs(config: DecoderConfig) -> dict[str, LoraPair]:
    """A pair for all maps but the second of each kind, of several ranks and scales."""
    rng = np.random.default_rng(0)
    return {
        f"{module}.weight": LoraPair(
            rng.standard_normal((rank := 1 + number % 3, columns)),
            rng.standard_normal((rows, rank)),
            0.5 + number,
        )
        for number, (module, (rows, columns)) in enumerate(config.linear_shapes().items())
        if not module.endswith("1.self_attn.k_proj")
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_pairs_and_their_products_follow_the_rules_of_the_weights(name: str) -> None:
    config = CONFIGS[name]
    rules, weights, pairs = gguf_rules(config), pico_weights(0, config), random_pairs(config)
    merged = {
        name: weight + (lora_delta(pairs[name]) if name in pairs else 0.0)
        for name, weight in weights.items()
    }
    products = {name: lora_delta(pair) for name, pair in pairs.items()}
    mixed = {**pairs, **dict(list(products.items())[::2])}
    for changes in (pairs, products, mixed):
        for stored, change in rules.changes(changes.items()):
            delta = lora_delta(change) if isinstance(change, LoraPair) else change
            before, after = (rules.join(stored, w.__getitem__) for w in (weights, merged))
            np.testing.assert_allclose(before + delta, after, atol=1e-12)
