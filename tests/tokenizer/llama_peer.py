"""llama.cpp's own tokenizer, to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llama_cpp


class Peer:
    """llama.cpp's own tokenizer on a vocabulary."""

    def __init__(self, path: Path) -> None:
        self.model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)

    def __call__(self, text: str, special: bool) -> list[int]:
        return self.model.tokenize(text.encode("utf-8"), add_bos=False, special=special)

    @property
    def vocabulary(self) -> Any:
        """The pointer that llama.cpp's functions take."""
        return llama_cpp.llama_model_get_vocab(self.model.model)
