"""A folder's tokenizer files become a GGUF vocabulary with which llama.cpp gives the same ids."""

from __future__ import annotations

import copy
import functools
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from m2m.errors import InputError
from m2m.formats.gguf import GGUFFile
from m2m.tokenizer import Tokenizer
from m2m.tokenizer.convert import gguf_vocabulary
from m2m.tokenizer.hf_tokenizer import HFTokenizer
from m2m.tokenizer.sentencepiece_model import read_sentencepiece
from tests.tiny import MERGES, pico_gguf, pico_tokens
from tests.tokenizer.folders import (
    HARDER,
    PRE_TOKENIZERS,
    SPACE,
    TEXT,
    USER_DEFINED,
    as_gguf,
    byte_level_json,
    json_from_spm,
    spm_folder,
    trained,
    write,
)
from tests.tokenizer.llama_peer import Peer
from tests.tokenizer.samples import random_texts


@functools.cache
def hard_texts() -> list[str]:
    return [*HARDER, *TEXT, *random_texts(100, seed=3)]


SIZE = len(pico_tokens())
GPT2 = PRE_TOKENIZERS["gpt-2"]
K = "tokenizer.ggml."


@functools.cache
def spm_bytes(prefix: bool) -> bytes:
    return trained(add_dummy_prefix=prefix)


def byte_level(folder: Path, **changes: Any) -> Path:
    """A folder with a byte-level tokenizer.json, parts of it replaced."""
    made = byte_level_json(pico_tokens(), MERGES, GPT2)
    model = made["model"] | changes.pop("model", {})
    write(folder / "tokenizer.json", made | {"model": model} | changes)
    return folder


def spm_json(folder: Path, **changes: Any) -> Path:
    write(folder / "tokenizer.json", json_from_spm(spm_bytes(True), prefix=True) | changes)
    return folder


def read(values: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_metadata(values.get)


@pytest.mark.parametrize("name", list(PRE_TOKENIZERS))
def test_byte_level_vocabularies(name: str, tmp_path: Path) -> None:
    pretokenizer, ignores = PRE_TOKENIZERS[name], name == "llama-bpe"
    content = byte_level_json(pico_tokens(), MERGES, pretokenizer, ignore_merges=ignores)
    write(tmp_path / "tokenizer.json", content)
    values = gguf_vocabulary(tmp_path, SIZE + 5)
    assert (values[K + "model"], values[K + "pre"]) == ("gpt2", name)
    assert values[K + "tokens"] == [*pico_tokens(), *(f"[PAD{i}]" for i in range(SIZE, SIZE + 5))]
    assert values[K + "token_type"] == [3] * 3 + [1] * (SIZE - 3) + [5] * 5
    assert values[K + "merges"] == MERGES
    assert (values[K + "eot_token_id"], values[K + "add_bos_token"]) == (2, False)
    metadata = as_gguf(values | {K + "bos_token_id": 1, K + "eos_token_id": 2})
    path = pico_gguf(tmp_path / "pico.gguf", metadata=metadata)
    peer, ours = Peer(path), Tokenizer.from_metadata(GGUFFile(path).value)
    for special in (False, True):
        for text in hard_texts():
            assert ours.encode(text, special) == peer(text, special), repr(text)
    peer.model.close()


def test_merges_may_be_pairs(tmp_path: Path) -> None:
    pairs = [merge.split(" ") for merge in MERGES]
    values = gguf_vocabulary(byte_level(tmp_path, model={"merges": pairs}), SIZE)
    assert values[K + "merges"] == MERGES


@pytest.mark.parametrize("prefix", [True, False])
def test_json_and_model_give_the_same_ids(prefix: bool, tmp_path: Path) -> None:
    by_model, by_json = tmp_path / "model", tmp_path / "json"
    spm_folder(by_model, add_dummy_prefix=prefix)
    write(by_json / "tokenizer.json", json_from_spm(spm_bytes(prefix), prefix=prefix))
    write(by_json / "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>"})
    one, two = gguf_vocabulary(by_model, 610), gguf_vocabulary(by_json, 610)
    differing = {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)}
    assert differing <= {K + "scores", K + "token_type"}
    assert one[K + "add_space_prefix"] is prefix
    for special in (False, True):
        for text in hard_texts():
            assert read(one).encode(text, special) == read(two).encode(text, special), repr(text)


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
def test_metaspace(scheme: str, tmp_path: Path) -> None:
    stage = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": False}
    values = gguf_vocabulary(spm_json(tmp_path, normalizer=None, pre_tokenizer=stage), 600)
    assert values[K + "add_space_prefix"] is (scheme != "never")


def test_gemmas_split_has_no_effect(tmp_path: Path) -> None:
    content = json_from_spm(spm_bytes(False), prefix=False)
    content["normalizer"] = content["normalizer"]["normalizers"][0]
    content["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    write(tmp_path / "tokenizer.json", content)
    values = gguf_vocabulary(tmp_path, 600)
    assert (values[K + "model"], values[K + "add_space_prefix"]) == ("llama", False)


def test_sentencepiece_is_read_as_its_own_package_reads_it(tmp_path: Path) -> None:
    path = spm_folder(tmp_path) / "tokenizer.model"
    model = read_sentencepiece(path)
    peer = sentencepiece.SentencePieceProcessor(str(path))
    ids = range(peer.vocab_size())
    assert model.pieces == [peer.id_to_piece(i) for i in ids]
    assert model.scores == [peer.get_score(i) for i in ids]
    kinds = {2: peer.is_unknown, 3: peer.is_control, 5: peer.is_unused, 6: peer.is_byte}
    for i in ids:
        assert all(check(i) == (model.types[i] == kind) for kind, check in kinds.items())
    assert {i for i in ids if model.types[i] == 4} == {peer.piece_to_id(p) for p in USER_DEFINED}
    assert (model.kind, model.adds_space) == ("bpe", True)
    roles = {"unk": peer.unk_id(), "bos": peer.bos_id(), "eos": peer.eos_id(), "pad": peer.pad_id()}
    assert model.roles == roles


@pytest.mark.parametrize(
    "config",
    [
        {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        {"bos_token": {"content": "<|im_start|>"}, "add_bos_token": False},
        {"eos_token": "<|im_end|>", "add_bos_token": True, "add_eos_token": True},
        {"unk_token": "<|endoftext|>", "add_bos_token": False},
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_special_tokens_as_the_converter_finds_them(
    config: dict[str, Any], wrapped: bool, tmp_path: Path
) -> None:
    single = [{"SpecialToken": {"id": "<|im_start|>"}}, {"Sequence": {"id": "A"}}]
    processor = {"type": "TemplateProcessing", "single": single, "pair": []}
    nested = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, processor]}
    byte_level(tmp_path, post_processor=nested if wrapped else None)
    write(tmp_path / "tokenizer_config.json", config | {"chat_template": "{{ x }}"})
    write(tmp_path / "config.json", {"bos_token_id": 1, "eos_token_id": [2, 0], "pad_token_id": 0})
    values = gguf_vocabulary(tmp_path, SIZE)
    peer = gguf.SpecialVocab(tmp_path, load_merges=True, n_vocab=SIZE)
    assert values[K + "merges"] == peer.merges
    assert values["tokenizer.chat_template"] == peer.chat_template
    names = {"unk": "unknown", "pad": "padding"}
    found = {
        role: values.get(f"{K}{names.get(role, role)}_token_id")
        for role in ("bos", "eos", "unk", "pad")
    }
    assert {role: i for role, i in found.items() if i is not None} == peer.special_token_ids
    for role, adds in peer.add_special_token.items():
        if role in ("bos", "eos"):
            known = role in peer.special_token_ids
            assert values[f"{K}add_{role}_token"] is (adds and known)


def test_sentencepieces_own_special_tokens_are_the_last_resort(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(trained(bos_id=2, eos_id=1, pad_id=3, unk_id=0))
    values = gguf_vocabulary(tmp_path, 600)
    ids = [values[f"{K}{role}_token_id"] for role in ("bos", "eos", "padding", "unknown")]
    assert ids == [2, 1, 3, 0]
    assert values[K + "add_bos_token"] is True
    assert values[K + "add_eos_token"] is False


def test_added_tokens_of_every_file(tmp_path: Path) -> None:
    spm_folder(
        tmp_path,
        {
            "added_tokens_decoder": {
                "601": {"content": "<start_of_turn>", "special": True},
                "602": {"content": f"{SPACE}{SPACE}{SPACE}", "special": False},
                "603": {"content": "<unused7>", "special": False},
                "999": {"content": "<image>", "special": True},
            }
        },
    )
    write(tmp_path / "added_tokens.json", {"<old>": 600})
    values = gguf_vocabulary(tmp_path, 605)
    added = ["<old>", "<start_of_turn>", "   ", "<unused7>", "[PAD604]"]
    assert values[K + "tokens"][600:] == added
    assert values[K + "token_type"][600:] == [4, 3, 4, 3, 5]
    assert values[K + "scores"][600:] == [-1000.0] * 4 + [-10000.0]
    assert read(values).encode("a<old>   ")[-2:] == [600, 602]


def test_the_chat_template_is_sought_where_the_converter_seeks_it(tmp_path: Path) -> None:
    byte_level(tmp_path)
    key = "tokenizer.chat_template"
    assert key not in gguf_vocabulary(tmp_path, SIZE)
    write(tmp_path / "chat_template.json", {"chat_template": "third"})
    assert gguf_vocabulary(tmp_path, SIZE)[key] == "third"
    (tmp_path / "chat_template.jinja").write_text("second\n", encoding="utf-8")
    assert gguf_vocabulary(tmp_path, SIZE)[key] == "second\n"
    several = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "first"}]
    for given_as in ("first", several):
        write(tmp_path / "tokenizer_config.json", {"chat_template": given_as})
        assert gguf_vocabulary(tmp_path, SIZE)[key] == "first"


def test_a_tokenizer_model_of_another_make_is_passed_over(tmp_path: Path) -> None:
    (byte_level(tmp_path) / "tokenizer.model").write_text("IQ== 0\nIg== 1\n", encoding="utf-8")
    assert gguf_vocabulary(tmp_path, SIZE)[K + "model"] == "gpt2"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"type": "WordPiece"}}, "holds a WordPiece model"),
        ({"model": {"type": "Unigram"}}, "are not those of a Unigram model"),
        ({"model": {"vocab": []}}, "vocab must be an object"),
        ({"model": {"vocab": {"a": "b"}}}, "'a' the id 'b'"),
        ({"model": {"vocab": {"a": 1, "b": 1}}}, "'b' the id 1"),
        ({"model": {"vocab": {"a" * 2000: 1}}}, "2000 characters"),
        ({"model": {"vocab": {"a": SIZE}}}, f"id {SIZE}, but the model has embeddings of {SIZE}"),
        ({"model": {"merges": ["a b c"]}}, "'a b c'"),
        ({"model": {"merges": [["a", 1]]}}, "merges has"),
        ({"model": {"merges": 3}}, "merges must be a list"),
        ({"model": {"ignore_merges": True, "merges": ["a n"]}}, "no merges make the token"),
        ({"added_tokens": [{"id": 3}]}, "added_tokens has"),
        ({"added_tokens": {"a": 1}}, "added_tokens must be a list"),
        ({"normalizer": {"type": "StripAccents"}}, "normalizer StripAccents"),
        (
            {
                "pre_tokenizer": {
                    "type": "Sequence",
                    "pretokenizers": [{"type": "Punctuation"}, GPT2],
                }
            },
            "unknown pre_tokenizer .*Punctuation.* known are those of bloom, deepseek-v3",
        ),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "unknown treatment of spaces.*Whitespace"),
    ],
)
def test_what_llama_cpp_would_do_otherwise_is_refused(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folder = byte_level(tmp_path, **copy.deepcopy(changes))
    with pytest.raises(InputError, match=words):
        gguf_vocabulary(folder, SIZE)


def test_merges_that_llama_cpp_cannot_follow_are_refused(tmp_path: Path) -> None:
    content = json_from_spm(spm_bytes(True), prefix=True)
    dropped = next(pair for pair in content["model"]["merges"] if len("".join(pair)) > 3)
    content["model"]["merges"].remove(dropped)
    write(tmp_path / "tokenizer.json", content)
    content["model"]["merges"].append(["a", "\nb"])
    write(tmp_path / "tokenizer.json", content)
    with pytest.raises(InputError, match="joins a line end to other characters"):
        gguf_vocabulary(tmp_path, 600)


def by_ranks(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Join the pair of the lowest rank, the leftmost first, until there is none."""
    parts = list(word)
    while pairs := [(ranks[p], i) for i, p in enumerate(pairwise(parts)) if p in ranks]:
        _, i = min(pairs)
        parts[i : i + 2] = ["".join(parts[i : i + 2])]
    return parts


@pytest.mark.parametrize("scheme", ["always", "never"])
def test_a_list_of_merges_that_scores_cannot_make_is_followed(scheme: str, tmp_path: Path) -> None:
    # As the tokenizers library trains them: with Metaspace, and without the other ways to a token.
    content = json_from_spm(spm_bytes(True), prefix=False)
    whole = content["model"]["merges"]
    content["model"]["merges"] = [
        pair for i, pair in enumerate(whole) if i % 3 and not {SPACE, "\n"} & {*"".join(pair)[1:]}
    ]
    content["normalizer"] = None
    content["pre_tokenizer"] = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme}
    write(tmp_path / "tokenizer.json", content)
    warnings: list[str] = []
    values = gguf_vocabulary(tmp_path, 600, warnings)
    assert values[K + "model"] == "gpt2"
    assert values[K + "pre"] == "sarvam-moe"
    assert any("puts a space before each text" in text for text in warnings) == (scheme == "always")
    ours = Tokenizer.from_metadata(values.get)
    path = pico_gguf(tmp_path / "pico.gguf", metadata=as_gguf(values))
    peer = Peer(path)
    ranks = {tuple(p): i for i, p in reversed([*enumerate(content["model"]["merges"])])}
    ids = {token: i for i, token in enumerate(values[K + "tokens"])}
    for text in [*HARDER, *TEXT, *random_texts(100, seed=8)]:
        assert ours.encode(text) == peer(text, special=False), ascii(text)
    for line in [text for text in TEXT if "  " not in text]:  # without its added tokens
        words = re.findall(f"{SPACE}?[^{SPACE}]*", line.replace(" ", SPACE))
        parts = [part for word in words for part in by_ranks(word, ranks)]
        expected = [
            index
            for part in parts
            for index in (
                [ids[part]] if part in ids else [ids[f"<0x{b:02X}>"] for b in part.encode()]
            )
        ]
        assert ours.encode(line) == expected
    peer.model.close()


def test_defaults_of_the_tokenizers_library_are_said(tmp_path: Path) -> None:
    warnings: list[str] = []
    folder = byte_level(
        tmp_path,
        pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True},
        normalizer={"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]},
        model={"dropout": 0.1},
    )
    values = gguf_vocabulary(folder, SIZE, warnings)
    assert values[K + "pre"] == "gpt-2"
    said = " ".join(warnings)
    for words in (
        "puts a space before",
        "Unicode NFKC",
        "in small letters",
        "at random \\(dropout\\)",
    ):
        assert re.search(words, said), words


def test_an_added_token_that_is_made_small_is_said(tmp_path: Path) -> None:
    warnings: list[str] = []
    added = [{"id": SIZE - 1, "content": "<KAZI>", "special": False, "normalized": True}]
    small = byte_level(tmp_path, normalizer={"type": "Lowercase"}, added_tokens=added)
    gguf_vocabulary(small, SIZE, warnings)
    assert any("<KAZI> (normalized)" in text for text in warnings)


def test_an_end_token_that_the_vocabulary_lacks_is_said(tmp_path: Path) -> None:
    for named, warned in (("</s>", True), ("<|im_end|>", False)):
        warnings: list[str] = []
        folder = byte_level(tmp_path)
        write(folder / "tokenizer_config.json", {"eos_token": named})
        gguf_vocabulary(folder, SIZE, warnings)
        assert any("names '</s>' as eos_token" in text for text in warnings) == warned


@pytest.mark.parametrize(
    "normalizer", [{"type": "StripAccents"}, {"type": "Sequence", "normalizers": 3}]
)
def test_normalizers_of_spm_like_files_are_refused(normalizer: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"normalizer (StripAccents|Sequence)"):
        gguf_vocabulary(spm_json(tmp_path, normalizer=normalizer), 600)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer.json", b'{"a":\n 1,}', r"tokenizer.json:2: is not JSON"),
        ("tokenizer.json", b"[]", "must hold a JSON object"),
        ("tokenizer.json", b"\xff", "byte 0xff is not UTF-8"),
        ("tokenizer.json", b"[" * 100_000, "nested too deeply"),
        ("tokenizer.json", b"{}", "model must be an object"),
        ("tokenizer_config.json", b'{"added_tokens_decoder": {"x": 1}}', "has 'x'"),
        ("added_tokens.json", b'{"x": "y"}', "'x' has the id 'y'"),
        ("tokenizer.model", b"", "has no pieces"),
        ("tokenizer.model", b"\x0a\xff\xff\xff\x07", "ends too early"),
        ("tokenizer.model", b"\x0b", "unknown kind 3"),
        ("tokenizer.model", b"\xff" * 20, "a number does not end"),
        ("other", b"", "neither tokenizer.model nor tokenizer.json"),
    ],
)
def test_damaged_files_are_refused_by_name(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        gguf_vocabulary(tmp_path, 600)


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer.model"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**30)  # sparse
        with pytest.raises(InputError, match="has 1,073,741,824 bytes"):
            gguf_vocabulary(tmp_path, 600)
        (tmp_path / name).unlink()


@pytest.mark.parametrize("kind", ["char", "word"])
def test_other_models_of_sentencepiece_are_refused(kind: str, tmp_path: Path) -> None:
    options = {"model_type": kind, "user_defined_symbols": [], "hard_vocab_limit": False}
    if kind == "char":
        options |= {"byte_fallback": False}
    (tmp_path / "tokenizer.model").write_bytes(trained(**options | {"vocab_size": 400}))
    with pytest.raises(InputError, match=f"is a {kind} model of SentencePiece"):
        gguf_vocabulary(tmp_path, 600)


@given(cut=st.integers(0, 20_000), at=st.integers(0, 20_000), byte=st.integers(0, 255))
def test_a_damaged_model_never_breaks_the_reader(
    tmp_path_factory: pytest.TempPathFactory, cut: int, at: int, byte: int
) -> None:
    data = bytearray(spm_bytes(True))
    data[at % len(data)] = byte
    path = tmp_path_factory.mktemp("damaged") / "tokenizer.model"
    path.write_bytes(data[: cut % len(data)])
    try:
        model = read_sentencepiece(path)
    except InputError as error:
        assert str(path) in error.message
    else:
        assert len(model.pieces) == len(model.scores) == len(model.types)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    key=st.sampled_from(
        [
            "model",
            "added_tokens",
            "normalizer",
            "pre_tokenizer",
            "post_processor",
            "vocab",
            "merges",
            "type",
            "unk_token",
        ]
    ),
    value=json_values,
)
def test_a_damaged_json_never_breaks_the_reader(key: str, value: Any) -> None:
    content = json.loads(json.dumps(byte_level_json(pico_tokens(), MERGES, GPT2)))
    (content if key in content else content["model"])[key] = value
    try:
        made = HFTokenizer(Path("tokenizer.json"), content)
        made.pretokenizer()
    except InputError as error:
        assert "tokenizer.json" in error.message
