from __future__ import annotations

from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from m2m.pipeline.inputs import read_inputs
from m2m.pipeline.likeness import hidden_features, token_features
from m2m.recipe import load_recipe
from tests.pipeline.scenario import make_scenario


def test_hidden_states_are_llama_cpps_embeddings(tmp_path: Path) -> None:
    inputs = read_inputs(load_recipe(make_scenario(tmp_path)))
    found = hidden_features(inputs)
    assert [*found.datasets] == ["copy", "reverse", "upper"] == [*token_features(inputs).datasets]
    llama = llama_cpp.Llama(
        str(inputs.base.gguf.path),
        embedding=True,
        pooling_type=llama_cpp.LLAMA_POOLING_TYPE_NONE,
        n_ctx=256,
        verbose=False,
    )
    states = []
    for sample in inputs.corpora["copy"].samples:  # fewer rows than are read at most
        llama._ctx.kv_cache_clear()
        llama._batch.reset()
        llama._batch.add_sequence(sample.ids.tolist(), 0, True)
        llama._ctx.decode(llama._batch)
        for place in range(len(sample.ids)):
            pointer = llama_cpp.llama_get_embeddings_ith(llama._ctx.ctx, place)
            states.append(np.array(pointer[: inputs.base.config.hidden_size]))
    llama.close()
    expected = np.mean(states, axis=0)
    assert found.datasets["copy"] == pytest.approx(expected, abs=2e-2 * np.abs(expected).max())
