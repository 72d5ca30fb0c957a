"""Read the sizes and fields of a family from config.json and GGUF."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from m2m.errors import InputError, Problems
from m2m.families import FAMILIES, Family, Field
from m2m.families.refused import reason_for
from m2m.nn.config import DecoderConfig

# Names of a model's sizes: in DecoderConfig, in config.json, in GGUF after the architecture.
SIZES = (
    ("hidden_size", "hidden_size", "embedding_length"),
    ("intermediate_size", "intermediate_size", "feed_forward_length"),
    ("num_layers", "num_hidden_layers", "block_count"),
    ("num_heads", "num_attention_heads", "attention.head_count"),
    ("num_kv_heads", "num_key_value_heads", "attention.head_count_kv"),
    ("head_dim", "head_dim", "attention.key_length"),
    ("max_position_embeddings", "max_position_embeddings", "context_length"),
)
JSON, GGUF = 1, 2  # columns of SIZES
_LIMIT = (1 << 31) - 1  # llama.cpp counts in int32
_MOST_LAYERS = 512  # LLAMA_MAX_LAYERS, llama-hparams.h; llama.cpp aborts above it


def family_of(name: Any, table: Mapping[str, Family], field: str) -> Family:
    """Return the family `name`; raise InputError that lists the known ones if there is none."""
    if isinstance(name, str) and name in table:
        return table[name]
    reason = reason_for(name) if isinstance(name, str) else "expected a name"
    raise InputError(
        f"{field} is {name!r}, which m2m does not compute: {reason}",
        f"it knows: {', '.join(sorted(table))}",
    )


def local_layers(layers: int, period: int) -> tuple[bool, ...]:
    """Return one flag a layer: all but every `period`-th are local (0: all of them)."""
    return tuple(period == 0 or (layer + 1) % period != 0 for layer in range(layers))


def period_of(flags: tuple[bool, ...]) -> int | None:
    """Return the period that gives these flags (inverse of `local_layers`); None if none does."""
    period = flags.index(False) + 1 if False in flags else 0
    return period if flags == local_layers(len(flags), period) else None


@dataclass
class Keys:
    """Look up values of given types; collect every missing or impossible value as a problem.

    `names` are the names of keys in messages, if they are not the keys themselves.
    """

    get: Callable[[str], Any]
    problems: Problems
    names: Mapping[str, str] = field(default_factory=dict)

    def size(self, key: str, *, default: int | None = None, at_most: int = _LIMIT) -> int:
        """Return a whole number from 1 to `at_most`; 1 after a problem, to check the rest too."""
        value = self.get(key)
        value = default if value is None else value
        if type(value) is int and 1 <= value <= at_most:
            return value
        self.problems.add(
            f"{self.names.get(key, key)} is {value!r}, expected a whole number from 1 to {at_most}"
        )
        return 1

    def number(self, key: str, *, default: float | None = None) -> float:
        """Return a positive finite number; a stored float32 is read as its shortest decimal."""
        value: Any = self.get(key)
        value = default if value is None else value
        if type(value) in (int, float) and 0 < value < 3e38:
            return shortest(value)
        self.problems.add(f"{self.names.get(key, key)} is {value!r}, expected a positive number")
        return 1.0

    def sizes(self, column: int) -> dict[str, int]:
        """Return all SIZES, by their names in DecoderConfig."""
        by_name: dict[str, int] = {}
        for row in SIZES:
            name, most = row[0], _MOST_LAYERS if row[0] == "num_layers" else _LIMIT
            default = None
            if name == "num_kv_heads":
                default = by_name["num_heads"]
            elif name == "head_dim":
                default = by_name["hidden_size"] // by_name["num_heads"]
            by_name[name] = self.size(row[column], default=default, at_most=most)
        return by_name


def shortest(value: float) -> float:
    """Return the shortest decimal number that is `value` in float32, the type of GGUF's numbers."""
    return float(str(np.float32(value)))


def fields_from_json(keys: Keys, family: Family, sizes: Mapping[str, Any]) -> dict[str, float]:
    """Return the family's own numbers of a config.json, by their names in DecoderConfig."""
    values = {}
    for own in family.fields:
        value = _field(keys, own, own.json, own.default)
        values[own.name] = shortest(own.read(value, sizes)) if own.read else value
    return values


def fields_to_json(config: DecoderConfig) -> dict[str, float]:
    """Return the family's own numbers for config.json (inverse of `fields_from_json`)."""
    values, sizes = {}, vars(config)
    for own in FAMILIES[config.architecture].fields:
        value = sizes[own.name]
        values[own.json] = shortest(own.write(value, sizes)) if own.write else value
    return values


def _field(keys: Keys, own: Field, key: str, default: float | None) -> float:
    if own.whole:
        return keys.size(key, default=None if default is None else int(default))
    return keys.number(key, default=default)


def fields_from_gguf(keys: Keys, family: Family, sizes: Mapping[str, Any]) -> dict[str, float]:
    """Return the family's own numbers of a GGUF file, by their names in DecoderConfig."""
    return {
        own.name: _field(keys, own, own.gguf, own.missing(sizes) if own.missing else None)
        for own in family.fields
    }


def build_config(
    where: str, family: Family, problems: Problems, values: Mapping[str, Any]
) -> DecoderConfig:
    """Return the config: the values of a file together with the family's traits.

    Raises:
        InputError: `problems` is not empty, or the sizes do not fit one another.
    """
    if (flags := values.get("layer_is_local")) and True not in flags:
        problems.add("no layer looks through the sliding window, which llama.cpp cannot compute")
    problems.raise_if_any(InputError, where)
    try:
        traits = {**family.traits, **family.derive(values), **values}
        return DecoderConfig(architecture=family.name, **traits)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
