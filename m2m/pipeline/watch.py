"""The held-out loss of each dataset of a mixture by itself, to see which of them spoils."""

from __future__ import annotations

from pathlib import Path

from m2m.adapter import load_adapter
from m2m.dataset import pack_all
from m2m.mix.mixture import Mixture
from m2m.pipeline.experts import choose, open_decoder
from m2m.pipeline.inputs import Inputs
from m2m.tuner.row_mix import MOST_HELD_OUT


def losses_by_dataset(inputs: Inputs, mixture: Mixture, adapter: Path) -> dict[str, float]:
    """Return the loss of an adapter on held-out rows of each dataset, in nats per trained token.

    Empty for a single dataset, and if a dataset has no held-out rows.
    """
    rows = {name: inputs.corpora[name].held_out[:MOST_HELD_OUT] for name in mixture.datasets}
    if len(rows) < 2 or not all(rows.values()):
        return {}
    decoder = open_decoder(inputs.base, inputs.recipe, choose(inputs.base, inputs.recipe))
    pairs, size = load_adapter(adapter).pairs, inputs.recipe.train.batch_tokens
    losses = {}
    for name, held_out in rows.items():
        sums = [decoder.loss(batch, pairs) for batch in pack_all(held_out, size)]
        losses[name] = sum(nats for nats, _ in sums) / sum(count for _, count in sums)
    return losses
