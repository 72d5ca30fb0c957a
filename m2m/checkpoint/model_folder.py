"""Open and find a base model's folder under models/, and notice if its files changed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from m2m.checkpoint.base_weights import BaseWeights, GGUFWeights, Tensors, open_weights
from m2m.checkpoint.endings import ending_warnings, model_endings
from m2m.checkpoint.hf_config import config_from_json
from m2m.checkpoint.known import advice
from m2m.errors import InputError, Problems
from m2m.formats.atomic import remove_folder, write_json
from m2m.formats.gguf import GGUFFile
from m2m.formats.records import read_object
from m2m.nn.config import DecoderConfig
from m2m.opening import file_sha256
from m2m.tokenizer import Formatter, Tokenizer
from m2m.tokenizer.vocabulary_warnings import vocabulary_warnings

WEIGHTS, CONFIG, PATTERN, INFO = "model.safetensors", "config.json", "base.gguf", "m2m-model.json"
FORMAT_VERSION = 2
# The files that can change a result, by version. The first kept the weights twice.
CONTENTS = {1: (WEIGHTS, CONFIG, PATTERN), 2: (CONFIG, PATTERN)}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # a file name may have 255 bytes


@dataclass(frozen=True)
class ModelInfo:
    """The facts about a model that m2m knows without reading its tensors.

    Attributes:
        name: name of the model and of its folder.
        path: its folder.
        architecture: "llama", ... (`FAMILIES`).
        parameters: number of weights.
        dtype: type of its matrices, "F16" or "BF16"; norms are F32.
        bytes: size of the folder's files.
        licence: as given, or from the source; None if neither names one.
        source: name of the file or folder that it was imported from.
        source_sha256: hash of that file; of several, the hash of their hashes.
        source_types: types of the tensors in the source, such as ["F32", "Q4_1", "Q8_0"].
        warnings: reasons why it may not stop, or may read text in another way than its maker meant.
    """

    name: str
    path: Path
    architecture: str
    parameters: int
    dtype: str
    bytes: int
    licence: str | None
    source: str
    source_sha256: str
    source_types: tuple[str, ...]
    warnings: tuple[str, ...] = ()


class BaseModel:
    """An opened base model; each part is read on its first use.

    Attributes:
        path: its folder.
        info: facts known without reading tensors.
        config: its sizes.
        weights: float32 tensors by HF name, read at each look-up.
        compact_weights: the same, but maps and tables in 16 bits, for a `Decoder`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stored = read_object(path / INFO)
        self.info = _info(path, self._stored)
        self.config: DecoderConfig = config_from_json(path / CONFIG)
        old = self._stored["format_version"] == 1
        file = open_weights(path / (WEIGHTS if old else PATTERN), self.config)
        self.weights = BaseWeights(file)
        self.compact_weights = BaseWeights.compact(file, self.config)

    @classmethod
    def open(cls, folder: Path) -> BaseModel:
        """Open the model in `folder`.

        Raises:
            InputError: the folder is not a model, or its files do not fit one another.
        """
        if not (folder / INFO).is_file():
            raise InputError(
                f"{folder}: is not an m2m model (no {INFO})",
                "import one with `m2m models add SOURCE`",
            )
        return cls(folder)

    def release(self) -> None:
        """Drop the pages of its files from this process's memory; later reads load them again."""
        self.weights.file.release()
        if "gguf" in vars(self):
            self.gguf.release()

    @property
    def name(self) -> str:
        """Return the model's name."""
        return self.info.name

    @cached_property
    def gguf(self) -> GGUFFile:
        """Return the pattern file, base.gguf, whose metadata surrogates and exports copy."""
        file = self.weights.file
        return file.gguf if isinstance(file, GGUFWeights) else GGUFFile(self.path / PATTERN)

    @property
    def warnings(self) -> list[str]:
        """Return `ModelInfo.warnings`; computed here if an older m2m imported the model."""
        if "warnings" in self._stored:
            return list(self.info.warnings)
        endings = model_endings(self.gguf, self.weights.file)
        return [*vocabulary_warnings(self.gguf.value), *endings]

    def warnings_with(self, formatter: Formatter) -> list[str]:
        """Return reasons why a model that is trained with these prompts may misbehave."""
        stored = self._stored.get("cautions")
        vocabulary = vocabulary_warnings(self.gguf.value) if stored is None else map(str, stored)
        reasons = [*vocabulary, *ending_warnings(formatter, self.weights.file)]
        self.weights.file.release()
        return reasons

    @property
    def _content(self) -> Sequence[str]:
        return CONTENTS[self._stored["format_version"]]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer, from the pattern file."""
        return Tokenizer.from_metadata(self.gguf.value)

    @cached_property
    def fingerprint(self) -> str:
        """Return the sha256 (hex) of everything in the folder that can change a result.

        m2m-model.json keeps it for as long as the files keep their size and times.
        """
        stamps = file_stamps(self.path, self._content)
        known = self._stored.get("fingerprint")
        if isinstance(known, str) and self._stored.get("files") == stamps:
            return known
        digest = content_fingerprint(self.path, self.weights.file)
        with suppress(InputError):  # a read-only folder is hashed each time
            write_json(self.path / INFO, self._stored | {"fingerprint": digest, "files": stamps})
        return digest


def file_stamps(folder: Path, names: Sequence[str]) -> dict[str, list[int]]:
    """Return [size in bytes, time of change of the bytes, of anything] of each file, times in ns.

    Programs can set the first time but not the second. So m2m notices bytes that changed under
    an old first time.
    """
    stamps = {}
    for name in names:
        try:
            status = (folder / name).stat()
        except OSError as error:
            raise InputError(f"cannot read {folder / name}: {error.strerror or error}") from error
        stamps[name] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return stamps


def content_fingerprint(folder: Path, weights: Tensors) -> str:
    """Return the sha256 (hex) over the sha256 of the weights and of each other content file.

    It is the same in both versions, so results that were made with the one stay valid.
    """
    digests = {WEIGHTS: weights.sha256}
    digests |= {name: file_sha256(folder / name) for name in (CONFIG, PATTERN)}
    lines = "".join(f"{name} {digest}\n" for name, digest in digests.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def list_models(root: Path) -> list[ModelInfo]:
    """Return all models directly under `root`, by name; empty if the folder does not exist."""
    if not root.is_dir():
        return []
    folders = sorted(path.parent for path in root.glob(f"*/{INFO}"))
    return [_info(folder, read_object(folder / INFO)) for folder in folders]


def is_model(gguf: Path) -> bool:
    """Return whether this file is the base.gguf of an imported model."""
    return gguf.name == PATTERN and (gguf.parent / INFO).is_file()


def find_model(name_or_path: str, search: Sequence[Path]) -> BaseModel:
    """Open a model by the path of its folder, or by its name under one of the `search` folders.

    Raises:
        InputError: there is no such model; the hint lists the known ones.
    """
    candidates = [root / name_or_path for root in search] if _NAME.fullmatch(name_or_path) else []
    for folder in [*candidates, Path(name_or_path)]:
        if (folder / INFO).is_file():
            return BaseModel.open(folder)
    known = sorted({info.name for root in search for info in list_models(root)})
    hint = (
        f"imported models: {', '.join(known)}"
        if known
        else f"import one with `m2m models add SOURCE` (none in {', '.join(map(str, search))}); "
        "`m2m models known` lists models that fit"
    )
    if there := advice(name_or_path):
        hint = f"{there}. Imported models: {', '.join(known) or 'none'}"
    raise InputError(f"there is no model called {name_or_path!r} on this machine", hint)


def remove_model(folder: Path) -> None:
    """Delete an imported model; raise InputError if it is not one, or cannot be deleted."""
    if not (folder / INFO).is_file():
        raise InputError(f"{folder}: is not an m2m model (no {INFO}), nothing was deleted")
    try:
        remove_folder(folder)
    except OSError as error:
        raise InputError(f"cannot delete {folder}: {error.strerror or error}") from error


def check_name(name: str) -> None:
    """Raise InputError if a name is not a plain folder name."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"model name {name!r}: expected at most 128 letters from a to z, digits, dots, - and _",
            "choose another with `--name`",
        )


def _info(path: Path, stored: Mapping[str, Any]) -> ModelInfo:
    version = stored.get("format_version")
    if not isinstance(version, int) or version not in CONTENTS:
        raise InputError(
            f"{path / INFO}: format version {version!r}, this m2m reads {FORMAT_VERSION} or less",
            "import the model again with `m2m models add`",
        )
    kinds = {
        "name": str,
        "architecture": str,
        "parameters": int,
        "dtype": str,
        "source": str,
        "source_sha256": str,
        "source_types": list,
    }
    problems = Problems()
    for key, kind in kinds.items():
        if not isinstance(stored.get(key), kind):
            problems.add(f"{key} is {stored.get(key)!r}, expected {kind.__name__}")
    warnings = stored.get("warnings", [])  # an older m2m wrote none
    if not isinstance(warnings, list):
        problems.add(f"warnings is {warnings!r:.80}, expected list")
    problems.raise_if_any(InputError, str(path / INFO))
    values = {key: stored[key] for key in kinds} | {"source_types": tuple(stored["source_types"])}
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    licence = stored.get("licence")
    values["warnings"] = tuple(map(str, warnings))
    return ModelInfo(path=path, bytes=size, licence=licence and str(licence), **values)
