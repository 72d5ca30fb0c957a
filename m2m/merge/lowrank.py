"""Turn a delta back into a LoRA pair: the truncated SVD, by random projection."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m2m.nn.lora import LoraPair

_SPARE = 10  # columns beyond the rank, as Halko et al. advise (section 4.2)
_PASSES = 4  # each raises the singular values' power by two, which flat spectra need


def truncate(
    delta: NDArray[np.floating], rank: int, rng: np.random.Generator
) -> tuple[LoraPair, NDArray[np.floating]]:
    """Return the pair of at most `rank` whose product is nearest to `delta` (out, in).

    Randomised subspace iteration (Halko, Martinsson, Tropp 2011, arXiv 0909.4061, algorithm 4.4):
    exact if the rank of the delta is not higher, and a few products instead of a whole SVD.

    Returns:
        The pair, with scale 1 and the singular values shared by its factors; and these values.
    """
    rank = min(rank, *delta.shape)
    width = min(rank + _SPARE, *delta.shape)
    basis = np.linalg.qr(delta @ rng.standard_normal((delta.shape[1], width), np.float32))[0]
    for _ in range(_PASSES):
        other = np.linalg.qr(delta.T @ basis)[0]
        basis = np.linalg.qr(delta @ other)[0]
    left, values, right = np.linalg.svd(basis.T @ delta, full_matrices=False)
    roots = np.sqrt(values[:rank])
    return LoraPair(roots[:, None] * right[:rank], basis @ left[:, :rank] * roots, 1.0), roots**2
