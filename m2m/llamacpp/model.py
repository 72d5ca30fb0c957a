"""Run a GGUF model in llama.cpp: load, tokenise, decode batches, close in order."""

from __future__ import annotations

import atexit
import ctypes
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m2m.arrays import F32
from m2m.errors import InputError, LlamaError, ResourceError
from m2m.ggml.log import LOG, all_mapped
from m2m.llamacpp import bindings as c
from m2m.llamacpp.amx import amx_ends_the_process
from m2m.machine import free_memory_bytes

WINDOW = 256  # cells: attention runs over all of them; scored tokens/s 1224 here, 1103 with 512
_MOST_BATCH = 512  # tokens; more bring no speed and cost compute buffers
_CELL_STEP = 256  # llama.cpp rounds n_ctx and the attended cells up to this (llama-context.cpp)
_WORK_BYTES = 48 << 20  # graphs and small buffers: without memory for them, ggml_init aborts
_RECURRENT = 16  # sequences of a recurrent model: each has a state of its own, up to some 20 MB
_LOGIT_BYTES = 128 << 20  # at most this much for the logits of one batch


_LIVE: weakref.WeakSet[LlamaModel] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Free everything still open while Python can still receive llama.cpp's log."""
    for model in list(_LIVE):
        model.close()


def build_info() -> str:
    """Return package, llama.cpp commit and CPU features: all that can change a score."""
    system = c.llama_print_system_info().decode().strip(" |")
    return f"llama-cpp-python {c.PACKAGE_VERSION} ggml {c.ggml_commit().decode()} | {system}"


def check_gpu_layers(layers: int) -> None:
    """Raise ResourceError if `layers` is not 0 and llama.cpp lacks GPU support or finds no GPU."""
    if layers and not c.llama_supports_gpu_offload():
        raise ResourceError(
            f"gpu_layers = {layers}, and this llama.cpp can use no GPU",
            "set gpu_layers = 0, or install llama-cpp-python built for your GPU",
        )


def _refuse_without_memory(path: Path, needed: int) -> None:
    """Raise ResourceError if too few bytes are free; else llama.cpp would end the process."""
    free = free_memory_bytes()
    if 0 < free < needed:
        message = f"scoring needs {needed / 1e6:.0f} MB of memory more, {free / 1e6:.0f} are free"
        raise ResourceError(
            f"{path}: {message}",
            "free memory, or raise the limit of this process (`ulimit -v`) or its control group",
        )


class LlamaModel:
    """A loaded model with one context, made for scoring: unified KV cache, flash attention off.

    With flash attention on, log-likelihoods depend on how a batch is cut. Without it, other rows do
    not matter: a row that starts a multiple of 32 cells later in the cache has the same bits. At
    another place, sums over the cells add up in another order, and activations may then round
    differently: with Q8_0 by 0.2 nats (rms) of a choice (docs/scoring.md, "A row's place").

    `recurrent` says whether some layers have a state in place of keys and values (LFM2). It belongs
    to one sequence and cannot go back. So sequences share no token in a batch, and one more than
    `sequences` keeps the state after the shared prefix, which the others copy.

    `mapped` says whether llama.cpp uses all weights in the mapped file, without a copy.

    Args:
        path: a GGUF file with weights.
        threads: CPU threads; None uses all cores.
        context: cells of the KV cache; `reserve` makes it larger when a row needs more.
        batch: most tokens in one decode; None: as many as the cache has cells, at most 512.
        repack: let llama.cpp copy weights into faster layouts if it has them. Otherwise it uses
            the weights of a mapped file without a copy.
        gpu_layers: layers that a GPU computes, -1 all of them.
        exact_cache: keep keys and values as F32. With F32 weights too, a row's place changes its
            score by less than 1e-4.

    Raises:
        InputError: there is no such file.
        LlamaError: llama.cpp cannot load it; the message has its log.
        ResourceError: `gpu_layers` needs a GPU that this llama.cpp cannot use.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        context: int = WINDOW,
        batch: int | None = None,
        repack: bool = True,
        gpu_layers: int = 0,
        exact_cache: bool = False,
    ) -> None:
        self.path = Path(path)
        self.threads = threads or os.cpu_count() or 1
        self._batch_wish = min(batch or _MOST_BATCH, _MOST_BATCH)
        self._exact_cache = exact_cache
        self._gpu_layers = gpu_layers
        self._model: int | None = None
        self._context: int | None = None
        self.kept: tuple[int, ...] = ()
        if not self.path.is_file():
            raise InputError(f"{self.path}: no such model file")
        check_gpu_layers(gpu_layers)
        self._model = self._load(repack)
        _LIVE.add(self)
        try:
            self._vocab: int = c.llama_model_get_vocab(self._model)
            self.vocab_size: int = c.llama_vocab_n_tokens(self._vocab)
            self.context_trained: int = c.llama_model_n_ctx_train(self._model)
            self._refuse_other_kinds()
            self._open_context(context)
        except BaseException:
            self.close()
            raise

    def _load(self, repack: bool) -> int:
        _refuse_without_memory(self.path, _WORK_BYTES)
        params = c.llama_model_default_params()
        params.load_mode = c.LOAD_MODE_MMAP
        params.n_gpu_layers, params.devices = self._gpu_layers, c.devices_for(self._gpu_layers)
        params.use_extra_bufts = repack and not amx_ends_the_process(build_info())
        mark = LOG.mark()
        model: int | None = c.llama_model_load_from_file(os.fsencode(self.path), params)
        if not model:
            raise LOG.error(f"{self.path}: llama.cpp cannot load this model", mark)
        self.mapped = all_mapped(LOG.lines(mark))
        return model

    def _refuse_other_kinds(self) -> None:
        for test, kind in (
            (c.llama_model_has_encoder, "an encoder model"),
            (c.llama_model_is_recurrent, "a recurrent model"),
        ):
            if test(self._model):
                raise LlamaError(f"{self.path}: is {kind}; m2m scores decoder models only")
        self.recurrent = bool(c.llama_model_is_hybrid(self._model))
        self._keepers = int(self.recurrent)

    def _open_context(self, cells: int) -> None:
        cells = -(-max(cells, 1) // _CELL_STEP) * _CELL_STEP
        batch = min(self._batch_wish, cells)
        outputs = max(1, min(batch, _LOGIT_BYTES // (4 * self.vocab_size)))
        _refuse_without_memory(self.path, _WORK_BYTES + 4 * outputs * self.vocab_size)
        params = c.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = cells, batch, batch
        params.n_outputs_max = outputs
        # output_reserve() aborts if n_seq_max > n_outputs_max (llama-context.cpp)
        params.n_seq_max = min(outputs, c.MAX_SEQUENCES)
        if self.recurrent:
            params.n_seq_max = min(outputs, _RECURRENT + self._keepers)
        params.n_threads = params.n_threads_batch = self.threads
        params.flash_attn_type = c.FLASH_ATTN_DISABLED
        params.kv_unified = True
        params.no_perf = True
        params.type_k = params.type_v = c.TYPE_F32 if self._exact_cache else c.TYPE_F16
        mark = LOG.mark()
        context: int | None = c.llama_init_from_model(self._model, params)
        if not context:
            message = f"{self.path}: llama.cpp cannot make a context of {cells} tokens"
            raise ResourceError(LOG.error(message, mark).message, "free memory or shorten the rows")
        self._context = context
        self._memory: int = c.llama_get_memory(context)
        self.cells: int = c.llama_n_ctx(context)
        self.batch: int = c.llama_n_batch(context)
        self.sequences: int = c.llama_n_seq_max(context) - self._keepers
        self.outputs = outputs
        self.kept = ()

    def reserve(self, cells: int) -> None:
        """Make sure that the KV cache has at least `cells` cells; a new one is empty."""
        self._alive()
        if cells > self.cells:
            self._close_context()
            self._open_context(cells)

    def check_length(self, tokens: int) -> None:
        """Raise InputError with both lengths if `tokens` is more than the model was trained for."""
        if tokens > self.context_trained:
            raise InputError(
                f"a row has {tokens} tokens, {self.path.name} was trained for at most "
                f"{self.context_trained}",
                "shorten the row or use a model with a longer context",
            )

    @property
    def description(self) -> str:
        """Return architecture, size and type in llama.cpp's words, such as `llama 256M Q8_0`."""
        self._alive()
        buffer = ctypes.create_string_buffer(256)
        c.llama_model_desc(self._model, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    def tokenize(self, text: str, special: bool = False) -> list[int]:
        """Return the ids of `text`, with none added in front; `special` parses special tokens."""
        self._alive()
        data = text.encode()
        room = len(data) + 8
        for _ in range(2):
            ids = np.empty(room, np.int32)
            address = ids.ctypes.data
            count = c.llama_tokenize(self._vocab, data, len(data), address, room, False, special)
            if count >= 0:
                return [int(i) for i in ids[:count]]
            room = -count
        raise LlamaError(f"llama.cpp cannot tokenise a text of {len(data)} bytes")

    def piece(self, token: int, special: bool = False) -> bytes:
        """Return the bytes that a token stands for; `special` shows special tokens as text."""
        self._alive()
        if not 0 <= token < self.vocab_size:
            raise ValueError(f"token {token}, the vocabulary has {self.vocab_size}")
        buffer = ctypes.create_string_buffer(64)
        for _ in range(2):
            size = c.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
            if size >= 0:
                return buffer.raw[:size]
            buffer = ctypes.create_string_buffer(-size)
        raise LlamaError(f"llama.cpp cannot give the text of token {token}")

    def ends_generation(self, token: int) -> bool:
        """Return whether a token ends an answer (end of text, end of turn, ...)."""
        self._alive()
        return bool(c.llama_vocab_is_eog(self._vocab, token))

    def decode(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        owners: Sequence[Sequence[int]],
        with_logits: Sequence[bool],
    ) -> F32:
        """Run one batch through the model and its cache; return the logits asked for.

        Args:
            tokens: (T,) ids.
            positions: (T,) place of each token in its sequences.
            owners: for each token all sequences that contain it (a shared part has many).
            with_logits: (T,) whether the logits after this token are needed.

        Returns:
            (N, V) logits in nats of those N tokens: a view that the next decode overwrites.

        Raises:
            LlamaError: llama.cpp refused the batch.
        """
        context = self._alive()
        if self.recurrent and any(len(sequences) != 1 for sequences in owners):
            raise ValueError("a token of a recurrent model belongs to one sequence")
        batch, rows, _memory = self._checked_batch(tokens, positions, owners, with_logits)
        mark = LOG.mark()
        code = c.llama_decode(context, batch)
        if code != 0:
            reason = "no room in the KV cache" if code == 1 else f"code {code}"
            raise LOG.error(f"llama_decode failed on {len(tokens)} tokens: {reason}", mark)
        if rows == 0:
            return np.empty((0, self.vocab_size), np.float32)
        pointer = ctypes.cast(c.llama_get_logits(context), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, (rows, self.vocab_size))

    def _checked_batch(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        owners: Sequence[Sequence[int]],
        with_logits: Sequence[bool],
    ) -> tuple[Any, int, list[Any]]:
        """Return a C batch over NumPy memory; raise for values that would abort inside ggml."""
        ids = np.asarray(tokens, np.int32)
        count = np.fromiter((len(o) for o in owners), np.int32, len(owners))
        flat = np.fromiter((s for o in owners for s in o), np.int32, int(count.sum()))
        output = np.asarray(with_logits, np.int8)
        place = np.asarray(positions, np.int32)
        rows = int(np.count_nonzero(output))
        sizes = {len(ids), len(place), len(count), len(output)}
        if len(sizes) > 1 or not 0 < len(ids) <= self.batch:
            raise ValueError(f"batch of {len(ids)} tokens, the context takes 1 to {self.batch}")
        if ids.min() < 0 or ids.max() >= self.vocab_size:
            raise ValueError(f"token ids outside 0..{self.vocab_size - 1}")
        flat += self._keepers
        if count.min() < 1 or flat.min() < 0 or flat.max() >= self.sequences + self._keepers:
            raise ValueError(f"sequence ids outside 0..{self.sequences - 1}")
        if rows > self.outputs:
            raise ValueError(f"{rows} rows of logits, the context gives {self.outputs}")
        starts = np.concatenate([[0], np.cumsum(count[:-1])])
        addresses = (flat.ctypes.data + 4 * starts).astype(np.uintp)
        batch = c.Batch(
            n_tokens=len(ids),
            token=ids.ctypes.data,
            embd=None,
            pos=place.ctypes.data,
            n_seq_id=count.ctypes.data,
            seq_id=addresses.ctypes.data,
            logits=output.ctypes.data,
        )
        return batch, rows, [ids, place, count, flat, addresses, output]

    def clear(self) -> None:
        """Empty the KV cache."""
        self._alive()
        c.llama_memory_clear(self._memory, False)
        self.kept = ()

    def keep(self, prefix: Sequence[int]) -> int:
        """Leave exactly `prefix` in the cache, as the beginning of every sequence.

        If the cache has it already, only drop the tokens after it. Returns the number decoded.
        """
        size = len(prefix)
        if self.recall(prefix):
            return 0
        for start in range(0, size, self.batch):
            part = prefix[start : start + self.batch]
            places = range(start, start + len(part))
            self.decode(part, places, [(-self._keepers,)] * len(part), [False] * len(part))
        self._share(size)
        self.kept = tuple(prefix)
        return size

    def _share(self, size: int) -> None:
        """Make the first sequence's `size` tokens the beginning of every other one."""
        for sequence in range(1, self.sequences + self._keepers if size else 1):
            c.llama_memory_seq_cp(self._memory, 0, sequence, 0, size)

    def recall(self, prefix: Sequence[int]) -> bool:
        """Return whether the cache begins with `prefix`; drop all else, or everything if not."""
        self._alive()
        if not prefix or tuple(prefix) != self.kept:
            self.clear()
            return False
        if self.recurrent:  # a state cannot go back: only whole sequences are dropped
            for sequence in range(1, self.sequences + 1):
                c.llama_memory_seq_rm(self._memory, sequence, -1, -1)
            self._share(len(prefix))
            return True
        if not c.llama_memory_seq_rm(self._memory, -1, len(prefix), -1):
            raise LlamaError("llama.cpp cannot drop the end of a sequence from its cache")
        return True

    def logits(self, ids: Sequence[int]) -> F32:
        """Return (T, V) logits after each token of one sequence; a copy, for short texts."""
        self.check_length(len(ids))
        self.reserve(len(ids))
        self.clear()
        step = min(self.batch, self.outputs)
        parts = []
        for start in range(0, len(ids), step):
            part = ids[start : start + step]
            places = range(start, start + len(part))
            rows = self.decode(part, places, [(0,)] * len(part), [True] * len(part))
            parts.append(rows.copy())
        self.clear()
        return np.concatenate(parts) if parts else np.empty((0, self.vocab_size), np.float32)

    @property
    def closed(self) -> bool:
        """Return whether the model has been freed."""
        return self._context is None

    def _alive(self) -> int:
        """Return the context's address; raise if the model is closed (a mistake of the caller)."""
        if self._context is None:
            raise ValueError(f"{self.path}: this model is closed")
        return self._context

    def _close_context(self) -> None:
        if self._context is not None:
            c.llama_free(self._context)
        self._context = None

    def close(self) -> None:
        """Free the context, then the model; a second call does nothing."""
        self._close_context()
        if self._model is not None:
            c.llama_model_free(self._model)
        self._model = None

    def __enter__(self) -> LlamaModel:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_model", None) is not None:
            self.close()
