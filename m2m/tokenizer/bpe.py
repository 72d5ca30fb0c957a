"""Byte-level BPE ("gpt2" in GGUF): the vocabularies of Llama 3, Qwen, SmolLM and GPT-2."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from m2m.tokenizer.merging import merge
from m2m.tokenizer.metadata import texts
from m2m.tokenizer.pretokenize import Pretokenizer, find_pretokenizer


def _byte_letters() -> list[str]:
    """Return GPT-2's printable letter for each of the 256 bytes (openai/gpt-2, encoder.py)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]


_LETTERS = _byte_letters()
_BYTES = {letter: byte for byte, letter in enumerate(_LETTERS)}
# Latin-1 maps byte to code point, so a translate table turns bytes into letters in C.
_TO_LETTERS = dict(enumerate(_LETTERS))


class ByteLevelBPE:
    """Words of bytes, each byte written as a letter, joined by ranked merges.

    Args:
        ids: the tokens and their ids.
        merges: pairs "left right", best first.
        pretokenizer: cuts a text into words.
    """

    adds_space = False

    def __init__(
        self, ids: Mapping[str, int], merges: Iterable[str], pretokenizer: Pretokenizer
    ) -> None:
        self.adds_bos = pretokenizer.adds_bos
        self._pretokenizer = pretokenizer
        self._ids = ids
        self._whole = ids if pretokenizer.ignore_merges else {}
        self._ranks: dict[tuple[str, str], int] = {}
        for rank, pair in enumerate(merges):
            left, _, right = pair.partition(" ")
            self._ranks.setdefault((left, right), rank)

    @classmethod
    def from_metadata(cls, ids: Mapping[str, int], get: Callable[[str], Any]) -> ByteLevelBPE:
        """Build from GGUF metadata.

        Raises:
            InputError: there are no merges, or the pre-tokenizer is unknown.
        """
        pretokenizer = find_pretokenizer(get("tokenizer.ggml.pre"))
        return cls(ids, texts(get, "tokenizer.ggml.merges"), pretokenizer)

    def cut(self, text: str) -> list[str]:
        """Cut `text` into words, which are encoded one by one."""
        return self._pretokenizer.cut(text)

    def encode(self, word: str) -> list[int]:
        """Return the ids of one word."""
        letters = word.encode("utf-8").decode("latin-1").translate(_TO_LETTERS)
        if letters in self._whole:
            return [self._whole[letters]]
        ids: list[int] = []
        for part in merge(letters, self._rank):
            index = self._ids.get(part)
            if index is not None:
                ids.append(index)
            else:  # a merged part without an id: byte by byte; a byte without an id is dropped
                ids.extend(self._ids[letter] for letter in part if letter in self._ids)
        return ids

    def token_bytes(self, token: str) -> bytes:
        """Return the bytes of an ordinary token."""
        try:
            return bytes([_BYTES[letter] for letter in token])
        except KeyError:  # not in the byte alphabet
            return token.encode("utf-8")

    def _rank(self, left: str, right: str) -> int | None:
        return self._ranks.get((left, right))
