"""Reads Hugging Face's `tokenizer.json` of the Unigram kind as what it was made from.

Such a file is SentencePiece's unigram model with the normalisation spelled out. Goldfish's folders
have both, `spiece.model` and this, as Albert's tokenizer writes them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m2m.errors import InputError, Problems
from m2m.tokenizer.hf_cuts import flat
from m2m.tokenizer.hf_tokenizer import CHANGES, FORMS, added_tokens, text_ends
from m2m.tokenizer.sentencepiece_model import SentencePieceModel
from m2m.tokenizer.special import TokenType
from m2m.tokenizer.spm import SPACE

_BYTE = re.compile("<0x[0-9A-F]{2}>")
_QUOTES = ("``", "''")  # Albert writes " for both
_SPACES = (" {2,}", SPACE + "{2,}")  # several spaces become one
_ANOTHER = "use another base model, or train one with a tokenizer without it"
QUOTES = (
    "The tokenizer first changes `` and '' to a quotation mark; llama.cpp and m2m do not. Write "
    'quotation marks as " in your data.'
)


class HFUnigram:
    """A checked `tokenizer.json` of the Unigram kind.

    Args:
        path: the file's path, for messages.
        content: the parsed file.

    Attributes:
        model: its vocabulary and normalisation.
        added: id -> (text, whether it is special).
        ends: the special tokens that its post-processor puts before and after a text, or None.
        quotes: whether it changes typewriter quotes.
        forms: the forms of Unicode that it changes text to.

    Raises:
        InputError: it changes text in a way that llama.cpp does not, or is damaged.
    """

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self._path, self._problems = path, Problems()
        self.quotes = False
        self.forms: list[str] = []
        self.model = SentencePieceModel(kind="unigram", adds_space=False, merges_spaces=False)
        self._read_pieces(content.get("model"))
        vocabulary = {piece: index for index, piece in enumerate(self.model.pieces)}
        self.added = dict(added_tokens(path, content, vocabulary))
        self.ends = text_ends(content)
        for step in flat(content.get("normalizer"), "normalizers"):
            self._normalise(step)
        for step in flat(content.get("pre_tokenizer"), "pretokenizers"):
            self._cut(step)
        self._problems.raise_if_any(InputError, str(path), _ANOTHER)

    def _read_pieces(self, model: Any) -> None:
        entries = model.get("vocab") if isinstance(model, dict) else None
        unknown = model.get("unk_id") if isinstance(model, dict) else None
        try:
            pieces = [(str(piece), float(score)) for piece, score in entries or []]
        except (TypeError, ValueError):
            pieces = []
        if not pieces or type(unknown) is not int or not 0 <= unknown < len(pieces):
            raise InputError(
                f"{self._path}: model.vocab and model.unk_id are not those of a Unigram model",
                "get the file again",
            )
        self.model.pieces, self.model.scores = [p for p, _ in pieces], [s for _, s in pieces]
        self.model.types = [
            int(TokenType.BYTE if _BYTE.fullmatch(piece) else TokenType.NORMAL)
            for piece in self.model.pieces
        ]
        self.model.types[unknown] = int(TokenType.UNKNOWN)
        self.model.roles = {"unk": unknown, "bos": -1, "eos": -1, "pad": -1}

    def _normalise(self, step: Mapping[str, Any]) -> None:
        kind, pattern = str(step.get("type")), step.get("pattern")
        found = dict(pattern) if isinstance(pattern, dict) else {}
        if kind == "Precompiled":
            try:
                self.model.charsmap = base64.b64decode(step["precompiled_charsmap"], validate=True)
            except (KeyError, TypeError, binascii.Error):
                self._problems.add("precompiled_charsmap is not base64")
        elif kind == "Replace" and found.get("String") in _QUOTES and step.get("content") == '"':
            self.quotes = True
        elif (
            kind == "Replace" and str(found.get("Regex", "")).endswith(_SPACES)
        ) or kind == "Strip":
            self.model.merges_spaces = True
        elif kind in FORMS:
            self.forms.append(kind)
        else:
            effect = CHANGES.get(kind, "text")
            self._problems.add(
                f"normalizer {kind}: llama.cpp does not change text so ({effect} would get ids "
                "that the model never saw)"
            )

    def _cut(self, step: Mapping[str, Any]) -> None:
        kind = step.get("type")
        if kind == "WhitespaceSplit":
            self.model.merges_spaces = True
        elif kind == "Metaspace" and step.get("replacement") == SPACE:
            scheme = step.get("prepend_scheme", "always")
            self.model.adds_space = scheme != "never" and step.get("add_prefix_space", True)
        else:
            self._problems.add(f"unknown pre_tokenizer {kind!r:.60}")


def is_albert(config: Mapping[str, Any]) -> bool:
    """Return whether a tokenizer_config.json names Albert's tokenizer."""
    return str(config.get("tokenizer_class")).startswith("Albert")


def refuse_albert(path: Path, config: Mapping[str, Any]) -> None:
    """Raise if Albert's tokenizer would change letters; these are its defaults."""
    if not is_albert(config):
        return
    problems = Problems()
    if config.get("do_lower_case", True):
        problems.add("do_lower_case is true or missing: capital letters become small ones first")
    if not config.get("keep_accents", False):
        problems.add("keep_accents is false or missing: marks of letters are removed first")
    problems.raise_if_any(
        InputError,
        str(path),
        "llama.cpp does not change text so. If the model was trained with capital letters and "
        'marks, write "do_lower_case": false and "keep_accents": true',
    )
