"""SentencePiece unigram: the ids are SentencePiece's own, and llama.cpp's."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m2m.errors import InputError
from m2m.formats.gguf import GGUFFile
from m2m.tokenizer import Tokenizer
from m2m.tokenizer.convert import gguf_vocabulary
from m2m.tokenizer.special import TokenType
from tests.tiny import pico_gguf
from tests.tokenizer.folders import HARDER, SPACE, TEXT, as_gguf, spm_folder
from tests.tokenizer.llama_peer import Peer
from tests.tokenizer.samples import random_texts

SWAHILI = ["Habari za asubuhi", "  mbili  nafasi ", "ẹ̀kọ́ gíga", "ሰላም ለዓለም", "😀 na ﬁne ½", ""]


@functools.cache
def hard_texts() -> list[str]:
    return [*TEXT, *HARDER, *SWAHILI, *random_texts(200, seed=5)]


MODEL = {
    "model_type": "unigram",
    "vocab_size": 400,
    "hard_vocab_limit": False,
    "user_defined_symbols": ["<table>"],
}

# How a vocabulary can be laid out.
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no bytes": {"byte_fallback": False},
    "nmt_nfkc": {
        "normalization_rule_name": "nmt_nfkc",
        "remove_extra_whitespaces": True,
        "byte_fallback": False,
    },
    "nfkc with bytes": {"normalization_rule_name": "nfkc_cf", "remove_extra_whitespaces": True},
    "no prefix": {"add_dummy_prefix": False},
}


class Vocabulary:
    """One vocabulary as m2m, llama.cpp and SentencePiece read it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        settings = {**MODEL, **options}
        spm_folder(folder, **settings)
        self.values = gguf_vocabulary(folder, settings["vocab_size"])
        path = pico_gguf(folder / "pico.gguf", metadata=as_gguf(self.values))
        self.ours = Tokenizer.from_metadata(GGUFFile(path).value)
        self.peer = Peer(path)
        self.maker = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
        self.merges_spaces = settings.get("remove_extra_whitespaces", False)

    def writes(self, text: str) -> bool:
        """Whether llama.cpp can write `text`: it has no byte tokens in such a vocabulary."""
        types = self.values["tokenizer.ggml.token_type"]
        return all(types[i] != TokenType.BYTE for i in self.ours.encode(text))


@pytest.fixture(scope="module", params=list(KINDS))
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Vocabulary]:
    vocabulary = Vocabulary(tmp_path_factory.mktemp("unigram"), **KINDS[request.param])
    yield vocabulary
    vocabulary.peer.model.close()


def test_ids_are_sentencepieces(made: Vocabulary) -> None:
    for text in hard_texts():
        if "<table>" not in text:  # llama.cpp, and so m2m, begins anew after such a token
            assert made.ours.encode(text) == made.maker.EncodeAsIds(text), repr(text)


def test_ids_are_llama_cpps(made: Vocabulary) -> None:
    compared = 0
    for text in hard_texts():
        if made.writes(text) and text.strip(" "):
            assert made.ours.encode(text) == made.peer(text, False), repr(text)
            compared += 1
    assert compared > 20


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text() | st.text(alphabet=" \n\u2581aehinost<>/0x41"))
def test_ids_agree_on_any_text(made: Vocabulary, text: str) -> None:
    text = text.replace("\0", "")  # ends a text in llama.cpp's and SentencePiece's interfaces
    ids = made.ours.encode(text)
    assert ids == made.maker.EncodeAsIds(text)
    # A text's own "\u2581" is a letter to llama.cpp and a space to SentencePiece.
    if made.writes(text) and text.strip(" \n\u2581") and SPACE not in text:
        assert ids == made.peer(text, False)


def test_bytes_stand_for_what_the_vocabulary_lacks(made: Vocabulary) -> None:
    text = "\N{CJK UNIFIED IDEOGRAPH-9F98}"
    has_bytes = "<0x00>" in made.values["tokenizer.ggml.tokens"]
    assert made.ours.decode(made.ours.encode(text)) == (text if has_bytes else "<unk>")
    assert made.writes(text) != has_bytes


def test_text_that_goes_on_joins(made: Vocabulary) -> None:
    whole = made.ours.encode("habari za asubuhi")
    ids = made.ours.encode("habari za") + made.ours.encode(" asubuhi", continues=True)
    assert made.ours.decode(ids) == made.ours.decode(whole) == "habari za asubuhi"


def by_hand(**changes: Any) -> Tokenizer:
    values = {
        "model": "t5",
        "tokens": ["<unk>", "</s>", SPACE, "a", f"{SPACE}a", "ab"],
        "token_type": [2, 3, 1, 1, 1, 1],
        "scores": [0.0, 0.0, -3.0, -2.0, -1.0, -1.5],
        "unknown_token_id": 0,
    } | changes
    return Tokenizer.from_metadata(lambda key: values.get(key.removeprefix("tokenizer.ggml.")))


def test_the_likeliest_cut_wins() -> None:
    assert by_hand().encode("ab") == [2, 5]  # -4.5; with "_a" an unknown "b" costs more
    assert by_hand(scores=[0.0, 0.0, -3.0, -2.0, 12.5, -1.5]).encode("ab") == [4, 0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scores": None}, "without tokenizer.ggml.scores"),
        ({"scores": [0.0]}, "has 1 entries"),
        (
            {"tokens": ["?", "</s>", SPACE, "a", "b", "<0x00>"], "token_type": [2, 3, 1, 1, 1, 6]},
            "has 1 byte tokens",
        ),
        ({"token_type": [1, 3, 1, 1, 1, 1]}, "unknown_token_id is 0"),
        ({"precompiled_charsmap": [1, 2, 3]}, "SentencePiece refuses"),
        ({"precompiled_charsmap": [*bytes([0, 0, 0, 128])] * 600}, "SentencePiece refuses"),
    ],
)
def test_a_damaged_vocabulary_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        by_hand(**changes)


@functools.cache
def nfkc() -> bytes:
    """A compiled normalisation of SentencePiece's own."""
    with tempfile.TemporaryDirectory() as folder:
        spm_folder(Path(folder), **MODEL, normalization_rule_name="nfkc")
        found = gguf_vocabulary(Path(folder), 400)["tokenizer.ggml.precompiled_charsmap"]
    assert isinstance(found, bytes)
    return found


def test_a_sound_normalisation_is_accepted() -> None:
    ours = by_hand(precompiled_charsmap=[*nfkc()])
    assert ours.encode("\N{FULLWIDTH LATIN SMALL LETTER A}b") == by_hand().encode("ab")


@settings(deadline=None)
@given(changes=st.dictionaries(st.integers(0, 2**16), st.integers(0, 2**32 - 1), max_size=9))
def test_a_hostile_normalisation_never_leaves_its_memory(changes: dict[int, int]) -> None:
    data = bytearray(nfkc())
    for place, value in changes.items():
        at = 4 * (place % (len(data) // 4))
        data[at : at + 4] = value.to_bytes(4, "little")[: len(data) - at]
    try:
        hostile = by_hand(precompiled_charsmap=[*data])
    except InputError as error:
        assert "SentencePiece refuses" in error.message
    else:
        hostile.encode("".join(map(chr, range(32, 3000))) + "".join(SWAHILI))
