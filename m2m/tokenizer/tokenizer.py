"""Text to token ids and back, from the vocabulary of a GGUF file, with the ids of llama.cpp.

m2m has its own tokenizers because training needs llama.cpp's ids, from only a GGUF file and in a
process that has not loaded llama.cpp. Packages that read `tokenizer.json` give other ids.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from m2m.errors import InputError
from m2m.families import USE_KNOWN
from m2m.tokenizer.bpe import RankedBPE
from m2m.tokenizer.metadata import numbers, texts
from m2m.tokenizer.special import SpecialTokens, Splitter, TokenType
from m2m.tokenizer.spm import SentencePieceBPE
from m2m.tokenizer.unigram import SentencePieceUnigram

_MAX_CACHED = 1 << 18
_LONGEST_CACHED = 256  # characters; longer words are rarely used again
_SURROGATES = re.compile("[\ud800-\udfff]")
_BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")


class _Model(Protocol):
    """One kind of vocabulary, for text without special tokens.

    Attributes:
        adds_bos: whether llama.cpp puts BOS before a sequence if the file does not say it.
        always_bos: whether it does so even if the file says that it does not.
        adds_space: whether a space is put before a text.
        default_roles: "bos" and "eos" -> id, if the file names none.
        trimmed: special tokens that take the white space before them.
    """

    adds_bos: bool
    always_bos: bool
    adds_space: bool
    default_roles: Mapping[str, int]
    trimmed: Collection[str]

    def cut(self, text: str) -> list[str]: ...

    def encode(self, word: str) -> list[int]: ...

    def token_bytes(self, token: str) -> bytes: ...


_MODELS: dict[str, Callable[[Mapping[str, int], Callable[[str], Any]], _Model]] = {
    "gpt2": RankedBPE.from_metadata,
    "gemma4": RankedBPE.from_metadata,
    "llama": SentencePieceBPE.from_metadata,
    "t5": SentencePieceUnigram.from_metadata,
}
_NOT_FOR_ANSWERS = {
    "bert": "WordPiece, for models that compare texts",
    "whitespace": "words without their spaces, for models that compare texts",
    "hybriddna": "DNA",
    "rwkv": "RWKV's, for models without attention",
    "plamo2": "PLaMo 2's",
}


class Tokenizer:
    """Text to ids and back.

    Attributes:
        tokens: the tokens as the vocabulary writes them.
        bos_id, eos_id, eot_id: begin of sequence, end of sequence, end of turn; None if absent.
        adds_bos: whether llama.cpp puts the BOS token before a sequence.
        eog_ids: all ids at which generation stops.
        vocab_size: number of tokens.
    """

    def __init__(
        self, tokens: Sequence[str], types: Sequence[int], model: _Model, special: SpecialTokens
    ) -> None:
        self.tokens = list(tokens)
        self.vocab_size = len(self.tokens)
        self.bos_id = special.roles.get("bos")
        self.eos_id = special.roles.get("eos")
        self.eot_id = special.roles.get("eot")
        self.eog_ids = special.ends
        self.adds_bos = model.adds_bos
        kinds = np.array(types, np.int64)
        for index, kind in special.types.items():
            kinds[index] = kind
        self._types = kinds.tolist()
        self._model = model
        self._words: dict[str, list[int]] = {}
        control = np.isin(kinds, (TokenType.UNKNOWN, TokenType.CONTROL)).nonzero()[0].tolist()
        always = (kinds == TokenType.USER_DEFINED).nonzero()[0].tolist()
        self._raw = {*control, *always}
        self._always = Splitter(self.tokens, always, model.trimmed)
        self._special = Splitter(self.tokens, self._raw, model.trimmed)

    @classmethod
    def from_metadata(cls, get: Callable[[str], Any]) -> Tokenizer:
        """Build from GGUF metadata; `get` returns the value of a key, or None.

        Raises:
            InputError: unknown kind of vocabulary or pre-tokenizer, or lists that do not fit.
        """
        kind = get("tokenizer.ggml.model")
        make = _MODELS.get(kind) if isinstance(kind, str) else None
        if make is None:
            what = _NOT_FOR_ANSWERS.get(str(kind), "an unknown vocabulary")
            raise InputError(
                f"tokenizer.ggml.model is {kind!r}: {what}; m2m reads BPE with merges ('gpt2' and "
                "'gemma4') and SentencePiece's BPE ('llama') and unigram ('t5')",
                USE_KNOWN,
            )
        tokens = texts(get, "tokenizer.ggml.tokens")
        if "" in tokens:
            tokens = [token or f"[EMPTY_{i}]" for i, token in enumerate(tokens)]  # as llama.cpp
        ids = {token: i for i, token in enumerate(tokens)}
        if len(ids) != len(tokens):
            double = next(token for i, token in enumerate(tokens) if ids[token] != i)
            raise InputError(
                f"tokenizer.ggml.tokens has {double!r} twice, which llama.cpp refuses",
                "the file is damaged: get it again",
            )
        types = get("tokenizer.ggml.token_type")
        key = "tokenizer.ggml.token_type"
        kinds = [1] * len(tokens) if types is None else numbers(types, key, len(tokens)).tolist()
        if strange := sorted(set(kinds) - set(TokenType)):
            raise InputError(
                f"{key} has {strange[0]!r} for token {kinds.index(strange[0])}, expected 1 to 6",
                "the file is damaged: get it again",
            )
        model = make(ids, get)
        special = SpecialTokens.find(get, ids, model.default_roles)
        tokenizer = cls(tokens, kinds, model, special)
        adds_bos = get("tokenizer.ggml.add_bos_token")
        if model.always_bos or adds_bos is not None:
            tokenizer.adds_bos = model.always_bos or bool(adds_bos)
        named = kind != "gpt2" or get("tokenizer.ggml.bos_token_id") is not None
        if tokenizer.adds_bos and (tokenizer.bos_id is None or not named):
            raise InputError("the vocabulary wants a BOS token but names none")
        return tokenizer

    def encode(self, text: str, special: bool = False, *, continues: bool = False) -> list[int]:
        """Return the ids of `text`, without a BOS token.

        Args:
            text: any text; unpaired surrogates count as U+FFFD.
            special: read the text of control tokens, such as `<|im_end|>`, as these tokens.
            continues: whether the text continues another text: a vocabulary that puts a space
                before a text then puts none.
        """
        if not text.isascii() and _SURROGATES.search(text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        ids: list[int] = []
        words = self._words
        spaced = self._model.adds_space and not continues
        for piece in (self._special if special else self._always).split(text):
            if isinstance(piece, int):
                ids.append(piece)
                spaced = self._model.adds_space
                continue
            for word in self._model.cut(" " + piece if spaced else piece):
                known = words.get(word)
                ids.extend(self._encode_word(word) if known is None else known)
            spaced = False
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`, with control tokens; broken UTF-8 becomes U+FFFD.

        The space that a vocabulary puts before a text is removed.
        """
        text = b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._model.adds_space else text

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one token, perhaps a part of a character; b"" for an unused token."""
        token, kind = self.tokens[token_id], self._types[token_id]
        if token_id in self._raw:
            return token.encode("utf-8")
        if kind == TokenType.BYTE and (byte := _BYTE.fullmatch(token)):
            return bytes.fromhex(byte[1])
        if kind == TokenType.NORMAL:
            return self._model.token_bytes(token)
        return b""

    def is_special(self, token_id: int) -> bool:
        """Return whether a token is a control token or one that is always found in a text."""
        return token_id in self._raw

    def written_out(self, text: str) -> str | None:
        """Return the first control token that a text contains, such as `<|im_end|>`, or None."""
        pieces = (piece for piece in self._special.split(text) if isinstance(piece, int))
        return next((self.tokens[i] for i in pieces if self._types[i] == TokenType.CONTROL), None)

    def _encode_word(self, word: str) -> list[int]:
        encoded = self._model.encode(word)
        if len(word) <= _LONGEST_CACHED:
            if len(self._words) >= _MAX_CACHED:
                self._words.clear()
            self._words[word] = encoded
        return encoded
