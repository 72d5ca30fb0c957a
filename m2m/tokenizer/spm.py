"""SentencePiece BPE ("llama" in GGUF): the vocabularies of Gemma, Llama 2 and Mistral."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from m2m.errors import InputError
from m2m.tokenizer.merging import merge
from m2m.tokenizer.metadata import numbers

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # the character that vocabularies use for a space
_NONE = "\ud800"  # a character that is in no token


class SentencePieceBPE:
    """Joins characters if the result is a token, the best score first.

    It works like llama.cpp's llm_tokenizer_spm; characters without a token become byte tokens.
    llama.cpp compares scores over a whole text. m2m first cuts a text before its spaces. This
    gives the same ids: if no token can cross a place, parts are never joined across it.

    Args:
        ids: the tokens and their ids, in the ids' order.
        scores: the tokens' scores; the highest is the best.
        adds_space: whether a space is put before a text.
    """

    adds_bos = True
    always_bos = False
    default_roles: Mapping[str, int] = {"bos": 1, "eos": 2}  # llama.cpp's, if the file names none
    trimmed: Collection[str] = ()

    def __init__(self, ids: Mapping[str, int], scores: Sequence[float], adds_space: bool) -> None:
        self.adds_space = adds_space
        self._ids = ids
        self._ranks = dict(zip(ids, map(operator.neg, scores), strict=True))
        self._words = re.compile(_word(_NONE.join(ids)))

    @classmethod
    def from_metadata(cls, ids: Mapping[str, int], get: Callable[[str], Any]) -> SentencePieceBPE:
        """Build from GGUF metadata.

        Raises:
            InputError: there is no score for each token.
        """
        scores = get("tokenizer.ggml.scores")
        if scores is None:
            raise InputError(
                "a SentencePiece vocabulary (tokenizer.ggml.model is 'llama') without "
                "tokenizer.ggml.scores",
                "use a GGUF file with its vocabulary",
            )
        values = numbers(scores, "tokenizer.ggml.scores", len(ids))
        adds_space = get("tokenizer.ggml.add_space_prefix")
        # llama.cpp keeps and compares float32.
        return cls(ids, values.astype(np.float32).tolist(), adds_space is None or bool(adds_space))

    def cut(self, text: str) -> list[str]:
        """Cut `text` into parts that can be encoded one by one."""
        return self._words.findall(text.replace(" ", SPACE))

    def encode(self, word: str) -> list[int]:
        """Return the ids of one part of a text.

        Raises:
            InputError: a character has no token, and the vocabulary has no byte tokens.
        """
        ids: list[int] = []
        for part in merge(word, self._rank):
            index = self._ids.get(part)
            if index is not None:
                ids.append(index)
            else:
                ids += byte_ids(part, self._ids)
        return ids

    def token_bytes(self, token: str) -> bytes:
        """Return the bytes of an ordinary token."""
        return token.replace(SPACE, " ").encode("utf-8")

    def _rank(self, left: str, right: str) -> float | None:
        return self._ranks.get(left + right)


def byte_ids(text: str, ids: Mapping[str, int]) -> list[int]:
    """Return the ids of the tokens, such as `<0x0A>`, of a text's bytes.

    Raises:
        InputError: the vocabulary lacks such a token.
    """
    tokens = [f"<0x{byte:02X}>" for byte in text.encode("utf-8")]
    try:
        return [ids[token] for token in tokens]
    except KeyError as error:
        raise InputError(
            "the text has a character that the vocabulary cannot write: "
            f"it has no token {error.args[0]}",
            "use a base model with byte tokens, or leave such characters out",
        ) from None


def _word(tokens: str) -> str:
    """Return the expression of a part: it ends before a space that no token joins to its left.

    Args:
        tokens: all tokens in one text.
    """
    inner = "".join(map(re.escape, sorted(set(re.findall(f"([^{SPACE}{_NONE}]){SPACE}", tokens)))))
    further = f"(?:(?<=[{inner}]){SPACE}+[^{SPACE}]*)*" if inner else ""
    return f"{SPACE}*[^{SPACE}]+{further}|{SPACE}+"
