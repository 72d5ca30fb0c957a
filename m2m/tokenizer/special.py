"""Special tokens of a vocabulary, and the search for them in a text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from m2m.tokenizer.metadata import token_id


class TokenType(IntEnum):
    """Values of tokenizer.ggml.token_type (llama.h, enum llama_token_type); SentencePiece's too."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


END_OF_TURN = (
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

# Texts with which llama.cpp finds a role that the file does not name (src/llama-vocab.cpp,
# "auto-detect special tokens by text").
_NAMES: dict[str, tuple[str, ...]] = {
    "bos": (),
    "eos": (),
    "eot": END_OF_TURN,
    "eom": ("<|eom_id|>",),
    "fim_pre": (
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<｜fim▁begin｜>",  # noqa: RUF001
        "<PRE>",
        "▁<PRE>",
        "<|code_prefix|>",
        "<|prefix|>",
    ),
    "fim_suf": (
        "<|fim_suffix|>",
        "<fim-suffix>",
        "<fim_suffix>",
        "<｜fim▁hole｜>",  # noqa: RUF001
        "<SUF>",
        "▁<SUF>",
        "<|code_suffix|>",
        "<|suffix|>",
    ),
    "fim_mid": (
        "<|fim_middle|>",
        "<fim-middle>",
        "<fim_middle>",
        "<｜fim▁end｜>",  # noqa: RUF001
        "<MID>",
        "▁<MID>",
        "<|code_middle|>",
        "<|middle|>",
    ),
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}
_OLD_ROLES = {"fim_pre": "prefix", "fim_suf": "suffix", "fim_mid": "middle"}  # read last
_ENDING_ROLES = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
# Always found in a text, even if the file says otherwise (gpt-oss).
_ALWAYS = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")
_C_SPACES = " \t\n\v\f\r"  # C's isspace
ENDS = (
    *END_OF_TURN,
    *_NAMES["eom"],
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "</s>",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "[e~[",
)


@dataclass(frozen=True)
class SpecialTokens:
    """The special tokens of a vocabulary, as llama.cpp sees them.

    Attributes:
        roles: "bos", "eos", "eot" and other roles -> id, if the vocabulary has them.
        ends: the ids at which generation stops.
        types: types of some ids, which replace those in the file.
    """

    roles: Mapping[str, int]
    ends: frozenset[int]
    types: Mapping[int, TokenType]

    @classmethod
    def find(
        cls, get: Callable[[str], Any], ids: Mapping[str, int], defaults: Mapping[str, int]
    ) -> SpecialTokens:
        """Find them in GGUF metadata; `defaults` has ids for roles that the file does not name."""
        roles: dict[str, int] = {}
        ends = {ids[name] for name in ENDS if name in ids}
        control = set(ends)
        for role, names in _NAMES.items():
            old = token_id(get, _OLD_ROLES[role], len(ids)) if role in _OLD_ROLES else None
            role_id = token_id(get, role, len(ids)) if old is None else old
            if role_id is None:
                role_id = next((ids[name] for name in names if name in ids), None)
                control |= set() if role_id is None else {role_id}
                role_id = defaults.get(role) if role_id is None else role_id
            if role_id is not None and role_id < len(ids):
                roles[role] = role_id
        ends |= {roles[role] for role in _ENDING_ROLES if role in roles}
        types = dict.fromkeys(control, TokenType.CONTROL)
        types |= {ids[name]: TokenType.USER_DEFINED for name in _ALWAYS if name in ids}
        for name, kind in _no_ends({name for name, index in ids.items() if index in ends}):
            ends.discard(ids[name])
            types[ids[name]] = kind
        return cls(roles, frozenset(ends), types)


def _no_ends(ends: Collection[str]) -> Iterator[tuple[str, TokenType]]:
    """Yield names that do not end an answer if others exist, with the type from llama.cpp."""
    calls, others = {"<|call|>", "<|calls|>"}, {"<|return|>", "<|flush|>"}
    if "<|end|>" in ends and not calls.isdisjoint(ends) and not others.isdisjoint(ends):
        yield "<|end|>", TokenType.USER_DEFINED
    if "</s>" in ends and not {"<|tool_response>", "<|plamo:eos|>"}.isdisjoint(ends):
        yield "</s>", TokenType.NORMAL


class Splitter:
    """Finds tokens that are written out in a text, the longest token first, as llama.cpp does.

    Args:
        tokens: the vocabulary.
        ids: the tokens that are found.
        trimmed: tokens that take the white space before them.
    """

    def __init__(
        self, tokens: Sequence[str], ids: Iterable[int], trimmed: Collection[str] = ()
    ) -> None:
        self._trimmed = trimmed
        # By their first two characters: so only a few of a vocabulary's thousands are searched.
        self._by_head: dict[str, list[tuple[int, int, str]]] = {}
        for i in ids:
            entry = (-len(tokens[i].encode("utf-8")), i, tokens[i])
            self._by_head.setdefault(tokens[i][:2], []).append(entry)

    def split(self, text: str) -> list[str | int]:
        """Split a text into the pieces between tokens and the ids of the tokens."""
        candidates = [
            entry
            for head, entries in self._by_head.items()
            if head in text
            for entry in entries
            if entry[2] in text
        ]
        pieces: list[str | int] = [text] if text else []
        for _, index, token in sorted(candidates):
            trim = _C_SPACES if token in self._trimmed else ""
            pieces = [cut for piece in pieces for cut in _cut_at(piece, token, index, trim)]
        return pieces


def _cut_at(piece: str | int, token: str, index: int, trim: str) -> list[str | int]:
    if isinstance(piece, int):
        return [piece]
    *parts, last = piece.split(token)
    cuts: list[str | int] = []
    for part in parts:
        part = part.rstrip(trim) if trim else part
        cuts += [part, index] if part else [index]
    return [*cuts, last] if last else cuts
