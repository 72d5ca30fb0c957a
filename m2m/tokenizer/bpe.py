"""BPE with a list of merges ("gpt2" and "gemma4" in GGUF).

Most vocabularies write bytes as letters (Llama 3, Qwen, SmolLM, GPT-2). Gemma 4's writes the text's
own characters, and has tokens such as `<0x0A>` for the bytes of others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from m2m.tokenizer.merging import merge
from m2m.tokenizer.metadata import texts
from m2m.tokenizer.pretokenize import Pretokenizer, find_pretokenizer
from m2m.tokenizer.spm import SPACE, byte_ids


def byte_letters() -> list[str]:
    """Return GPT-2's printable letter for each of the 256 bytes (openai/gpt-2, encoder.py)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]


_DEFAULT_END = 11  # src/llama-vocab.cpp, "default special tokens"
_LETTERS = byte_letters()
_BYTES = {letter: byte for byte, letter in enumerate(_LETTERS)}
# Latin-1 maps byte to code point, so a translate table turns bytes into letters in C.
_TO_LETTERS = dict(enumerate(_LETTERS))


class RankedBPE:
    """Words joined by ranked merges, from bytes (each written as a letter) or from characters.

    Args:
        ids: the tokens and their ids.
        merges: pairs "left right", best first.
        pretokenizer: cuts a text into words.
        default_roles: llama.cpp's ids of "bos" and "eos" if the file names none.
    """

    adds_space = False

    def __init__(
        self,
        ids: Mapping[str, int],
        merges: Iterable[str],
        pretokenizer: Pretokenizer,
        default_roles: Mapping[str, int],
    ) -> None:
        self.adds_bos = pretokenizer.adds_bos
        self.always_bos = pretokenizer.always_bos
        self.default_roles = default_roles
        self.trimmed: Collection[str] = ("<mask>",) if pretokenizer.mask_takes_spaces else ()
        self._pretokenizer = pretokenizer
        self._ids = ids
        self._whole = ids if pretokenizer.ignore_merges else {}
        self._ranks: dict[tuple[str, str], int] = {}
        for rank, pair in enumerate(merges):
            space = pair.find(" ", 1)  # a token may begin with a space
            if space > 0:
                self._ranks.setdefault((pair[:space], pair[space + 1 :]), rank)

    @classmethod
    def from_metadata(cls, ids: Mapping[str, int], get: Callable[[str], Any]) -> RankedBPE:
        """Build from GGUF metadata.

        Raises:
            InputError: there are no merges, or the pre-tokenizer is unknown.
        """
        gemma = get("tokenizer.ggml.model") == "gemma4"
        pretokenizer = find_pretokenizer("gemma4" if gemma else get("tokenizer.ggml.pre"))
        roles = {} if gemma else {"eos": _DEFAULT_END}
        if pretokenizer.has_default_bos and not gemma:
            roles["bos"] = _DEFAULT_END
        return cls(ids, texts(get, "tokenizer.ggml.merges"), pretokenizer, roles)

    def cut(self, text: str) -> list[str]:
        """Cut `text` into words, which are encoded one by one."""
        return self._pretokenizer.cut(text)

    def encode(self, word: str) -> list[int]:
        """Return the ids of one word.

        Raises:
            InputError: a character has no token, and the vocabulary has no byte tokens.
        """
        if not self._pretokenizer.byte_level:
            return self._encode_characters(word)
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
        if self._pretokenizer.marks_spaces:
            return token.replace(SPACE, " ").encode("utf-8")
        try:
            return bytes([_BYTES[letter] for letter in token])
        except KeyError:  # not in the byte alphabet
            return token.encode("utf-8")

    def _encode_characters(self, word: str) -> list[int]:
        if word in self._ids and self._pretokenizer.keeps_newlines and not word.strip("\n"):
            return [self._ids[word]]
        ids: list[int] = []
        for part in merge(word, self._rank):
            index = self._ids.get(part)
            ids += byte_ids(part, self._ids) if index is None else [index]
        return ids

    def _rank(self, left: str, right: str) -> int | None:
        return self._ranks.get((left, right))
