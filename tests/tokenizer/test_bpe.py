"""The ids are llama.cpp's, for every pre-tokenizer of the table and for text of every kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2m.errors import InputError
from m2m.formats.gguf import GGUFFile, GGUFValue, GGUFValueType
from m2m.tokenizer import Tokenizer
from tests.tiny import pico_config, pico_gguf, pico_metadata
from tests.tokenizer.llama_peer import Peer
from tests.tokenizer.samples import HARD, random_texts

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
DATASETS = ROOT / "examples" / "swahili" / "datasets"


# Names with long words and short ones; test_pretokenize.py has all names.
NAMES = ["default", "smollm", "gpt-2", "qwen2", "llama-bpe", "smaug-bpe", "superbpe", "kimi-k2"]


@pytest.fixture(scope="module", params=NAMES)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Tokenizer, Peer]]:
    path = tmp_path_factory.mktemp("vocabulary") / "pico.gguf"
    pico_gguf(path, metadata={"tokenizer.ggml.pre": GGUFValue.string(request.param)})
    peer = Peer(path)
    yield Tokenizer.from_metadata(GGUFFile(path).value), peer
    peer.model.close()


def tokenizer(**changes: Any) -> Tokenizer:
    values = {key: value.value for key, value in pico_metadata(pico_config()).items()}
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    return Tokenizer.from_metadata(values.get)


@pytest.mark.parametrize("special", [False, True])
def test_ids_are_llama_cpps(pair: tuple[Tokenizer, Peer], special: bool) -> None:
    ours, peer = pair
    for text in [*HARD, *random_texts(300, seed=int(special))]:
        assert ours.encode(text, special) == peer(text, special), repr(text)


def test_special_tokens_and_flags_are_llama_cpps(pair: tuple[Tokenizer, Peer]) -> None:
    ours, peer = pair
    vocabulary = llama_cpp.llama_model_get_vocab(peer.model.model)
    assert ours.bos_id == llama_cpp.llama_vocab_bos(vocabulary)
    assert ours.eos_id == llama_cpp.llama_vocab_eos(vocabulary)
    assert ours.vocab_size == llama_cpp.llama_vocab_n_tokens(vocabulary)
    assert ours.adds_bos == llama_cpp.llama_vocab_get_add_bos(vocabulary)
    ends = {i for i in range(ours.vocab_size) if llama_cpp.llama_vocab_is_eog(vocabulary, i)}
    assert ours.eog_ids == ends


@given(st.text())
def test_decode_undoes_encode(text: str) -> None:
    ours = tokenizer()
    assert ours.decode(ours.encode(text)) == text
    assert ours.decode(ours.encode(text, special=True)) == text


def test_unpaired_surrogates_become_the_replacement_character() -> None:
    ours = tokenizer()
    assert ours.encode("a\ud800b") == ours.encode("a\ufffdb")
    assert ours.encode("\ud83d\ude00") == ours.encode("😀")


def test_user_defined_tokens_are_always_found() -> None:
    values = {key: value.value for key, value in pico_metadata(pico_config()).items()}
    types = list(values["tokenizer.ggml.token_type"])
    types[1] = 4
    ours = tokenizer(tokenizer__ggml__token_type=types)
    assert ours.encode("a<|im_start|>") == [*ours.encode("a"), 1]
    assert ours.encode("a<|endoftext|>") != [*ours.encode("a"), 0]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_user_defined_tokens_are_found_where_llama_cpp_finds_them(
    index: int, tmp_path: Path
) -> None:
    # Not all: llama.cpp takes the ends of a turn for control tokens whatever their type says.
    metadata = pico_metadata(pico_config())
    types = list(metadata["tokenizer.ggml.token_type"].value)
    types[index] = 4
    changed = {"tokenizer.ggml.token_type": GGUFValue.array(GGUFValueType.INT32, types)}
    path = pico_gguf(tmp_path / "pico.gguf", metadata=changed)
    peer, ours = Peer(path), Tokenizer.from_metadata(GGUFFile(path).value)
    for special in (False, True):
        for text in ("a<|endoftext|>b<|im_start|><|im_end|>", "<|im_start|> x"):
            assert ours.encode(text, special) == peer(text, special)
    peer.model.close()


def test_an_undecodable_byte_sequence_does_not_raise() -> None:
    ours = tokenizer()
    first = ours.encode("é")[0]
    assert ours.decode([first]) == "\ufffd"
    assert ours.token_bytes(first) == "é".encode()[:1]


def test_long_words_take_no_quadratic_time() -> None:
    ours = tokenizer()
    text = "abcdefghij" * 20_000
    assert ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokenizer__ggml__pre": "newest"}, "unknown pre-tokenizer 'newest'"),
        ({"tokenizer__ggml__model": "llama"}, "SentencePiece"),
        ({"tokenizer__ggml__model": None}, "unknown vocabulary"),
        ({"tokenizer__ggml__tokens": None}, "no list tokenizer.ggml.tokens"),
        ({"tokenizer__ggml__merges": [1, 2]}, "must hold texts"),
        ({"tokenizer__ggml__merges": ["a b", "a \udc80"]}, "entry 1 is not UTF-8"),
        ({"tokenizer__ggml__token_type": [1]}, "has 1 entries"),
        ({"tokenizer__ggml__bos_token_id": 10**6}, "bos_token_id is 1000000"),
    ],
)
def test_vocabularies_that_cannot_be_read_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        tokenizer(**changes)


@pytest.mark.model
@pytest.mark.parametrize("special", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_ids_are_llama_cpps_on_the_starter_model(special: bool) -> None:
    peer = Peer(STARTER)
    ours = Tokenizer.from_metadata(GGUFFile(STARTER).value)
    texts = [
        text
        for path in sorted(DATASETS.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
        for text in json.loads(line).values()
    ]
    assert len(texts) > 10_000
    every = 1 if special else 8
    for text in [*texts[::every], *HARD, *random_texts(500, seed=2 + special)]:
        assert ours.encode(text, special) == peer(text, special), repr(text)
    peer.model.close()
