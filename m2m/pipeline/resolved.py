"""The recipe as it was used: `recipe.json` of a run's folder."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from m2m import __version__
from m2m.errors import InputError
from m2m.formats.json_text import json_text
from m2m.formats.records import read_object
from m2m.llamacpp.model import build_info
from m2m.pipeline.inputs import Inputs
from m2m.recipe.whole import recipe_json
from m2m.results.folder import RANKING, RECIPE


def versions() -> dict[str, str]:
    """Return the versions of the programs that make the results."""
    return {
        "m2m": __version__,
        "llama": build_info(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }


def resolved(inputs: Inputs) -> dict[str, Any]:
    """Return the recipe with its defaults, its files and the versions used, for `recipe.json`."""
    recipe, info = inputs.recipe, inputs.base.info
    return {
        **versions(),
        "recipe": str(recipe.path),
        **({"overrides": dict(recipe.overrides)} if recipe.overrides else {}),
        **recipe_json(recipe),
        "inputs": {
            "base": {
                "name": info.name,
                "architecture": info.architecture,
                "parameters": info.parameters,
                "licence": info.licence,
                "source": info.source,
                "fingerprint": inputs.base.fingerprint,
                "warnings": list(inputs.warnings),
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


def refuse_other_results(inputs: Inputs) -> None:
    """Raise if the folder that the user named for results has those of another recipe or setting.

    An edited recipe goes on in its folder, as without a named one.

    Raises:
        InputError: says how they differ.
    """
    folder, recipe = inputs.files.path, inputs.recipe
    if recipe.out is None or not (folder / RANKING).is_file():
        return
    there, here = read_object(folder / RECIPE), json.loads(json_text(resolved(inputs)))
    if [there.get(name) for name in _OF_RUN] == [here.get(name) for name in _OF_RUN]:
        return
    if unlike := [*_unlike(there, here)]:
        more = f", and {len(unlike) - _SHOWN} more" if len(unlike) > _SHOWN else ""
        raise InputError(
            f"{folder} has results of other settings: {', '.join(unlike[:_SHOWN])}{more}",
            "name another folder: what both have in common, such as experts, is not trained again",
        )


_OF_RUN = ("recipe", "overrides")
_SHOWN = 3
_ASIDE = ("m2m", "llama", "python", "numpy", "system", "limits", "report", "overrides", "inputs")


def _unlike(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """Yield the values of two recipes that differ, except of those that decide no result."""
    differ = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    for key in [key for key in differ if key not in _ASIDE and key != "recipe"]:
        old, new = there.get(key), here.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            for name in {**old, **new}:
                if old.get(name) != new.get(name):
                    yield f"{key}.{name} is {old.get(name)!r} there and {new.get(name)!r} here"
        else:
            yield f"{key} differ"
