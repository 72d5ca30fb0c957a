"""The decoder as a graph on one of ggml's devices, with the methods that training calls.

The optimiser stays in NumPy: adapters are small, so their gradients cost little to fetch. With it
stay clipping, accumulation, schedules, checkpoints and held-out losses as they are, and a training
that is resumed is still the same bit for bit. m2m.nn.decoder is the reference of all results.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.errors import DeviceError
from m2m.ggml import bindings as c
from m2m.ggml.devices import handle
from m2m.ggml.graph import Adapter, Graph, LinearMap
from m2m.ggml.network import Losses, Network, Weights, missing, rows_of_logits
from m2m.ggml.storage import Kind, Store
from m2m.nn.config import Batch, DecoderConfig
from m2m.nn.layout import Layout, lay_out
from m2m.nn.lora import LoraPair
from m2m.nn.thread_pool import ThreadPool

Grads = dict[str, tuple[NDArray[Any], NDArray[Any]]]

# Tensors of a graph, views included: for each layer, for each layer and block of rows, for each
# block of logits, and besides. ggml ends the process if a graph has more.
_LAYER, _BLOCK, _LOGITS, _REST = 260, 140, 40, 4000
# Factor on gradients that pass through 16-bit products: float16 loses numbers below 6e-8.
_BOOST = {"f16": 256.0}


class DeviceDecoder:
    """A frozen decoder on a device, with adapters.

    Args:
        config: sizes and traits.
        weights: HF tensor names to arrays; read one at a time.
        device: ggml's name of the device.
        threads: number of threads, if it is the processor.
        kind: type of the frozen matrices on the device.
        recompute: whether the backward computes the layers' values again instead of keeping them,
            for the same gradients in less memory. It is set when a batch does not fit.

    Raises:
        DeviceError: the device has too little memory, or lacks an operation.
        ValueError: the graph lacks a trait of the family: ask `missing` first.
    """

    def __init__(
        self,
        config: DecoderConfig,
        weights: Mapping[str, NDArray[Any]],
        device: str = "CPU",
        *,
        threads: int = 1,
        kind: Kind = "f32",
        recompute: bool = False,
    ) -> None:
        if lacking := missing(config):
            raise ValueError(f"the graph does not compute {', '.join(lacking)}")
        self.config, self.pool, self.device = config, ThreadPool(threads), device
        self.recompute = recompute
        # Vulkan's float32 products take float16 inputs without this, with gradients 1e-2 from the
        # exact ones. ggml reads it when this process uses a device for the first time.
        os.environ.setdefault("GGML_VK_DISABLE_F16", "1")
        self._f, self._handle = c.functions(), handle(device)
        self._boost = _BOOST.get(kind, 1.0)
        self._backend: int | None = self._f.backend_dev_init(self._handle, None)
        if not self._backend:
            raise DeviceError(f"{device} cannot be used now", 'set device = "cpu" in [limits]')
        if device == "CPU":
            self._f.backend_cpu_set_n_threads(self._backend, threads)
        self._memory = self._f.gallocr_new(self._f.backend_get_default_buffer_type(self._backend))
        self._base = Store(self._f, self._backend, device)
        self._adapters: Store | None = None
        self._pairs: dict[str, Adapter] = {}
        self._checked: set[bool] = set()  # graphs without and with gradients
        self._weights = self._load(weights, kind)

    def close(self) -> None:
        """Free everything on the device; twice is safe."""
        if self._backend is None:
            return
        for store in (self._adapters, self._base):
            if store is not None:
                store.close()
        self._f.gallocr_free(self._memory)
        self._f.backend_free(self._backend)
        self._backend = None

    def memory(self) -> tuple[int, int]:
        """Return the bytes on the device: of the frozen base, and of the largest batch so far."""
        return self._base.size(), int(self._f.gallocr_get_buffer_size(self._memory, 0))

    def __del__(self) -> None:
        if getattr(self, "_backend", None) is not None and hasattr(self, "_base"):
            self.close()

    def loss(self, batch: Batch, lora: Mapping[str, LoraPair] | None = None) -> tuple[float, int]:
        """Return the summed loss in nats and the number of positions, forward only."""
        loss, count, _ = self._run(batch, lora or {}, None)
        return loss, count

    def loss_and_grads(
        self, batch: Batch, lora: Mapping[str, LoraPair], out: Grads | None = None
    ) -> tuple[float, int, Grads]:
        """Return the summed loss in nats, the number of positions, and d(sum)/d(A, B) by module.

        Writes the gradients into `out`, which an earlier call with the same shapes returned,
        or into new arrays.
        """
        grads = out if out is not None else {}
        for module, pair in lora.items():
            if out is None:
                grads[module] = (np.empty_like(pair.a), np.empty_like(pair.b))
            for array in grads[module]:
                array[...] = 0.0
        return self._run(batch, lora, grads)

    def _run(
        self, batch: Batch, lora: Mapping[str, LoraPair], grads: Grads | None
    ) -> tuple[float, int, Any]:
        count = len(batch.loss_index)
        if not count:
            return 0.0, 0, grads
        if batch.tokens.min() < 0 or batch.tokens.max() >= self.config.vocab_size:
            raise ValueError(f"token id outside of 0..{self.config.vocab_size - 1}")
        self._bind(lora)
        layout = lay_out(apart(batch))
        while True:
            again = self.recompute and grads is not None
            graph = Graph(self._f, _most(self.config, layout, again))
            try:
                losses = self._network(graph, layout).losses(grads is not None)
                if self._computed(graph, len(layout.tokens), last=again or grads is None):
                    if grads is not None:
                        self._fetch(graph, lora, grads)
                    return _nats(graph, losses), count, grads
                self.recompute = True
            finally:
                graph.close()

    def _network(self, graph: Graph, layout: Layout) -> Network:
        maps = {
            module: replace(one, adapter=self._pairs.get(module))
            for module, one in self._weights.maps.items()
        }
        bound = replace(self._weights, maps=maps)
        return Network(graph, self.config, bound, layout, self._boost, self.recompute)

    def _computed(self, graph: Graph, tokens: int, *, last: bool) -> bool:
        """Compute a graph; return False if it does not fit, and raise if it is the `last` way."""
        if bool(graph.gradients) not in self._checked:
            self._refuse_unsupported(graph)
            self._checked.add(bool(graph.gradients))
        hint = 'lower batch_tokens in [train], or set device = "cpu" in [limits]'
        if not self._f.gallocr_alloc_graph(self._memory, graph.graph):
            if not last:
                return False
            raise DeviceError(
                f"{self.device} has too little memory for a batch of {tokens} tokens", hint
            )
        graph.upload()
        if status := self._f.backend_graph_compute(self._backend, graph.graph):
            raise DeviceError(f"{self.device} could not compute a batch: status {status}", hint)
        return True

    def _refuse_unsupported(self, graph: Graph) -> None:
        """Raise DeviceError if the device lacks an operation of the graph."""
        nodes = (
            self._f.graph_node(graph.graph, i) for i in range(self._f.graph_n_nodes(graph.graph))
        )
        lacking = {
            self._f.op_desc(node).decode()
            for node in nodes
            if not self._f.backend_dev_supports_op(self._handle, node)
        }
        if lacking:
            raise DeviceError(
                f"{self.device} cannot compute {', '.join(sorted(lacking))}",
                'set device = "cpu" in [limits]',
            )

    def _fetch(self, graph: Graph, lora: Mapping[str, LoraPair], grads: Grads) -> None:
        for module, (da, db) in graph.gradients.items():
            pair, (a, b) = lora[module], grads[module]
            a[...] = graph.download(da, pair.a.shape)
            a *= a.dtype.type(pair.scale / self._boost)
            b[...] = graph.download(db, pair.b.T.shape).T
            b *= b.dtype.type(1.0 / self._boost)

    def _load(self, weights: Mapping[str, NDArray[Any]], kind: Kind) -> Weights:
        """Reserve and write all frozen tensors."""
        config, base, shapes = self.config, self._base, self.config.weight_shapes()
        name = "model.embed_tokens.weight"
        table = 0 if config.tie_word_embeddings else base.matrix(name, shapes[name], kind)
        name = name if config.tie_word_embeddings else "lm_head.weight"
        head, head_back = base.both(name, shapes[name], kind)
        maps = {}
        for module, shape in config.linear_shapes().items():
            bias = f"{module}.bias"
            vector = base.vector(bias, shape[0]) if bias in shapes else None
            both = base.both(f"{module}.weight", shape, kind)
            maps[module] = LinearMap(module, *both, vector, shape, None)
        vectors = {
            name: base.vector(source, shapes[source][0], config.norm_offset, factor)
            for name, source, factor in _norms(config)
        }
        base.allocate()
        base.write(weights)
        return Weights(maps, vectors, table or head, head, head_back)

    def _bind(self, lora: Mapping[str, LoraPair]) -> None:
        """Write the adapters to the device."""
        if unknown := sorted(set(lora) - set(self._weights.maps)):
            raise ValueError(f"adapter for unknown modules: {', '.join(unknown)}")
        ranks = {module: pair.rank for module, pair in lora.items()}
        if ranks != {module: pair.rank for module, pair in self._pairs.items()}:
            self._reserve(lora)
        if self._adapters is not None:
            for module, pair in lora.items():
                own = self._pairs[module]
                self._adapters.put(own.a, pair.a * np.float32(pair.scale))
                self._adapters.put(own.b, pair.b)
                self._adapters.put(own.across, pair.b.T)

    def _reserve(self, lora: Mapping[str, LoraPair]) -> None:
        if self._adapters is not None:
            self._adapters.close()
        self._adapters, self._pairs = None, {}
        if not lora:
            return
        self._adapters = store = Store(self._f, self._backend, self.device)
        for module, pair in lora.items():
            shapes = (pair.a.shape, pair.b.shape, pair.b.T.shape)
            a, b, across = (store.tensor(*shape) for shape in shapes)
            self._pairs[module] = Adapter(a, b, across, pair.rank)
        store.allocate()


def apart(batch: Batch) -> Batch:
    """Return a batch whose rows contain the prefix that they share; the losses are the same."""
    prefix = batch.prefix_length
    if not prefix:
        return batch
    head = batch.tokens[:prefix]
    ends = np.cumsum(batch.lengths)
    rows = np.split(batch.tokens[prefix:], ends[:-1])
    row = np.searchsorted(ends, np.asarray(batch.loss_index) - prefix, side="right")
    return Batch(
        tokens=np.concatenate([part for own in rows for part in (head, own)]),
        lengths=np.asarray(batch.lengths) + prefix,
        prefix_length=0,
        loss_index=batch.loss_index + row * prefix,
        loss_target=batch.loss_target,
    )


def _most(config: DecoderConfig, layout: Layout, again: bool) -> int:
    """Return the most tensors of a batch's graph; `again`: layers are computed twice."""
    logits = _LOGITS * (1 + len(layout.loss_target) // rows_of_logits(config))
    layers = config.num_layers * (_LAYER + _BLOCK * len(layout.groups))
    return _REST + logits + layers * (1 + again)


def _norms(config: DecoderConfig) -> list[tuple[str, str, float]]:
    """Return name, tensor and factor of every norm; that of the last one scales the logits."""
    norms = [("model.norm", "model.norm.weight", config.logit_scale / config.logit_divisor)]
    for layer in range(config.num_layers):
        prefix = f"model.layers.{layer}"
        norms += [(f"{prefix}.{n}", f"{prefix}.{n}.weight", 1.0) for n in config.norm_names()]
        if config.qk_norm:
            for own, names in zip("qk", config.head_norm_names(), strict=True):
                path = f"{prefix}.self_attn"
                norms.append((f"{path}.{own}", f"{path}.{names[0]}.weight", 1.0))
    return norms


def _nats(graph: Graph, losses: Losses) -> float:
    """Return the summed loss; infinite if a target's probability is below float32's range."""
    parts = [graph.download(tensor, (count,)) for tensor, count in losses.parts]
    with np.errstate(divide="ignore"):
        return float(-np.log(np.concatenate(parts).astype(np.float64)).sum())
