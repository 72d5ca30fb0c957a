"""Train mixtures further and further, each in one training that goes on, and score every stop.

A stop is one mixture after some number of steps: an adapter folder and a line in the run's
`checks.jsonl`. The line stays if the folder is deleted to save disk, so a run that continues needs
neither training nor scoring for it. The line's key covers everything that decides the score.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from m2m.adapter import load_adapter, read_extra
from m2m.dataset import pack_all
from m2m.errors import DeviceError
from m2m.formats.atomic import remove_folder
from m2m.formats.journal import Journal
from m2m.formats.json_values import as_real, as_seconds
from m2m.mix.mixture import Mixture
from m2m.mix.trial import Trial
from m2m.pipeline.device import give_up
from m2m.pipeline.experts import Job, device_name, expert_job, goes_on, made, open_reader
from m2m.pipeline.finetunes import folder_name, mixed_corpus, open_judge, rows_seen, stage_name
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.kept import make_way
from m2m.pipeline.trained_run import TrainedRun
from m2m.pipeline.workers import train_jobs
from m2m.results.confirmation import RowsSeen
from m2m.results.folder import parsed
from m2m.store import fingerprint
from m2m.tuner.checkpointing import checkpoint_path, pass_on, saved_step
from m2m.tuner.row_mix import MOST_HELD_OUT, times_seen

_LONGEST_NAME = 150  # of a state, before the datasets that it leaves out


@dataclass(frozen=True)
class Stop:
    """A mixture after some number of steps.

    Attributes:
        trial: its scores on the dev questions.
        held_out: loss on its held-out rows; None without such rows.
        by_dataset: the same for each dataset by itself, if it was watched.
        seconds: of its training and scoring since its stop before.
    """

    mixture: Mixture
    steps: int
    trial: Trial
    held_out: float | None
    by_dataset: Mapping[str, float]
    seconds: float


class Ladder:
    """Trains mixtures up to given numbers of steps, and scores them on dev.

    The run's lock must be held.

    Args:
        run: adapters go to its `confirm/STEPS/`, states to `states/`, scores to `checks.jsonl`.
    """

    def __init__(self, run: TrainedRun) -> None:
        self._run, self._inputs = run, run.inputs
        self._journal = Journal(run.files.checks)
        with open_judge(run, {}, dev_only=True) as judge:
            self._scoring = judge.settings_key
        self._known = {str(line.get("key")): line for line in self._journal.replay()}
        self._drops: dict[Mixture, list[tuple[int, str]]] = {}

    def job(self, mixture: Mixture, steps: int) -> Job:
        """Return the training of a mixture up to that many steps."""
        inputs, alone = self._inputs, len(mixture.datasets) == 1
        if alone and goes_on(inputs.recipe):
            begun = expert_job(inputs, mixture.datasets[0])
            corpus, config = begun.corpus, begun.config
        else:
            corpus = mixed_corpus(inputs, mixture)
            config = dataclasses.replace(inputs.recipe.train, patience=0)
        folder = self._run.files.finetunes / str(steps) / folder_name(mixture)
        left = [*mixture.datasets]
        for after, name in self._drops.get(mixture, ()):
            if after < steps:
                left.remove(name)
                rest = mixed_corpus(inputs, mixture.only(left))
                mark = fingerprint(before=corpus.fingerprint, after=after, now=rest.fingerprint)
                corpus = dataclasses.replace(rest, fingerprint=mark)
        state = self._state(mixture, [name for name in mixture.datasets if name not in left])
        device = device_name(inputs)
        return Job(corpus, config, folder, steps, state, last=True, device=device)

    def drop(self, mixture: Mixture, steps: int, name: str) -> None:
        """Leave a dataset out of a mixture's training from that many steps on."""
        self._drops.setdefault(mixture, []).append((steps, name))

    def seen(self, mixture: Mixture, steps: int) -> dict[str, RowsSeen]:
        """Return how many rows of each dataset its training saw until then."""
        counts: Counter[int] = Counter()
        stops = [*(after for after, _ in self._drops.get(mixture, ()) if after < steps), steps]
        for before, after in pairwise([0, *stops]):
            job = self.job(mixture, after)
            counts += times_seen(job.corpus.samples, job.config, after - before)
        return rows_seen(self._inputs, mixture, counts)

    def climb(self, mixtures: Sequence[Mixture], steps: int, *, watch: bool = False) -> list[Stop]:
        """Train all mixtures up to that many steps, and score them; known stops cost nothing.

        Args:
            mixtures: the mixtures.
            steps: of each.
            watch: whether to measure the held-out loss of each dataset by itself.

        Raises:
            Interrupted: the user asked to stop; states and scores are kept.
        """
        jobs = [self.job(mixture, steps) for mixture in mixtures]
        if not self.knows(mixtures, steps):
            started = time.monotonic()
            # All of them: the number of threads of each depends on how many there are.
            jobs = self._train(mixtures, steps)
            self._score([*zip(mixtures, jobs, strict=True)], started, watch)
        return [self._stop(mixture, job) for mixture, job in zip(mixtures, jobs, strict=True)]

    def knows(self, mixtures: Sequence[Mixture], steps: int) -> bool:
        """Return whether all stops of these mixtures after that many steps are scored."""
        return all(self._key(self.job(mixture, steps)) in self._known for mixture in mixtures)

    def adapter(self, mixture: Mixture, steps: int) -> Path:
        """Return the folder of a stop's adapter; train it again if somebody has deleted it."""
        return self._train([mixture], steps)[0].folder

    def forget(self, mixture: Mixture, steps: int) -> None:
        """Delete a stop's adapter; its scores stay."""
        folder = self.job(mixture, steps).folder
        if folder.is_dir():
            remove_folder(folder)
        with suppress(OSError):  # other stops have as many steps, or the folder is gone
            folder.parent.rmdir()

    def leave(self, mixture: Mixture) -> None:
        """Delete the state of a mixture that does not go on."""
        self._state(mixture).unlink(missing_ok=True)

    def _train(self, mixtures: Sequence[Mixture], steps: int) -> list[Job]:
        """Train mixtures; return their trainings, which are the processor's if a GPU fails."""
        jobs = [self.job(mixture, steps) for mixture in mixtures]
        try:
            self._train_jobs(mixtures, jobs)
        except DeviceError as error:
            give_up(self._inputs.recipe, error, self._run.progress)
            return self._train(mixtures, steps)
        return jobs

    def _train_jobs(self, mixtures: Sequence[Mixture], jobs: Sequence[Job]) -> None:
        make_way(self._inputs, jobs)
        for mixture, job in zip(mixtures, jobs, strict=True):
            if not made(self._inputs.base, job):
                self._pass_on(mixture, job)
        train_jobs(self._inputs, jobs, self._run.progress)

    def _pass_on(self, mixture: Mixture, job: Job) -> None:
        """Give a training that has left a dataset out the state of the training before.

        That state is deleted then. If nobody has it any more, its training is made again.
        """
        drops = [after for after, _ in self._drops.get(mixture, ()) if after < job.steps]
        base = self._inputs.base
        if not drops:
            return
        before = self.job(mixture, drops[-1])
        if before.state is None or job.state is None:
            raise AssertionError("every stop has a state")
        begun = saved_step(job.state, job.identity(base))
        if 0 < begun <= job.steps:
            before.state.unlink(missing_ok=True)
            return
        # A state that is further on stays as it is.
        target = checkpoint_path(job.folder) if begun else job.state
        if saved_step(before.state, before.identity(base)) != drops[-1]:
            before.state.unlink(missing_ok=True)
            if before.folder.is_dir():
                remove_folder(before.folder)
            self._train_jobs([mixture], [before])
        pass_on(before.state, before.identity(base), target, job.identity(base))
        before.state.unlink()

    def ended(self, mixture: Mixture) -> tuple[int, str] | None:
        """Return the steps after which an earlier call ended this training, and why."""
        line = self._known.get(self._end_key(mixture))
        if line is None or not line.get("end"):
            return None
        return parsed(self._journal.path, lambda: (int(line["steps"]), str(line["end"])))

    def end(self, mixture: Mixture, steps: int, reason: str) -> None:
        """Keep that a training ended here."""
        if self.ended(mixture) != (steps, reason):
            self._keep({"key": self._end_key(mixture), "steps": steps, "end": reason})

    def reopen(self, mixture: Mixture) -> None:
        """Keep that a training that had ended goes on."""
        if self.ended(mixture):
            self._keep({"key": self._end_key(mixture), "end": ""})

    def closed(self, best: Mixture) -> int:
        """Return the steps of the rung after which an earlier call had no time for another; or 0.

        Args:
            best: the contender that was best then.
        """
        line = self._known.get(self._closed_key(best), {})
        return parsed(self._journal.path, lambda: int(line.get("closed", 0)))

    def close(self, best: Mixture, steps: int) -> None:
        """Keep that there was no time for another rung after these steps; 0: there is time now."""
        if self.closed(best) != steps:
            self._keep({"key": self._closed_key(best), "closed": steps})

    def _state(self, mixture: Mixture, without: Sequence[str] = ()) -> Path:
        name = folder_name(mixture)
        for left_out in without:
            name = f"{name[:_LONGEST_NAME]}-without-{left_out}"
        return self._run.files.states / f"{name}.safetensors"

    def _score(self, pairs: Sequence[tuple[Mixture, Job]], started: float, watch: bool) -> None:
        """Score the stops that the journal does not have; their trainings began at `started`."""
        missing = [(mixture, job) for mixture, job in pairs if self._key(job) not in self._known]
        folders = {stage_name(mixture, job.steps): job.folder for mixture, job in missing}
        with open_judge(self._run, {}, folders, dev_only=True) as judge:
            for mixture, job in missing:
                trial = judge.named(stage_name(mixture, job.steps), mixture)
                held_out = read_extra(job.folder)["held_out"]
                losses = losses_by_dataset(self._inputs, mixture, job.folder) if watch else {}
                seconds = (time.monotonic() - started) / len(missing)
                self._keep({
                    "key": self._key(job),
                    "seconds": round(seconds, 3),
                    "steps": job.steps,
                    "held_out": held_out[-1][1] if held_out else None,
                    **({"by_dataset": losses} if losses else {}),
                    "trial": trial.as_json(),
                })  # fmt: skip

    def _stop(self, mixture: Mixture, job: Job) -> Stop:
        line, path = self._known[self._key(job)], self._journal.path
        loss = line.get("held_out")
        held_out = parsed(path, lambda: None if loss is None else as_real(loss, "held_out"))
        seconds = parsed(path, lambda: as_seconds(line.get("seconds", 0.0), "seconds"))
        trial = Trial.from_json(parsed(path, lambda: line["trial"]), str(path))
        by_dataset = parsed(
            path,
            lambda: {
                str(name): as_real(loss, "by_dataset")
                for name, loss in line.get("by_dataset", {}).items()
            },
        )
        return Stop(mixture, job.steps, trial, held_out, by_dataset, seconds)

    def _keep(self, line: dict[str, Any]) -> None:
        self._journal.append(line)
        self._known[line["key"]] = line

    def _key(self, job: Job) -> str:
        return fingerprint(training=job.mark(self._inputs.base), scoring=self._scoring)

    def _closed_key(self, best: Mixture) -> str:
        return fingerprint(closed=self._key(self.job(best, 1)))

    def _end_key(self, mixture: Mixture) -> str:
        """Return the key of the end of a mixture's training, whatever its steps."""
        confirm = self._inputs.recipe.confirm
        rules: list[float | str] = [confirm.patience, confirm.max_passes]
        rules += ["drop"] if confirm.drop else []
        return fingerprint(end=self._key(self.job(mixture, 1)), rules=rules)


def losses_by_dataset(inputs: Inputs, mixture: Mixture, adapter: Path) -> dict[str, float]:
    """Return the loss of an adapter on held-out rows of each dataset, in nats per trained token.

    Empty for a single dataset, and if a dataset has no held-out rows.
    """
    rows = {name: inputs.corpora[name].held_out[:MOST_HELD_OUT] for name in mixture.datasets}
    if len(rows) < 2 or not all(rows.values()):
        return {}
    decoder = open_reader(inputs)
    pairs, size = load_adapter(adapter).pairs, inputs.recipe.train.batch_tokens
    losses = {}
    for name, held_out in rows.items():
        sums = [decoder.loss(batch, pairs) for batch in pack_all(held_out, size)]
        losses[name] = sum(nats for nats, _ in sums) / sum(count for _, count in sums)
    return losses
