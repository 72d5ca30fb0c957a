"""Tokenizer folders as Hugging Face lays them out, made from a small text."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from m2m.formats.gguf import GGUFValue, GGUFValueType
from tests.tokenizer.samples import HARD

SPACE = "\u2581"
TEXT = [
    "Habari za asubuhi, mwalimu alisema kwa furaha.",
    "The quick brown fox jumps over the lazy dog; the dog sleeps.",
    "ẹ kú àárọ̀ ọmọ mi, ṣé dáadáa ni ilé wà?",
    "ሰላም ለሁሉም ኢትዮጵያ ውስጥ ደህና ነህ",
    "ina kwana yaya gida da aiki na gode sosai",
    "for i in range(10):\n    print(i)  # numbers 12345",
    "日本語の文章 と 한국어 문장",
]
USER_DEFINED = ["<table>", SPACE * 2, "\n\n"]

_TYPES = {
    "tokens": GGUFValueType.STRING,
    "merges": GGUFValueType.STRING,
    "scores": GGUFValueType.FLOAT32,
    "token_type": GGUFValueType.INT32,
}


def as_gguf(values: dict[str, Any]) -> dict[str, GGUFValue]:
    """What `gguf_vocabulary` returns, as a GGUF writer takes it."""
    made: dict[str, GGUFValue] = {}
    for key, value in values.items():
        if isinstance(value, list):
            made[key] = GGUFValue.array(_TYPES[key.rpartition(".")[2]], value)
        elif isinstance(value, bytes):
            made[key] = GGUFValue.array(GGUFValueType.UINT8, value)
        elif isinstance(value, bool):
            made[key] = GGUFValue.boolean(value)
        else:
            made[key] = (GGUFValue.string if isinstance(value, str) else GGUFValue.uint32)(value)
    return made


def trained(**options: Any) -> bytes:
    """A `tokenizer.model` of SentencePiece's own trainer."""
    import sentencepiece

    written = io.BytesIO()
    settings: dict[str, Any] = {
        "model_type": "bpe",
        "vocab_size": 600,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "user_defined_symbols": USER_DEFINED,
        "character_coverage": 0.98,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 3), model_writer=written, **settings | options
    )
    return written.getvalue()


def spm_folder(folder: Path, config: dict[str, Any] | None = None, **options: Any) -> Path:
    """A folder with `tokenizer.model` and `tokenizer_config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(trained(**options))
    write(
        folder / "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>"} | (config or {})
    )
    return folder


def json_from_spm(model: bytes, *, prefix: bool) -> dict[str, Any]:
    """A `tokenizer.json` as transformers makes it out of a `tokenizer.model`."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = range(processor.vocab_size())
    return spm_json(
        [processor.id_to_piece(i) for i in ids],
        [processor.get_score(i) for i in ids],
        prefix=prefix,
    )


def spm_json(pieces: list[str], scores: list[float], *, prefix: bool) -> dict[str, Any]:
    """A `tokenizer.json` of SentencePiece-like BPE.

    The merges are those of transformers' SentencePieceExtractor: each way to cut a token in two.
    """
    ids = {piece: i for i, piece in enumerate(pieces)}
    ways = []
    for piece, i in ids.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ids and right in ids and piece not in USER_DEFINED:
                ways.append((-scores[i], -len(left), left, right))
    special = [
        {"id": i, "content": pieces[i], "special": True, "normalized": False} for i in range(3)
    ]
    added = [
        {"id": ids[piece], "content": piece, "special": False, "normalized": False}
        for piece in USER_DEFINED
        if piece in ids
    ]
    steps = [{"type": "Prepend", "prepend": SPACE}] if prefix else []
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    bos = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    return {
        "version": "1.0",
        "added_tokens": [
            {"single_word": False, "lstrip": False, "rstrip": False} | each
            for each in [*special, *added]
        ],
        "normalizer": {"type": "Sequence", "normalizers": [*steps, replace]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": bos,
            "pair": bos,
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": None,
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": ids,
            "merges": [[left, right] for _, _, left, right in sorted(ways)],
        },
    }


def byte_level_json(
    tokens: list[str], merges: list[str], pre_tokenizer: dict[str, Any], **model: Any
) -> dict[str, Any]:
    """A `tokenizer.json` of byte-level BPE with three special tokens in front."""
    return {
        "version": "1.0",
        "added_tokens": [
            {
                "id": i,
                "content": tokens[i],
                "special": True,
                "normalized": False,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
            }
            for i in range(3)
        ],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": False,
        },
        "model": {
            "type": "BPE",
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": merges,
        }
        | model,
    }


def _split(regex: str) -> dict[str, Any]:
    return {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
            {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "trim_offsets": True,
                "use_regex": False,
            },
        ],
    }


_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
# As the families' own files have them.
PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "llama-bpe": _split(_WORDS + r"\p{N}{1,3}" + _REST),
    "smaug-bpe": _split(_WORDS + r"\p{N}{1,3}" + _REST),
    "qwen2": _split(_WORDS + r"\p{N}" + _REST),
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, _GPT2],
    },
    "gpt-2": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
}


def write(path: Path, content: Any) -> Path:
    """Write JSON and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


HARDER = [
    *HARD,
    "".join(TEXT),
    " x",
    "  two spaces",
    f"a{SPACE}b",
    "<table>\n\n\n<tr>x</tr>\n\n</table>",
    "<s>hello</s> world <s> x</s>",
    "<unk> <0x0A> <0x41>",
    "a<table>b <table> c",
    "\n\n\n\n\n",
    "aaaaaaaaaaaaaaaaaa",
]
