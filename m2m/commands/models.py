"""Find the GGUF models that a command names, and open them in llama.cpp."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from m2m.checkpoint import find_model
from m2m.errors import InputError
from m2m.formats.gguf import GGUFFile
from m2m.llamacpp.applied_lora import AdaptedModel
from m2m.llamacpp.filetypes import FILE_TYPES, file_type
from m2m.llamacpp.guard import check_loads
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.scratch_model import Surrogate, scratch_folder
from m2m.machine import usable_threads
from m2m.pipeline.inputs import model_folders
from m2m.recipe import Quantize

AUTO, STORED = "auto", "stored"
_WHOLE = ("f32", "f16", "bf16")  # types that another type can be made of


def gguf_of(model: str) -> Path:
    """Return the GGUF file of `model`: a file, or the base.gguf of a model under models/.

    Raises:
        InputError: there is none, or the file is no GGUF or a LoRA.
    """
    path = Path(model)
    if not path.is_file():
        return find_model(model, model_folders()).gguf.path
    if (file := GGUFFile(path)).value("general.type") == "adapter":
        base = file.value("general.base_model.0.name") or "BASE"
        raise InputError(
            f"{path} is a LoRA, which changes a model, and no whole model",
            f"name the model, too: {base} and `--lora {path}`",
        )
    return path


def open_model(path: Path, lora: Path | None) -> LlamaModel:
    """Open a GGUF model in llama.cpp, with a GGUF LoRA if one is given.

    Raises:
        LlamaError: llama.cpp cannot load them; a child process has tried it first.
    """
    check_loads(path, lora)
    threads = usable_threads()
    return AdaptedModel(path, lora, threads=threads) if lora else LlamaModel(path, threads=threads)


def scored_as(model: str, file: GGUFFile, kind: str) -> str:
    """Return the type in which a model is scored.

    Args:
        model: as the user named it.
        file: its file.
        kind: `STORED`: as the file is; `AUTO`: that too, but a base model under models/ in the type
            in which `m2m run` scores it, so that both have the same scores; else the type itself.

    Raises:
        InputError: the file's weights are rounded already, and would be rounded again.
    """
    stored = _stored_type(file)
    if kind == AUTO:
        base = not Path(model).is_file() and stored in _WHOLE
        return Quantize().type if base else stored
    if kind in (STORED, stored):
        return stored
    if stored not in _WHOLE:
        raise InputError(
            f"{file.path}: its weights are {stored} already; only f32, f16 and bf16 are scored in "
            "another type",
            "leave `--type` out, or name the file that it was made from",
        )
    return kind


def _stored_type(file: GGUFFile) -> str:
    number = file.value("general.file_type")
    names = [each.name for each in FILE_TYPES.values() if each.number == number]
    return names[0] if names else "unknown"


@contextmanager
def open_as(file: GGUFFile, lora: Path | None, kind: str) -> Iterator[LlamaModel]:
    """Open a model in a type from `scored_as`; a scratch file in that type is deleted at the end.

    Raises:
        LlamaError: llama.cpp cannot load it.
        ResourceError: there is no room for the scratch file.
    """
    if kind == _stored_type(file):
        with open_model(file.path, lora) as model:
            yield model
        return
    check_loads(file.path, lora)
    threads = usable_threads()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="m2m-")))
        folder = scratch_folder(home, 2 * sum(each.nbytes for each in file.tensors.values()))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        made = stack.enter_context(Surrogate(file, file_type(kind), folder, threads=threads))
        if lora is None:
            yield made.load([])
            return
        repack = not made.patch
        with AdaptedModel(made.path, lora, threads=threads, repack=repack) as adapted:
            yield adapted
