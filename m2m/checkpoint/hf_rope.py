"""Read and write the rotary settings of config.json, in the spelling of transformers 4 and 5."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from m2m.checkpoint.sizes import Keys, shortest
from m2m.errors import Problems
from m2m.families import Family
from m2m.nn.config import RopeScaling

# YaRN's settings that llama.cpp fixes.
_YARN: dict[str, Any] = {
    "beta_fast": 32,
    "beta_slow": 1,
    "truncate": True,
    **dict.fromkeys(("attention_factor", "attn_factor", "mscale", "mscale_all_dim")),
}


def rope_settings(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Return the rope settings of global and local layers; transformers 5 has one set for each."""
    new = data.get("rope_parameters")
    if not isinstance(new, dict):
        old = data.get("rope_scaling")
        return (
            old if isinstance(old, dict) else {},
            {"rope_theta": data.get("rope_local_base_freq")},
        )
    parts = new.get("full_attention", new), new.get("sliding_attention")
    whole, local = (_typed(part) if isinstance(part, dict) else _typed({}) for part in parts)
    return whole, local


def refuse_two_scalings(data: Mapping[str, Any], problems: Problems) -> None:
    """Add a problem if the old and the new settings of rope differ; transformers takes the old."""
    old, new = data.get("rope_scaling"), data.get("rope_parameters")
    if isinstance(old, dict) and isinstance(new, dict) and old and new:
        whole, _ = rope_settings(data)
        if any(whole.get(key) != value for key, value in _typed(old).items() if key != "type"):
            problems.add(
                "rope_scaling and rope_parameters differ: delete the one that is not meant"
            )


def _typed(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"rope_type": part.get("type", "default"), **part}


def without_alpha(
    rope: Mapping[str, Any], data: Mapping[str, Any], head_dim: int
) -> Mapping[str, Any]:
    """Return rope settings with the base that a fixed alpha makes (NTK-aware scaling)."""
    kind, alpha = rope.get("rope_type", rope.get("type")), rope.get("alpha")
    theta = rope.get("rope_theta", data.get("rope_theta", 10000.0))
    if kind != "dynamic" or not isinstance(alpha, int | float) or not alpha > 0:
        return rope
    if not isinstance(theta, int | float) or not theta > 0:
        return rope
    return {"rope_type": "default", "rope_theta": theta * alpha ** (head_dim / (head_dim - 2))}


def rope_scaling(rope: Mapping[str, Any], family: Family, problems: Problems) -> RopeScaling | None:
    """Return the scaling of frequencies; a kind that m2m does not compute is a problem."""
    kind = rope.get("rope_type", rope.get("type"))
    keys = Keys(lambda key: rope.get(key.partition(".")[2]), problems)
    if not rope or kind == "default" or (family.longrope and kind in ("longrope", "su")):
        return None
    if kind == "dynamic" and "alpha" not in rope:
        keys.number("rope_scaling.factor")
        return None  # up to max_position_embeddings it changes nothing, and m2m takes no more
    if kind == "linear":
        return RopeScaling("linear", keys.number("rope_scaling.factor"))
    if kind == "llama3" and not family.llama3:
        problems.add(f"rope_scaling has the type llama3, which llama.cpp lacks for {family.title}")
        return None
    if kind == "llama3":
        return RopeScaling(
            "llama3",
            keys.number("rope_scaling.factor"),
            keys.number("rope_scaling.low_freq_factor"),
            keys.number("rope_scaling.high_freq_factor"),
            keys.size("rope_scaling.original_max_position_embeddings"),
        )
    if kind == "yarn":
        plain = {"mscale": 1.0, "mscale_all_dim": 1.0} if family.plain_yarn else {}
        if not rope.get("mscale") or not rope.get("mscale_all_dim"):  # one alone changes nothing
            rope = {key: value for key, value in rope.items() if not key.startswith("mscale")}
        for key, usual in (_YARN | plain).items():
            usual = _yarn_factor(rope) if key == "attention_factor" else usual
            if (value := rope.get(key)) is not None and value != usual:
                problems.add(f"rope_scaling.{key} is {value!r:.60}, which llama.cpp does not read")
        return RopeScaling(
            "yarn",
            keys.number("rope_scaling.factor"),
            original_max_position_embeddings=keys.size(
                "rope_scaling.original_max_position_embeddings"
            ),
            attention_factor=1.0 if family.plain_yarn else 0.0,
        )
    problems.add(f"rope_scaling has the type {kind!r}, m2m computes linear, llama3 and yarn")
    return None


def longrope(rope: Mapping[str, Any], data: Mapping[str, Any], problems: Problems) -> RopeScaling:
    """Return LongRoPE's settings (`_compute_longrope_parameters` in transformers)."""
    keys = Keys(lambda key: rope.get(key, data.get(key)), problems)
    name = "original_max_position_embeddings"  # transformers prefers the one outside rope_scaling
    original = Keys(lambda key: data.get(key, rope.get(key)), problems).size(name)
    lists: dict[str, tuple[float, ...]] = {}
    for key in ("short_factor", "long_factor"):
        numbers = rope.get(key)
        good = isinstance(numbers, list) and all(type(n) in (int, float) and n > 0 for n in numbers)
        if not good:
            problems.add(f"rope_scaling.{key} is {numbers!r:.60}, expected positive numbers")
        lists[key] = (
            tuple(shortest(n) for n in numbers) if isinstance(numbers, list) and good else ()
        )
    ratio = keys.number("factor", default=keys.size("max_position_embeddings") / original)
    usual = math.sqrt(1.0 + math.log(ratio) / math.log(original)) if ratio > 1.0 < original else 1.0
    attention = shortest(keys.number("attention_factor", default=usual))
    return RopeScaling(
        "longrope",
        original_max_position_embeddings=original,
        short_factor=lists["short_factor"],
        long_factor=lists["long_factor"],
        attention_factor=attention,
    )


def _yarn_factor(rope: Mapping[str, Any]) -> float | None:
    """Return the factor on rotated q and k that YaRN has if none is named, as llama.cpp does."""
    factor, stated = rope.get("factor"), rope.get("attention_factor")
    if not isinstance(factor, int | float) or not factor > 0 or not isinstance(stated, float):
        return None
    usual = 0.1 * math.log(factor) + 1.0
    return stated if math.isclose(stated, usual, rel_tol=1e-6) else usual


def scaling_to_json(scaling: RopeScaling) -> dict[str, Any]:
    """Return the content of config.json's `rope_scaling` (inverse of `rope_scaling`)."""
    data: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        names = ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        data |= {name: getattr(scaling, name) for name in names}
    if scaling.kind == "longrope":
        del data["factor"]
        data |= {"short_factor": list(scaling.short_factor)}
        data |= {"long_factor": list(scaling.long_factor)}
        data["attention_factor"] = scaling.attention_factor
    if scaling.kind in ("yarn", "longrope"):
        data["original_max_position_embeddings"] = scaling.original_max_position_embeddings
    return data
