"""Warn if an adapter seems to be made for another base model, or changes nothing.

Shapes say little: a base model and its instruct version have the same ones. Fingerprints would
decide it, but only m2m writes them. All other adapters store only the name of their base, so names
are compared. A name can be wrong in both directions, so a doubt is a warning and not an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from m2m.adapter import Adapter
from m2m.checkpoint import BaseModel, is_model
from m2m.errors import InputError
from m2m.formats.gguf import GGUFFile
from m2m.nn.lora import LoraPair

FINGERPRINT = "m2m.base_fingerprint"  # in a GGUF LoRA that m2m wrote
TEMPLATE = "m2m.template"  # in a LoRA that was trained without the base's chat template: "plain"
VARIABLES = "m2m.template_variables"  # in a LoRA that was trained with some: a JSON object
# The keys of a GGUF that hold its own name (gguf-py, `Keys.General`). Its `general.base_model.*`
# name the model that it was made from, which is a different one.
_NAMES = ("name", "repo_url", "source.repo_url", "source.url", "url")
_CACHED = re.compile(r"models--[^/\\]+--([^/\\]+)")  # in the hub's cache
_NUMBERED = re.compile(r"-\d{5}-of-\d{5}")
_LONGEST_NAME = 300  # characters that are compared
# How the weights are stored does not belong to a model's name.
_STORED = re.compile(
    r"(?<![ ._-])[ ._-]+"
    r"(gguf|hf|mlx|unsloth|dynamic|bnb|gptq|awq|(4|8)-?bit|int[48]|fp?16|f32|bf16|i?q\d\w{0,20})$"
)


def adapter_doubts(adapter: Adapter, base: BaseModel) -> list[str]:
    """Return the reasons why an adapter that fits may be wrong for this base, one sentence each."""
    called = f"the adapter {adapter.name}" if adapter.name else "the adapter"
    doubts = [] if changes_something(adapter.pairs.values()) else [changes_nothing(called)]
    kinds = {module.rpartition(".")[2] for module in adapter.pairs}
    modules = [m for m in base.config.linear_shapes() if m.rpartition(".")[2] in kinds]
    if missing := [module for module in modules if module not in adapter.pairs]:
        doubts.append(
            f"{called} has no factors for {len(missing)} of {len(modules)} modules of its kinds, "
            f"such as {missing[0]}; if all layers were trained, the file is incomplete"
        )
    if adapter.base_fingerprint:  # compared by `check_adapter`
        return doubts
    named = [adapter.base_model] if adapter.base_model else []
    names = [base.name, base.info.source, *_gguf_names(base.gguf)]
    return [*doubts, *_names_doubt(called, named, names)]


def trained_template(lora: Path) -> tuple[bool, dict[str, Any]]:
    """Return whether a GGUF LoRA was trained without a chat template, and the fixed variables.

    Raises:
        InputError: the file is malformed.
    """
    file = GGUFFile(lora)
    variables = file.value(VARIABLES)
    try:
        values = json.loads(variables) if isinstance(variables, str) else {}
    except ValueError as error:
        raise InputError(f"{lora}: {VARIABLES} is not JSON: {error}", "export it again") from error
    if not isinstance(values, dict):
        raise InputError(f"{lora}: {VARIABLES} must hold a JSON object", "export it again")
    return file.value(TEMPLATE) == "plain", values


def lora_doubts(lora: Path, model: Path) -> list[str]:
    """Return the reasons why a GGUF LoRA may be wrong for the GGUF model that it is applied to.

    Raises:
        InputError: one of the files is malformed, or m2m made the LoRA for other weights.
    """
    file, base, called = GGUFFile(lora), GGUFFile(model), f"the adapter {lora.name}"
    known = BaseModel.open(model.parent) if is_model(model) else None
    fingerprint = file.value(FINGERPRINT)
    if known and fingerprint and fingerprint != known.fingerprint:
        raise InputError(
            f"{lora}: was trained on another base model "
            f"({file.value('general.base_model.0.name', 'unnamed')}) than {known.name}",
            "use the base model that it was trained on, or train it again",
        )
    ups = [name for name in file.tensors if name.endswith(".lora_b")]
    zero = ups and not any(file.array(name).any() for name in ups)
    doubts = [changes_nothing(called)] if zero else []
    if known and fingerprint:
        return doubts
    keys = ("name", "repo_url")
    named = [file.value(f"general.base_model.0.{key}") for key in keys]
    names = [known.name, known.info.source] if known else [model.name]
    names += _gguf_names(base)
    return [*doubts, *_names_doubt(called, [str(name) for name in named if name], names)]


def changes_something(pairs: Iterable[LoraPair]) -> bool:
    """Return whether at least one delta scale * B A has a value that is not zero."""
    return any(pair.scale and (pair.a.any(axis=1) & pair.b.any(axis=0)).any() for pair in pairs)


def changes_nothing(called: str) -> str:
    """Return the warning that all deltas of an adapter, or of a merge, are zero."""
    return (
        f"{called} changes nothing: all its deltas are zero, so the model answers as the base "
        "does; was it trained?"
    )


def _gguf_names(file: GGUFFile) -> list[str]:
    values = (file.value(f"general.{name}") for name in _NAMES)
    return [name for name in values if isinstance(name, str) and name]


def _names_doubt(called: str, named: Sequence[str], names: Sequence[str]) -> list[str]:
    if not named:
        return [
            f"{called} does not say which base model it was trained on; if it was another one than "
            f"{names[0]}, the result is wrong"
        ]
    if {*map(_plain, named)} & {*map(_plain, names)}:
        return []
    known = dict.fromkeys(names)
    return [
        f"{called} was trained on {named[0]!r:.200}, and this model is called "
        f"{' or '.join(map(repr, known)):.400}; if these are two models, the result is wrong"
    ]


def _plain(name: str) -> str:
    """Return a model's name without its owner or folder and without its storage format."""
    cached = _CACHED.search(name)
    last = cached[1] if cached else re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    last = last[-_LONGEST_NAME:]
    last = _NUMBERED.sub("", last.casefold().removesuffix(".gguf"))
    while (shorter := _STORED.sub("", last)) != last:
        last = shorter
    return re.sub(r"[\W_]+", "", last)
