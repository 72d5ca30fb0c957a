"""The result of the export step: the winner's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.export.selftest import SelfTest
from m2m.formats.json_text import AsDict

_FILES = ("gguf", "modelfile", "lora", "card")


@dataclass(frozen=True)
class Exported(AsDict):
    """The files of the winner.

    Attributes:
        gguf: the merged model.
        lora: the fine-tune alone, for the unchanged base.
        delta_survival: {"gain", "cosine"} of the fine-tune in `gguf`; None if it changed nothing.
        remedy: the next step if `type` keeps too little of the fine-tune, else None.
        card: the model card.
        remarks: obligations and restrictions of the licences of base and data.
        self_test: the GGUF's answers to questions that it was trained on.
        serving: how programs ask the model differently than in training, and the remedy.
    """

    gguf: Path
    modelfile: Path
    lora: Path
    type: str
    types_written: Mapping[str, int]
    delta_survival: Mapping[str, float] | None
    remedy: str | None
    card: Path
    remarks: Sequence[str]
    self_test: SelfTest
    serving: Sequence[str] = ()

    @property
    def warnings(self) -> list[str]:
        """Return warnings about the files."""
        lost = f"{self.type} keeps too little of the fine-tune; {self.remedy}"
        return [*([lost] if self.remedy else []), *self.self_test.warnings]

    def as_json(self) -> dict[str, Any]:
        """Return the fields of `m2m export --json` and of `export.json`."""
        paths = {name: str(getattr(self, name)) for name in _FILES}
        return {**vars(self), **paths, "self_test": self.self_test.as_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Exported:
        """Rebuild it from `as_json`.

        Raises:
            KeyError, TypeError, ValueError: `data` is not from `as_json`.
        """
        survival, remedy = data["delta_survival"], data["remedy"]
        return cls(
            **{name: Path(str(data[name])) for name in _FILES},
            type=str(data["type"]),
            types_written={str(name): int(n) for name, n in data["types_written"].items()},
            delta_survival=survival and {str(key): float(n) for key, n in survival.items()},
            remedy=None if remedy is None else str(remedy),
            remarks=_texts(data, "remarks"),
            self_test=SelfTest.from_json(data["self_test"]),
            serving=_texts(data, "serving"),
        )


def _texts(data: Mapping[str, Any], key: str) -> list[str]:
    texts = data[key]
    if not isinstance(texts, list):
        raise TypeError(f"{key} is not a list")
    return list(map(str, texts))
