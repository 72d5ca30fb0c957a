"""The ids are llama.cpp's, for every pre-tokenizer of the table and for text of every kind."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2m.errors import InputError
from m2m.formats.gguf import GGUFFile, GGUFValue
from m2m.tokenizer import Tokenizer
from m2m.tokenizer.pretokenize import PRETOKENIZERS
from tests.tiny import pico_config, pico_gguf, pico_metadata

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
DATASETS = ROOT / "examples" / "swahili" / "datasets"

HARD = [
    " ",
    "   ",
    "a  b",
    "a   1 2  3",
    "\t\t x\n\n\n y \r\n z\r\r",
    "a\n \n b \n",
    "don't DON'T we'll I'd they've 're 'LL' ' s",
    "12345 1 22 333 4444 ４５ Ⅻ ½ ² ١٢٣",  # noqa: RUF001
    "E\u0301te\u0301 \u0301x",
    "ẹ̀kọ́ ọmọ ìyá Yorùbá ṣé ọ̀rọ̀",
    "ሰላም ለሁሉም፡ ኢትዮጵያ። ፩፪፫",
    "👩‍👩‍👧‍👦 🇰🇪 👍🏽 ☕️",
    "\x01\x1f\x7f\x85\xa0x\u2003y\u3000z\u200bq\u2028",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|><|im_end",
    "<|im_end|><|im_end|>",
    "日本語テキスト 한국어 العربية עברית ไทย हिन्दी",
    "Habari za asubuhi? Ninafurahi; ŋa ɓ ɗ ƙ",
    "x" * 700,
    "ab" * 300,
    " " * 300,
    "\ufeffBOM \ufffd",
    "\U0001d4b3\U0001d7d9 𞤀𞤣𞤤𞤢𞤥 𐊀 \U0001e4d0\U0001e4f0 \U0001e030",
    "foo_bar(baz)[1]{2};--//\\ $5 + 3% <=> ^~|`",
    "…—“”‘’'s",  # noqa: RUF001
    "@\n\n!!\r\n??\n",
]


class Peer:
    """llama.cpp's own tokenizer on a vocabulary."""

    def __init__(self, path: Path) -> None:
        self.model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)

    def __call__(self, text: str, special: bool) -> list[int]:
        return self.model.tokenize(text.encode("utf-8"), add_bos=False, special=special)


@pytest.fixture(scope="module", params=list(PRETOKENIZERS))
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


def random_texts(count: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    pools: list[Callable[[], str]] = [
        lambda: chr(rng.randrange(0x20, 0x7F)),
        lambda: rng.choice(" \t\n\r'"),
        lambda: chr(rng.randrange(1, 0x250)),
        lambda: chr(rng.choice([rng.randrange(0x80, 0xD800), rng.randrange(0x10000, 0x20000)])),
        lambda: rng.choice(["<|im_end|>", "1", "é", "the", "ing"]),
    ]
    for _ in range(count):
        yield "".join(rng.choice(pools)() for _ in range(rng.randrange(1, 60)))


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
    types[0] = 4
    ours = tokenizer(tokenizer__ggml__token_type=types)
    assert ours.encode("a<|endoftext|>") == [*ours.encode("a"), 0]
    assert ours.encode("a<|im_start|>") != [*ours.encode("a"), 1]


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
        ({"tokenizer__ggml__pre": "superbpe"}, "unknown pre-tokenizer 'superbpe'"),
        ({"tokenizer__ggml__model": "llama"}, "SentencePiece"),
        ({"tokenizer__ggml__model": None}, "unknown vocabulary"),
        ({"tokenizer__ggml__tokens": None}, "no list tokenizer.ggml.tokens"),
        ({"tokenizer__ggml__merges": [1, 2]}, "must hold texts"),
        ({"tokenizer__ggml__token_type": [1]}, "has 1 entries"),
        ({"tokenizer__ggml__bos_token_id": 10**6}, "bos_token_id is 1000000"),
    ],
)
def test_vocabularies_that_cannot_be_read_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        tokenizer(**changes)


@pytest.mark.model
@pytest.mark.parametrize("special", [False, True])
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
    for text in [*texts, *HARD, *random_texts(500, seed=2 + special)]:
        assert ours.encode(text, special) == peer(text, special), repr(text)
    peer.model.close()
