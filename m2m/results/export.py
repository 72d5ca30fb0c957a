"""The result of the export step: the winner's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.export.selftest import SelfTest
from m2m.formats.json_fields import JsonFields


@dataclass(frozen=True)
class Exported(JsonFields):
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
        return [*lost(self.type, self.remedy), *self.self_test.warnings]

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, and the warnings."""
        return {**super().as_json(), "warnings": self.warnings}


def lost(kind: str, remedy: str | None) -> list[str]:
    """Return the warning about a file, or a rank, that keeps too little: it has a remedy."""
    return [f"{kind} keeps too little of the fine-tune; {remedy}"] if remedy else []
