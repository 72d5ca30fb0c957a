"""Find the source of `m2m models add`: a path, or the starter of models/starter.toml."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from m2m.checkpoint.known import advice
from m2m.errors import InputError
from m2m.opening import SETTINGS, file_sha256, read_text

FETCH = "fetch it with `scripts/fetch-starter`"
_PART = r"-\d{5}-of-\d{5}$"  # name of one part of a split GGUF model


@dataclass(frozen=True)
class ModelSource:
    """A file or folder to import, its name in m2m, and the sha256 that the file must have."""

    path: Path
    name: str
    licence: str | None
    sha256: str | None = None

    def check(self) -> None:
        """Raise InputError if the file is not the expected one."""
        if self.sha256 and (digest := file_sha256(self.path)) != self.sha256:
            raise InputError(
                f"{self.path} is not the starter: sha256 {digest}, expected {self.sha256}",
                f"delete it and {FETCH}",
            )


def locate(source: str, root: Path, name: str | None, licence: str | None) -> ModelSource:
    """Return the file or folder that `source` means.

    Args:
        source: the path of a file or folder, or "starter".
        root: the folder of models, which has `starter.toml`.
        name: the name that the user chose, if any.
        licence: the licence that the user named, if any.

    Raises:
        InputError: there is no such path.
    """
    if source == "starter":
        return _starter(root, name)
    path = Path(source)
    if not path.exists():
        raise InputError(
            f"there is no file {path}",
            advice(source)
            or "give a GGUF file, a Hugging Face folder, or `starter`; "
            "`m2m models known` lists models that fit",
        )
    called = path.resolve().name if path.is_dir() else re.sub(_PART, "", path.stem)
    plain = re.sub(r"[^a-z0-9._-]+", "-", called.lower()).strip("-._") or "model"
    return ModelSource(path, name or plain, licence)


def _starter(root: Path, name: str | None) -> ModelSource:
    description = root / "starter.toml"
    try:
        starter = tomllib.loads(read_text(description, SETTINGS, universal=True))
    except InputError as error:
        hint = "run this in m2m's own folder, or name the models folder with `--models`"
        raise InputError(error.message, hint) from error
    path = root / starter["file"]
    if not path.exists():
        raise InputError(f"there is no file {path}", FETCH)
    return ModelSource(path, name or starter["name"], starter["licence"], starter["sha256"])
