"""Part (b) of `head_to_head`: PyTorch, transformers' Trainer and PEFT, for a given time.

    head_to_head_peer.py JOB.npz MODEL_FOLDER OUT_FOLDER

Written as its users would write it: one LoRA on all rows, AdamW with a linear decay to the last
step, an evaluation of the dev loss ten times, and the best checkpoint is kept. The number of steps
is the one that the time allows at the speed of the first few.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

IGNORED = -100  # labels that transformers does not train on
FIRST, CHECKS = 4, 10
RESERVE = 0.95  # of the time; the rest is for checkpoints and the last evaluation


def rows(job: Any, name: str) -> list[dict[str, list[int]]]:
    """Return the samples of a part as token ids and labels."""
    ids, marks, ends = (job[f"{name}.{part}"] for part in ("ids", "marks", "ends"))
    starts = [0, *ends[:-1].tolist()]
    return [
        {
            "input_ids": ids[a:b].tolist(),
            "labels": np.where(marks[a:b], ids[a:b], IGNORED).tolist(),
        }
        for a, b in zip(starts, ends.tolist(), strict=True)
    ]


def padded(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Return a batch, padded to its longest row."""
    longest = max(len(row["input_ids"]) for row in batch)

    def of(key: str, fill: int) -> torch.Tensor:
        return torch.tensor([row[key] + [fill] * (longest - len(row[key])) for row in batch])

    mask = [[1] * len(r["input_ids"]) + [0] * (longest - len(r["input_ids"])) for r in batch]
    return {
        "input_ids": of("input_ids", 0),
        "labels": of("labels", IGNORED),
        "attention_mask": torch.tensor(mask),
    }


class UntilTimeIsUp(TrainerCallback):  # type: ignore[misc]
    """Ends a training when its time is up, if the machine has become slower."""

    def __init__(self, end: float) -> None:
        self._end = end

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a last evaluation and the end."""
        if time.monotonic() > self._end:
            control.should_evaluate = control.should_save = control.should_training_stop = True


def arguments(settings: dict[str, Any], out: Path, steps: int, *, real: bool) -> TrainingArguments:
    """Return the Trainer's arguments: ten checks in a real training, none in a trial."""
    every = max(1, steps // CHECKS)
    kept: dict[str, Any] = {
        "eval_strategy": "steps",
        "save_strategy": "steps",
        "eval_steps": every,
        "save_steps": every,
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
    }
    return TrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=settings["rows_a_step"],
        per_device_eval_batch_size=16,
        learning_rate=settings["learning_rate"],
        warmup_steps=round(settings["warmup"] * steps),
        lr_scheduler_type="linear",
        weight_decay=settings["weight_decay"],
        max_grad_norm=settings["clip"],
        seed=settings["seed"],
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        **(kept if real else {"save_strategy": "no"}),
    )


def main() -> None:
    """Train, and save the adapter with the best dev loss."""
    job_path, folder, out = map(Path, sys.argv[1:])
    with np.load(job_path) as job:
        settings = json.loads(str(job["settings"]))
        train, dev = rows(job, "train"), rows(job, "dev")
    end = settings["end"] - time.time() + time.monotonic()
    torch.set_num_threads(settings["threads"])

    def model() -> Any:
        torch.manual_seed(settings["seed"])
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return get_peft_model(
            base,
            LoraConfig(
                r=settings["rank"],
                lora_alpha=settings["alpha"],
                target_modules=settings["target_modules"],
                task_type="CAUSAL_LM",
            ),
        )

    def trainer(steps: int, *, real: bool) -> Trainer:
        return Trainer(
            model=model(),
            args=arguments(settings, out / "trainer", steps, real=real),
            train_dataset=train,
            eval_dataset=dev,
            data_collator=padded,
            callbacks=[UntilTimeIsUp(end)] if real else [],
        )

    trial = trainer(FIRST, real=False)
    trial.train()  # the first step also allocates memory
    started = time.monotonic()
    trial.train()
    a_step = (time.monotonic() - started) / FIRST
    started = time.monotonic()
    trial.evaluate()
    checks = CHECKS * (time.monotonic() - started)
    steps = max(1, int(RESERVE * (end - time.monotonic() - checks) / a_step))
    del trial
    real = trainer(steps, real=True)
    real.train()
    real.model.save_pretrained(out / "adapter")
    best = real.state.best_model_checkpoint or "checkpoint-0"
    facts = {
        "steps": int(best.rpartition("-")[2]),
        "trained": real.state.global_step,
        "dev_loss": real.state.best_metric,
        "seconds_a_step": round(a_step, 3),
    }
    (out / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
