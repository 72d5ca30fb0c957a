"""Write how alike each mixture of a scenario is to its target, for `evidence.py`.

    python scripts/research/likeness.py NAME [...] [--scenarios FOLDER]

It needs the scenario's data and the base model. It leaves `results/NAME/likeness.npz`: `names`,
`included` (which datasets are in a mixture), and the mixtures' likeness by tokens (`similarity`)
and by the base's hidden states (`hidden_similarity`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from stored import write_arrays

from m2m.mix.mixture import subsets
from m2m.mix.rival_predictors import HIDDEN, TOKENS
from m2m.mix.similarity import cosines, likeness
from m2m.pipeline.inputs import read_inputs
from m2m.pipeline.likeness import hidden_features, token_features
from m2m.recipe import load_recipe

HERE = Path(__file__).resolve().parent


def measure(scenario: Path, result: Path) -> None:
    """Write the likeness of all mixtures of one scenario."""
    inputs = read_inputs(load_recipe(scenario / "recipe.toml", [HERE.parents[1] / "examples"]))
    names = list(inputs.corpora)
    mixtures = [*subsets(names)]
    tokens, hidden = token_features(inputs), hidden_features(inputs)
    arrays = {
        "names": np.array(names),
        "included": np.array([[name in m.datasets for name in names] for m in mixtures]),
        TOKENS: likeness(mixtures, tokens.datasets, tokens.target),
        HIDDEN: cosines(mixtures, hidden.datasets, hidden.target),
    }
    write_arrays(result, arrays)


def main() -> None:
    """Measure the scenarios that were named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--scenarios", type=Path, default=HERE / "scenarios")
    options = parser.parse_args()
    for name in options.names:
        measure(options.scenarios / name, HERE / "results" / name / "likeness.npz")


if __name__ == "__main__":
    main()
