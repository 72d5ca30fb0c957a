"""Compare m2m's own computation of a model with llama.cpp's, on a short text, before it is used.

m2m trains with its decoder and scores with llama.cpp. If a file has a trait that only one of them
follows, every score is wrong and nothing else shows it. So each import ends with this comparison,
in the child process of `guard`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from m2m.arrays import Array
from m2m.checkpoint.base_weights import BaseWeights, GGUFWeights
from m2m.checkpoint.hf_config import config_from_json
from m2m.checkpoint.model_folder import CONFIG
from m2m.errors import LlamaError
from m2m.llamacpp.model import LlamaModel
from m2m.nn.decoder import Decoder

TOKENS = 24  # seconds for a model of 1B, and beyond every short window of a pico model
# The largest KL at one position, in nats, by the type of the weights. llama.cpp rounds activations
# to it: that alone gives 2e-5 with SmolLM2-135M in F16, 9e-4 in BF16. A trait that one of the two
# does not follow gives 0.1 and more.
MOST_KL = {"F16": 1e-3, "BF16": 3e-2}
TEXT = (
    "Habari za asubuhi? Ninatoka Nairobi. The first 12 words; il y a 34 mots.\n"
    "Ẹ káàárọ̀, ṣé dáadáa ni? Sannu da zuwa, yaya gida?"
)


def check_agreement(path: Path, peer: LlamaModel) -> None:
    """Raise if the decoder and llama.cpp disagree on a finished base.gguf.

    Args:
        path: base.gguf, in the folder with its config.json.
        peer: the same file in llama.cpp, with an exact cache.

    Raises:
        LlamaError: the distributions of the next token differ; the message names the first place.
    """
    config = config_from_json(path.with_name(CONFIG))
    file = GGUFWeights(path, config)
    kind = "BF16" if any(file.dtype(name) == "BF16" for name in file.names) else "F16"
    weights = BaseWeights.compact(file, config, copied=False)
    ids = _some_ids(peer, min(TOKENS, config.exact_length))
    theirs = peer.logits(ids)
    ours = Decoder(config, weights, maps="held").logits(np.array(ids))
    kl = divergence(theirs, ours)
    if not kl.max() <= (most := MOST_KL[kind]):
        place = int(np.argmax(~(kl <= most)))
        apart = float(np.abs(ours[place] - theirs[place]).max())
        raise LlamaError(
            f"{path}: m2m and llama.cpp compute different models from this file. After token "
            f"{place + 1} of {len(ids)} their logits differ by up to {apart:.3g} "
            f"(KL {kl[place]:.2g} nats, at most {most:g} is accepted). m2m read it as "
            f"{config.architecture}"
        )


def divergence(first: Array, second: Array) -> Array:
    """Return KL(first || second) in nats of the distributions from two logits (T, V), (T,)."""
    one, other = (_log_softmax(np.asarray(logits, np.float64)) for logits in (first, second))
    return np.asarray((np.exp(one) * (one - other)).sum(axis=1))


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _some_ids(model: LlamaModel, count: int) -> list[int]:
    """Return ids of a text in several languages; if it is too short, drawn ones follow."""
    ids = model.tokenize(TEXT, special=False)[:count]
    drawn = np.random.default_rng(0).integers(0, model.vocab_size, count - len(ids))
    return [*ids, *map(int, drawn)]
