"""Cut long texts into windows, as llama-perplexity does or as lm-evaluation-harness does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.errors import InputError
from m2m.evaluate.tasks import Task
from m2m.llamacpp.scoring import Request
from m2m.tokenizer import Formatter


@dataclass(frozen=True, eq=False)
class Windows:
    """The requests of n windows: the first half is context, the rest is predicted.

    Attributes:
        bytes: (n, 1) UTF-8 bytes that are predicted.
    """

    requests: list[Request]
    bytes: NDArray[np.float64]


def cut_windows(task: Task, formatter: Formatter) -> Windows:
    """Return the windows of a task that is one text (llama.cpp, tools/perplexity/perplexity.cpp).

    They follow each other without overlap; the rest at the end does not count. In a window of
    n tokens those after place n / 2 are predicted, n - n / 2 - 1 of them, so that each has half a
    window of context. If the model begins texts with a BOS, it takes the place of every window's
    first token.

    Raises:
        InputError: the text does not fill two windows.
    """
    (example,) = task.examples
    tokenizer, size = formatter.tokenizer, task.form.window
    ids = formatter.text_ids(example.answer)
    if len(ids) < 2 * size:
        raise InputError(
            f"{task.path}: {len(ids)} tokens are less than two windows of {size}",
            f"set window to {len(ids) // 2} or less, or give more text",
        )
    requests, sizes = [], []
    first = size // 2 + 1
    for start in range(0, len(ids) // size * size, size):
        window = ids[start : start + size]
        if tokenizer.adds_bos and tokenizer.bos_id is not None:
            window = [tokenizer.bos_id, *window[1:]]
        requests.append(Request(window[:first], [window[first:]]))
        sizes.append([float(sum(len(tokenizer.token_bytes(i)) for i in window[first:]))])
    return Windows(requests, np.array(sizes))


def rolling(text: Request, size: int) -> Iterator[Request]:
    """Yield the windows of a text of a task file (`get_rolling_token_windows`, context_len 1).

    The model reads at most `size` tokens of a window and predicts as many. The last window is
    filled up with the tokens before it.

    Args:
        text: the first token, which is not predicted, and all others as one continuation.
        size: of a window: tokens of the model's context.
    """
    (ids,) = text.continuations
    yield Request(text.prompt, [ids[:size]])
    for start in range(size, len(ids), size):
        end = min(start + size, len(ids))
        yield Request(ids[end - size - 1 : start], [ids[start:end]])
