"""Compute the summed loss and the LoRA gradients of packed rows; all other weights are frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from m2m.arrays import Array
from m2m.blas import one_blas_thread
from m2m.nn.blocks.ends import FirstStream, LastNorm
from m2m.nn.config import Batch, DecoderConfig, RopeScaling
from m2m.nn.functional import BITS, unbuffered, widen
from m2m.nn.head import capped, logits, numerators, settle
from m2m.nn.layer import Grads, Layer, LayerPass, Saved
from m2m.nn.layout import AttentionPlan, Heads, Layout, lay_out, lay_out_chunks
from m2m.nn.lora import LoraPair
from m2m.nn.matrix import Storage
from m2m.nn.rope import rotary_table
from m2m.nn.thread_pool import ThreadPool, Worker
from m2m.nn.workspace import Workspace

Result = TypeVar("Result")

__all__ = ["Batch", "Decoder", "DecoderConfig", "RopeScaling"]

# Products for a key that a query sees (2 forward, 5 backward), relative to a weight (1 and 1).
KEY_COST = 3.5


class Decoder:
    """A frozen decoder with linear maps that take adapters.

    Args:
        config: sizes and traits.
        weights: HF tensor names to arrays; read one at a time and copied, unless they are held.
        dtype: type of all computation; float32, or float64 for gradient checks.
        threads: number of threads that share a step. It changes the last bits of sums.
        recompute: number of first layers that keep only their input and run again in the
            backward: this needs a tenth of the memory for their activations and a third to a half
            more of their time. Changes no bit.
        maps: storage of the maps' weights. "whole": in `dtype`. "half": in 16 bits, as
            float16 or as the base's bfloat16, each cast when it is used; half the memory for two
            passes over them a step, and exact for a base of 16 bits. "held": the same in the arrays
            of `weights`, for one pass without adapters. "bf16": weights and inputs
            are rounded to bfloat16, and sums are float32; faster if the processor has such
            products. The same holds for the output head. "q8_0": rounded to ggml's Q8_0, each cast
            when it is used; half the memory of "half", the tables as they are.
        rank: rank of later adapters, if known: they get their space without a copy of the base.
    """

    def __init__(
        self,
        config: DecoderConfig,
        weights: Mapping[str, NDArray[Any]],
        dtype: DTypeLike = np.float32,
        *,
        threads: int = 1,
        recompute: int = 0,
        maps: str = "whole",
        rank: int = 0,
    ) -> None:
        self.config = config
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.pool = ThreadPool(threads)
        self._recompute, self._half, self._rounded = recompute, maps == "half", maps == "bf16"
        self._held = maps == "held"
        self._spaces = [Workspace(dtype) for _ in range(self.pool.count)]
        self._more: list[Grads] = []
        table = weights["model.embed_tokens.weight"]
        self._bits = table.dtype if table.dtype == BITS else np.dtype(np.float16)
        storage = Storage(self.dtype, maps, rank, self._bits)
        self._embedding = self._kept(table)
        self._head = self._embedding
        if not config.tie_word_embeddings:
            self._head = self._kept(weights["lm_head.weight"])
        self._head_bias: Array | None = None
        if config.head_bias:
            self._head_bias = np.array(weights["lm_head.bias"], self.dtype)
        self._last = LastNorm(config, weights, self.dtype)
        self._first = FirstStream(config, weights, self._embedding, self.dtype)
        self._layers = self._each_layer(lambda number: Layer(config, weights, number, storage))
        self._known = {m for layer in self._layers for f in layer.maps for m in f.modules}

    @unbuffered()
    def logits(
        self, tokens: NDArray[np.integer[Any]], lora: Mapping[str, LoraPair] | None = None
    ) -> Array:
        """Return the logits after every token of one text, (T, V)."""
        with self._blas():
            states = self._states([tokens], lora)
            raw = logits(states, self._head, self._spaces[0], bias=self._head_bias)
        return capped(raw, self.config.logit_cap) if self.config.logit_cap else raw

    @unbuffered()
    def hidden(self, texts: Sequence[NDArray[np.integer[Any]]]) -> Array:
        """Return the last hidden states of all tokens of some texts, normalised, (T, C).

        Their order is the one in which the batch is computed: the longest text is first.
        """
        with self._blas():
            return self._states(texts, None)

    def _blas(self) -> AbstractContextManager[None]:
        """Keep BLAS to one thread if the decoder has one: its threads spin while others work."""
        return one_blas_thread() if self.pool.count == 1 else nullcontext()

    def _states(
        self, texts: Sequence[NDArray[np.integer[Any]]], lora: Mapping[str, LoraPair] | None
    ) -> Array:
        nothing = np.zeros(0, np.intp)
        lengths = np.array([len(text) for text in texts])
        batch = Batch(np.concatenate(texts), lengths, 0, nothing, nothing)
        layout = lay_out(batch, trim=False)
        self._bind(lora or {})
        x, _ = self._forward(self._start([layout], Worker()), keep=False, all_rows=True)
        return self._last.forward(x)[0]

    @unbuffered()
    def loss(self, batch: Batch, lora: Mapping[str, LoraPair] | None = None) -> tuple[float, int]:
        """Return the summed loss in nats and the number of positions, forward only."""
        if not len(batch.loss_index):
            return 0.0, 0
        self._bind(lora or {})
        layouts = self._lay_out(batch)

        def work(worker: Worker) -> float:
            step = self._start(layouts, worker)
            x, _ = self._forward(step, keep=False)
            return self._loss(step, x, None)

        return sum(self.pool.run(work, len(layouts))), len(batch.loss_index)

    @unbuffered()
    def loss_and_grads(
        self, batch: Batch, lora: Mapping[str, LoraPair], out: Grads | None = None
    ) -> tuple[float, int, Grads]:
        """Return the summed loss in nats, the number of positions, and d(sum)/d(A, B) by module.

        Writes the gradients into `out`, which an earlier call with the same shapes returned,
        or into new arrays.
        """
        grads = out if out is not None else self._fresh(lora)
        if not len(batch.loss_index):
            for da, db in grads.values():
                da[...] = 0.0
                db[...] = 0.0
            return 0.0, 0, grads
        self._bind(lora)
        layouts = self._lay_out(batch)
        every = [grads, *self._others(lora, len(layouts) - 1)]
        work = partial(self._share_of_grads, layouts, every)
        return sum(self.pool.run(work, len(layouts))), len(batch.loss_index), grads

    def _share_of_grads(
        self, layouts: Sequence[Layout], grads: Sequence[Grads], worker: Worker
    ) -> float:
        """Return one chunk's loss; write its gradients, then all workers' sums, into `grads`."""
        step, own = self._start(layouts, worker), grads[worker.number]
        x, saved = self._forward(step, keep=True)
        width = self.config.hidden_size + self._rank()
        dx = step.space.get("dx.last", len(x), width)
        loss = self._loss(step, x, dx[:, : self.config.hidden_size])
        for number in reversed(range(len(self._layers))):
            rows = self._rows(step, number)
            layer = self._layers[number]
            state = self._again(step, number) if number < self._recompute else saved.pop()
            dx = layer.backward(step, state, dx, own, rows)
        worker.gather("gradients")
        for module in list(own)[worker.number :: worker.count]:
            for others in grads[1:]:
                for total, more in zip(grads[0][module], others[module], strict=True):
                    total += more
        return loss

    def _lay_out(self, batch: Batch) -> list[Layout]:
        config = self.config
        weights = sum(rows * columns for rows, columns in config.linear_shapes().values())
        key = KEY_COST * config.num_layers * config.query_size / weights
        return lay_out_chunks(batch, self.pool.count, key)

    def _each_layer(self, work: Callable[[int], Result]) -> list[Result]:
        """Return the result of `work` for every layer; all threads share the layers."""
        count = self.config.num_layers
        results = self.pool.run(
            lambda m: [work(number) for number in range(m.number, count, m.count)]
        )
        return [results[number % len(results)][number // len(results)] for number in range(count)]

    def _kept(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a copy of embeddings (V, C): in 16 bits if they are, and then cast block by block.

        A batch needs few rows of the input embeddings, and the output's blocks are cast in cache.
        So the casts take only some thousandths of a step.
        """
        if self._held:
            return array
        narrow = self._half or (array.dtype == self._bits and self.dtype == np.float32)
        kept = np.empty(array.shape, self._bits if narrow else self.dtype)
        widen(array, kept)
        return kept

    def _fresh(self, lora: Mapping[str, LoraPair]) -> Grads:
        return {
            module: (np.empty(pair.a.shape, self.dtype), np.empty(pair.b.shape, self.dtype))
            for module, pair in lora.items()
        }

    def _others(self, lora: Mapping[str, LoraPair], count: int) -> list[Grads]:
        """Return gradients for workers after the first; steps reuse the arrays."""
        shapes = {module: (pair.a.shape, pair.b.shape) for module, pair in lora.items()}
        kept = {
            module: (da.shape, db.shape) for module, (da, db) in (self._more or [{}])[0].items()
        }
        if shapes != kept:
            self._more = []
        self._more += [self._fresh(lora) for _ in range(count - len(self._more))]
        return self._more[:count]

    def _rank(self) -> int:
        """Return the most low-rank columns that the stream's gradient needs after its own."""
        return max(layer.stream_rank for layer in self._layers)

    def _bind(self, pairs: Mapping[str, LoraPair]) -> None:
        if unknown := sorted(set(pairs) - self._known):
            raise ValueError(f"adapter for unknown modules: {', '.join(unknown)}")
        self._each_layer(lambda number: self._layers[number].bind(pairs))

    def _start(self, layouts: Sequence[Layout], worker: Worker) -> LayerPass:
        """Check the ids of a worker's chunk and prepare the values that the layers share."""
        config, layout = self.config, layouts[worker.number]
        ids = layout.tokens
        if len(ids) and (ids.min() < 0 or ids.max() >= config.vocab_size):
            raise ValueError(f"token id outside of 0..{config.vocab_size - 1}")
        tables, plans = {}, {}
        for kind in {layer.kind for layer in self._layers if layer.kind is not None}:
            window = config.sliding_window if kind.local else 0
            group = config.num_heads // config.num_kv_heads
            alibi = config.alibi_bias if config.positions == "alibi" else 0.0
            cap = config.attention_cap
            heads = Heads(config.num_kv_heads, group, config.head_dim, window, cap, alibi)
            tables[kind] = rotary_table(config, layout.positions, kind, self.dtype)
            plans[kind] = AttentionPlan.make(heads, layout, self.dtype)
        return LayerPass(layout, tables, plans, self._spaces[worker.number], worker)

    def _rows(self, step: LayerPass, number: int) -> NDArray[np.intp] | None:
        """Return the tokens needed after a layer's attention: in the last one, those with loss."""
        return step.layout.loss_index if number == len(self._layers) - 1 else None

    def _forward(
        self, step: LayerPass, keep: bool, all_rows: bool = False
    ) -> tuple[Array, list[Saved]]:
        """Return the stream after the last layer, (M, C) or with `all_rows` (T, C), and states.

        Only with `keep` there are states, for the layers that do not run again.
        """
        x = step.space.get("x", step.tokens, self.config.hidden_size)
        self._first.write(step.layout, x)
        update, states = None, []
        for number in range(len(self._layers)):
            again = number < self._recompute
            if keep and again:
                if update is not None:
                    x += update
                    update = None
                step.space.get(f"{number}.x", *x.shape)[...] = x
            rows = None if all_rows else self._rows(step, number)
            name = f"{number}." if keep and not again else ""
            state, x, update = self._layers[number].forward(step, x, update, name, rows)
            if name:
                states.append(state)
        if update is not None:
            x += update
        return x, states

    def _again(self, step: LayerPass, number: int) -> Saved:
        """Run a layer's forward again from its kept input."""
        x = step.space.get(f"{number}.x", step.tokens, self.config.hidden_size)
        return self._layers[number].forward(step, x, None, "", self._rows(step, number))[0]

    def _loss(self, step: LayerPass, x: Array, dx: Array | None) -> float:
        """Return the loss of the last stream (M, C); write its gradient, (M, C), into dx.

        Every worker takes a part of the vocabulary, for the positions of all workers.
        """
        worker, cap, bias = step.worker, self.config.logit_cap, self._head_bias
        h, saved = self._last.forward(x)
        every = worker.gather("h", h)
        size = len(self._head)
        span = slice(
            size * worker.number // worker.count, size * (worker.number + 1) // worker.count
        )
        whole = np.concatenate(every) if len(every) > 1 else h
        sums = numerators(
            whole,
            self._head[span],
            dx is not None,
            step.space,
            rounded=self._rounded,
            cap=cap,
            bias=None if bias is None else bias[span],
        )
        first = sum(map(len, every[: worker.number]))
        parts = [part.of(slice(first, first + len(h))) for part in worker.gather("sums", sums)]
        dh = None if dx is None else np.empty_like(h)
        loss = settle(h, self._head, step.layout.loss_target, parts, dh, cap=cap, bias=bias)
        if dx is not None and dh is not None:
            self._last.backward(dh, saved, dx)
        return loss
