"""SentencePiece BPE: the ids are llama.cpp's, and SentencePiece's own."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from typing import Any

import llama_cpp
import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m2m.errors import InputError
from m2m.formats.gguf import GGUFFile
from m2m.tokenizer import ChatTemplate, Formatter, Tokenizer
from m2m.tokenizer.convert import gguf_vocabulary
from tests.tiny import pico_gguf
from tests.tokenizer.folders import HARDER, SPACE, TEXT, as_gguf, spm_folder
from tests.tokenizer.llama_peer import Peer
from tests.tokenizer.samples import random_texts

GEMMA = os.environ.get("M2M_GEMMA")


@functools.cache
def hard_texts() -> list[str]:
    return [*HARDER, *random_texts(300, seed=1)]


# How a vocabulary can be laid out.
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma": {"add_dummy_prefix": False},
    # Tokens that reach across spaces, so that hardly a place is safe to cut at.
    "across": {"split_by_whitespace": False, "vocab_size": 700},
}


class Vocabulary:
    """One vocabulary as m2m, llama.cpp and SentencePiece read it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        spm_folder(folder, **options)
        self.values = gguf_vocabulary(folder, options.get("vocab_size", 600))
        path = pico_gguf(folder / "pico.gguf", metadata=as_gguf(self.values))
        self.ours = Tokenizer.from_metadata(GGUFFile(path).value)
        self.peer = Peer(path)
        self.maker = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))


@pytest.fixture(scope="module", params=list(KINDS))
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Vocabulary]:
    vocabulary = Vocabulary(tmp_path_factory.mktemp("spm"), **KINDS[request.param])
    yield vocabulary
    vocabulary.peer.model.close()


@pytest.mark.parametrize("special", [False, True])
def test_ids_are_llama_cpps(made: Vocabulary, special: bool) -> None:
    for text in hard_texts():
        assert made.ours.encode(text, special) == made.peer(text, special), repr(text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text() | st.text(alphabet=" \n\u2581aehinost<>/0x41"), special=st.booleans())
def test_ids_are_llama_cpps_on_any_text(made: Vocabulary, text: str, special: bool) -> None:
    assert made.ours.encode(text, special) == made.peer(text, special)


def test_ids_are_sentencepieces_on_plain_text(made: Vocabulary) -> None:
    spaced = made.values["tokenizer.ggml.add_space_prefix"]
    for text in TEXT:
        # llama.cpp puts a space after user-defined tokens too, as after a double space.
        if not (spaced and "  " in text):
            assert made.ours.encode(text) == made.maker.encode(text)


def test_special_tokens_and_flags_are_llama_cpps(made: Vocabulary) -> None:
    vocabulary = llama_cpp.llama_model_get_vocab(made.peer.model.model)
    assert made.ours.bos_id == llama_cpp.llama_vocab_bos(vocabulary) == 1
    assert made.ours.eos_id == llama_cpp.llama_vocab_eos(vocabulary) == 2
    assert made.ours.adds_bos == llama_cpp.llama_vocab_get_add_bos(vocabulary)
    assert made.ours.adds_bos
    size = made.ours.vocab_size
    assert size == llama_cpp.llama_vocab_n_tokens(vocabulary)
    ends = {i for i in range(size) if llama_cpp.llama_vocab_is_eog(vocabulary, i)}
    assert made.ours.eog_ids == ends


def test_pieces_are_llama_cpps(made: Vocabulary) -> None:
    vocabulary = llama_cpp.llama_model_get_vocab(made.peer.model.model)
    buffer = llama_cpp.ctypes.create_string_buffer(256)
    for i in range(made.ours.vocab_size):
        size = llama_cpp.llama_token_to_piece(vocabulary, i, buffer, 256, 0, True)
        assert made.ours.token_bytes(i) == buffer.raw[:size], made.ours.tokens[i]


@given(st.text())
def test_decode_undoes_encode(text: str) -> None:
    ours = by_hand()
    assert ours.decode(ours.encode(text)) == text.replace(SPACE, " ")


def by_hand(**changes: Any) -> Tokenizer:
    """Bytes, a few letters and words."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [2, 3, 3, *[6] * 256]
    words = {SPACE: -9.0, "a": -9.0, "b": -9.0, "ab": -1.0, f"{SPACE}a": -2.0, f"a{SPACE}": -3.0}
    values = {
        "model": "llama",
        "tokens": [*tokens, *words],
        "token_type": [*types, *[1] * len(words)],
        "scores": [*[0.0] * len(tokens), *words.values()],
    } | changes
    return Tokenizer.from_metadata(lambda key: values.get(key.removeprefix("tokenizer.ggml.")))


def test_text_that_goes_on_gets_no_space() -> None:
    ours = by_hand()
    assert ours.tokens[ours.encode("ab")[0]] == SPACE
    assert [ours.tokens[i] for i in ours.encode("ab", continues=True)] == ["ab"]
    # After a special token llama.cpp begins anew.
    ids = ours.encode("a</s>a", special=True, continues=True)
    assert [ours.tokens[i] for i in ids] == ["a", "</s>", f"{SPACE}a"]


def test_prompt_and_answer_join_as_one_text() -> None:
    ours = by_hand()
    plain = Formatter(ours)
    assert plain.prompt_ids("a") + plain.answer_ids("ab") == [1, *ours.encode("a\nab")]
    ((prompt, answer),) = plain.samples(
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "ab"}]
    )
    assert [*prompt.ids, *answer.ids] == [1, *ours.encode("a\nab"), 2]
    template = ChatTemplate(
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content ~ ':' }}"
        "{% else %}{{ ' ' ~ m.content ~ eos_token }}{% endif %}{% endfor %}",
        eos="</s>",
    )
    chat = Formatter(ours, template)
    assert chat.prompt_ids("a") + chat.answer_ids("b") == [1, *ours.encode("a: b")]


def test_best_score_first_leftmost_among_equals() -> None:
    ours = by_hand()
    assert [ours.tokens[i] for i in ours.encode("a ab", continues=True)] == [f"a{SPACE}", "ab"]


def test_long_texts_take_no_quadratic_time() -> None:
    ours = by_hand()
    text = "ab" * 100_000
    assert ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scores": None}, "SentencePiece vocabulary .* without tokenizer.ggml.scores"),
        ({"scores": [1.0]}, "has 1 entries"),
        ({"scores": [float("nan")] * 265}, "must hold numbers"),
        ({"scores": ["x"] * 265}, "must hold numbers"),
        ({"token_type": [[1], 2]}, "must hold numbers"),
        ({"tokens": ["<s>", "<s>"]}, "'<s>' twice"),
        ({"model": "other"}, "an unknown vocabulary"),
        ({"model": "rwkv"}, "RWKV's, for models without attention"),
        ({"eos_token_id": 265}, "eos_token_id is 265"),
        ({"bos_token_id": "1"}, "bos_token_id is '1', expected a whole number"),
    ],
)
def test_vocabularies_that_cannot_be_read_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        by_hand(**changes)


def test_a_character_without_byte_tokens_is_refused() -> None:
    ours = by_hand(tokens=["<unk>", "<s>", "</s>", SPACE, "a"], token_type=None, scores=[0.0] * 5)
    assert ours.encode("a") == [3, 4]
    with pytest.raises(InputError, match="no token <0xC3>"):
        ours.encode("é")


@pytest.mark.model
@pytest.mark.skipif(GEMMA is None, reason="M2M_GEMMA names no GGUF file of Gemma 3")
def test_ids_are_llama_cpps_on_gemma() -> None:
    path = Path(str(GEMMA))
    file = GGUFFile(path)
    begin = process_time()
    ours = Tokenizer.from_metadata(file.value)
    assert process_time() - begin < 1.0
    peer = Peer(path)
    for special in (False, True):
        for text in [*hard_texts(), *random_texts(500, seed=2 + special)]:
            assert ours.encode(text, special) == peer(text, special), repr(text)
    vocabulary = llama_cpp.llama_model_get_vocab(peer.model.model)
    ends = {i for i in range(ours.vocab_size) if llama_cpp.llama_vocab_is_eog(vocabulary, i)}
    assert ours.eog_ids == ends
    peer.model.close()
