"""Words are cut where llama.cpp cuts them, for every name of its table of pre-tokenisers.

The vocabulary has a token for each pair of the alphabet's characters: a wrong cut keeps a pair from
being joined, and the ids differ.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import pytest

from m2m.errors import InputError
from m2m.formats.gguf import write_gguf
from m2m.tokenizer import Tokenizer, categories
from m2m.tokenizer.bpe import byte_letters
from m2m.tokenizer.pretokenize import PRETOKENIZERS
from tests.tiers import sampled
from tests.tiny import CHATML, pico_config, pico_metadata
from tests.tokenizer.folders import as_gguf
from tests.tokenizer.llama_peer import Peer
from tests.tokenizer.samples import HARD

# One or two characters of each kind that an expression names, and pieces in which order matters.
ALPHABET = (
    "aStZé\u01c5ʰª'\u0301\u0903 \t\n\r\u00a0\u3000 17٣½Ⅻ.-$+_~`(/!、，।۔…"  # noqa: RUF001
    "の中\u3400\U00020000\U00030000한ㄱภກកမאሰᎠﬀ\U00010400ß\u200d\U0001f600\ufada\u0378\x85"  # noqa: RUF001
)
PIECES = [*ALPHABET, "12345", "1234567", "the", " re's", "'LL", "IMGIMGACZ", "<sentinel:3>", "   "]
# Characters whose order matters: contractions, line ends, numbers, kinds of letters.
POOLS = ["'tSa ", "'tZ1\n ", "\r\n a/.", "\n", "1234 a-", " \ta1", "aZt\u0301中'", "中한ㄱの！1"]  # noqa: RUF001
NO_MERGES = ["the", "\n\n\n"]  # tokens that no merges make
SPECIAL = ["[START]", "<mask>", "[END]"]


def vocabulary(pre: str) -> dict[str, Any]:
    """Key-values of a vocabulary that joins any two characters of the alphabet, in any order."""
    entry, letters = PRETOKENIZERS[pre], byte_letters()

    def written(text: str) -> str:
        if not entry.byte_level:
            return text.replace(" ", "\u2581")
        return "".join(letters[byte] for byte in text.encode())

    words = list(map(written, ALPHABET))
    numbers = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = [*SPECIAL, *(letters if entry.byte_level else numbers), *map(written, NO_MERGES)]
    merges = [(word[:size], word[size]) for word in words for size in range(1, len(word))]
    pairs = list(itertools.product(words, repeat=2))
    random.Random(6).shuffle(pairs)
    merges.append(("t", "S"))  # so that a cut in "'tS" matters
    merges += pairs if entry.byte_level else [p for p in pairs if p.count("\n") != 1]
    tokens += dict.fromkeys([*words, *map("".join, merges)])
    tokens = list(dict.fromkeys(tokens))
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [
            4 if t == "<mask>" else 3 if t in SPECIAL else 1 for t in tokens
        ],
        "tokenizer.ggml.merges": [f"{left} {right}" for left, right in dict.fromkeys(merges)],
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": CHATML,
    }


def write_vocabulary(path: Path, values: dict[str, Any]) -> Path:
    """Write a GGUF file with this vocabulary and no tensors."""
    model = {k: v for k, v in pico_metadata(pico_config()).items() if "tokenizer" not in k}
    write_gguf(path, model | as_gguf(values), [], [])
    return path


def texts(count: int, seed: int) -> Iterator[str]:
    yield "a'tSa 'tS"
    rng = random.Random(seed)
    for _ in range(count):
        few = rng.choice([rng.sample(PIECES, 6), rng.choice(POOLS)])
        yield "".join(rng.choice(few) for _ in range(rng.randrange(1, 30)))


@pytest.fixture(scope="module", params=sampled(sorted(PRETOKENIZERS), every=3))
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Tokenizer, Peer]]:
    path = tmp_path_factory.mktemp("vocabulary") / "pairs.gguf"
    values = vocabulary(request.param) | {"tokenizer.ggml.bos_token_id": 0}
    peer = Peer(write_vocabulary(path, values))
    yield request.param, Tokenizer.from_metadata(values.get), peer
    peer.model.close()


FIRST = sorted({id(entry): name for name, entry in reversed(PRETOKENIZERS.items())}.values())


def test_words_are_llama_cpps(pair: tuple[str, Tokenizer, Peer]) -> None:
    name, ours, peer = pair
    count = 150 if name in FIRST else 20  # the other names have the settings of one of these
    for text in [*texts(count, seed=1), "a <mask> b\t<mask>", *(HARD if name in FIRST else ())]:
        assert ours.encode(text, special=True) == peer(text, special=True), ascii(text)


def test_settings_are_llama_cpps(pair: tuple[str, Tokenizer, Peer]) -> None:
    _, ours, peer = pair
    assert ours.adds_bos == llama_cpp.llama_vocab_get_add_bos(peer.vocabulary)
    assert ours.bos_id == llama_cpp.llama_vocab_bos(peer.vocabulary)
    for index in range(0, ours.vocab_size, 7):
        assert ours.token_bytes(index) == peer.model.detokenize([index], special=True), index


@pytest.mark.slow
def test_the_texts_tell_all_settings_apart() -> None:
    ids = {}
    for name in FIRST:
        values = vocabulary(name) | {"tokenizer.ggml.bos_token_id": 0}
        tokenizer = Tokenizer.from_metadata(values.get)
        ids[name] = [tokenizer.encode(text, special=True) for text in [*texts(150, 1), "a <mask>"]]
    # The first two mean the same; the others differ in the BOS token only.
    assert [(a, b) for a, b in itertools.combinations(FIRST, 2) if ids[a] == ids[b]] == [
        ("bailingmoe", "qwen2"),
        ("chatglm-bpe", "smaug-bpe"),
        ("glm4", "llama-bpe"),
    ]


@pytest.mark.parametrize("pre", ["glm4", "gpt-2", "gemma4", "chatglm-bpe", "tekken"])
@pytest.mark.parametrize("adds_bos", [None, True, False])
def test_a_missing_bos_token_is_llama_cpps(pre: str, adds_bos: bool | None, tmp_path: Path) -> None:
    values = vocabulary(pre)
    if adds_bos is not None:
        values["tokenizer.ggml.add_bos_token"] = adds_bos
    peer = Peer(write_vocabulary(tmp_path / "pico.gguf", values))
    wants = llama_cpp.llama_vocab_get_add_bos(peer.vocabulary)
    default = llama_cpp.llama_vocab_bos(peer.vocabulary)
    peer.model.close()
    if wants:  # llama.cpp ends the program, or begins texts with whatever token 11 is
        with pytest.raises(InputError, match="BOS"):
            Tokenizer.from_metadata(values.get)
    else:
        ours = Tokenizer.from_metadata(values.get)
        assert -1 if ours.bos_id is None else ours.bos_id == default


def test_names_for_other_models_are_refused_with_a_reason() -> None:
    with pytest.raises(InputError, match=r"llama\.cpp crashes on two spaces"):
        Tokenizer.from_metadata((vocabulary("gpt-2") | {"tokenizer.ggml.pre": "whitespace"}).get)
    for kind in ("bert", "whitespace", "hybriddna"):
        values = vocabulary("gpt-2") | {"tokenizer.ggml.model": kind}
        with pytest.raises(InputError, match=r"models that compare texts|DNA"):
            Tokenizer.from_metadata(values.get)


def test_long_runs_of_digits_take_no_quadratic_time() -> None:
    for name in ("afmoe", "tiny_aya", "superbpe"):
        words = PRETOKENIZERS[name].cut("1" * 200_000)
        assert [*map(len, words)] == [2] + [3] * 66_666


def test_a_python_with_a_newer_unicode_cuts_like_llama_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    # GARAY CAPITAL LETTER A, LETTER VEDIC DOUBLE ANUSVARA and a new ideograph of Unicode 16 to 18.
    letters = "\U00010d50\ua7f1\U00033000"
    monkeypatch.setattr(categories.unicodedata, "unidata_version", "18.0.0")
    monkeypatch.setattr(categories.unicodedata, "category", lambda text: "Lo")
    categories.too_new.cache_clear()
    table = categories.Collapsing(categories.COLLAPSED._represent)
    assert {letter.translate(table) for letter in letters} == {"\xd0"}
    assert "\u1234".translate(table) == "\xd2"
    monkeypatch.undo()
    categories.too_new.cache_clear()
