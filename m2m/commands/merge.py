"""`m2m merge`: merge adapters into a model, or into one adapter, without a recipe."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from m2m.adapter import load_adapter, save_adapter
from m2m.checkpoint import find_model
from m2m.errors import InputError
from m2m.export.lora_gguf import export_lora
from m2m.export.merged_gguf import LOW_SURVIVAL, export_gguf, remedy
from m2m.formats.json_fields import JsonFields, Rounded
from m2m.llamacpp.filetypes import file_type
from m2m.machine import peak_rss_bytes
from m2m.merge.belonging import adapter_doubts, changes_nothing
from m2m.merge.merger import Merger
from m2m.merge.peft_names import to_peft
from m2m.pipeline.inputs import model_folders
from m2m.recipe import Merge, Quantize
from m2m.results.export import lost


@dataclass(frozen=True)
class Merged(JsonFields):
    """The result of `m2m merge`.

    Attributes:
        type: type of the file; "lora" for an adapter.
        delta_survival: {"gain", "cosine"} of the deltas after quantisation, or after the cut to an
            adapter's rank; None for a folder in HF format, and if all deltas are zero.
        remedy: the next step if too little of the deltas is left, else None.
        warnings: reasons why the result may be wrong, a sentence each.
    """

    out: Path
    type: str
    delta_survival: dict[str, float] | None
    remedy: str | None
    warnings: list[str]
    seconds: Annotated[float, Rounded(2)]
    peak_rss_bytes: int


def merge_adapters(
    model: str,
    adapters: Sequence[str],
    options: Merge,
    kind: str | None,
    rank: int | None,
    out: Path,
) -> Merged:
    """Merge adapters, each "DIR" or "DIR=WEIGHT", and write a model, or an adapter.

    Args:
        model: a name under models/, or a folder.
        adapters: PEFT folders; without any weight they count equally, 1/k each.
        options: method and scale.
        kind: type of a model's file, for a folder only f16, bf16 and f32; None: q8_0 for a GGUF,
            and the base's own for a folder.
        rank: write an adapter of this rank instead of a model.
        out: NAME.gguf, or a folder: in HF format for a model, in PEFT's for an adapter.

    Raises:
        InputError: an adapter does not fit the model, or a weight is not a number.
    """
    started = time.perf_counter()
    _refuse_to_replace(out)
    base = find_model(model, model_folders())
    weights = _weights(adapters)
    merger = Merger(base, {name: load_adapter(Path(name)) for name in weights}, options)
    warnings = [
        doubt for adapter in merger.adapters.values() for doubt in adapter_doubts(adapter, base)
    ]
    if not any(weights.values()) or not options.scale:
        warnings.append(changes_nothing("this merge"))
    names, coefficients = list(weights), list(weights.values())
    survival, advice = None, None
    if kind is None:
        kind = Quantize().export if out.suffix == ".gguf" else base.info.dtype.lower()
    if rank is not None:
        kind = "lora"
        adapter, survival = merger.adapter(names, coefficients, rank)
        advice = "a higher rank keeps more" if min(survival.values()) < LOW_SURVIVAL else None
        if out.suffix == ".gguf":
            export_lora(adapter, base, out)
        else:
            save_adapter(out, to_peft(adapter, base.config))
    elif out.suffix == ".gguf":
        _, measured = export_gguf(merger, weights, file_type(kind), out)
        exact = sum(adapter.rank for adapter in merger.adapters.values())
        lora = f"merge to an adapter of rank {exact} in place of a model"
        survival, advice = (
            measured.as_json(),
            remedy(merger, weights, file_type(kind), measured, lora),
        )
    elif kind.upper() in ("F16", "BF16", "F32"):
        merger.write_folder(names, coefficients, out, kind.upper())
    else:
        raise InputError(
            f"a folder cannot hold {kind}", "leave `--type` out, or use --out NAME.gguf"
        )
    warnings += lost(kind if rank is None else f"rank {rank}", advice)
    seconds = time.perf_counter() - started
    return Merged(out, kind, survival, advice, warnings, seconds, peak_rss_bytes())


def _refuse_to_replace(folder: Path) -> None:
    """Raise unless a folder is a model or an adapter, because it is replaced as a whole."""
    known = ("config.json", "adapter_config.json")
    if folder.is_dir() and not any((folder / name).is_file() for name in known):
        raise InputError(
            f"{folder}: exists and is not a model or adapter", "choose another name for `--out`"
        )


def _weights(adapters: Sequence[str]) -> dict[str, float]:
    """Return the weights by folder."""
    weights: dict[str, float] = {}
    for text in adapters:
        folder, equals, weight = text.rpartition("=") if not Path(text).exists() else (text, "", "")
        try:
            value = float(weight) if equals else 1.0 / len(adapters)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"the weight in {text!r} is not a number", "write DIR=0.5")
        name = folder if equals else text
        if Path(name).resolve() in {Path(other).resolve() for other in weights}:
            raise InputError(f"the adapter {name} is given twice", "give it once, with its weight")
        weights[name] = value
    return weights
