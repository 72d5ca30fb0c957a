"""Byte-level BPE from the vocabulary of a GGUF file, with the ids that llama.cpp would give."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from m2m.errors import InputError
from m2m.tokenizer.pretokenize import Pretokenizer, find_pretokenizer

# Values of tokenizer.ggml.token_type (llama.h, enum llama_token_type).
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4

# Tokens that llama.cpp recognises by their text (src/llama-vocab.cpp, "auto-detect special").
_END_OF_TURN = (
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",  # noqa: RUF001
    "<end_of_utterance>",
)
_END_OF_GENERATION = (*_END_OF_TURN, "<|eom_id|>", "<|return|>", "<|call|>", "</s>", "[EOS]")

_MAX_CACHED = 1 << 18
_SURROGATES = re.compile("[\ud800-\udfff]")


def _byte_letters() -> list[str]:
    """GPT-2's printable letter for each of the 256 bytes (openai/gpt-2, encoder.py)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]


_LETTERS = _byte_letters()
_BYTES = {letter: byte for byte, letter in enumerate(_LETTERS)}
# Latin-1 maps byte to code point, so a translate table turns bytes into letters in C.
_TO_LETTERS = dict(enumerate(_LETTERS))


class Tokenizer:
    """Text to ids and back.

    Attributes:
        bos_id, eos_id, eot_id: begin of sequence, end of sequence, end of turn; None where absent.
        adds_bos: whether llama.cpp puts the BOS token before a sequence.
        eog_ids: all ids at which generation stops.
        vocab_size: number of tokens.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        types: Sequence[int],
        merges: Iterable[str],
        pretokenizer: Pretokenizer,
    ) -> None:
        self.tokens = list(tokens)
        self.vocab_size = len(self.tokens)
        self.bos_id: int | None = None
        self.eos_id: int | None = None
        self.adds_bos = pretokenizer.adds_bos
        self._pretokenizer = pretokenizer
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        self._ranks: dict[tuple[str, str], int] = {}
        for rank, merge in enumerate(merges):
            left, _, right = merge.partition(" ")
            self._ranks.setdefault((left, right), rank)
        self._words: dict[str, tuple[int, ...]] = {}
        self.eot_id = next((self._ids[t] for t in _END_OF_TURN if t in self._ids), None)
        self.eog_ids = frozenset(self._ids[t] for t in _END_OF_GENERATION if t in self._ids)
        control = {i for i, kind in enumerate(types) if kind in (_UNKNOWN, _CONTROL)}
        control |= {self.eot_id} - {None}  # type: ignore[arg-type]
        always = {i for i, kind in enumerate(types) if kind == _USER_DEFINED} - control
        self._raw = control | always
        self._always = _Splitter(self.tokens, always)
        self._special = _Splitter(self.tokens, self._raw)

    @classmethod
    def from_metadata(cls, get: Callable[[str], Any]) -> Tokenizer:
        """Build from GGUF metadata; `get` returns the value of a key, or None.

        Raises:
            InputError: another kind of vocabulary, an unknown pre-tokenizer, lists that do not fit.
        """
        _check_model(get("tokenizer.ggml.model"))
        tokens = _texts(get, "tokenizer.ggml.tokens")
        merges = _texts(get, "tokenizer.ggml.merges")
        types = get("tokenizer.ggml.token_type")
        types = [1] * len(tokens) if types is None else [int(kind) for kind in types]
        if len(types) != len(tokens):
            raise InputError(
                f"tokenizer.ggml.token_type has {len(types)} entries, "
                f"tokenizer.ggml.tokens has {len(tokens)}",
                "the file is damaged: get it again",
            )
        made = cls(tokens, types, merges, find_pretokenizer(get("tokenizer.ggml.pre")))
        made.bos_id = _token_id(get, "bos", made.vocab_size)
        made.eos_id = _token_id(get, "eos", made.vocab_size)
        eot = _token_id(get, "eot", made.vocab_size)
        made.eot_id = made.eot_id if eot is None else eot
        made.eog_ids |= {i for i in (made.eos_id, made.eot_id) if i is not None}
        adds_bos = get("tokenizer.ggml.add_bos_token")
        made.adds_bos = made.adds_bos if adds_bos is None else bool(adds_bos)
        if made.adds_bos and made.bos_id is None:
            raise InputError("the vocabulary wants a BOS token but names none")
        return made

    def encode(self, text: str, special: bool = False) -> list[int]:
        """The ids of `text`, without a BOS token.

        Args:
            text: any text; unpaired surrogates count as U+FFFD.
            special: read the text of control tokens, such as `<|im_end|>`, as these tokens.
        """
        if not text.isascii() and _SURROGATES.search(text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        ids: list[int] = []
        words = self._words
        for piece in (self._special if special else self._always).split(text):
            if isinstance(piece, int):
                ids.append(piece)
                continue
            for word in self._pretokenizer.cut(piece):
                known = words.get(word)
                ids.extend(self._encode_word(word) if known is None else known)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, control tokens included; broken UTF-8 becomes U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token, which may be a part of a character."""
        token = self.tokens[token_id]
        if token_id in self._raw:
            return token.encode("utf-8")
        try:
            return bytes([_BYTES[letter] for letter in token])
        except KeyError:  # not in the byte alphabet: an unused filler such as "[PAD151936]"
            return token.encode("utf-8")

    def token_id(self, text: str) -> int | None:
        """The id of the token that is written exactly so in the vocabulary."""
        return self._ids.get(text)

    def _encode_word(self, word: str) -> tuple[int, ...]:
        letters = word.encode("utf-8").decode("latin-1").translate(_TO_LETTERS)
        whole = self._ids.get(letters) if self._pretokenizer.ignore_merges else None
        parts = [letters] if whole is not None else _merge(letters, self._ranks)
        ids: list[int] = []
        for part in parts:
            found = self._ids.get(part)
            if found is not None:
                ids.append(found)
            else:  # merged to something without an id: byte by byte, a missing byte is dropped
                ids.extend(self._ids[letter] for letter in part if letter in self._ids)
        if len(self._words) >= _MAX_CACHED:
            self._words.clear()
        self._words[word] = encoded = tuple(ids)
        return encoded


def _merge(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Join neighbours, lowest rank first and leftmost among equals, in O(n log n)."""
    parts = list(word)
    last = len(parts)
    before = list(range(-1, last - 1))
    after = list(range(1, last + 1))
    queue = [
        (rank, i, parts[i], parts[i + 1])
        for i in range(last - 1)
        if (rank := ranks.get((parts[i], parts[i + 1]))) is not None
    ]
    heapq.heapify(queue)
    while queue:
        _, i, left, right = heapq.heappop(queue)
        j = after[i]
        if j == last or parts[i] != left or parts[j] != right:
            continue  # one of the two has been joined to another neighbour since
        parts[i], parts[j] = left + right, ""
        after[i] = k = after[j]
        if k != last:
            before[k] = i
            if (rank := ranks.get((parts[i], parts[k]))) is not None:
                heapq.heappush(queue, (rank, i, parts[i], parts[k]))
        if (h := before[i]) >= 0 and (rank := ranks.get((parts[h], parts[i]))) is not None:
            heapq.heappush(queue, (rank, h, parts[h], parts[i]))
    return [part for part in parts if part]


class _Splitter:
    """Finds tokens that are written out in a text, the longest token first, as llama.cpp does."""

    def __init__(self, tokens: Sequence[str], ids: Iterable[int]) -> None:
        found = sorted((i for i in ids if tokens[i]), key=lambda i: (-len(tokens[i].encode()), i))
        self._tokens = [(tokens[i], i) for i in found]
        self._any = re.compile("|".join(re.escape(token) for token, _ in self._tokens))

    def split(self, text: str) -> list[str | int]:
        """The text's pieces between tokens, and the ids of the tokens."""
        if not self._tokens or not self._any.search(text):
            return [text]
        pieces: list[str | int] = [text]
        for token, index in self._tokens:
            if token in text:
                pieces = [cut for piece in pieces for cut in _cut_at(piece, token, index)]
        return pieces


def _cut_at(piece: str | int, token: str, index: int) -> list[str | int]:
    if isinstance(piece, int):
        return [piece]
    cuts: list[str | int] = []
    for part in piece.split(token):
        cuts += [part, index] if part else [index]
    return cuts[:-1]


def _check_model(model: Any) -> None:
    if model == "gpt2":
        return
    kind = "a SentencePiece" if model in ("llama", "t5") else "an unknown"
    raise InputError(
        f"tokenizer.ggml.model is {model!r}: {kind} vocabulary, and only byte-level BPE "
        "('gpt2') is read for now",
        "use a base model of the SmolLM2, Qwen2 or Llama 3 families",
    )


def _texts(get: Callable[[str], Any], key: str) -> list[str]:
    values = get(key)
    if values is None or isinstance(values, str):
        raise InputError(f"the file has no list {key}", "use a GGUF file with its vocabulary")
    values = list(values)
    if not all(isinstance(value, str) for value in values):
        raise InputError(f"{key} must hold texts", "the file is damaged: get it again")
    return values


def _token_id(get: Callable[[str], Any], name: str, size: int) -> int | None:
    key = f"tokenizer.ggml.{name}_token_id"
    value = get(key)
    if value is None:
        return None
    if not 0 <= int(value) < size:
        raise InputError(f"{key} is {value}, but the vocabulary has {size} tokens")
    return int(value)
