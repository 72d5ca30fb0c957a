"""How a `tokenizer.json` cuts text, and the name under which llama.cpp cuts in the same way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from m2m.tokenizer.spm import SPACE

BYTES, BYTES_AND_WORDS = "bytes", "bytes, GPT-2's words"
_DIGITS = "single digits"

_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_REST = rf"{_SIGNS}[\r\n]*|{_BLANKS}"
_LLAMA3 = rf"{_CONTRACTION}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_CONTRACTION}|{_WORDS}|\p{{N}}|{_REST}"
# tiktoken's way of writing Llama 3's and Qwen 2's: possessive, and one line end means the same.
_TIKTOKEN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}@| ?[^\s\p{L}\p{N}]++[\r\n]*|"
    r"\s*[\r\n]|\s+(?!\S)|\s+"
)
_QWEN35 = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}|"
    rf" ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_BLANKS}"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LEAD = r"[^\r\n\p{L}\p{N}]?"


def _cased(ending: str, number: str) -> str:
    """Return the expression of GPT-4o's kind: words such as "Word" and "WORD"."""
    words = f"{_LEAD}{_UPPER}*{_LOWER}+{ending}|{_LEAD}{_UPPER}+{_LOWER}*{ending}"
    return rf"{words}|{number}|{_SIGNS}[\r\n/]*|{_BLANKS}"


_GPT4O = _cased(f"{_CONTRACTION}?", r"\p{N}{1,3}")
_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
    rf"[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_BLANKS}",
)
_BLOOM = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"

# The steps of a `pre_tokenizer` -> the names with merges ignored for whole tokens and without. If a
# name is missing, the other one gives the same ids unless a token is made by no merges.
NAMES: dict[tuple[str, ...], dict[bool, str]] = {
    (_LLAMA3, BYTES): {True: "llama-bpe", False: "smaug-bpe"},
    (_TIKTOKEN.replace("@", "{1,3}"), BYTES): {True: "llama-bpe", False: "smaug-bpe"},
    (_QWEN2, BYTES): {False: "qwen2"},
    (_TIKTOKEN.replace("@", ""), BYTES): {False: "qwen2"},
    (_QWEN35, BYTES): {False: "qwen35"},
    (_GPT4O, BYTES): {False: "gpt-4o"},
    (_cased("", r"\p{N}"), BYTES): {True: "tekken"},
    (r"\d{1,3}(?=(?:\d{3})*\b)", _GPT4O, BYTES): {False: "tiny_aya"},
    (*_DEEPSEEK3, BYTES): {False: "deepseek-v3"},
    (r"\p{N}{1,3}", rf"{_CONTRACTION}|{_WORDS}|\p{{N}}+|{_REST}", BYTES): {True: "minicpm5"},
    (
        rf"{_CONTRACTION}|{_WORDS}|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_BLANKS}",
        BYTES,
    ): {False: "seed-coder"},
    (_BLOOM, BYTES): {False: "bloom"},
    (_BLOOM, _DIGITS, BYTES): {False: "viking"},
    (_DIGITS, BYTES_AND_WORDS): {False: "smollm"},
    (BYTES_AND_WORDS,): {False: "gpt-2"},
}
# For these, llama.cpp takes letters beyond ASCII for both cases, and marks for no letters.
APPROXIMATE = ("gpt-4o", "tekken", "tiny_aya")


class Cuts(NamedTuple):
    """The steps of a `pre_tokenizer`.

    Attributes:
        steps: a text for each, which can be compared.
        prefix_space: whether a space is put before a text of byte-level BPE.
    """

    steps: tuple[str, ...]
    prefix_space: bool

    @classmethod
    def read(cls, node: Any) -> Cuts:
        """Read the `pre_tokenizer` of a tokenizer.json."""
        nodes = [*flat(node, "pretokenizers")]
        prefix = any(
            step.get("type") == "ByteLevel" and step.get("add_prefix_space", True) for step in nodes
        )
        return cls(tuple(map(_step, nodes)), prefix)

    @property
    def byte_level(self) -> bool:
        """Whether words are bytes written as letters."""
        return BYTES in self.steps or BYTES_AND_WORDS in self.steps


def flat(node: Any, key: str) -> Iterator[dict[str, Any]]:
    """Yield the steps of a component from its nested sequences."""
    if not isinstance(node, dict):
        return
    children = node.get(key)
    if node.get("type") == "Sequence" and isinstance(children, list):
        for child in children:
            yield from flat(child, key)
    else:
        yield node


def _step(node: dict[str, Any]) -> str:
    """Describe one step of a pre-tokenizer by a text that can be compared."""
    kind, pattern = node.get("type"), node.get("pattern")
    if kind == "ByteLevel":
        return BYTES_AND_WORDS if node.get("use_regex", True) else BYTES
    if kind == "Digits" and node.get("individual_digits"):
        return _DIGITS
    if kind == "Split" and isinstance(pattern, dict):
        return _split(node, pattern)
    if kind == "Metaspace" and node.get("replacement") == SPACE:
        kept = "" if node.get("split", True) is False else " split"
        return f"metaspace {node.get('prepend_scheme', 'always')}{kept}"
    return json.dumps(node, ensure_ascii=False, sort_keys=True)


def _split(node: dict[str, Any], pattern: dict[str, Any]) -> str:
    how = (node.get("behavior"), bool(node.get("invert")))
    regex = pattern.get("Regex")
    if pattern == {"String": " "} and how == ("MergedWithPrevious", False):
        return "spaces"  # without effect: a normalizer has replaced them all (Gemma)
    if isinstance(regex, str):
        regex = regex.replace("\r", r"\r").replace("\n", r"\n")
        # The text between matches is removed, but these expressions match every text as a whole.
        whole = regex.endswith(r"|\s+(?!\S)|\s+") and r" ?[^\s\p{L}\p{N}]+" in regex
        if how == ("Isolated", False) or (whole and how == ("Removed", True)):
            return regex
    return json.dumps(node, ensure_ascii=False, sort_keys=True)
