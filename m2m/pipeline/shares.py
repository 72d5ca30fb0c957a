"""One recipe on many machines: make a share of its adapters or mixtures apart, and join it later.

A share needs no message from the others. Adapters and mixtures are dealt out in turn, so `2/8` is
the same on every machine; results that exist already are not made again. Shares can write at the
same time: each has its own journal under `shares/`, and every adapter its own lock.

A strategy's asks that depend on no answer are shared: all of an exhaustive search, the experts and
the first round of a race, the experts of a guided search. The search that joins the shares finds
these scores and does the rest alone. Its result is the same as the result of one process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from m2m.counted import counted
from m2m.errors import InputError, Interrupted
from m2m.formats.atomic import write_bytes
from m2m.formats.journal import Journal
from m2m.formats.json_fields import JsonFields
from m2m.mix.example_order import ExampleOrder
from m2m.mix.mixture import BASE
from m2m.mix.strategy import Ask
from m2m.mix.study import Study
from m2m.pipeline.confirm import contenders_of
from m2m.pipeline.experts import Job, Tuning, expert_job
from m2m.pipeline.finetunes import FineTuner, folder_name
from m2m.pipeline.halving import Halving
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.journals import join_checks, join_journals
from m2m.pipeline.kept import make_way, trained_experts
from m2m.pipeline.ladder import Ladder
from m2m.pipeline.scorer import open_scorer
from m2m.pipeline.search import planned_strategy, search_space
from m2m.pipeline.trained_run import TrainedRun
from m2m.pipeline.workers import one_of
from m2m.progress import Progress
from m2m.recipe.fields import UNTIL
from m2m.results.folder import RunFolder
from m2m.results.ranking import Ranking
from m2m.results.training import Trained
from m2m.store import run_lock


@dataclass(frozen=True)
class Share:
    """Share `number` of `total`, counted from 1."""

    number: int
    total: int

    def folder(self, run: Path) -> Path:
        """Return the folder for the share's own files."""
        return RunFolder(run).shares / f"{self.number}-of-{self.total}"


def train_share(inputs: Inputs, share: Share, progress: Progress) -> list[Trained]:
    """Train every `total`th adapter of a recipe, starting with adapter `number`.

    Raises:
        BusyError: another process is training one of them.
        Interrupted: the user asked to stop; the state is saved.
    """
    like = one_of(inputs, len(inputs.untrained_names))
    tuning, trained = Tuning(like.base, like.recipe, progress), []
    for name in inputs.untrained_names[share.number - 1 :: share.total]:
        with run_lock(inputs.files.shares / f"adapter-{name}"):
            make_way(inputs, [job := expert_job(inputs, name)])
            trained.append(tuning.train(job))
    return trained


@dataclass(frozen=True)
class ShareResult(JsonFields):
    """The fine-tunes that a share has made.

    Attributes:
        trained: adapters of this share.
        rung: steps of the rung that they are of; 0 if the fine-tunes have no rungs.
        more: whether another rung follows that can be shared.
    """

    trained: Sequence[Path]
    rung: int = 0
    more: bool = False


def share_of_run(inputs: Inputs, share: Share, progress: Progress) -> TrainedRun:
    """Return the run for a share of its fine-tunes, with all that other shares have scored."""
    own = share.folder(inputs.recipe.folder)
    run = TrainedRun(inputs, trained_experts(inputs), progress, own)
    _join(run.files, inputs.files)
    if inputs.files.validation_plan.is_file():
        write_bytes(run.files.validation_plan, Journal(inputs.files.validation_plan).whole())
    return run


def confirm_share(run: TrainedRun, ranking: Ranking, share: Share) -> ShareResult:
    """Train this share of the contenders' fine-tunes; with budget "until", of one rung.

    The rung is the first that is not complete. Its contenders are scored on dev by the share that
    trains them. When all shares have ended, they can be started again for the next rung.

    Raises:
        BusyError: another process is training one of them.
        Interrupted: the user asked to stop; the state is saved.
    """
    mixtures = [contender.mixture for contender in contenders_of(run.inputs, ranking)]
    if run.inputs.recipe.confirm.budget != UNTIL:
        return train_part(run, [*FineTuner(run).jobs(mixtures).values()], share)
    steps, left = Halving(run).rung(mixtures)
    if len(left) == 1:
        return ShareResult([])
    like = replace(run, inputs=one_of(run.inputs, len(left)))
    ladder, trained = Ladder(like), []
    for mixture in left[share.number - 1 :: share.total]:
        with run_lock(run.files.shares / f"finetune-{folder_name(mixture)}"):
            ladder.climb([mixture], steps)
        trained.append(ladder.job(mixture, steps).folder)
    return ShareResult(trained, steps, more=len(left) > 2)


def train_part(run: TrainedRun, jobs: Sequence[Job], share: Share) -> ShareResult:
    """Train a share of fine-tunes; the process that joins the shares scores them.

    Raises:
        BusyError: another process is training one of them.
        Interrupted: the user asked to stop; the state is saved.
    """
    inputs, trained = one_of(run.inputs, len(jobs)), []
    tuning = Tuning(inputs.base, inputs.recipe, run.progress)
    for job in jobs[share.number - 1 :: share.total]:
        name = f"{job.folder.parent.name}-{job.folder.name}"
        with run_lock(run.files.shares / f"finetune-{name}"):
            make_way(inputs, [job])
            trained.append(tuning.train(job).path)
    return ShareResult(trained)


def search_share(inputs: Inputs, share: Share, progress: Progress) -> int:
    """Score the base and this share of the mixtures that can be shared; return how many models.

    Raises:
        InputError: an adapter is not trained yet, or each machine would choose its own type.
        Interrupted: the user asked to stop; finished scores are in the share's journal.
    """
    recipe = inputs.recipe
    if recipe.quantize.type == "auto":
        raise InputError(
            f"{recipe.path}: shares must be scored as one type, and [quantize] type is auto",
            'name the type, such as type = "q8_0"',
        )
    folder = share.folder(recipe.folder)
    with open_scorer(inputs, trained_experts(inputs), inputs.dev, scratch=folder) as scorer:
        study = Study(Journal(RunFolder(folder).study), scorer, lambda trial: 0.0)
        asks, summary = shareable(inputs, sum(scorer.examples.values()))
        progress.note(summary)
        order = ExampleOrder.stratified(study.trial(BASE), inputs.objectives, recipe.search.seed)
        own = asks[share.number - 1 :: share.total]
        progress.start("scoring", len(own), "mixtures")
        for number, ask in enumerate(own, start=1):
            if progress.stop_requested():
                raise Interrupted(f"stopped after {counted(number, 'scored model')} of this share")
            whole = ask.examples >= len(order)
            study.trial(ask.mixture, None if whole else order.first(ask.examples))
            progress.advance(detail=ask.mixture.label)
        progress.finish()
    return 1 + len(own)


def shareable(inputs: Inputs, examples: int) -> tuple[list[Ask], str]:
    """Return the asks of the recipe's strategy that depend on no answer, and the same in words.

    Args:
        inputs: the run's inputs.
        examples: number of examples of all targets together.
    """
    space, strategy = search_space(inputs), planned_strategy(inputs, examples)
    asks = strategy.certain()
    whole = [ask for ask in asks if ask.examples == examples]
    if sum(space.allows(ask.mixture) for ask in whole) == strategy.candidates:
        return asks, f"{strategy.name}: all {counted(len(asks), 'mixture')} can be shared"
    rest = "the search that joins the shares does the rest"
    singles = sum(len(ask.mixture.datasets) == 1 for ask in asks)
    if singles == len(asks):
        part = f"only {counted(singles, 'single dataset')}"
    else:
        part = f"{counted(singles, 'single dataset')} on all and "
        part += f"{counted(len(asks) - singles, 'mixture')} on "
        part += counted(min(ask.examples for ask in asks), "example")
    return asks, f"{strategy.name}: {part} can be shared; {rest}"


def join_shares(run: Path) -> int:
    """Put the scores of all shares into the run's journals; return how many lines were new."""
    return _join(RunFolder(run), RunFolder(run))


def _join(into: RunFolder, run: RunFolder) -> int:
    """Add what the run and all its shares have scored to the journals of `into`."""
    count = 0
    for name in ("study", "finetune_scores"):
        place = getattr(run, name)
        count += join_journals(getattr(into, name), [place, *run.of_shares(place)])
    return count + join_checks(into.checks, [run.checks, *run.of_shares(run.checks)])
