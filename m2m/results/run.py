"""The result of a whole run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.formats.json_fields import JsonFields
from m2m.results.confirmation import Confirmation
from m2m.results.export import Exported
from m2m.results.folder import RANKING
from m2m.results.ranking import Ranking
from m2m.results.stage import Stage


@dataclass(frozen=True)
class RunResult(JsonFields):
    """The whole run, and the folder that holds it; no export if the verdict is against it."""

    folder: Path
    ranking: Ranking
    confirmation: Confirmation
    exported: Exported | None
    report: Path
    stages: Sequence[Stage]
    warnings: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the fields of `m2m run --json` that come from the results."""
        confirmation, exported = self.confirmation, self.exported
        return {
            "verdict": confirmation.verdict.as_json(),
            "winner": confirmation.winner.as_json(),
            "confirmed": [model.as_json() for model in confirmation.models],
            "folder": str(self.folder),
            "ranking": str(self.folder / RANKING),
            "gguf": str(exported.gguf) if exported else None,
            "self_test": exported.self_test.as_json() if exported else None,
            "serving": list(exported.serving) if exported else None,
            "report": str(self.report),
            "seconds": round(sum(stage.seconds for stage in self.stages), 1),
            "steps": [vars(stage) for stage in self.stages],
        }
