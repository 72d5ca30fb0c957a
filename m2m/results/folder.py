"""The folder of a run: the names of its files, and results that note their inputs.

    recipe.json -> ranking.json -> confirm.json -> export.json
            |                 |            \\-> judged.json
            \\-> more-rows.json \\-> validate.json

Each of these notes the state of the one before it, so that a report can warn of results that do not
belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from m2m.errors import UNSURE, InputError, WarningText
from m2m.formats.atomic import write_json
from m2m.formats.journal import Journal
from m2m.formats.json_values import refuse_other_kinds
from m2m.formats.records import read_object
from m2m.opening import refuse_links
from m2m.recipe.fields import RESOLVED
from m2m.results.stage import Stage
from m2m.store import LOCK, SHARES, fingerprint

RECIPE, RANKING, CONFIRMED = RESOLVED, "ranking.json", "confirm.json"
EXPORTED, VALIDATED, JUDGED = "export.json", "validate.json", "judged.json"
MORE_ROWS = "more-rows.json"
_MADE_FROM = {
    RANKING: RECIPE,
    CONFIRMED: RANKING,
    VALIDATED: RANKING,
    MORE_ROWS: RECIPE,
    EXPORTED: CONFIRMED,
    JUDGED: CONFIRMED,
}
# Keys of a file that decide the results after it.
_DECIDES = {
    RECIPE: (
        "base",
        "data",
        "train",
        "merge",
        "quantize",
        "search",
        "datasets",
        "targets",
        "inputs",
    ),
    RANKING: ("mixtures",),
    CONFIRMED: ("winner",),
}
_REDO = {
    RANKING: "search",
    CONFIRMED: "confirm",
    VALIDATED: "validate",
    MORE_ROWS: "more-rows",
    EXPORTED: "export",
    JUDGED: "judge",
}

# Keys in them that only say where a file is: a copied folder, and moved data, are as fresh.
_PLACES = {
    "datasets": {"path", "path_aligned", "adapter"},
    "targets": {"dev", "test", "dev_aligned", "test_aligned"},
    "winner": {"adapter"},
}

Parsed = TypeVar("Parsed")


class _Result(Protocol):
    def as_json(self) -> dict[str, Any]:
        """Return its fields as JSON values."""


Kept = TypeVar("Kept", bound=_Result)


class _Inside:
    """A file or folder of a run by its name; a journal that is `own` is each share's own."""

    def __init__(self, name: str, *, own: bool = False) -> None:
        self._name, self._own = name, own

    def __get__(self, folder: RunFolder, _: type[RunFolder]) -> Path:
        return (folder.journals if self._own else folder.path) / self._name


@dataclass(frozen=True)
class RunFolder:
    """The files of a run. No other module knows their names.

    Files for other tools (`m2m.mix.tables`), the lock (`m2m.store`) and the content of an adapter's
    folder (`m2m.adapter`) are named in the modules of their formats.
    """

    path: Path

    adapters = _Inside("adapters")  # folder of the experts: a PEFT folder for each dataset
    finetunes = _Inside("confirm")  # folder of the real fine-tunes: one for each number of steps
    halves = _Inside("halves")  # folder of the adapters on halves of the rows
    exports = _Inside("export")  # folder of the winner's files
    states = _Inside("states")  # folder of the states from which fine-tunes go on to more steps
    earlier = _Inside("earlier")  # folder of adapters and states of other settings
    shares = _Inside(SHARES)  # folder in which each share of the work has its own folder
    losses = _Inside("losses")  # folder of the losses of trainings, step by step, as JSON lines
    event_files = _Inside("tensorboard")  # folder of TensorBoard's event files
    study = _Inside("study.jsonl", own=True)  # journal of the scores of all mixtures
    # Journal of the scores of the real fine-tunes, the base and the best merge.
    finetune_scores = _Inside("confirm.jsonl", own=True)
    # Journal of the dev scores of fine-tunes that go on to more steps.
    checks = _Inside("checks.jsonl", own=True)
    validation_plan = _Inside("validate.jsonl", own=True)  # journal of the mixtures to validate
    lost_device = _Inside("device.json")  # why a GPU no longer trains this run
    stages = _Inside("steps.jsonl")  # journal of the time and memory that each stage took
    leaks = _Inside("leaks.json")  # rows of the datasets that are also dev or test questions
    hours = _Inside("hours.json")  # how the recipe was cut to fit into the user's hours
    log = _Inside("run.log")  # all messages, with times
    page = _Inside("report.html")  # the report as one page
    data = _Inside("report.json")  # the report for programs
    tables = _Inside("report")  # folder of the report's tables as CSV

    @property
    def journals(self) -> Path:
        """Return the folder of the journals that each share of the work has for itself."""
        return self.path

    @property
    def never_began(self) -> bool:
        """Return whether a command failed here before the run had settings."""
        begun = (self.path / RECIPE).exists()
        return not begun and self.log.is_file() and (self.path / LOCK).is_file()

    def validation(self, budget: str | int, ending: str) -> Path:
        """Return the file of `m2m validate`'s results with one budget, as ".json" or ".csv"."""
        return self.path / f"validate-{budget}{ending}"

    def judge_page(self, page: str) -> Path:
        """Return the file of a page on which people compare answers."""
        return self.path / "judge" / f"judge-{page}.html"

    def judge_key(self, page: str) -> Path:
        """Return the file that says which model wrote which answer on a page."""
        return self.path / "judge" / "keys" / f"{page}.json"

    def refuse_links(self) -> None:
        """Refuse links that would lead what is written here to another place.

        Raises:
            InputError: names them.
        """
        for depth in range(1, 5):  # no deeper than confirm/STEPS/MIXTURE/FILE
            refuse_links(self.path, "/".join("*" * depth))

    def of_shares(self, journal: Path) -> list[Path]:
        """Return the journals of that name in the folders of all shares."""
        return sorted(self.shares.glob(f"*-of-*/{journal.name}"))

    def keep(self, name: str, data: Mapping[str, Any]) -> None:
        """Write a result, with a mark of the result that it was made from."""
        before = _MADE_FROM.get(name)
        mark = {"made_from": self.state(before)} if before else {}
        write_json(self.path / name, {**data, **mark})

    def state(self, name: str) -> str:
        """Return the fingerprint of a file's values that decide the results made from it."""
        return _mark(name, read_object(self.path / name))

    def is_fresh(self, name: str) -> bool:
        """Return whether a result is there, and was made from the present state of its input."""
        return (self.path / name).is_file() and not any(
            line.startswith(f"{name} ") for line in self.stale()
        )

    def is_of(self, name: str, recipe: Mapping[str, Any]) -> bool:
        """Return whether a result is up to date, and of a recipe that `RECIPE` would have."""
        fresh = self.is_fresh(RANKING) and self.is_fresh(name)
        return fresh and self.state(RECIPE) == _mark(RECIPE, recipe)

    def adapter_here(self, adapter: Path) -> Path:
        """Return an adapter's folder in this copy of the run, whatever machine its path is from."""
        parts = adapter.as_posix().replace("\\", "/").split("/")
        for home in (self.finetunes, self.adapters):
            if home.name in parts and ".." not in parts:
                rest = parts[len(parts) - parts[::-1].index(home.name) :]
                here = home.joinpath(*rest)
                if rest and here.is_dir():
                    return here
        return adapter

    def keep_stage(self, stage: Stage) -> None:
        """Add the cost of a stage to the journal."""
        Journal(self.stages).append(stage.as_json())

    def read(self, name: str, parse: Callable[[Mapping[str, Any]], Kept]) -> Kept | None:
        """Return `parse` of a JSON file, or None if there is no such file.

        Raises:
            InputError: the file is damaged, or a value is of another kind than m2m writes.
        """
        path = self.path / name
        if not path.is_file():
            return None
        data = read_object(path)
        result = parsed(path, lambda: parse(data))
        parsed(path, lambda: refuse_other_kinds(data, result.as_json()))
        return result

    def stale(self) -> list[str]:
        """Return a warning for each result that was made before its own input changed."""
        paths = {name: self.path / name for name in (RECIPE, *_MADE_FROM)}
        results = {name: read_object(path) for name, path in paths.items() if path.is_file()}
        marks = {name: _marks(name, results[name]) for name in _DECIDES if name in results}
        return [
            WarningText(
                f"{name} was made before {before} changed: `m2m {_REDO[name]} RECIPE` brings it up "
                "to date",
                UNSURE,
            )
            for name, before in _MADE_FROM.items()
            if (made_from := results.get(name, {}).get("made_from"))
            and str(made_from) not in marks.get(before, {str(made_from)})
        ]


@dataclass(frozen=True)
class ShareFolder(RunFolder):
    """A run's folder for one share of its work: journals are the share's own, the rest is shared.

    Attributes:
        own: the share's folder.
    """

    own: Path

    @property
    def journals(self) -> Path:
        """Return the share's own folder."""
        return self.own


def _marks(name: str, data: Mapping[str, Any]) -> set[str]:
    """Return the mark of a file as it is kept now, and as it was kept with all paths in it."""
    return {_mark(name, data), _mark(name, data, {})}


def _mark(
    name: str, data: Mapping[str, Any], places: Mapping[str, Container[str]] = _PLACES
) -> str:
    """Return the fingerprint of the values of a file that decide the next stage's results."""

    def of(key: str) -> Any:
        value, left_out = data.get(key), places.get(key, ())
        if isinstance(value, list):
            return [_without(each, left_out) for each in value]
        return _without(value, left_out)

    return fingerprint(**{key: of(key) for key in _DECIDES[name]})


def _without(value: Any, keys: Container[str]) -> Any:
    """Return an object with null for some keys, and any other value as it is."""
    if not isinstance(value, dict):
        return value
    return {key: None if key in keys else part for key, part in value.items()}


def parsed(path: Path, parse: Callable[[], Parsed]) -> Parsed:
    """Return the result of `parse`, which takes values from the content of `path`.

    Raises:
        InputError: a value is missing or of another kind.
    """
    try:
        return parse()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        reason = str(error) if type(error) is ValueError else repr(error)
        raise InputError(
            f"{path}: is not as m2m writes it ({reason:.200})",
            "run `m2m run RECIPE`: it writes the file again from the finished steps",
        ) from error
