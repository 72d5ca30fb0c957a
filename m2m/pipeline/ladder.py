"""Train mixtures further and further, each in one training that goes on, and score every stop.

A stop is one mixture after some number of steps: an adapter folder and a line in the run's
`checks.jsonl`. The line stays if the folder is deleted to save disk, so a run that continues needs
neither training nor scoring for it. The line's key covers everything that decides the score.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.adapter import read_extra
from m2m.formats.atomic import remove_folder
from m2m.formats.journal import Journal
from m2m.formats.json_values import as_real, as_seconds
from m2m.mix.mixture import Mixture
from m2m.mix.trial import Trial
from m2m.pipeline.experts import Job, expert_job, goes_on
from m2m.pipeline.finetunes import folder_name, mixed_corpus, open_judge, stage_name
from m2m.pipeline.trained_run import TrainedRun
from m2m.pipeline.workers import train_all
from m2m.results.folder import parsed
from m2m.store import fingerprint


@dataclass(frozen=True)
class Stop:
    """A mixture after some number of steps.

    Attributes:
        trial: its scores on the dev questions.
        held_out: loss on its held-out rows; None without such rows.
        seconds: of its training and scoring since its stop before.
    """

    mixture: Mixture
    steps: int
    trial: Trial
    held_out: float | None
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
        return Job(corpus, config, folder, steps, self._state(mixture), last=True)

    def climb(self, mixtures: Sequence[Mixture], steps: int) -> list[Stop]:
        """Train all mixtures up to that many steps, and score them; known stops cost nothing.

        Raises:
            Interrupted: the user asked to stop; states and scores are kept.
        """
        jobs = [self.job(mixture, steps) for mixture in mixtures]
        if not all(self._key(job) in self._known for job in jobs):
            started = time.monotonic()
            # All of them: the number of threads of each depends on how many there are.
            train_all(self._inputs, jobs, self._run.progress)
            self._score([*zip(mixtures, jobs, strict=True)], started)
        return [self._stop(mixture, job) for mixture, job in zip(mixtures, jobs, strict=True)]

    def adapter(self, mixture: Mixture, steps: int) -> Path:
        """Return the folder of a stop's adapter; train it again if somebody has deleted it."""
        job = self.job(mixture, steps)
        train_all(self._inputs, [job], self._run.progress)
        return job.folder

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

    def _state(self, mixture: Mixture) -> Path:
        return self._run.files.states / f"{folder_name(mixture)}.safetensors"

    def _score(self, pairs: Sequence[tuple[Mixture, Job]], started: float) -> None:
        """Score the stops that the journal does not have; their trainings began at `started`."""
        missing = [(mixture, job) for mixture, job in pairs if self._key(job) not in self._known]
        folders = {stage_name(mixture, job.steps): job.folder for mixture, job in missing}
        with open_judge(self._run, {}, folders, dev_only=True) as judge:
            for mixture, job in missing:
                trial = judge.named(stage_name(mixture, job.steps), mixture)
                held_out = read_extra(job.folder)["held_out"]
                seconds = (time.monotonic() - started) / len(missing)
                self._keep({
                    "key": self._key(job),
                    "seconds": round(seconds, 3),
                    "steps": job.steps,
                    "held_out": held_out[-1][1] if held_out else None,
                    "trial": trial.as_json(),
                })  # fmt: skip

    def _stop(self, mixture: Mixture, job: Job) -> Stop:
        line, path = self._known[self._key(job)], self._journal.path
        loss = line.get("held_out")
        held_out = parsed(path, lambda: None if loss is None else as_real(loss, "held_out"))
        seconds = parsed(path, lambda: as_seconds(line.get("seconds", 0.0), "seconds"))
        trial = Trial.from_json(parsed(path, lambda: line["trial"]), str(path))
        return Stop(mixture, job.steps, trial, held_out, seconds)

    def _keep(self, line: dict[str, Any]) -> None:
        self._journal.append(line)
        self._known[line["key"]] = line

    def _key(self, job: Job) -> str:
        return fingerprint(training=job.mark(self._inputs.base), scoring=self._scoring)

    def _end_key(self, mixture: Mixture) -> str:
        """Return the key of the end of a mixture's training, whatever its steps."""
        confirm = self._inputs.recipe.confirm
        rules = [confirm.patience, confirm.max_passes]
        return fingerprint(end=self._key(self.job(mixture, 1)), rules=rules)
