"""The device that trains: a GPU if the recipe allows one and it can, else the processor."""

from __future__ import annotations

from m2m.checkpoint import BaseModel
from m2m.errors import ResourceError
from m2m.ggml.decoder import DeviceDecoder
from m2m.ggml.devices import Device, gpu
from m2m.ggml.network import missing
from m2m.ggml.storage import Kind
from m2m.nn.config import DecoderConfig
from m2m.progress import Progress
from m2m.recipe import Recipe

# Vulkan widens float16 weights before a product; others would round the activations to float16.
_WIDENS = "Vulkan"


def training_device(recipe: Recipe, config: DecoderConfig) -> Device | None:
    """Return the GPU that trains adapters; None: the processor does.

    Raises:
        ResourceError: `device = "gpu"`, and no GPU can train this model as the recipe says.
    """
    if recipe.limits.device == "cpu":
        return None
    found = gpu()
    reason = _reason(recipe, config, found)
    if reason and recipe.limits.device == "gpu":
        raise ResourceError(f'device = "gpu", and {reason}', 'set device = "cpu" in [limits]')
    return None if reason else found


def say(recipe: Recipe, config: DecoderConfig, progress: Progress) -> None:
    """Note which device trains, and why not a GPU, if the recipe would allow one."""
    if device := training_device(recipe, config):
        progress.note(f"training on {device.name}, {device.description}")
    elif recipe.limits.device == "auto" and (found := gpu()):
        progress.note(f"training on the processor: {_reason(recipe, config, found)}")


def open_on(device: Device, base: BaseModel, threads: int) -> DeviceDecoder:
    """Open the base on a device; values are exact there, so results differ by rounding only."""
    narrow = base.compact_weights["model.embed_tokens.weight"].dtype.name == "float16"
    kind: Kind = "f16" if narrow and device.name.startswith(_WIDENS) else "f32"
    return DeviceDecoder(base.config, base.compact_weights, device.name, threads=threads, kind=kind)


def _reason(recipe: Recipe, config: DecoderConfig, found: Device | None) -> str:
    """Return why no GPU trains this model, or ""."""
    if found is None:
        return "this llama.cpp finds no GPU (see `m2m doctor`)"
    if lacking := missing(config):
        return f"GPUs do not compute {', '.join(lacking)} of {config.architecture}"
    if recipe.train.precision != "float32":
        return f'GPUs train in float32, and [train] has precision = "{recipe.train.precision}"'
    return ""
