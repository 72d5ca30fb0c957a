"""Turns the vocabulary of a Hugging Face folder into the key-values of a GGUF file.

The result is the same as that of llama.cpp's convert_hf_to_gguf.py (conversion/base.py; gguf-py,
vocab.py), but this module does not need transformers. llama.cpp does not normalise Unicode: if the
folder asks for NFC, the ids agree with those of transformers only on text that is in NFC.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.counted import counted
from m2m.errors import InputError
from m2m.families import USE_KNOWN
from m2m.opening import JSON, SETTINGS, first_bytes, read_text, refuse_many
from m2m.tokenizer.hf_cuts import APPROXIMATE
from m2m.tokenizer.hf_merges import has_bytes
from m2m.tokenizer.hf_tokenizer import FORMS, HFTokenizer
from m2m.tokenizer.hf_unigram import QUOTES, HFUnigram, is_albert, refuse_albert
from m2m.tokenizer.sentencepiece_model import SentencePieceModel, read_sentencepiece
from m2m.tokenizer.special import END_OF_TURN, TokenType
from m2m.tokenizer.spm import SPACE
from m2m.tokenizer.vocabulary_warnings import (
    CASES,
    DROPOUT,
    NO_BYTES,
    PREFIX_SPACE,
    beyond_warning,
    flag_warnings,
    form_warning,
    spm_warning,
)

PIECES = ("tokenizer.model", "spiece.model")  # files of SentencePiece, by Albert's name the second
_ADDED_SCORE = -1000.0  # scores of added tokens and of fillers, as the converter writes them
_FILLER_SCORE = -10000.0
_BYTE = re.compile("<0x[0-9A-F]{2}>")
# llama.cpp's name for merges of characters in the order of a list (src/llama-vocab.cpp).
_LISTED = "sarvam-moe"
_KEYS = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}

# Added tokens that are control tokens although their files do not mark them (the converter's
# does_token_look_special).
_LOOKS_SPECIAL = re.compile(r"<pad>|<mask>|<2mass>|\[@BOS@\]|<\|.*\|>|<｜.*｜>|<unused.*>", re.S)  # noqa: RUF001


def gguf_vocabulary(
    folder: Path, vocab_size: int, warnings: list[str] | None = None
) -> dict[str, Any]:
    """Return the `tokenizer.*` key-values of a model folder, as plain Python values.

    Args:
        folder: has `tokenizer.model`, `spiece.model` or `tokenizer.json`, and may have
            `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`, `config.json`
            and a chat template.
        vocab_size: rows of the embeddings; the list of tokens gets this length, with fillers.
        warnings: gets one sentence for each difference of llama.cpp and m2m from the maker.

    Raises:
        InputError: a file is damaged, or needs a feature that llama.cpp does not have.
    """
    warnings = [] if warnings is None else warnings
    source = _Folder.read(folder)
    model = next((folder / name for name in PIECES if (folder / name).is_file()), None)
    # Llama 3's `tokenizer.model` is no file of SentencePiece, which begins like this.
    if model is not None and (source.tokenizer is None or first_bytes(model, 1) == b"\n"):
        read = read_sentencepiece(model)
        table, values, roles = _from_sentencepiece(model, read, source, vocab_size, warnings)
    elif source.unigram is not None:
        file, read = folder / "tokenizer.json", source.unigram.model
        table, values, roles = _from_sentencepiece(file, read, source, vocab_size, warnings)
    elif source.tokenizer is None:
        raise InputError(
            f"{folder}: has neither tokenizer.model nor tokenizer.json",
            "get the model's tokenizer files as well",
        )
    elif source.tokenizer.byte_level:
        table, values, roles = _from_byte_level(source, source.tokenizer, vocab_size)
    else:
        table, values, roles = _from_merges(source, source.tokenizer, vocab_size)
    values |= {
        "tokenizer.ggml.tokens": table.tokens,
        "tokenizer.ggml.token_type": table.types,
    }
    values |= _roles(source, table.tokens, roles)
    template = source.template()
    if template is not None:
        values["tokenizer.chat_template"] = template
    warnings += source.warnings(values, vocab_size)
    return values


class _Table:
    """Tokens by id, with a filler for each id without a token."""

    def __init__(self, size: int) -> None:
        self.tokens = [f"[PAD{i}]" for i in range(size)]
        self.types = [int(TokenType.UNUSED)] * size
        self.scores = [_FILLER_SCORE] * size

    def put(self, index: int, token: str, type: int, score: float = 0.0) -> None:
        """Set a token; a token beyond the embeddings cannot be used and is left out."""
        if 0 <= index < len(self.tokens):
            self.tokens[index], self.types[index], self.scores[index] = token, int(type), score

    def put_added(self, added: Mapping[int, tuple[str, bool]]) -> None:
        """Set tokens that were added to a vocabulary: id -> (text, whether it is special)."""
        for index, (text, special) in added.items():
            if special or _LOOKS_SPECIAL.fullmatch(text):
                self.put(index, text, TokenType.CONTROL, _ADDED_SCORE)
            else:
                plain = text.replace(SPACE, " ")  # texts contain them with plain spaces
                self.put(index, plain, TokenType.USER_DEFINED, _ADDED_SCORE)


@dataclass(frozen=True)
class _Folder:
    """The tokenizer files of a folder."""

    path: Path
    config: Mapping[str, Any]  # tokenizer_config.json, which overrides special_tokens_map.json
    model: Mapping[str, Any]  # config.json
    added: Mapping[int, tuple[str, bool]]
    tokenizer: HFTokenizer | None
    unigram: HFUnigram | None = None

    @classmethod
    def read(cls, folder: Path) -> _Folder:
        config = _read_json(folder / "special_tokens_map.json") or {}
        config |= _read_json(folder / "tokenizer_config.json") or {}
        content = _read_json(folder / "tokenizer.json")
        tokenizer, unigram, file = None, None, folder / "tokenizer.json"
        if content is not None and _kind(content) == "Unigram":
            unigram = HFUnigram(file, content)
        elif content is not None:
            tokenizer = HFTokenizer(file, content)
        else:
            refuse_albert(folder / "tokenizer_config.json", config)
        added = dict(_old_added(folder / "added_tokens.json"))
        for known in (tokenizer, unigram):
            added |= {} if known is None else known.added
        added |= dict(_config_added(folder / "tokenizer_config.json", config))
        model = _read_json(folder / "config.json") or {}
        return cls(folder, config, model, added, tokenizer, unigram)

    @property
    def ends(self) -> tuple[str | None, str | None] | None:
        """Return the tokens before and after a text; None if there is no tokenizer.json."""
        known = self.tokenizer or self.unigram
        return None if known is None else known.ends

    def warnings(self, values: Mapping[str, Any], size: int) -> list[str]:
        """Return warnings about the vocabulary with these key-values, for `size` embeddings."""
        kind, pre = values["tokenizer.ggml.model"], values["tokenizer.ggml.pre"]
        beyond = {i: text for i, (text, _) in self.added.items() if not 0 <= i < size}
        warnings = beyond_warning(beyond, size)
        if self.tokenizer is not None:
            warnings += flag_warnings(self.tokenizer.flags)
            warnings += map(form_warning, filter(FORMS.__contains__, self.tokenizer.normalizers))
            warnings += [DROPOUT] if self.tokenizer.dropout else []
            warnings += [CASES.format(pre)] if pre in APPROXIMATE else []
            if pre == _LISTED and not has_bytes(self.tokenizer.vocabulary):
                warnings.append(NO_BYTES)
        if self.unigram.quotes if self.unigram is not None else is_albert(self.config):
            warnings.append(QUOTES)
        warnings += map(form_warning, self.unigram.forms if self.unigram is not None else ())
        if (other := self._template_file()) and other != self.template():
            warnings.append(
                "tokenizer_config.json and chat_template.jinja have different chat templates. m2m "
                "uses the first, as llama.cpp's converter does; transformers uses the second. "
                "Delete the one that the model was not trained with, and import it again."
            )
        if kind == "gpt2" and self._wants_space(pre):
            warnings.append(PREFIX_SPACE)
        named = self.token_text("eos")
        if named and named not in values["tokenizer.ggml.tokens"]:
            warnings.append(
                f"tokenizer_config.json names {named!r} as eos_token, which the vocabulary does "
                "not have. Correct tokenizer_config.json and import the model again."
            )
        return warnings

    def _wants_space(self, pre: str) -> bool:
        """Return whether a text of a BPE with a list of merges should begin with a space."""
        asked = self.config.get("add_prefix_space")
        if isinstance(asked, bool) or self.tokenizer is None:
            return bool(asked)
        if pre == _LISTED:
            return self.tokenizer.adds_space()
        return self.tokenizer.cuts.prefix_space

    def template(self) -> str | None:
        """Return the chat template from the first place in which the converter finds one."""
        chat_template = self.config.get("chat_template")
        if chat_template is None:
            chat_template = self._template_file()
        if chat_template is None:
            chat_template = (_read_json(self.path / "chat_template.json") or {}).get(
                "chat_template"
            )
        if isinstance(chat_template, list):  # several, by name
            named = {
                entry.get("name"): entry.get("template")
                for entry in chat_template
                if type(entry) is dict
            }
            chat_template = named.get("default")
        return chat_template if isinstance(chat_template, str) else None

    def _template_file(self) -> str | None:
        jinja = self.path / "chat_template.jinja"
        return read_text(jinja, SETTINGS, universal=True) if jinja.is_file() else None

    def token_text(self, role: str) -> str | None:
        """Return the text of a role's token in tokenizer_config.json."""
        entry = self.config.get(f"{role}_token")
        text = entry.get("content") if isinstance(entry, dict) else entry
        return text if isinstance(text, str) else None


def _from_sentencepiece(
    path: Path, model: SentencePieceModel, source: _Folder, size: int, warnings: list[str]
) -> tuple[_Table, dict[str, Any], dict[str, int]]:
    if model.kind not in ("bpe", "unigram") or model.suffixes:
        detail = "whose spaces follow their words" if model.suffixes else "of SentencePiece"
        raise InputError(
            f"{path}: is a {model.kind} model {detail}; m2m reads SentencePiece's BPE and unigram "
            "models",
            USE_KNOWN,
        )
    if model.kind == "bpe" and (model.charsmap or model.merges_spaces):
        warnings.append(
            spm_warning(model.normalizer if model.charsmap else "", model.merges_spaces)
        )
    table = _Table(size)
    for index, piece in enumerate(model.pieces):
        kind = model.types[index]
        text = piece.replace(SPACE, " ") if kind == TokenType.USER_DEFINED else piece
        table.put(index, text, kind, model.scores[index])
    table.put_added(source.added)
    values = _spm_values(source, table, model.adds_space)
    if model.kind == "unigram":
        if 0 <= (unknown := model.roles["unk"]) < size:  # also if it is among the added tokens
            table.types[unknown] = int(TokenType.UNKNOWN)
        values |= {
            "tokenizer.ggml.model": "t5",
            "tokenizer.ggml.remove_extra_whitespaces": model.merges_spaces,
        }
        if model.charsmap:
            values["tokenizer.ggml.precompiled_charsmap"] = model.charsmap
    return table, values, model.roles


def _from_merges(
    source: _Folder, tokenizer: HFTokenizer, size: int
) -> tuple[_Table, dict[str, Any], dict[str, int]]:
    """Read a SentencePiece-like BPE from a tokenizer.json."""
    table = _Table(size)
    adds_space, by_score = tokenizer.adds_space(), tokenizer.scores()
    scores, worst = by_score or {}, -float(len(tokenizer.merges) + 1)
    for token, index in _within(tokenizer, size):
        kind = TokenType.BYTE if _BYTE.fullmatch(token) else TokenType.NORMAL
        table.put(index, token, kind, scores.get(token, worst))
    table.put_added(source.added)
    values = _spm_values(source, table, adds_space)
    if by_score is None:
        values = {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": _LISTED,
            "tokenizer.ggml.merges": _merge_texts(tokenizer),
        }
    unknown = tokenizer.vocabulary.get(tokenizer.unknown or "")
    return table, values, {} if unknown is None else {"unk": unknown}


def _from_byte_level(
    source: _Folder, tokenizer: HFTokenizer, size: int
) -> tuple[_Table, dict[str, Any], dict[str, int]]:
    table = _Table(size)
    for token, index in _within(tokenizer, size):
        table.put(index, token, TokenType.NORMAL)
    table.put_added(source.added)
    values = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": tokenizer.pretokenizer(),
        "tokenizer.ggml.merges": _merge_texts(tokenizer),
    }
    return table, values, {}


def _merge_texts(tokenizer: HFTokenizer) -> list[str]:
    return [f"{left} {right}" for left, right in tokenizer.merges]


def _within(tokenizer: HFTokenizer, size: int) -> Iterator[tuple[str, int]]:
    """Yield the vocabulary's tokens; raise if one has no row in the embeddings."""
    for token, index in tokenizer.vocabulary.items():
        if index >= size:
            raise InputError(
                f"{tokenizer.path}: token {token!r} has the id {index}, "
                f"but the model has embeddings of {counted(size, 'token')}",
                "the tokenizer is another model's: get the right one",
            )
        yield token, index


def _spm_values(source: _Folder, table: _Table, adds_space: bool) -> dict[str, Any]:
    add_prefix_space = source.config.get("add_prefix_space")
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": table.scores,
        "tokenizer.ggml.add_space_prefix": add_prefix_space
        if isinstance(add_prefix_space, bool)
        else adds_space,
    }


def _roles(source: _Folder, tokens: list[str], fallback: Mapping[str, int]) -> dict[str, Any]:
    """Return the ids of special tokens, and whether texts get BOS and EOS."""
    ids = {token: index for index, token in enumerate(tokens)}
    ends: dict[str, str | None] = {}
    if source.ends is not None:
        ends = dict(zip(("bos", "eos"), source.ends, strict=True))
    values: dict[str, Any] = {}
    for role, name in _KEYS.items():
        text = source.token_text(role) or ends.get(role) or ""
        token_id = ids.get(text, source.model.get(f"{role}_token_id"))
        if not isinstance(token_id, int) or not 0 <= token_id < len(tokens):
            token_id = fallback.get(role, -1)
        if 0 <= token_id < len(tokens):
            values[f"tokenizer.ggml.{name}_token_id"] = token_id
    # Written explicitly: of several such tokens, llama.cpp takes the first that it meets.
    turn = next((ids[text] for text in END_OF_TURN if text in ids), None)
    if turn is not None:
        values["tokenizer.ggml.eot_token_id"] = turn
    for role in ("bos", "eos"):
        role_id = values.get(f"tokenizer.ggml.{role}_token_id")
        adds = source.config.get(f"add_{role}_token")
        if not isinstance(adds, bool):  # BOS only, as in transformers; else as in the file
            adds = role == "bos" if not ends else ids.get(ends[role] or "", -1) == role_id
        values[f"tokenizer.ggml.add_{role}_token"] = adds and role_id is not None
    return values


def _config_added(path: Path, config: Mapping[str, Any]) -> Iterator[tuple[int, tuple[str, bool]]]:
    entries = config.get("added_tokens_decoder") or {}
    for key, entry in entries.items() if isinstance(entries, dict) else ():
        text = entry.get("content") if isinstance(entry, dict) else None
        if not isinstance(text, str) or not key.isascii() or not key.isdigit():
            raise InputError(f"{path}: added_tokens_decoder has {key!r}: {entry!r}")
        yield int(key), (text, bool(entry.get("special")))


def _old_added(path: Path) -> Iterator[tuple[int, tuple[str, bool]]]:
    for text, index in (_read_json(path) or {}).items():
        if not isinstance(index, int):
            raise InputError(f"{path}: {text!r} has the id {index!r}")
        yield index, (text, False)


def _kind(content: Mapping[str, Any]) -> Any:
    model = content.get("model")
    return model.get("type") if isinstance(model, dict) else None


def _read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; None if there is no file."""
    if not path.is_file():
        return None
    try:
        text = read_text(path, JSON, universal=True)
        refuse_many(path, text)
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: is not JSON: {error.msg}") from error
    except ValueError as error:  # a number with thousands of digits
        raise InputError(f"{path}: is not JSON: {error}") from error
    except RecursionError as error:
        raise InputError(f"{path}: is nested too deeply") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold a JSON object")
    return content
