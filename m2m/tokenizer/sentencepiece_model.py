"""Reads SentencePiece's `tokenizer.model`.

The file is one protocol buffer (google/sentencepiece, src/sentencepiece_model.proto). m2m
reads it without the `sentencepiece` package, because that package names neither the kind of the
model nor the pieces that its maker defined.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from m2m.errors import InputError
from m2m.opening import read_bytes

_MAX_BYTES = 64 * 2**20  # Gemma's file, with 262,144 pieces, has 4.7 MB
_KINDS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass
class SentencePieceModel:
    """The values of a `tokenizer.model` that a GGUF vocabulary needs.

    Attributes:
        pieces, scores, types: of the tokens, by id; the types have GGUF's numbers.
        kind: "unigram", "bpe", "word" or "char".
        adds_space: whether a space is put before a text.
        merges_spaces: whether several spaces count as one, and spaces at a text's ends as none.
        suffixes: whether a token's space follows it.
        charsmap: the compiled normalisation; empty for none.
        normalizer: the normalisation's name, such as "nmt_nfkc".
        roles: ids by role ("unk", "bos", "eos", "pad"); -1 if there is none.
    """

    pieces: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    kind: str = "unigram"
    adds_space: bool = True
    merges_spaces: bool = True
    suffixes: bool = False
    charsmap: bytes = b""
    normalizer: str = ""
    roles: dict[str, int] = field(default_factory=lambda: {"unk": 0, "bos": 1, "eos": 2, "pad": -1})


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """Read a `tokenizer.model`.

    Raises:
        InputError: the file is too large, or not a SentencePiece model.
    """
    data = read_bytes(path, _MAX_BYTES)
    model = SentencePieceModel()
    try:
        for number, value in _fields(data):
            if number == 1:
                _add_piece(model, _bytes(value))
            elif number == 2:
                _read_trainer(model, _bytes(value))
            elif number == 3:
                _read_normalizer(model, _bytes(value))
    except (ValueError, struct.error, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: is not a SentencePiece model: {error} after {len(model.pieces)} pieces",
            "get the file again",
        ) from error
    if not model.pieces:
        raise InputError(f"{path}: has no pieces", "get the file again")
    return model


def _add_piece(model: SentencePieceModel, data: bytes) -> None:
    parts = dict(_fields(data))
    model.pieces.append(_bytes(parts.get(1, b"")).decode("utf-8"))
    model.scores.append(struct.unpack("<f", _bytes(parts.get(2, bytes(4))))[0])
    model.types.append(_int(parts.get(3, 1)))


def _read_trainer(model: SentencePieceModel, data: bytes) -> None:
    spec = dict(_fields(data))
    model.kind = _KINDS[_int(spec.get(3, 1))]
    model.suffixes = bool(spec.get(24, False))  # treat_whitespace_as_suffix
    for number, role in enumerate(model.roles, start=40):
        value = _int(spec.get(number, model.roles[role]))
        model.roles[role] = value if value < 1 << 31 else -1  # a negative int32 has ten bytes


def _read_normalizer(model: SentencePieceModel, data: bytes) -> None:
    spec = dict(_fields(data))
    model.normalizer = _bytes(spec.get(1, b"")).decode("utf-8", "replace")
    model.charsmap = _bytes(spec.get(2, b""))
    model.adds_space = bool(spec.get(3, True))  # add_dummy_prefix
    model.merges_spaces = bool(spec.get(4, True))  # remove_extra_whitespaces


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (number, value) of a message's fields: an int, or the bytes of another type."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"field of unknown kind {kind}")
        if size > end - at:
            raise ValueError("the file ends too early")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number does not end")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError("a number where a text is expected")
    return value


def _int(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise TypeError("a text where a number is expected")
    return value
