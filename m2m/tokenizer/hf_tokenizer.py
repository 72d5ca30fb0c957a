"""Reads Hugging Face's `tokenizer.json`: the kind of its BPE, and the values that GGUF needs."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from m2m.errors import InputError
from m2m.families import USE_KNOWN
from m2m.tokenizer.hf_cuts import NAMES, Cuts, flat
from m2m.tokenizer.hf_merges import listed_reason, scores_of, unmade_token
from m2m.tokenizer.spm import SPACE

_MAX_TOKEN = 1024  # characters; real vocabularies stay below 300

# Normalizers that change the characters of a text only: the text may be stored in that form.
_UNICODE: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")
FORMS = (*_UNICODE, "Lowercase")
# Normalizers that no file with llama.cpp's BPE can ask for -> their effect.
CHANGES = {
    "StripAccents": "letters with marks",
    "BertNormalizer": "capital letters and marks",
    "Strip": "spaces at the ends of texts",
    "Nmt": "control characters",
}

_KINDS = {
    "WordPiece": ", which llama.cpp has for models that compare texts",
    "WordLevel": ", which llama.cpp does not have",
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
        cuts: how it cuts text into words.
        dropout: whether it leaves out merges at random.
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
                f"{path}: holds a {kind} model{_KINDS.get(str(kind), '')}; m2m reads BPE",
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
        self.ends = text_ends(content)
        self.dropout = bool(self._model.get("dropout"))
        self.cuts = Cuts.read(content.get("pre_tokenizer"))
        self.byte_level = self.cuts.byte_level

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
        self._steps()
        ignores = bool(self._model.get("ignore_merges", False))
        names = NAMES.get(self.cuts.steps)
        if names is None:
            known = sorted({name for pair in NAMES.values() for name in pair.values()})
            raise InputError(
                f"{self.path}: unknown pre_tokenizer {' | '.join(self.cuts.steps)}; "
                f"known are those of {', '.join(known)}",
                USE_KNOWN,
            )
        if ignores not in names and (token := unmade_token(self.vocabulary, self.merges)):
            raise InputError(
                f"{self.path}: no merges make the token {token!r}, which ignore_merges = "
                f"{str(ignores).lower()} decides about; llama.cpp's "
                f"{names[not ignores]!r} does the opposite",
                USE_KNOWN,
            )
        return names.get(ignores, names.get(not ignores, ""))

    def adds_space(self) -> bool:
        """Return whether SentencePiece-like BPE puts a space before a text.

        Raises:
            InputError: llama.cpp cannot treat spaces in the way that this file asks for.
        """
        steps, cuts = self._steps("prepend", "replace"), self.cuts.steps
        adds = _SPACES.get((steps, tuple(cut.removesuffix(" split") for cut in cuts)))
        if adds is None:
            raise InputError(
                f"{self.path}: unknown treatment of spaces: normalizer {list(steps)}, "
                f"pre_tokenizer {list(cuts)}",
                USE_KNOWN,
            )
        return adds

    def scores(self) -> dict[str, float] | None:
        """Return scores with which llama.cpp makes the merges like SentencePiece.

        The result is None if it can only follow the list of merges.

        Raises:
            InputError: it can do neither.
        """
        splits = any(cut.endswith(" split") for cut in self.cuts.steps)
        added = [text for text, _ in self.added.values()]
        if not splits or not any(SPACE in token[1:] for token in self.vocabulary):
            scores = scores_of(self.vocabulary, self.merges, added)
            if scores is not None:
                return scores
        if reason := listed_reason(self.merges, cut_at_spaces=splits):
            raise InputError(
                f"{self.path}: llama.cpp would give other ids: {reason}, and the scores of tokens "
                "do not make these merges either",
                "put the model's tokenizer.model into the folder",
            )
        return None

    def _steps(self, *known: str) -> tuple[str, ...]:
        """Return the normalizers that do more than change characters to a form of text.

        Raises:
            InputError: one of them is not known.
        """
        steps = tuple(name for name in self.normalizers if name not in FORMS)
        for name in steps:
            if name not in known:
                changes = CHANGES.get(name)
                effect = f" ({changes} would get ids that the model never saw)" if changes else ""
                raise InputError(
                    f"{self.path}: normalizer {name}: llama.cpp does not change text before it "
                    f"cuts it{effect}",
                    "use another base model, or train one with a tokenizer without it",
                )
        return steps

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
        for entry, (index, (text, special)) in zip(
            self._list(self._content, "added_tokens"),
            added_tokens(self.path, self._content, self.vocabulary),
            strict=True,
        ):
            for flag in ("lstrip", "rstrip", "single_word", "normalized"):
                if entry.get(flag) and (flag != "normalized" or self._changes(text)):
                    self.flags.setdefault(flag, []).append(text)
            yield index, (text, special)

    def _changes(self, text: str) -> bool:
        """Return whether the normalizers change this text."""
        spaces = "replace" in self.normalizers and " " in text
        forms = [form for form in _UNICODE if form in self.normalizers]
        changed = any(unicodedata.normalize(form, text) != text for form in forms)
        changed |= "Lowercase" in self.normalizers and text.lower() != text
        return "prepend" in self.normalizers or spaces or changed

    def _normalizers(self) -> list[str]:
        names = []
        for node in flat(self._content.get("normalizer"), "normalizers"):
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


def added_tokens(
    path: Path, content: Mapping[str, Any], vocabulary: Mapping[str, int]
) -> Iterator[tuple[int, tuple[str, bool]]]:
    """Yield id -> (text, whether it is special) of each of a file's added tokens.

    Raises:
        InputError: an entry is damaged.
    """
    entries = content.get("added_tokens") or []
    for entry in entries if isinstance(entries, list) else [entries]:
        try:
            text, index = entry["content"], entry["id"]
            special = bool(entry.get("special"))
        except (TypeError, KeyError, AttributeError):
            text, index, special = None, None, False
        if not isinstance(text, str) or not isinstance(index, int):
            raise InputError(f"{path}: added_tokens has {entry!r}", "get the file again")
        # A token of the vocabulary keeps its id, as in the tokenizers library.
        yield vocabulary.get(text, index), (text, special)


def text_ends(content: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the tokens that a TemplateProcessing puts before and after a single text."""
    for node in flat(content.get("post_processor"), "processors"):
        single = node.get("single")
        if node.get("type") == "TemplateProcessing" and isinstance(single, list) and single:
            return _special(single[0]), _special(single[-1])
    return None, None


def _special(part: Any) -> str | None:
    """Return the special token in a part of a TemplateProcessing, or None."""
    token = part.get("SpecialToken") if isinstance(part, dict) else None
    text = token.get("id") if isinstance(token, dict) else None
    return text if isinstance(text, str) else None
