"""The recipe as it was used: `recipe.json` of a run's folder."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from m2m import __version__
from m2m.llamacpp.model import build_info
from m2m.pipeline.inputs import Inputs
from m2m.recipe import SECTIONS, as_json


def resolved(inputs: Inputs) -> dict[str, Any]:
    """Return the recipe with its defaults, its files and the versions used, for `recipe.json`."""
    recipe, info = inputs.recipe, inputs.base.info
    return {
        "m2m": __version__,
        "llama": build_info(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "recipe": str(recipe.path),
        # A section whose fields are all newer than older runs is left out at its defaults.
        **{name: plain for name in SECTIONS if (plain := as_json(getattr(recipe, name)))},
        "datasets": [as_json(dataset) for dataset in recipe.datasets],
        "targets": [as_json(target) for target in recipe.targets],
        "inputs": {
            "base": {
                "name": info.name,
                "architecture": info.architecture,
                "parameters": info.parameters,
                "licence": info.licence,
                "source": info.source,
                "fingerprint": inputs.base.fingerprint,
                "warnings": list(inputs.cautions),
            },
            "datasets": {
                name: {
                    "rows": len(corpus.samples) + len(corpus.held_out),
                    "held_out": len(corpus.held_out),
                    "fingerprint": corpus.fingerprint,
                    **({"adapter": corpus.expert_sha256} if corpus.expert else {}),
                    **({"reading": corpus.reading} if corpus.reading else {}),
                    **({"skipped": corpus.skipped} if corpus.skipped else {}),
                    **({"long_rows": corpus.long_rows.as_json()} if corpus.long_rows.any else {}),
                }
                for name, corpus in inputs.corpora.items()
            },
            "targets": {
                target.name: {
                    part: task.sha256 or task.fingerprint
                    for part, tasks in (("dev", inputs.dev), ("test", inputs.test))
                    if (task := tasks.get(target.name))
                }
                for target in recipe.targets
            },
        },
    }
