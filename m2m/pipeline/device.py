"""The device that trains: a GPU if the recipe allows one and it can, else the processor."""

from __future__ import annotations

from m2m.checkpoint import BaseModel
from m2m.errors import DeviceError, ResourceError
from m2m.formats.atomic import write_json
from m2m.formats.records import read_object
from m2m.ggml.decoder import DeviceDecoder
from m2m.ggml.devices import Device, gpu
from m2m.ggml.network import missing
from m2m.ggml.storage import Kind
from m2m.nn.config import DecoderConfig
from m2m.progress import Progress
from m2m.recipe import Recipe
from m2m.results.folder import RunFolder
from m2m.tuner.saving import GIB

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


def give_up(recipe: Recipe, error: DeviceError, progress: Progress) -> None:
    """Let the processor train the rest of a run whose GPU failed.

    Raises:
        DeviceError: the recipe allows no other device than the GPU.
    """
    if recipe.limits.device != "auto":
        raise error
    path = RunFolder(recipe.folder).lost_device
    write_json(path, {"reason": error.message})
    progress.warn(
        f"{error.message}; the processor trains all adapters of this run from now on (to try the "
        f"GPU again, delete {path})"
    )


def open_on(device: Device, base: BaseModel, threads: int) -> DeviceDecoder:
    """Open the base on a device; values are exact there, so results differ by rounding only."""
    narrow = base.compact_weights["model.embed_tokens.weight"].dtype.name == "float16"
    kind: Kind = "f16" if narrow and device.name.startswith(_WIDENS) else "f32"
    return DeviceDecoder(base.config, base.compact_weights, device.name, threads=threads, kind=kind)


def note_memory(decoder: object, progress: Progress, *, if_short: bool = False) -> None:
    """Note how much of a device's memory a training took, and whether it was short."""
    if isinstance(decoder, DeviceDecoder) and (decoder.recompute or not if_short):
        base, batch = (size / GIB for size in decoder.memory())
        short = "; it was short, so the values of the layers were computed twice"
        progress.note(
            f"training takes {base + batch:.2f} GiB of {decoder.device}: {base:.2f} for the base, "
            f"{batch:.2f} for a batch{short * decoder.recompute}"
        )


def _reason(recipe: Recipe, config: DecoderConfig, found: Device | None) -> str:
    """Return why no GPU trains this model, or ""."""
    lost = RunFolder(recipe.folder).lost_device
    if recipe.limits.device == "auto" and lost.is_file():
        return f"the GPU failed before: {read_object(lost).get('reason')} (see {lost})"
    if found is None:
        return "this llama.cpp finds no GPU (see `m2m doctor`)"
    if lacking := missing(config):
        return f"GPUs do not compute {', '.join(lacking)} of {config.architecture}"
    if recipe.train.precision != "float32":
        return f'GPUs train in float32, and [train] has precision = "{recipe.train.precision}"'
    return ""
