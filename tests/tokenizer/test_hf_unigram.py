"""Folders with Albert's tokenizer, as Goldfish has: spiece.model, tokenizer.json, or both."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from m2m.errors import InputError
from m2m.tokenizer import Tokenizer
from m2m.tokenizer.convert import gguf_vocabulary
from m2m.tokenizer.sentencepiece_model import read_sentencepiece
from tests.tokenizer.folders import TEXT, as_gguf, trained, write

SPECIAL = ("[CLS]", "[SEP]", "[MASK]")
UNIGRAM = {
    "model_type": "unigram",
    "vocab_size": 300,
    "hard_vocab_limit": False,
    "byte_fallback": False,
    "user_defined_symbols": [],
    "control_symbols": list(SPECIAL),
    "normalization_rule_name": "nmt_nfkc",
    "remove_extra_whitespaces": True,
    "pad_id": 0,
    "unk_id": 1,
    "bos_id": -1,
    "eos_id": -1,
}
SETTINGS = {
    "tokenizer_class": "AlbertTokenizer",
    "do_lower_case": False,
    "keep_accents": True,
    "bos_token": "[CLS]",
    "eos_token": "[SEP]",
    "pad_token": "<pad>",
}


@pytest.fixture(scope="module")
def model() -> bytes:
    return trained(**UNIGRAM)


def as_json(path: Path, model: bytes) -> dict[str, Any]:
    """The tokenizer.json that AlbertTokenizer of transformers 5 writes."""
    path.write_bytes(model)
    read = read_sentencepiece(path)
    path.unlink()
    charsmap = base64.b64encode(read.charsmap).decode()
    quotes = [
        {"type": "Replace", "pattern": {"String": mark}, "content": '"'} for mark in ("``", "''")
    ]
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"}
    ends = [{"SpecialToken": {"id": token, "type_id": 0}} for token in ("[CLS]", "[SEP]")]
    single = [ends[0], {"Sequence": {"id": "A", "type_id": 0}}, ends[1]]
    return {
        "added_tokens": [
            {"id": read.pieces.index(text), "content": text, "special": True}
            for text in ("<pad>", "<unk>", *SPECIAL)
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [*quotes, {"type": "Precompiled", "precompiled_charsmap": charsmap}],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace | {"split": True}],
        },
        "post_processor": {"type": "TemplateProcessing", "single": single},
        "model": {
            "type": "Unigram",
            "unk_id": 1,
            "vocab": [
                [piece, score] for piece, score in zip(read.pieces, read.scores, strict=True)
            ],
        },
    }


def folder(path: Path, model: bytes | None, data: dict[str, Any] | None = None) -> Path:
    path.mkdir()
    write(path / "tokenizer_config.json", SETTINGS)
    if model is not None:
        (path / "spiece.model").write_bytes(model)
    if data is not None:
        write(path / "tokenizer.json", data)
    return path


def test_all_three_folders_give_sentencepieces_ids(tmp_path: Path, model: bytes) -> None:
    data = as_json(tmp_path / "x.model", model)
    peer = sentencepiece.SentencePieceProcessor(model_proto=model)
    size, vocabularies = peer.vocab_size(), []
    for number, parts in enumerate(((model, None), (None, data), (model, data))):
        warnings: list[str] = []
        values = gguf_vocabulary(folder(tmp_path / str(number), *parts), size, warnings)
        assert any("quotation mark" in text for text in warnings)
        stored = as_gguf(values)
        tokenizer = Tokenizer.from_metadata({k: v.value for k, v in stored.items()}.get)
        assert tokenizer.tokens[tokenizer.bos_id or 0] == "[CLS]" and tokenizer.adds_bos
        for text in [*TEXT, "Habari  za\nasubuhi ", "ẹ̀kọ́ y 😀"]:
            assert tokenizer.encode(text) == peer.encode(text)
        values.pop("tokenizer.ggml.add_eos_token")  # only tokenizer.json names it
        values["tokenizer.ggml.scores"][:5] = []  # of control tokens, which no text is cut into
        vocabularies.append(values)
    assert vocabularies[0] == vocabularies[1] == vocabularies[2]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"normalizer": {"type": "StripAccents"}}, "StripAccents.*letters with marks"),
        ({"normalizer": {"type": "StripAccents"}}, "StripAccents.*letters with marks"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "?"}}, "not base64"),
        ({"pre_tokenizer": {"type": "ByteLevel"}}, "pre_tokenizer 'ByteLevel'"),
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0]]}}, "model.unk_id"),
        ({"model": {"type": "Unigram", "unk_id": 0, "vocab": ["a"]}}, "model.vocab"),
        ({"added_tokens": [{"id": 3}]}, "added_tokens has"),
    ],
)
def test_changes_that_llama_cpp_does_not_make_are_refused(
    tmp_path: Path, model: bytes, change: dict[str, Any], reason: str
) -> None:
    data = as_json(tmp_path / "x.model", model) | change
    with pytest.raises(InputError, match=reason):
        gguf_vocabulary(folder(tmp_path / "x", None, data), 300)


def test_alberts_defaults_are_refused_if_only_they_say_what_is_done(
    tmp_path: Path, model: bytes
) -> None:
    path = folder(tmp_path / "x", model)
    write(path / "tokenizer_config.json", {"tokenizer_class": "AlbertTokenizer"})
    with pytest.raises(InputError, match=r"do_lower_case(.|\n)*keep_accents") as caught:
        gguf_vocabulary(path, 300)
    assert "false" in (caught.value.hint or "")
