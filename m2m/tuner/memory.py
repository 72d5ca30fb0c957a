"""Keeping a training within the memory it may take."""

from __future__ import annotations

from dataclasses import dataclass, replace

from m2m.errors import ResourceError
from m2m.nn.config import DecoderConfig
from m2m.nn.memory import Load, peak_bytes
from m2m.recipe import Train

GIB = 1 << 30


@dataclass(frozen=True)
class Saving:
    """How a decoder saves memory, and the peak that is expected of the whole process.

    Attributes:
        recompute, half: as for `Decoder`.
        bytes: what is expected.
    """

    recompute: int
    half: bool
    bytes: int

    @property
    def ways(self) -> str:
        """What is saved, in words."""
        half = ["the base kept as float16"] if self.half else []
        again = [f"activations of {self.recompute} layers recomputed"] if self.recompute else []
        return " and ".join(half + again) or "nothing saved"


def load_of(config: Train, threads: int, *, float16: bool) -> Load:
    """What a recipe's `[train]` asks of a decoder, whose base may be of float16 weights."""
    return Load(
        rank=config.rank,
        modules=config.target_modules,
        tokens=config.batch_tokens,
        length=min(config.max_length, config.batch_tokens),
        threads=threads,
        copies=3 + (config.holdout > 0) + threads * (config.accumulate > 1),
        float16=float16,
        bf16=config.precision == "bf16",
    )


def choose_saving(base: DecoderConfig, load: Load, limit: int, *, held: int) -> Saving:
    """Return the fastest way to train within `limit` bytes; only what changes no number.

    Args:
        base: sizes of the model.
        load: of the training.
        limit: bytes that the process may take; 0 for any.
        held: bytes that it holds already.

    Raises:
        ResourceError: no way fits; the hint says what would.
    """
    # In the order of their cost: casting takes as long as a few layers that run again.
    half = load.float16 and not load.bf16
    ways = [(0, False), *((layers, half) for layers in range(base.num_layers + 1))]
    savings = [
        Saving(recompute, half, held + peak_bytes(base, load, recompute=recompute, half=half))
        for recompute, half in ways
    ]
    for saving in savings:
        if not limit or saving.bytes <= limit:
            return saving
    least = min(savings, key=lambda saving: saving.bytes)
    raise ResourceError(
        f"training needs about {least.bytes / GIB:.2f} GiB with {least.ways}, and may take "
        f"{limit / GIB:.2f} GiB",
        _remedy(base, load, limit - held, least),
    )


def _remedy(base: DecoderConfig, load: Load, room: int, least: Saving) -> str:
    """What would fit: float32, whose base may be kept as float16; fewer tokens; more memory."""
    exact = replace(load, bf16=False)
    if load.bf16 and peak_bytes(base, exact, recompute=base.num_layers, half=load.float16) <= room:
        return 'set precision = "float32" in [train], which fits, or give [limits] memory more'
    tokens = load.tokens // 2
    while tokens >= 64:
        smaller = replace(load, tokens=tokens, length=min(load.length, tokens))
        if peak_bytes(base, smaller, recompute=least.recompute, half=least.half) <= room:
            return f"set batch_tokens = {tokens} in [train], or give [limits] memory more"
        tokens //= 2
    return (
        f"set [limits] memory to {least.bytes / GIB + 0.05:.2f} or more, free memory, or take a "
        "smaller base"
    )
