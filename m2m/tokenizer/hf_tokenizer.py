"""Reads Hugging Face's `tokenizer.json`: the kind of its BPE, and the values that GGUF needs."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from m2m.errors import InputError
from m2m.families import USE_KNOWN
from m2m.tokenizer.spm import SPACE

_MAX_TOKEN = 1024  # characters; real vocabularies stay below 300

_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTION}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_CONTRACTION}|{_WORDS}|\p{{N}}|{_REST}"
_BYTES, _BYTES_AND_WORDS, _DIGITS = "bytes", "bytes, GPT-2's words", "single digits"

# The stages of a `pre_tokenizer` and whether merges are ignored -> tokenizer.ggml.pre: the name
# under which llama.cpp cuts in the same way.
_PRETOKENIZERS: dict[tuple[tuple[str, ...], bool], str] = {
    ((_LLAMA3, _BYTES), True): "llama-bpe",
    ((_LLAMA3, _BYTES), False): "smaug-bpe",
    ((_QWEN2, _BYTES), False): "qwen2",
    ((_DIGITS, _BYTES_AND_WORDS), False): "smollm",
    ((_BYTES_AND_WORDS,), False): "gpt-2",
}

# Normalizer and pre-tokenizer of SentencePiece-like BPE -> whether a space comes before a text.
_SPACES: dict[tuple[tuple[str, ...], tuple[str, ...]], bool] = {
    (("prepend", "replace"), ()): True,
    (("replace",), ()): False,
    (("replace",), ("spaces",)): False,
    ((), ("metaspace always",)): True,
    ((), ("metaspace first",)): True,
    ((), ("metaspace never",)): False,
}


class HFTokenizer:
    """A checked `tokenizer.json` of the BPE kind.

    Args:
        path: the file's path, for messages.
        content: the parsed file.

    Attributes:
        vocabulary: tokens and ids, without the added ones.
        merges: pairs of tokens, best first.
        added: id -> (text, whether it is special).
        flags: flags of added tokens that llama.cpp does not support, flag -> tokens.
        ends: the special tokens that its post-processor puts before and after a text, or None.

    Raises:
        InputError: the file is of another kind, or damaged.
    """

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self.path = path
        self._content = content
        self._model = self._part(content, "model")
        kind = self._model.get("type", "BPE")
        if kind != "BPE":
            raise InputError(
                f"{path}: holds a {kind} model; m2m reads BPE",
                USE_KNOWN,
            )
        self.vocabulary = self._read_vocabulary()
        self.merges = [self._pair(merge) for merge in self._list(self._model, "merges")]
        self.normalizers = self._normalizers()
        self.flags: dict[str, list[str]] = {}
        self.added = dict(self._read_added())
        for key in ("continuing_subword_prefix", "end_of_word_suffix"):
            if self._model.get(key):
                raise InputError(
                    f"{path}: {key} is {self._model[key]!r}, which llama.cpp does not know",
                    USE_KNOWN,
                )
        self.ends = self._read_ends()
        self._stages = tuple(self._pre_tokenizers(content.get("pre_tokenizer")))
        self.byte_level = any(stage in (_BYTES, _BYTES_AND_WORDS) for stage in self._stages)

    @property
    def unknown(self) -> str | None:
        """The text of the unknown token."""
        token = self._model.get("unk_token")
        return token if isinstance(token, str) else None

    def pretokenizer(self) -> str:
        """Return the value of tokenizer.ggml.pre for byte-level BPE.

        Raises:
            InputError: llama.cpp cannot cut text in the way that this file asks for.
        """
        extra = [name for name in self.normalizers if name != "NFC"]
        if extra:
            raise InputError(
                f"{self.path}: normalizer {extra[0]} is not known", "use another base model"
            )
        ignores = bool(self._model.get("ignore_merges", False))
        name = _PRETOKENIZERS.get((self._stages, ignores))
        if name is None:
            raise InputError(
                f"{self.path}: unknown pre_tokenizer {' | '.join(self._stages)}"
                f"{' with ignore_merges' if ignores else ''}; "
                f"known are those of {', '.join(sorted(_PRETOKENIZERS.values()))}",
                USE_KNOWN,
            )
        return name

    def adds_space(self) -> bool:
        """Return whether SentencePiece-like BPE puts a space before a text.

        Raises:
            InputError: llama.cpp cannot treat spaces in the way that this file asks for.
        """
        steps = tuple(name for name in self.normalizers if name != "NFC")
        adds = _SPACES.get((steps, self._stages))
        if adds is None:
            raise InputError(
                f"{self.path}: unknown treatment of spaces: normalizer {list(steps)}, "
                f"pre_tokenizer {list(self._stages)}",
                USE_KNOWN,
            )
        return adds

    def scores(self) -> dict[str, float]:
        """Return scores with which llama.cpp makes the merges of this SentencePiece-like BPE.

        llama.cpp joins any two neighbours that make a token, the best score first. This file lists
        the pairs that are joined, in order. Both give the same ids if the list has every way to
        cut a token in two.

        Raises:
            InputError: the list lacks a way.
        """
        pairs = set(self.merges)
        scores: dict[str, float] = {}
        for rank, (left, right) in enumerate(self.merges):
            scores.setdefault(left + right, -float(rank))
        added = {text for text, _ in self.added.values()}  # found before anything is merged
        letters = {token for token in self.vocabulary if len(token) == 1}
        parts = (scores.keys() | letters) - added
        for token in self.vocabulary.keys() - added:
            for cut in range(1, len(token)):
                pair = token[:cut], token[cut:]
                if pair[0] in parts and pair[1] in parts and pair not in pairs:
                    raise InputError(
                        f"{self.path}: token {token!r} could be made of {pair[0]!r} and "
                        f"{pair[1]!r}, which is none of the merges: llama.cpp would give other ids",
                        "put the model's tokenizer.model into the folder",
                    )
        return scores

    def _part(self, content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        part = content.get(key)
        if not isinstance(part, dict):
            raise self._damaged(f"{key} must be an object")
        return part

    def _list(self, content: Mapping[str, Any], key: str) -> list[Any]:
        entries = content.get(key) or []
        if not isinstance(entries, list):
            raise self._damaged(f"{key} must be a list")
        return entries

    def _damaged(self, fault: str) -> InputError:
        return InputError(f"{self.path}: {fault}", "get the file again")

    def _read_vocabulary(self) -> dict[str, int]:
        vocabulary = dict(self._part(self._model, "vocab"))
        seen: set[int] = set()
        for token, index in vocabulary.items():
            if not isinstance(index, int) or index < 0 or index in seen:
                raise self._damaged(f"model.vocab gives {token!r} the id {index!r}")
            if len(token) > _MAX_TOKEN:
                raise self._damaged(f"model.vocab has a token of {len(token)} characters")
            seen.add(index)
        return vocabulary

    def _pair(self, merge: Any) -> tuple[str, str]:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(isinstance(part, str) for part in pair)
        ):
            raise self._damaged(f"model.merges has {merge!r}")
        return pair[0], pair[1]

    def _read_added(self) -> Iterator[tuple[int, tuple[str, bool]]]:
        for entry in self._list(self._content, "added_tokens"):
            try:
                text, index = entry["content"], entry["id"]
                special = bool(entry.get("special"))
            except (TypeError, KeyError, AttributeError) as error:
                raise self._damaged(f"added_tokens has {entry!r}") from error
            if not isinstance(text, str) or not isinstance(index, int):
                raise self._damaged(f"added_tokens has {entry!r}")
            for flag in ("lstrip", "rstrip", "single_word", "normalized"):
                if entry.get(flag) and (flag != "normalized" or self._changes(text)):
                    self.flags.setdefault(flag, []).append(text)
            # A token of the vocabulary keeps its id, as in the tokenizers library.
            yield self.vocabulary.get(text, index), (text, special)

    def _changes(self, text: str) -> bool:
        """Return whether the normalizers change this text."""
        spaces = "replace" in self.normalizers and " " in text
        nfc = "NFC" in self.normalizers and not unicodedata.is_normalized("NFC", text)
        return "prepend" in self.normalizers or spaces or nfc

    def _read_ends(self) -> tuple[str | None, str | None]:
        """Return the tokens that a TemplateProcessing puts before and after a single text."""
        for node in _flat(self._content.get("post_processor"), "processors"):
            single = node.get("single")
            if node.get("type") == "TemplateProcessing" and isinstance(single, list) and single:
                return _special(single[0]), _special(single[-1])
        return None, None

    def _normalizers(self) -> list[str]:
        names = []
        for node in _flat(self._content.get("normalizer"), "normalizers"):
            settings = {key: value for key, value in node.items() if key != "type"}
            if node.get("type") == "Replace" and settings == {
                "pattern": {"String": " "},
                "content": SPACE,
            }:
                names.append("replace")
            elif node == {"type": "Prepend", "prepend": SPACE}:
                names.append("prepend")
            else:
                names.append(str(node.get("type")))
        return names

    def _pre_tokenizers(self, node: Any) -> Iterator[str]:
        for stage in _flat(node, "pretokenizers"):
            yield _stage(stage)


def _flat(node: Any, key: str) -> Iterator[dict[str, Any]]:
    """Yield the steps of a component from its nested sequences."""
    if not isinstance(node, dict):
        return
    children = node.get(key)
    if node.get("type") == "Sequence" and isinstance(children, list):
        for child in children:
            yield from _flat(child, key)
    else:
        yield node


def _special(part: Any) -> str | None:
    """Return the special token in a part of a TemplateProcessing, or None."""
    token = part.get("SpecialToken") if isinstance(part, dict) else None
    text = token.get("id") if isinstance(token, dict) else None
    return text if isinstance(text, str) else None


def _stage(node: dict[str, Any]) -> str:
    """Describe one step of a pre-tokenizer by a text that can be compared."""
    kind, pattern = node.get("type"), node.get("pattern")
    if kind == "ByteLevel" and not node.get("add_prefix_space", True):
        return _BYTES_AND_WORDS if node.get("use_regex", True) else _BYTES
    if kind == "Digits" and node.get("individual_digits"):
        return _DIGITS
    if kind == "Split" and isinstance(pattern, dict) and not node.get("invert"):
        if pattern == {"String": " "} and node.get("behavior") == "MergedWithPrevious":
            return "spaces"  # without effect: a normalizer has replaced them all (Gemma)
        if node.get("behavior") == "Isolated" and isinstance(pattern.get("Regex"), str):
            return str(pattern["Regex"])
    if kind == "Metaspace" and node.get("replacement") == SPACE and not node.get("split", True):
        return f"metaspace {node.get('prepend_scheme', 'always')}"
    return json.dumps(node, ensure_ascii=False, sort_keys=True)
