"""A run: train, search, confirm, export and report one recipe, each stage resumable.

Every stage asks the stage before it for its results. Finished results are read from the disk, so
after a power cut `run` does only the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Protocol

from m2m.counted import counted
from m2m.errors import InputError
from m2m.formats.atomic import write_json
from m2m.machine import peak_rss_bytes
from m2m.pipeline.confirm import confirm
from m2m.pipeline.experts import expert_job, given_experts
from m2m.pipeline.export import export
from m2m.pipeline.first_pass import FIRST_PASS
from m2m.pipeline.gpu_energy import measured
from m2m.pipeline.halving import Deadlines
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.pipeline.journals import set_aside
from m2m.pipeline.leaks import find_leaks, refuse_leaks, target_warnings
from m2m.pipeline.more_rows import measurable, more_rows
from m2m.pipeline.resolved import refuse_other_results, resolved
from m2m.pipeline.search import planned_strategy, readings, search
from m2m.pipeline.shares import (
    Share,
    ShareResult,
    confirm_share,
    join_shares,
    search_share,
    share_of_run,
    train_part,
    train_share,
)
from m2m.pipeline.trained_run import TrainedRun
from m2m.pipeline.validate import planned_jobs, refuse_without_rows, validate
from m2m.pipeline.workers import peak_together, train_all, workers
from m2m.progress import Progress
from m2m.recipe import Recipe
from m2m.report import write_report
from m2m.results.confirmation import Confirmation
from m2m.results.export import Exported
from m2m.results.facts import read_facts
from m2m.results.folder import CONFIRMED, EXPORTED, MORE_ROWS, RANKING, RECIPE, VALIDATED
from m2m.results.more_rows import MoreRows
from m2m.results.outcome import RunResult
from m2m.results.ranking import Ranking
from m2m.results.stage import Stage
from m2m.results.training import Trained
from m2m.results.validation import Validation

STAGES = ("train", "search", "confirm", "export")


class Hours(Protocol):
    """The time that the user has, from `m2m.planning.hours`."""

    @property
    def deadlines(self) -> Deadlines | None:
        """Return when rungs and the last training end; None: no limit."""

    def fit(self, inputs: Inputs, progress: Progress) -> Inputs:
        """Cut the inputs down to the time."""

    def undecided(self) -> bool:
        """Return whether the cuts leave datasets out after a first pass, still to be made."""

    def choose(self, inputs: Inputs, progress: Progress) -> Inputs:
        """Make that pass, and leave out the datasets that did worst."""


class Run:
    """One recipe's run in its own folder.

    Args:
        recipe: the recipe to run.
        progress: gets the messages, and says whether the user wants to stop.
        share: limits the run to a part of the adapters, or of the scores (`search_share`).
        hours: cuts the inputs down to the time that the user has or had; see
            `m2m.planning.hours`.
        allow_leaks: whether to train on rows that are also dev or test questions.
        anyway: whether to export a model that the verdict is against.
        rescore: whether to score models here that other machines have scored.

    Raises:
        InputError: something that the recipe names is wrong; the message lists everything.
        ResourceError: no cut fits into the hours.
    """

    def __init__(
        self,
        recipe: Recipe,
        progress: Progress,
        share: Share | None = None,
        *,
        hours: Hours | None = None,
        allow_leaks: bool = False,
        anyway: bool = False,
        rescore: bool = False,
    ) -> None:
        self._inputs = read_inputs(recipe)
        self.folder = recipe.folder
        self._progress = progress
        self._share, self._allow_leaks, self._anyway = share, allow_leaks, anyway
        self._files = self._inputs.files
        self._stages: list[Stage] = []
        self._together = 0  # bytes of the processes that trained side by side
        self._deadlines = hours.deadlines if hours else None
        if hours:
            if hours.deadlines is not None:
                self._check_leaks()  # before calibration, which takes minutes
            self._inputs = hours.fit(self._inputs, progress)
        self.recipe = self._inputs.recipe
        refuse_other_results(self._inputs)
        if self.recipe.searches:
            planned_strategy(self._inputs)  # refuses a search of nothing before anything is trained
        if hours and hours.undecided():
            self._choose(hours)
        self._files.keep(RECIPE, resolved(self._inputs))
        if rescore:
            journals = (self._files.study, self._files.finetune_scores)
            count = sum(map(set_aside, journals))
            progress.note(f"set aside: {counted(count, 'score')} of other machines")
        for remark in self.recipe.remarks:
            progress.note(remark)
        for reading in readings(self._inputs):
            progress.note(reading)
        for warning in (*self._inputs.warnings, *target_warnings(self._inputs)):
            progress.warn(warning)

    def _choose(self, hours: Hours) -> None:
        """Make the first pass that the hours need."""
        if self._share:
            raise InputError(
                f"{self.folder}: the first pass, which chooses datasets, is not finished",
                "run `m2m run` without a share first: it goes on with the pass",
            )
        self._check_leaks()
        with self._stage(FIRST_PASS):
            self._inputs = hours.choose(self._inputs, self._progress)
        self.recipe = self._inputs.recipe

    @property
    def inputs(self) -> Inputs:
        """Return everything that the run reads."""
        return self._inputs

    def run(self) -> RunResult:
        """Do all stages, ending with the report; do not export if the verdict is against it."""
        exported = self._made_anyway() if self._withheld else self.export()
        if exported is None:  # files of an earlier result say nothing about this one
            (self.folder / EXPORTED).unlink(missing_ok=True)
            if any(self._files.exports.glob("*.gguf")):
                self._progress.warn(f"{self._files.exports} still has files of an earlier result")
        facts = read_facts(self.folder)
        return RunResult(
            self.folder,
            self.search(),
            self.confirm(),
            exported,
            write_report(facts, self.folder).html,
            tuple(self._stages),
            (*facts.warnings, *facts.remarks),
        )

    def train(self) -> list[Trained]:
        """Train one adapter per dataset."""
        return self._trained

    def search(self) -> Ranking:
        """Rank the mixtures."""
        return self._ranking

    def search_share(self) -> int:
        """Score this run's share of the mixtures; return how many it has."""
        if self._share is None:
            raise AssertionError("a run without a share searches all")
        with self._stage("search"):
            return search_share(self._inputs, self._share, self._progress)

    def confirm_share(self) -> ShareResult:
        """Make this run's share of the contenders' fine-tunes.

        Raises:
            InputError: the mixtures are not ranked yet.
        """
        return self._share_of("confirm", confirm_share)

    def validate_share(self) -> ShareResult:
        """Make this run's share of the fine-tunes that `validate` plans.

        Raises:
            InputError: the mixtures are not ranked yet.
        """
        refuse_without_rows(self._inputs)

        def work(run: TrainedRun, ranking: Ranking, share: Share) -> ShareResult:
            return train_part(run, planned_jobs(run, ranking), share)

        return self._share_of("validate", work)

    def _share_of(
        self, name: str, work: Callable[[TrainedRun, Ranking, Share], ShareResult]
    ) -> ShareResult:
        if self._share is None:
            raise AssertionError("a run without a share makes all fine-tunes")
        with self._stage(name):
            run = share_of_run(self._inputs, self._share, self._progress)
            if not self.recipe.searches:
                return work(run, search(run), self._share)
            fresh = self._files.is_fresh(RANKING)
            ranking = self._files.read(RANKING, Ranking.from_json) if fresh else None
            if ranking is None:
                raise InputError(
                    f"{self.folder}: the mixtures are not ranked yet",
                    "run `m2m search` first, without a share: it joins the shares and ranks",
                )
            return work(run, ranking, self._share)

    def confirm(self) -> Confirmation:
        """Fine-tune the best mixtures and the baselines, and score them."""
        return self._confirmation

    def validate(self) -> Validation:
        """Compare the surrogates with a sample of real fine-tunes."""
        refuse_without_rows(self._inputs)
        ranking = self._ranking
        with self._stage("validate"):
            validation = validate(self.trained_run, ranking)
            # Each regime's result is kept; the report shows the last one's.
            write_json(self._files.validation(validation.budget, ".json"), validation.as_json())
            self._files.keep(VALIDATED, validation.as_json())
            return validation

    def more_rows(self, datasets: Sequence[str] = ()) -> MoreRows:
        """Measure how much more rows of these datasets would help; no names: of all of them."""
        names = measurable(self._inputs, datasets, self._progress)
        run = self.trained_run
        with self._stage("more-rows"):
            found = more_rows(run, names)
            self._files.keep(MORE_ROWS, found.as_json())
            return found

    def export(self) -> Exported:
        """Write the winner as files for others.

        Raises:
            InputError: the verdict is against it, and `anyway` is not set.
        """
        if self._withheld:
            raise InputError(
                f"not exported, because of the verdict ({self.confirm().verdict.kind}): "
                f"{self.confirm().verdict.sentence}",
                "add `--anyway` (in Python: `anyway=True`) to export it all the same; its name and "
                "its card will say so",
            )
        return self._exported

    @property
    def _withheld(self) -> bool:
        return self.confirm().verdict.withheld and not self._anyway

    def _made_anyway(self) -> Exported | None:
        """Return the files that `--anyway` has made of the same result, if they are still there."""
        fresh = self._files.is_fresh(EXPORTED)
        made = self._files.read(EXPORTED, Exported.from_json) if fresh else None
        return made if made and made.gguf.is_file() else None

    def _check_leaks(self) -> None:
        if not self._allow_leaks:
            refuse_leaks(find_leaks(self._inputs), self._inputs.recipe.path)

    @cached_property
    def _trained(self) -> list[Trained]:
        with self._stage("train"):
            self._check_leaks()
            if self._share:
                return train_share(self._inputs, self._share, self._progress)
            jobs = [expert_job(self._inputs, name) for name in self._inputs.untrained_names]
            made = train_all(self._inputs, jobs, self._progress)
            known = given_experts(self._inputs) | {adapter.dataset: adapter for adapter in made}
            trained = [known[name] for name in self._inputs.expert_names]
            self._together = peak_together(trained, workers(self.recipe, len(jobs)))
            return trained

    @property
    def trained_run(self) -> TrainedRun:
        """Return the run with its trained experts; train those that are missing."""
        experts = {adapter.dataset: adapter.path for adapter in self._trained}
        return TrainedRun(self._inputs, experts, self._progress)

    @cached_property
    def _ranking(self) -> Ranking:
        run = self.trained_run
        with self._stage("search"):
            join_shares(self.folder)
            ranking = search(run)
            self._files.keep(RANKING, ranking.as_json())
            return ranking

    @cached_property
    def _confirmation(self) -> Confirmation:
        ranking = self._ranking
        with self._stage("confirm"):
            confirmation = confirm(self.trained_run, ranking, self._deadlines)
            self._files.keep(CONFIRMED, confirmation.as_json())
            return confirmation

    @cached_property
    def _exported(self) -> Exported:
        ranking, confirmation = self._ranking, self._confirmation
        with self._stage("export"):
            exported = export(self.trained_run, ranking, confirmation)
            self._files.keep(EXPORTED, exported.as_json())
            return exported

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        if name in STAGES:
            self._progress.stage(name, STAGES.index(name) + 1, len(STAGES))
        else:
            self._progress.stage(name, 1, 1)
        limits = self.recipe.limits
        joules: list[float] = []
        try:
            with measured(limits.device != "cpu" or limits.gpu_layers != 0) as joules:
                yield
        finally:  # an interrupted stage took its time too
            peak, drawn = max(peak_rss_bytes(), self._together), sum(joules) if joules else None
            stage = Stage(name, time.perf_counter() - started, peak, drawn)
            self._stages.append(stage)
            self._files.keep_stage(stage)
            if self._deadlines and (words := self._deadlines.words(name, stage.seconds)):
                self._progress.note(words)
