"""The tokenizers library and transformers give the ids and the conversations that m2m gives."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
tokenizers = pytest.importorskip("tokenizers", reason="scripts/install-peers makes the venv")
transformers = pytest.importorskip("transformers")

from m2m.tokenizer import ChatTemplate, Tokenizer  # noqa: E402
from m2m.tokenizer.convert import gguf_vocabulary  # noqa: E402
from tests.tiny import CHATML, MERGES, pico_tokens  # noqa: E402
from tests.tokenizer.folders import (  # noqa: E402
    HARDER,
    PRE_TOKENIZERS,
    SPACE,
    TEXT,
    byte_level_json,
    spm_json,
    write,
)
from tests.tokenizer.samples import random_texts  # noqa: E402

TEXTS = [*HARDER, *TEXT, *random_texts(300, seed=7)]


def compare(content: dict[str, Any], folder: Path, texts: list[str]) -> None:
    """All ids of `texts`, by the library and by m2m, from one tokenizer.json."""
    write(folder / "tokenizer.json", content)
    peer = tokenizers.Tokenizer.from_str(json.dumps(content))
    ours = Tokenizer.from_metadata(gguf_vocabulary(folder, peer.get_vocab_size()).get)
    for text in texts:
        expected = peer.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, special=True) == expected, repr(text)


@pytest.mark.parametrize("name", list(PRE_TOKENIZERS))
def test_byte_level_ids(name: str, tmp_path: Path) -> None:
    content = byte_level_json(
        pico_tokens(), MERGES, PRE_TOKENIZERS[name], ignore_merges=name == "llama-bpe"
    )
    compare(content, tmp_path, TEXTS)


def test_nfc_is_left_to_the_text(tmp_path: Path) -> None:
    content = byte_level_json(pico_tokens(), MERGES, PRE_TOKENIZERS["qwen2"])
    content["normalizer"] = {"type": "NFC"}
    compare(content, tmp_path, [unicodedata.normalize("NFC", text) for text in TEXTS])


def grown(texts: list[str], merges: int) -> list[str]:
    """The pieces of a small BPE, in the order in which they were found."""
    words = [list(SPACE + word) for text in texts for word in text.split()]
    pieces = list(dict.fromkeys(letter for word in words for letter in word))
    for _ in range(merges):
        counted = Counter(pair for word in words for pair in pairwise(word))
        (left, right), _ = max(counted.items(), key=lambda item: (item[1], item[0]))
        if left + right not in pieces:
            pieces.append(left + right)
        for word in words:
            for i in range(len(word) - 1, 0, -1):
                if word[i - 1 : i + 1] == [left, right]:
                    word[i - 1 : i + 1] = [left + right]
    return pieces


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_like_ids(prefix: bool, tmp_path: Path) -> None:
    fixed = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = [*fixed, *grown(TEXT, 150)]
    content = spm_json(pieces, [-float(i) for i in range(len(pieces))], prefix=prefix)
    compare(content, tmp_path, TEXTS)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_sequence_begins_as_in_transformers(wrapped: bool, tmp_path: Path) -> None:
    content = byte_level_json(pico_tokens(), MERGES, PRE_TOKENIZERS["gpt-2"])
    if wrapped:
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {
                "<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}
            },
        }
    write(tmp_path / "tokenizer.json", content)
    write(
        tmp_path / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "chat_template": CHATML,
        },
    )
    values = gguf_vocabulary(tmp_path, len(pico_tokens()))
    ours = Tokenizer.from_metadata(values.get)
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert peer("hello").input_ids == [1] * wrapped + ours.encode("hello")
    assert (ours.adds_bos, ours.bos_id, ours.eos_id) == (wrapped, 1, 2)
    messages = [{"role": "user", "content": "Jambo"}, {"role": "assistant", "content": "Hi"}]
    rendered = peer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    template = ChatTemplate(values["tokenizer.chat_template"])
    assert template.render(messages, add_generation_prompt=True) == rendered
