"""SentencePiece unigram ("t5" in GGUF): the most likely cut of a text, found by the package.

The `sentencepiece` package normalises and cuts text, with a model that m2m rebuilds from the GGUF
vocabulary. llama.cpp gives the same ids (src/llama-vocab.cpp, llm_tokenizer_ugm) with one
exception: it does not use byte tokens here. If the vocabulary lacks a character, SentencePiece
writes it in byte tokens, as in the model's training; llama.cpp writes the unknown token.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sentencepiece

from m2m.errors import InputError
from m2m.tokenizer.metadata import numbers, token_id
from m2m.tokenizer.special import TokenType
from m2m.tokenizer.spm import SPACE

_DAMAGED = "the file is damaged: get it again"
_CHARSMAP = "tokenizer.ggml.precompiled_charsmap"
_BYTES = 256
_UNKNOWN = 2  # llama.cpp's default if the file names none


class SentencePieceUnigram:
    """Cuts a text into the tokens whose scores have the greatest sum.

    Args:
        pieces: (token, score, type) by id.
        charsmap: SentencePiece's compiled normalisation; empty for none.
        adds_space: whether a space is put before a text.
        merges_spaces: whether several spaces count as one, and spaces at a text's ends as none.

    Raises:
        InputError: SentencePiece cannot use the vocabulary or the normalisation.
    """

    adds_bos = False
    always_bos = False
    default_roles: Mapping[str, int] = {"eos": 1}  # llama.cpp's, if the file names none
    trimmed: Collection[str] = ()

    def __init__(
        self,
        pieces: Sequence[tuple[str, float, int]],
        charsmap: bytes,
        adds_space: bool,
        merges_spaces: bool,
    ) -> None:
        self.adds_space = adds_space
        self._merges_spaces = merges_spaces
        self._bytes = sum(kind == TokenType.BYTE for _, _, kind in pieces)
        if self._bytes not in (0, _BYTES):
            raise InputError(
                f"the vocabulary has {self._bytes} byte tokens, expected none or all {_BYTES}",
                _DAMAGED,
            )
        self._model = b"".join(_fields(1, [b"".join(_piece(*piece)) for piece in pieces]))
        self._charsmap = charsmap
        self._plain = self._processor(adds_space=False)

    @classmethod
    def from_metadata(
        cls, ids: Mapping[str, int], get: Callable[[str], Any]
    ) -> SentencePieceUnigram:
        """Build from GGUF metadata.

        Raises:
            InputError: a token has no score, or the constructor refuses the values.
        """
        scores = get("tokenizer.ggml.scores")
        if scores is None:
            raise InputError(
                "a SentencePiece vocabulary (tokenizer.ggml.model is 't5') without "
                "tokenizer.ggml.scores",
                "use a GGUF file with its vocabulary",
            )
        kinds = get("tokenizer.ggml.token_type")
        types = [1] * len(ids) if kinds is None else kinds
        unknown = token_id(get, "unknown", len(ids))
        unknown = _UNKNOWN if unknown is None else unknown
        if unknown < len(types) and types[unknown] != TokenType.UNKNOWN:
            raise InputError(
                f"tokenizer.ggml.unknown_token_id is {unknown}, which token_type does not mark as "
                "the unknown token",
                _DAMAGED,
            )
        charsmap = get(_CHARSMAP)
        entries = [] if charsmap is None else charsmap
        space = get("tokenizer.ggml.add_space_prefix")
        return cls(
            list(
                zip(
                    ids,
                    numbers(scores, "tokenizer.ggml.scores", len(ids)).tolist(),
                    numbers(types, "tokenizer.ggml.token_type", len(ids)).tolist(),
                    strict=True,
                )
            ),
            numbers(entries, _CHARSMAP, len(entries)).astype(np.uint8).tobytes(),
            space is None or bool(space),
            bool(get("tokenizer.ggml.remove_extra_whitespaces")),
        )

    def cut(self, text: str) -> list[str]:
        """Return the text as one part: any cut could change the most likely tokens."""
        return [text]

    def encode(self, word: str) -> list[int]:
        """Return the ids of a text."""
        spaced = self._merges_spaces and word.startswith(" ")
        ids: list[int] = (self._spaced if spaced else self._plain).EncodeAsIds(word)
        return ids

    def token_bytes(self, token: str) -> bytes:
        """Return the bytes of an ordinary token."""
        return token.replace(SPACE, " ").encode("utf-8")

    @functools.cached_property
    def _spaced(self) -> sentencepiece.SentencePieceProcessor:
        """A processor that restores the one space that merging removes from the front."""
        return self._processor(adds_space=True)

    def _processor(self, adds_space: bool) -> sentencepiece.SentencePieceProcessor:
        # TrainerSpec: model_type = UNIGRAM, byte_fallback. NormalizerSpec: precompiled_charsmap,
        # add_dummy_prefix, remove_extra_whitespaces (src/sentencepiece_model.proto).
        trainer = [*_number(3, 1), *_number(35, int(self._bytes > 0))]
        normalizer = [
            *_fields(2, [self._charsmap]),
            *_number(3, int(adds_space)),
            *_number(4, int(self._merges_spaces)),
        ]
        model = [self._model, *_fields(2, [b"".join(trainer)]), *_fields(3, [b"".join(normalizer)])]
        try:  # it checks the vocabulary and, since 0.2.3, the bounds of the normalisation
            return sentencepiece.SentencePieceProcessor(model_proto=b"".join(model))
        except RuntimeError as error:
            raise InputError(f"SentencePiece refuses the vocabulary: {error}", _DAMAGED) from error


def _piece(token: str, score: float, kind: int) -> Iterator[bytes]:
    """Yield the parts of a SentencePiece message: piece, score, type."""
    # GGUF keeps plain spaces in tokens that are found in an unchanged text.
    text = token.replace(" ", SPACE) if kind == TokenType.USER_DEFINED else token
    yield from _fields(1, [text.encode("utf-8", "replace")])
    yield _varint(2 << 3 | 5) + struct.pack("<f", score)
    yield from _number(3, kind)


def _fields(number: int, values: Sequence[bytes]) -> Iterator[bytes]:
    for value in values:
        yield _varint(number << 3 | 2) + _varint(len(value)) + value


def _number(number: int, value: int) -> Iterator[bytes]:
    yield _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
