"""A training step of PyTorch + PEFT, run in its own venv by servers.py, one step a line.

Reads the case from its argument, then for every line on stdin makes one step and prints its seconds
and the peak GiB of the process, or of the GPU if that computes. Batches are padded by length, as
transformers' Trainer does with group_by_length, eight rows each.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any

import numpy as np
import peft
import torch
import transformers
from cases import MODELS, RANK, make_batch

from m2m.machine import peak_rss_bytes
from m2m.recipe import PROJECTIONS

ROWS = 8  # Trainer's per_device_train_batch_size


def make_model(name: str, dtype: torch.dtype, device: str) -> Any:
    """A model of a bench's shapes with random weights, adapters on all projections."""
    sizes = MODELS[name]
    qwen = sizes.architecture == "qwen2"
    config = (transformers.Qwen2Config if qwen else transformers.LlamaConfig)(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.hidden_size,
        intermediate_size=sizes.intermediate_size,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        num_key_value_heads=sizes.num_kv_heads,
        **({} if qwen else {"head_dim": sizes.head_dim}),
        rms_norm_eps=sizes.rms_norm_eps,
        tie_word_embeddings=sizes.tie_word_embeddings,
        use_cache=False,
    )
    torch.set_default_dtype(dtype)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    torch.set_default_dtype(torch.float32)
    lora = peft.LoraConfig(
        task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, target_modules=list(PROJECTIONS)
    )
    return peft.get_peft_model(model, lora).train().to(device)


def padded(case: str, vocabulary: int) -> list[dict[str, torch.Tensor]]:
    """The rows of a case as Trainer's batches."""
    batch, _ = make_batch(case, vocabulary, np.random.default_rng(1))
    prefix, start, rows = batch.prefix_length, batch.prefix_length, []
    for length in batch.lengths:
        ids = np.concatenate([batch.tokens[:prefix], batch.tokens[start : start + length]])
        labels = np.full(len(ids), -100)
        inside = (batch.loss_index >= start) & (batch.loss_index < start + length)
        # A label stands at the token that is predicted; the last one of a row has none.
        places = batch.loss_index[inside] - start + prefix + 1
        labels[places[places < len(ids)]] = ids[places[places < len(ids)]]
        rows.append((ids, labels))
        start += length
    rows.sort(key=lambda row: -len(row[0]))
    return [collate(rows[first : first + ROWS]) for first in range(0, len(rows), ROWS)]


def collate(rows: list[tuple[Any, Any]]) -> dict[str, torch.Tensor]:
    """Pad rows to the longest."""
    width = max(len(ids) for ids, _ in rows)
    padding = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    tensors = {name: torch.full((len(rows), width), fill) for name, fill in padding.items()}
    for number, (ids, labels) in enumerate(rows):
        tensors["input_ids"][number, : len(ids)] = torch.from_numpy(ids.astype(np.int64))
        tensors["attention_mask"][number, : len(ids)] = 1
        tensors["labels"][number, : len(ids)] = torch.from_numpy(labels)
    return tensors


def main() -> None:
    """Answer lines until there are no more."""
    options = json.loads(sys.argv[1])
    torch.set_num_threads(options["threads"])
    half = options["dtype"] == "bf16"
    device = options["device"]
    model = make_model(options["model"], torch.bfloat16 if half else torch.float32, device)
    vocabulary = MODELS[options["model"]].vocab_size
    cases = {
        case: [
            {name: tensor.to(device) for name, tensor in batch.items()}
            for batch in padded(case, vocabulary)
        ]
        for case in options["cases"]
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        optimizer.zero_grad()
        for batch in cases[line.strip()]:
            with torch.autocast(device, torch.bfloat16) if half else contextlib.nullcontext():
                loss = model(**batch).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        peak = peak_rss_bytes()
        if device != "cpu":
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated()
        print(time.perf_counter() - started, peak / 2**30, flush=True)


if __name__ == "__main__":
    main()
