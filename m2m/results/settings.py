"""The recipe as stored in a run's folder, with the types that a report needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from m2m.formats.json_values import as_list, as_object, as_real, as_text, as_whole
from m2m.recipe import SECTIONS
from m2m.recipe.data_fields import NAME

_MOST_WATTS = 1e6


def checked_settings(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the content of `recipe.json` if a report can be made of it.

    Raises:
        ValueError: a value has another type, or a name would lead out of the run's folder.
    """
    for name in SECTIONS:
        as_object(data.get(name, {}), name)
    for dataset in as_list(data.get("datasets"), "datasets", (dict,)):
        if not NAME.fullmatch(as_text(dataset.get("name"), "name of a dataset")):
            raise ValueError(f"{dataset['name']!r:.40} is not the name of a dataset")
        as_list(dataset.get("languages") or [], "languages", (str,))
    watts = data.get("report", {}).get("watts", 0.0)
    as_real(watts, "watts", 0.0, _MOST_WATTS)
    budget = data.get("confirm", {}).get("budget", "fixed")
    if type(budget) is not int:
        as_text(budget, "budget")
    _check_inputs(as_object(data.get("inputs", {}), "inputs"))
    return data


def _check_inputs(inputs: Mapping[str, Any]) -> None:
    """Check the stored facts about the base model and the datasets' files."""
    base = as_object(inputs.get("base", {}), "base")
    if base:
        as_text(base.get("name"), "name of the base")
    for name in ("licence", "source", "architecture", "fingerprint"):
        as_text(base.get(name) or "", name)
    as_whole(base.get("parameters", 0), "parameters")
    as_list(base.get("warnings") or [], "warnings", (str,))
    for name, known in as_object(inputs.get("datasets", {}), "datasets").items():
        as_whole(as_object(known, name).get("rows", 0), "rows")
