"""Choose how a training stays within its memory limit."""

from __future__ import annotations

from dataclasses import dataclass, replace

from m2m.counted import counted
from m2m.errors import ResourceError
from m2m.nn.config import DecoderConfig
from m2m.nn.memory import Load, peak_bytes
from m2m.recipe import Train
from m2m.recipe.fields import ANYTIME

GIB = 1 << 30


@dataclass(frozen=True)
class Saving:
    """A way to save memory, and the expected peak of the whole process.

    Attributes:
        recompute, half: as for `Decoder`.
        bytes: expected peak of the process.
    """

    recompute: int
    half: bool
    bytes: int

    @property
    def ways(self) -> str:
        """Return the names of the ways to save memory, for messages."""
        half = ["the base kept in 16 bits"] if self.half else []
        again = (
            [f"activations of {counted(self.recompute, 'layer')} recomputed"]
            if self.recompute
            else []
        )
        return " and ".join(half + again) or "nothing saved"


def load_of(config: Train, threads: int) -> Load:
    """Return the decoder's load for a recipe's `[train]`, with an imported base."""
    kept = (config.holdout > 0) + (config.shape == ANYTIME)  # the best adapter, and the mean
    return Load(
        rank=config.rank,
        modules=config.target_modules,
        tokens=config.batch_tokens,
        length=min(config.max_length, config.batch_tokens),
        threads=threads,
        copies=3 + kept + threads * (config.accumulate > 1),
        narrow=True,
        precision=config.precision,
    )


def choose_saving(base: DecoderConfig, load: Load, limit: int, *, held: int) -> Saving:
    """Return the fastest way to train within `limit` bytes that changes no number.

    Args:
        base: sizes of the model.
        load: load of the training.
        limit: most bytes for the process; 0 for no limit.
        held: bytes that the process has already.

    Raises:
        ResourceError: no way fits; the hint names changes that would fit.
    """
    # In the order of their cost: casts take as long as computing a few layers twice.
    half = load.narrow and load.precision == "float32"
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
    """Return a hint that fits: another precision, fewer tokens or more memory."""

    def fits(precision: str) -> bool:
        other, half = replace(load, precision=precision), load.narrow and precision == "float32"
        return peak_bytes(base, other, recompute=base.num_layers, half=half) <= room

    if load.precision == "bf16" and fits("float32"):
        return 'set precision = "float32" in [train], which fits, or give [limits] memory more'
    rounded = load.precision != "q8_0" and fits("q8_0")
    more = ', or precision = "q8_0", which keeps the base in 8 bits,' if rounded else ","
    tokens = load.tokens // 2
    while tokens >= 64:
        smaller = replace(load, tokens=tokens, length=min(load.length, tokens))
        if peak_bytes(base, smaller, recompute=least.recompute, half=least.half) <= room:
            return f"set batch_tokens = {tokens} in [train]{more} or give [limits] memory more"
        tokens //= 2
    if rounded:
        return 'set precision = "q8_0" in [train], which keeps the base in 8 bits and fits'
    return (
        f"set [limits] memory to {least.bytes / GIB + 0.05:.2f} or more, free memory, or take a "
        "smaller base"
    )
