"""The result of a whole run, and its line in `m2m run --json`: one form, also if a run failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.formats.json_fields import JsonFields
from m2m.recipe import Recipe
from m2m.recipe.whole import recipe_json
from m2m.results.confirmation import Confirmation
from m2m.results.export import Exported
from m2m.results.folder import RANKING
from m2m.results.ranking import Ranking
from m2m.results.stage import Stage

SCHEMA = 1
DONE, FAILED, STOPPED = "done", "failed", "stopped"
# The fields of a line, all of them in every line; null if a run did not come so far.
FIELDS = {
    "schema": f"number of this form, now {SCHEMA}; another number if a field changes or goes away",
    "recipe": "the recipe's file, as it was given",
    "overrides": "values of `--set`, as they were given, also if they change nothing",
    "status": f"`{DONE}`; `{FAILED}`: see `error`; `{STOPPED}`: by Ctrl-C or SIGTERM",
    "verdict": "`kind`, `sentence`, `reasons`, `next`, `questions_needed`, `gguf_only_with_anyway`",
    "winner": "the fine-tune that was best on dev: `label`, `datasets`, `weights`, `how`, `steps`, "
    "`adapter`, its scores on `dev` and `test`, how many answers are `right` and of how many, the "
    "rows that it has `seen`",
    "winner_ahead": "for every other model: `label`, `how`, and how far the winner is ahead on "
    "test, `estimate` and `ci95`; positive is better for the winner; null without test questions",
    "confirmed": "all models that were scored, like `winner`",
    "warnings": "all warnings, also of a run that failed",
    "folder": "the run's folder",
    "ranking": "the file of the ranking",
    "gguf": "the exported model; null if the verdict is against it and `--anyway` was not given",
    "self_test": "answers of the exported model to questions of its training data",
    "serving": "what a program that serves the model must do",
    "report": "the report's page",
    "seed": "the seeds of `train`, `merge` and `search`",
    "settings": "the recipe with all defaults, section by section, and its datasets and targets; "
    "`path_aligned`, `dev_aligned`, `test_aligned`: the other files of a list of aligned ones",
    "versions": "of `m2m`, `llama` (llama.cpp), `python`, `numpy` and the `system`",
    "seconds": "time of this call",
    "steps": "time and peak memory of each step of this call",
    "date": "when the line was written: ISO 8601, UTC",
    "error": "what went wrong; null if nothing did",
    "hint": "the next step after an error",
}
_SEEDED = ("train", "merge", "search")


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


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        date: when, ISO 8601 in UTC.
        status: one of `DONE`, `FAILED` and `STOPPED`.
        error: what went wrong.
        hint: the next step after an error.
    """

    date: str
    status: str = DONE
    error: str | None = None
    hint: str | None = None


def line(
    recipe: Path,
    loaded: Recipe | None,
    result: RunResult | None,
    warnings: Sequence[str],
    versions: Mapping[str, str],
    ending: Ending,
    overrides: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the line of one recipe.

    Args:
        recipe: its file, as the user gave it.
        loaded: the recipe; None if it could not be read.
        result: the result of its run; None if it did not come to an end.
        warnings: those that were shown; they come before those of the results.
        versions: versions of the programs.
        ending: how the run ended.
        overrides: values of `--set` by the name of the field.
    """
    values: dict[str, Any] = dict.fromkeys(FIELDS)
    values |= {
        "schema": SCHEMA,
        "recipe": str(recipe),
        "warnings": list(warnings),
        "versions": dict(versions),
        "overrides": dict(overrides),
        **vars(ending),
    }
    if loaded is not None:
        values |= {
            "folder": str(loaded.folder),
            "seed": {name: getattr(loaded, name).seed for name in _SEEDED},
            "settings": recipe_json(loaded, whole=True),
        }
    if result is not None:
        values |= result.as_json()
        values["winner_ahead"] = _ahead(result)
        values["warnings"] = list(dict.fromkeys([*warnings, *result.warnings]))
    return values


def _ahead(result: RunResult) -> list[dict[str, Any]] | None:
    confirmed = result.confirmation
    if confirmed.ahead is None:
        return None
    return [
        {"label": model.label, "how": model.how, **model.mixture.as_json(), **span.as_json()}
        for model, span in zip(confirmed.models, confirmed.ahead, strict=True)
        if model != confirmed.winner
    ]
