"""`m2m merge-runs`: bring together parts of one run that several machines made.

The folders may come from a stranger. So m2m checks everything before it copies anything, copies
everything into a temporary folder first, and only then moves it to its place. Scores keep the mark
that they were not made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from m2m.adapter import read_extra
from m2m.checkpoint import BaseModel, find_model
from m2m.errors import InputError, Problems
from m2m.formats.atomic import staged, write_json
from m2m.formats.disk import check_room
from m2m.formats.journal import Journal
from m2m.formats.json_fields import JsonFields
from m2m.formats.records import read_object
from m2m.pipeline.foreign_run import ForeignRun, read_foreign
from m2m.pipeline.inputs import model_folders
from m2m.pipeline.journals import new_lines
from m2m.recipe.data_fields import NAME
from m2m.results.folder import RECIPE, RunFolder
from m2m.store import run_lock

_SHOWN = 5  # names of files in one warning


@dataclass
class MergedRuns(JsonFields):
    """The parts that were copied.

    Attributes:
        adapters: names of the copied adapters.
        states: number of copied states, from which trainings go on.
        mixtures: number of new lines of scored mixtures.
        confirmed: number of new lines of confirmed models.
        warnings: parts that do not fit together, and files that were left out.
    """

    into: Path
    adapters: list[str] = field(default_factory=list)
    mixtures: int = 0
    confirmed: int = 0
    states: int = 0
    warnings: list[str] = field(default_factory=list)


def merge_runs(into: Path, folders: Sequence[Path]) -> MergedRuns:
    """Copy adapters and journal lines that `into` does not have.

    An adapter in `into` stays. If another folder has a different one of that name, a warning says
    that its scores are not used. Nothing in `folders` is changed. A kill at any moment leaves whole
    adapters and journals; the same command then copies the rest.

    Raises:
        InputError: a folder is not a run, or a file in it is damaged, a link, too large or
            otherwise not as m2m writes it; nothing was copied.
        ResourceError: the disk has not enough space for them; nothing was copied.
        BusyError: another process works on the run in `into`.
    """
    RunFolder(into).refuse_links()
    runs = _checked(into, folders)
    merged = MergedRuns(into)
    with run_lock(into), staged(into) as (temporary, moves):
        needed = sum(adapter.bytes for run in runs for adapter in run.adapters)
        needed += sum(state.bytes for run in runs for state in run.states)
        check_room(into / RECIPE, needed)
        for run in runs:
            _stage_adapters(run, into, temporary, moves, merged)
            _stage_states(run, into, temporary, moves, merged)
            _compare(run, into, merged)
        home = RunFolder(into)
        searched = [(run, run.journals) for run in runs]
        merged.mixtures = _stage_journal(home.study, searched, temporary, moves)
        confirmed = [(run, run.confirmed) for run in runs]
        merged.confirmed = _stage_journal(home.finetune_scores, confirmed, temporary, moves)
        recipes = [run.recipe for run in runs if run.recipe is not None]
        if recipes and not (into / RECIPE).exists():
            write_json(temporary / RECIPE, recipes[0])
            moves[into / RECIPE] = temporary / RECIPE
    return merged


def _checked(into: Path, folders: Sequence[Path]) -> list[ForeignRun]:
    """Read everything once before anything is written."""
    problems, base = Problems(), _base(into)
    runs = [read_foreign(folder, base, problems) for folder in folders]
    for run in runs:
        for source in (*run.journals, *run.confirmed):
            try:
                new_lines(None, [source])
            except InputError as error:
                problems.add(error.message)
    problems.raise_if_any(
        InputError,
        "nothing was merged",
        "give whole copies of folders like m2m-runs/RECIPE, without links in them",
    )
    return runs


def _base(into: Path) -> BaseModel | None:
    """Return the base of the run in `into`, if there is one and its model is on this machine."""
    if not (into / RECIPE).is_file():
        return None
    section = read_object(into / RECIPE).get("base")
    name = section.get("model") if isinstance(section, dict) else None
    with suppress(InputError):
        if isinstance(name, str) and NAME.fullmatch(name):
            return find_model(name, model_folders(into / RECIPE))
    return None


def _stage_adapters(
    run: ForeignRun, into: Path, temporary: Path, moves: dict[Path, Path], merged: MergedRuns
) -> None:
    """Copy the adapters that `into` does not have; the first of several runs wins."""
    for adapter in run.adapters:
        place = into / adapter.place
        there = moves.get(place) or (place if place.exists() else None)
        if there is None:
            moves[place] = temporary / f"adapter-{len(moves)}"
            adapter.copy(moves[place])
            merged.adapters.append(place.name)
        elif read_extra(there).get("identity") != adapter.identity:
            merged.warnings.append(
                f"{adapter.source} was trained differently from {place}: m2m keeps the second and "
                "does not use scores of the first"
            )
    if run.left_out:
        more = f" and {len(run.left_out) - _SHOWN} more" if len(run.left_out) > _SHOWN else ""
        merged.warnings.append(
            f"not copied, because m2m does not take such files from others: "
            f"{', '.join(run.left_out[:_SHOWN])}{more}"
        )


def _stage_states(
    run: ForeignRun, into: Path, temporary: Path, moves: dict[Path, Path], merged: MergedRuns
) -> None:
    """Copy the states that `into` does not have; a state of another training is never used."""
    for state in run.states:
        place = into / state.place
        if place not in moves and not place.exists():
            moves[place] = temporary / f"state-{len(moves)}"
            state.copy(moves[place])
            merged.states += 1


def _stage_journal(
    place: Path,
    parts: Sequence[tuple[ForeignRun, Sequence[Path]]],
    temporary: Path,
    moves: dict[Path, Path],
) -> int:
    """Write a journal with the old and all new lines; return how many are new."""
    made, count = temporary / place.name, 0
    for run, sources in parts:
        before = made if count else place
        if lines := new_lines(before, sources, str(run.folder)):
            made.write_bytes(Journal(before).whole() + b"".join(lines))
            count += len(lines)
    if count:
        moves[place] = made
    return count


def _compare(run: ForeignRun, into: Path, merged: MergedRuns) -> None:
    """Warn if another base model or build of llama.cpp was used, as such scores are not mixed."""
    if run.recipe is None or not (into / RECIPE).is_file():
        return
    ours = read_object(into / RECIPE)
    marks = {
        settings.get("inputs", {}).get("base", {}).get("fingerprint")
        for settings in (run.recipe, ours)
    }
    if len(marks - {None}) > 1:
        merged.warnings.append(
            f"{run.folder} was made on another base model: its adapters and scores are not used "
            "here"
        )
    if run.recipe.get("llama") != ours.get("llama"):
        merged.warnings.append(
            f"{run.folder} was scored by another llama.cpp or CPU "
            f"({run.recipe.get('llama')!s:.200}): a search here scores its mixtures again"
        )
