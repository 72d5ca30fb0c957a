"""A fine-tune's training that can be stopped after any step, looked at, and gone on with."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from m2m.adapter import Adapter, save_adapter
from m2m.errors import Interrupted
from m2m.formats.atomic import remove_folder
from m2m.formats.safetensors import SafetensorsFile
from m2m.nn.lora import LoraPair
from m2m.pipeline.experts import Job, choose, made, open_decoder
from m2m.pipeline.inputs import Inputs
from m2m.recipe import as_json
from m2m.tuner.callbacks import Step
from m2m.tuner.checkpointing import checkpoint_path
from m2m.tuner.result import TrainResult
from m2m.tuner.trainer import Trainer


class Watch:
    """A `Callback` that stops a training after a step, and measures how fast it went."""

    def __init__(self, until: int) -> None:
        self._until = until
        self.tokens, self.seconds, self.last = 0, 0.0, 0
        self._began = time.process_time()

    def on_start(self, total_steps: int, done_steps: int) -> None:
        """Note where an earlier process stopped."""
        self.last = done_steps
        self._began = time.process_time()

    def on_step(self, step: Step) -> None:
        """Count the step."""
        self.tokens += step.tokens
        self.seconds += step.seconds
        self.last = step.number

    def on_end(self, result: TrainResult) -> None:
        """Do nothing: `Trainer` has written the adapter."""

    def stop_requested(self) -> bool:
        """Return whether the step is reached."""
        return self.last >= self._until

    def rate(self) -> dict[str, Any]:
        """Return the speed, and the machine's load: other programs run beside this one."""
        return {
            "until_step": self.last,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 1),
            "processor_seconds": round(time.process_time() - self._began, 1),
            "tokens_per_second": round(self.tokens / max(self.seconds, 1e-9), 1),
            "load_average": [round(load, 2) for load in os.getloadavg()],
        }


class Training:
    """One fine-tune's training, which can be stopped and looked at after any step."""

    def __init__(self, inputs: Inputs, job: Job) -> None:
        self._inputs, self._job = inputs, job
        self._checkpoint = checkpoint_path(job.folder)
        self._rates = job.folder.with_name(f"{job.folder.name}.rates.jsonl")

    def adapter(self, step: int) -> Path:
        """Return the folder of the adapter after `step` steps, trained now or before."""
        job = self._job
        if step == job.config.steps:
            if made(self._inputs.base, job) is None:
                self._advance(step)
            return job.folder
        place = job.folder.with_name(f"{job.folder.name}.step{step}")
        if not place.exists():
            if self._saved_step() < step:
                self._advance(step)
            save_adapter(place, self._saved_adapter())
        return place

    def facts(self) -> dict[str, Any]:
        """Return what a result says of its training."""
        job, inputs = self._job, self._inputs
        done = made(inputs.base, job)
        if done is None or done.loss_first is None or done.loss_last is None:
            raise AssertionError("the training is over")
        recipe = inputs.recipe
        return {
            "rows": len(job.corpus.samples),
            "tokens": done.tokens,
            "loss_first": round(done.loss_first, 4),
            "loss_last": round(done.loss_last, 4),
            "rates": [json.loads(line) for line in self._measured()],
            "train": as_json(recipe.train),
            "quantize": recipe.quantize.type,
            "base": {"name": inputs.base.name, "fingerprint": inputs.base.fingerprint},
            "data": job.corpus.fingerprint,
        }

    def _measured(self) -> list[str]:
        """Return the lines on speed; a process that was killed has left none."""
        return self._rates.read_text("utf-8").splitlines() if self._rates.exists() else []

    def forget(self) -> None:
        """Delete all but the last step's adapter."""
        self._rates.unlink(missing_ok=True)
        for place in self._job.folder.parent.glob(f"{self._job.folder.name}.step*"):
            remove_folder(place)

    def _advance(self, until: int) -> None:
        """Train up to a step, save the state, and note the speed, also if the user interrupts."""
        job, base, recipe = self._job, self._inputs.base, self._inputs.recipe
        watch = Watch(until)
        trainer = Trainer(
            open_decoder(base, recipe, choose(base, recipe)),
            job.corpus.samples,
            job.config,
            folder=job.folder,
            origin=job.origin(base),
            held_out=job.corpus.held_out,
            callbacks=[watch],
        )
        try:
            with suppress(Interrupted):
                trainer.run()
        finally:
            with self._rates.open("a", encoding="utf-8") as file:
                file.write(json.dumps(watch.rate()) + "\n")

    def _saved_step(self) -> int:
        """Return the step of the checkpoint; 0 without one."""
        if not self._checkpoint.exists():
            return 0
        header = json.loads(SafetensorsFile(self._checkpoint).metadata["m2m_training"])
        return int(header["progress"]["step"])

    def _saved_adapter(self) -> Adapter:
        """Return the checkpoint's adapter."""
        file, config, base = SafetensorsFile(self._checkpoint), self._job.config, self._inputs.base
        scale = config.alpha / config.rank
        pairs = {
            module: LoraPair(file.array(f"{module}.a"), file.array(f"{module}.b"), scale)
            for module in base.config.linear_shapes()
            if f"{module}.a" in file.names
        }
        return Adapter(config.rank, config.alpha, pairs, base.name, base.fingerprint)
