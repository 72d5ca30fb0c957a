#!/usr/bin/env python3
"""Merge to Mix in PyTorch: train, merge and score what `validate_peer_plan.py` planned.

    validate_peer.py PLAN.npz BASE.gguf FOLDER [--program NAME]... [--precision tf32]

Nothing of m2m's trainer, merger and scorer is used, only what feeds them: the base's weights, the
samples and their order, an adapter's first weights. So it tells whether a finding is m2m's or the
method's; and on a GPU it really fine-tunes every mixture, not a sample of them. The frozen base
takes the batches of many trainings at once; each has adapters, a loss and an AdamW of its own.

Writes FOLDER/PROGRAM.npz, anew whenever trainings end. Needs PyTorch, and what m2m reads a GGUF
with; llama.cpp it does not need.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from m2m.checkpoint.gguf_source import open_gguf
from m2m.dataset import BatchStream, Sample, pack_all
from m2m.formats.atomic import atomic_file
from m2m.nn.config import Batch, DecoderConfig
from m2m.nn.lora import init_lora
from m2m.nn.optim import learning_rate_factor
from m2m.recipe import PROJECTIONS

PARENTS = dict.fromkeys(PROJECTIONS[:4], "self_attn") | dict.fromkeys(PROJECTIONS[4:], "mlp")
SCORED_AT_ONCE = 64  # batches
Adapters = dict[str, tuple[torch.Tensor, torch.Tensor]]  # (L, G, R, in), (L, G, out, R)
Adapter = dict[str, tuple[torch.Tensor, torch.Tensor]]  # (L, R, in), (L, out, R)


class Model:
    """A frozen Llama decoder: `maps[projection]` is (L, out, in)."""

    def __init__(self, path: Path, device: str) -> None:
        source = open_gguf(path)
        self.config: DecoderConfig = source.config
        self.device = device

        def read(name: str) -> torch.Tensor:
            tensor = np.asarray(source.read(name))
            if tensor.ndim > 1:  # as the import stores it
                tensor = tensor.astype(np.float16)
            return torch.from_numpy(tensor.astype(np.float32)).to(device)

        def stacked(name: str) -> torch.Tensor:
            layers = range(self.config.num_layers)
            return torch.stack([read(f"model.layers.{layer}.{name}.weight") for layer in layers])

        self.embedding = read("model.embed_tokens.weight")
        self.norm = read("model.norm.weight")
        self.norms = stacked("input_layernorm"), stacked("post_attention_layernorm")
        self.maps = {name: stacked(f"{PARENTS[name]}.{name}") for name in PROJECTIONS}

    def merged(self, parts: Sequence[tuple[Adapter, float]]) -> dict[str, torch.Tensor]:
        """The maps with the weighted sum of adapters' deltas."""
        maps = {}
        for name, base in self.maps.items():
            down = torch.cat([adapter[name][0] for adapter, _ in parts], 1)
            up = torch.cat([adapter[name][1] * factor for adapter, factor in parts], 2)
            maps[name] = torch.baddbmm(base, up, down)
        return maps

    def hidden(
        self, inputs: Inputs, maps: Mapping[str, torch.Tensor], lora: Adapters | None, scale: float
    ) -> torch.Tensor:
        """(G, T, C) the last layer's normalised output."""
        config, eps = self.config, self.config.rms_norm_eps
        groups, length = inputs.tokens.shape
        layers = {n: (a.unbind(0), b.unbind(0)) for n, (a, b) in (lora or {}).items()}
        x = self.embedding[inputs.tokens]

        def linear(h: torch.Tensor, name: str, layer: int) -> torch.Tensor:
            y = h @ maps[name][layer].T
            if not layers:
                return y
            down, up = layers[name][0][layer], layers[name][1][layer]
            return torch.baddbmm(y, torch.bmm(h, down.mT), up.mT, alpha=scale)

        def heads(h: torch.Tensor, count: int) -> torch.Tensor:
            return h.view(groups, length, count, config.head_dim).transpose(1, 2)

        repeat = config.num_heads // config.num_kv_heads
        for layer in range(config.num_layers):
            h = F.rms_norm(x, (x.shape[-1],), self.norms[0][layer], eps)
            q = inputs.rotated(heads(linear(h, "q_proj", layer), config.num_heads))
            k = inputs.rotated(heads(linear(h, "k_proj", layer), config.num_kv_heads))
            v = heads(linear(h, "v_proj", layer), config.num_kv_heads)
            k, v = (tensor.repeat_interleave(repeat, 1) for tensor in (k, v))
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=inputs.mask)
            x = x + linear(mixed.transpose(1, 2).reshape(groups, length, -1), "o_proj", layer)
            h = F.rms_norm(x, (x.shape[-1],), self.norms[1][layer], eps)
            gate = F.silu(linear(h, "gate_proj", layer))
            x = x + linear(gate * linear(h, "up_proj", layer), "down_proj", layer)
        return F.rms_norm(x, (x.shape[-1],), self.norm, eps)


class Inputs:
    """Packed batches of the same or different trainings, side by side, padded to one length."""

    def __init__(self, batches: Sequence[Batch], model: Model) -> None:
        length = -(-max(len(batch.tokens) for batch in batches) // 8) * 8
        tokens = np.zeros((len(batches), length), np.int64)
        positions, rows = np.zeros_like(tokens), np.full_like(tokens, -1)
        shared = np.array([batch.prefix_length for batch in batches])
        for i, batch in enumerate(batches):
            prefix, size = batch.prefix_length, len(batch.tokens)
            first = np.repeat(np.cumsum(batch.lengths) - batch.lengths, batch.lengths)
            tokens[i, :size] = batch.tokens
            positions[i, :prefix] = np.arange(prefix)
            positions[i, prefix:size] = prefix + np.arange(size - prefix) - first
            rows[i, :prefix] = -2
            rows[i, prefix:size] = np.repeat(np.arange(len(batch.lengths)), batch.lengths)
        device = model.device
        self.tokens = torch.from_numpy(tokens).to(device)
        of = torch.from_numpy(rows).to(device)
        place = torch.arange(length, device=device)
        seen = (of[:, :, None] == of[:, None, :]) | (
            place < torch.from_numpy(shared).to(device)[:, None]
        )[:, None, :]
        self.mask = (seen & (place[None, :] <= place[:, None]))[:, None]
        half = model.config.head_dim // 2
        rates = model.config.rope_theta ** (-torch.arange(half, device=device) / half)
        angles = torch.from_numpy(positions).to(device)[..., None] * rates
        self._cos, self._sin = angles.cos()[:, None], angles.sin()[:, None]
        places = [batch.loss_index + i * length for i, batch in enumerate(batches)]
        self.counts = [len(batch.loss_index) for batch in batches]
        self.places = torch.from_numpy(np.concatenate(places)).to(device)
        targets = np.concatenate([batch.loss_target for batch in batches]).astype(np.int64)
        self.targets = torch.from_numpy(targets).to(device)

    def rotated(self, x: torch.Tensor) -> torch.Tensor:
        """Rotary position embedding of (G, heads, T, D), halves apart (Hugging Face's order)."""
        low, high = x.chunk(2, -1)
        return torch.cat(
            (low * self._cos - high * self._sin, high * self._cos + low * self._sin), -1
        )

    def nats(
        self,
        model: Model,
        maps: Mapping[str, torch.Tensor],
        lora: Adapters | None = None,
        scale: float = 1.0,
    ) -> torch.Tensor:
        """(M,) the negative log-likelihood of every target, batch by batch."""
        hidden = model.hidden(self, maps, lora, scale).flatten(0, 1)[self.places]
        return F.cross_entropy(hidden @ model.embedding.T, self.targets, reduction="none")


class Trainings:
    """Trainings that advance together, each with adapters, schedule and AdamW of its own."""

    def __init__(self, plan: Plan, model: Model, names: Sequence[str], done: Mapping[str, Adapter]):
        self.names = sorted(names, key=lambda name: plan.trainings[name]["steps"])
        self._plan, self._model = plan, model
        self._streams = [plan.stream(name) for name in self.names]
        first = [plan.first(name, model, done) for name in self.names]
        # Two tensors a projection, each of all layers and trainings: AdamW takes few steps.
        self._parameters = [
            torch.stack([adapter[name][side] for adapter in first], 1).requires_grad_()
            for name in PROJECTIONS
            for side in (0, 1)
        ]
        self._moments = [[torch.zeros_like(p) for p in self._parameters] for _ in range(2)]
        self._scale = plan.settings["alpha"] / plan.settings["rank"]

    def run(self) -> Iterator[list[tuple[str, Adapter, list[float]]]]:
        """Those that end with a step: name, adapter (its scale in the up matrix), losses."""
        losses: list[torch.Tensor] = []
        step = 0
        while self.names:
            losses.append(self._advance(step))
            step += 1
            over = [self._plan.trainings[name]["steps"] <= step for name in self.names]
            if not any(over):
                continue
            history = torch.stack(losses).cpu().numpy()
            ended = [int(i) for i in np.flatnonzero(over)]
            yield [(self.names[i], self._adapter(i), history[:, i].tolist()) for i in ended]
            left = [i for i, is_over in enumerate(over) if not is_over]
            losses = [row[left] for row in losses]
            self._keep(left)

    def _advance(self, step: int) -> torch.Tensor:
        """Make a step of all; return their mean losses."""
        inputs = Inputs([next(stream) for stream in self._streams], self._model)
        nats = inputs.nats(self._model, self._model.maps, self._adapters(), self._scale)
        means = torch.stack([part.mean() for part in nats.split(inputs.counts)])
        gradients = torch.autograd.grad(means.sum(), self._parameters)
        self._move(gradients, step)
        return means.detach()

    @torch.no_grad()
    def _move(self, gradients: Sequence[torch.Tensor], step: int) -> None:
        settings, count = self._plan.settings, len(self.names)
        every = [g.square().sum((0, 2, 3)) for g in gradients]
        norm = torch.stack(every).sum(0).sqrt()
        factor = (settings["clip"] / norm.clamp_min(1e-30)).clamp_max(1.0).view(1, count, 1, 1)
        rates = [self._plan.rate(name, step) for name in self.names]
        rate = torch.tensor(rates, device=self._model.device).view(1, count, 1, 1)
        first, second = 0.9, 0.999
        root = math.sqrt(1.0 - second ** (step + 1))
        size = rate * (root / (1.0 - first ** (step + 1)))
        for p, g, m, v in zip(self._parameters, gradients, *self._moments, strict=True):
            g = g * factor
            m.mul_(first).add_(g, alpha=1.0 - first)
            v.mul_(second).addcmul_(g, g, value=1.0 - second)
            p -= size * m / (v.sqrt() + 1e-8 * root)

    def _adapters(self) -> Adapters:
        pairs = zip(self._parameters[::2], self._parameters[1::2], strict=True)
        return dict(zip(PROJECTIONS, pairs, strict=True))

    @torch.no_grad()
    def _adapter(self, i: int) -> Adapter:
        return {
            name: (a[:, i].clone(), b[:, i] * self._scale)
            for name, (a, b) in self._adapters().items()
        }

    @torch.no_grad()
    def _keep(self, places: Sequence[int]) -> None:
        self.names = [self.names[i] for i in places]
        self._streams = [self._streams[i] for i in places]
        self._parameters = [p[:, places].clone().requires_grad_() for p in self._parameters]
        self._moments = [[m[:, places].clone() for m in some] for some in self._moments]


class Plan:
    """What `validate_peer_plan.py` wrote."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self._arrays = dict(arrays)
        about = json.loads(str(self._arrays.pop("about")))
        self.settings: dict[str, Any] = about["settings"]
        self.trainings: dict[str, dict[str, Any]] = about["trainings"]
        self.programs: dict[str, list[dict[str, Any]]] = about["programs"]
        self._samples = self._cut("samples")
        self.questions = {split: self._cut(split) for split in ("dev", "test")}

    def _cut(self, name: str) -> list[Sample]:
        ids, marks, ends = (self._arrays[f"{name}.{part}"] for part in ("ids", "marks", "ends"))
        starts = [0, *ends[:-1]]
        return [
            Sample(ids[a:b], marks[a:b], i)
            for i, (a, b) in enumerate(zip(starts, ends, strict=True))
        ]

    def stream(self, name: str) -> BatchStream:
        """The batches that m2m would train on."""
        rows = [self._samples[i] for i in self._arrays[f"rows.{name}"]]
        return BatchStream(rows, self.trainings[name]["seed"], self.settings["batch_tokens"])

    def rate(self, name: str, step: int) -> float:
        """The learning rate of a training at a step."""
        training, settings = self.trainings[name], self.settings
        total = training["steps"]
        warmup = round(settings["warmup"] * total)
        factor = learning_rate_factor(settings["schedule"], step, total, warmup)
        return float(training["learning_rate"]) * factor

    def first(self, name: str, model: Model, done: Mapping[str, Adapter]) -> Adapter:
        """Where a training starts: m2m's first weights, or another one's last."""
        training, settings = self.trainings[name], self.settings
        scale = settings["alpha"] / settings["rank"]
        if training["start"]:
            return {n: (a, b / scale) for n, (a, b) in done[training["start"]].items()}
        rng = np.random.default_rng(training["seed"])
        pairs = init_lora(model.config, PROJECTIONS, settings["rank"], settings["alpha"], rng)
        adapter = {}
        for projection in PROJECTIONS:
            own = [pair for module, pair in pairs.items() if module.endswith(projection)]
            sides = (np.stack([p.a for p in own]), np.stack([p.b for p in own]))
            a, b = (torch.from_numpy(side).to(model.device) for side in sides)
            adapter[projection] = (a, b)
        return adapter


class Scorer:
    """Log-likelihoods of all choices of the dev or test examples, in the plan's order."""

    def __init__(self, samples: Sequence[Sample], model: Model) -> None:
        self._model = model
        self._rows = np.repeat(np.arange(len(samples)), [s.loss_mask.sum() for s in samples])
        batches = list(pack_all(samples, 256))
        groups = range(0, len(batches), SCORED_AT_ONCE)
        self._inputs = [Inputs(batches[i : i + SCORED_AT_ONCE], model) for i in groups]

    @torch.no_grad()
    def __call__(self, maps: Mapping[str, torch.Tensor]) -> np.ndarray:
        """(rows,) float32."""
        parts = [inputs.nats(self._model, maps) for inputs in self._inputs]
        nats = torch.cat(parts).double().cpu().numpy()
        return (-np.bincount(self._rows, nats)).astype(np.float32)


def work_through(plan: Plan, name: str, model: Model, out: Path) -> None:
    """Run a program stage by stage: train, score, merge and score the merges."""
    scorers = {split: Scorer(questions, model) for split, questions in plan.questions.items()}
    done: dict[str, Adapter] = {}
    results: dict[str, np.ndarray] = {}
    started = time.perf_counter()

    def save(about: str) -> None:
        with atomic_file(out / f"{name}.npz") as file:
            np.savez_compressed(file, **results)  # type: ignore[arg-type]
        print(f"{time.perf_counter() - started:7.1f} s  {name}: {about}", flush=True)

    for number, stage in enumerate(plan.programs[name]):
        for ended in Trainings(plan, model, stage["train"], done).run():
            for training, adapter, losses in ended:
                results[f"losses {training}"] = np.array(losses, np.float32)
                if stage["keep"]:
                    done[training] = adapter
                if training in stage["score"]:
                    maps = model.merged([(adapter, 1.0)])
                    for split, score in scorers.items():
                        results[f"{split} {training}"] = score(maps)
            save(f"stage {number}, {len(ended)} trainings more, {len(losses)} steps")
        for merge, parts in stage["merges"].items():
            maps = model.merged([(done[of], factor) for of, factor in parts])
            results[f"dev {merge}"] = scorers["dev"](maps)
        save(f"stage {number}, scored {len(stage['merges'])} merges")


def main() -> None:
    """Run the programs that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--program", action="append", help="default: all of the plan's")
    parser.add_argument("--precision", choices=("float32", "tf32"), default="float32")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = options.precision == "tf32"
    plan = Plan(options.plan)
    model = Model(options.base, "cuda" if torch.cuda.is_available() else "cpu")
    options.out.mkdir(parents=True, exist_ok=True)
    for program in options.program or plan.programs:
        work_through(plan, program, model, options.out)


if __name__ == "__main__":
    main()
