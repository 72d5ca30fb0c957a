"""A vocabulary that gives other ids than its maker's is never imported silently.

The kind: the file lacks, or asks for, something that llama.cpp and m2m do not do (a pre-tokenizer,
a normaliser, flags of added tokens), so text becomes other tokens than the model was trained with.
The reference is llama.cpp's own tokenizer, on its own test vocabularies if they are there:
`pip download --no-deps --no-binary :all: llama-cpp-python` has them under
`vendor/llama.cpp/models`; M2M_LLAMA_VOCABS names that folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp
import pytest

import tests.tiny as tiny
from m2m.checkpoint import BaseModel, import_model
from m2m.errors import InputError
from m2m.export.merged_gguf import Provenance
from m2m.formats.atomic import write_json
from m2m.formats.gguf import GGUFFile, GGUFValue
from m2m.formats.records import read_object
from m2m.llamacpp.model import LlamaModel
from m2m.tokenizer import Formatter, Tokenizer
from m2m.tokenizer.convert import gguf_vocabulary
from m2m.tokenizer.vocabulary_warnings import vocabulary_warnings
from tests.tiny import pico_gguf, pico_tokens
from tests.tiny_folder import pico_folder
from tests.tokenizer.folders import spm_folder

REAL = sorted(Path(os.environ.get("M2M_LLAMA_VOCABS", "none")).glob("ggml-vocab-*.gguf"))
MARK = "\n__ggml_vocab_test__\n"  # between the texts of an .inp file
WITHOUT_PRE = {"aquila", "gpt-neox"}
REFUSED = {
    "bert-bge": "tokenizer.ggml.model is 'bert'",
    "gemma-4": "tokenizer.ggml.model is 'gemma4'",
    **{
        name: f"unknown pre-tokenizer '{name}'"
        for name in (
            *("command-r", "deepseek-coder", "deepseek-llm", "falcon", "mpt", "qwen35", "refact"),
            "starcoder",
        )
    },
}


@pytest.mark.skipif(not REAL, reason="M2M_LLAMA_VOCABS names no folder of ggml-vocab-*.gguf")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_real_vocabularies_give_llama_cpps_ids_or_are_refused(path: Path) -> None:
    name, get = path.stem.removeprefix("ggml-vocab-"), GGUFFile(path).value
    if name in REFUSED:
        with pytest.raises(InputError, match=REFUSED[name]):
            Tokenizer.from_metadata(get)
        return
    ours, peer = (
        Tokenizer.from_metadata(get),
        llama_cpp.Llama(str(path), vocab_only=True, verbose=False),
    )
    texts = path.with_name("ggml-vocab-gpt-2.gguf.inp").read_text(encoding="utf-8").split(MARK)
    assert len(texts) > 40
    for text in texts:
        expected = peer.tokenize(text.encode(), add_bos=False, special=True)
        assert ours.encode(text, special=True) == expected
    vocabulary = peer._model.vocab
    ends = {i for i in range(peer.n_vocab()) if llama_cpp.llama_vocab_is_eog(vocabulary, i)}
    assert ours.eog_ids == ends
    missing = [said for said in vocabulary_warnings(get) if "tokenizer.ggml.pre is missing" in said]
    assert bool(missing) is (name in WITHOUT_PRE)


@pytest.mark.parametrize("pre", [None, "default"])
def test_a_missing_pre_tokenizer_is_said(
    pre: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tiny.pico_metadata
    monkeypatch.setattr(
        tiny,
        "pico_metadata",
        lambda config: {k: v for k, v in keys(config).items() if k != "tokenizer.ggml.pre"},
    )
    given = {"tokenizer.ggml.pre": GGUFValue.string(pre)} if pre else {}
    source = pico_gguf(tmp_path / "pico.gguf", metadata=given)
    (warning,) = import_model(source, tmp_path / "pico", name="pico").warnings
    assert f"tokenizer.ggml.pre is {'only' if pre else 'missing'}" in warning
    assert "Get a newer GGUF" in warning
    base = BaseModel.open(tmp_path / "pico")
    assert base.warnings_with(Formatter(base.tokenizer)) == [warning]
    info = read_object(base.path / "m2m-model.json")
    for key in ("warnings", "cautions"):  # an older m2m kept none
        del info[key]
    write_json(base.path / "m2m-model.json", info)
    assert BaseModel.open(base.path).warnings == [warning]


def _flag(name: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["added_tokens"][2][name] = True

    return change


def _normalized(content: dict[str, Any]) -> None:
    content["added_tokens"][2] |= {"content": "e\u0301", "normalized": True}
    content["normalizer"] = {"type": "NFC"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_flag("lstrip"), "removes white space before these tokens: <|im_end|> (lstrip)"),
        (_flag("rstrip"), "removes white space after these tokens: <|im_end|> (rstrip)"),
        (_flag("single_word"), "only as whole words: <|im_end|> (single_word)"),
        (_normalized, "looks for these tokens in normalised text: e\u0301 (normalized)"),
        (lambda content: content.update(normalizer={"type": "NFC"}), "changes text to Unicode NFC"),
    ],
)
def test_what_a_tokenizer_json_asks_for_in_vain_is_said(
    change: Callable[[dict[str, Any]], None], words: str, tmp_path: Path
) -> None:
    source = pico_folder(tmp_path / "source")
    said: list[str] = []
    gguf_vocabulary(source, len(pico_tokens()), said)
    assert said == []
    content = dict(read_object(source / "tokenizer.json"))
    change(content)
    write_json(source / "tokenizer.json", content)
    warnings = import_model(source, tmp_path / "pico", name="pico").warnings
    assert [words in warning for warning in warnings].count(True) == 1


def test_an_unharmed_normalized_token_is_not_said(tmp_path: Path) -> None:
    source = pico_folder(tmp_path / "source")
    content = dict(read_object(source / "tokenizer.json"))
    _flag("normalized")(content)
    write_json(source / "tokenizer.json", content)
    assert import_model(source, tmp_path / "pico", name="pico").warnings == ()


@pytest.mark.parametrize("key", ["end_of_word_suffix", "continuing_subword_prefix"])
def test_bpe_of_another_kind_is_refused_by_name(key: str, tmp_path: Path) -> None:
    source = pico_folder(tmp_path / "source")
    content = dict(read_object(source / "tokenizer.json"))
    content["model"][key] = "</w>"
    write_json(source / "tokenizer.json", content)
    with pytest.raises(InputError, match=f"{key} is '</w>', which llama.cpp does not know"):
        import_model(source, tmp_path / "pico", name="pico")


def test_a_space_before_a_text_is_said(tmp_path: Path) -> None:
    source = pico_folder(tmp_path / "source")
    settings = read_object(source / "tokenizer_config.json")
    write_json(source / "tokenizer_config.json", {**settings, "add_prefix_space": True})
    (warning,) = import_model(source, tmp_path / "pico", name="pico").warnings
    assert "add_prefix_space" in warning


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ""),
        ({"normalization_rule_name": "nmt_nfkc"}, "normalises text (nmt_nfkc) first"),
        ({"remove_extra_whitespaces": True}, "makes several spaces one first"),
    ],
)
def test_a_normaliser_of_sentencepiece_is_said(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    said: list[str] = []
    gguf_vocabulary(spm_folder(tmp_path / "bpe", **options), 600, said)
    assert ([words in each for each in said] == [True]) if words else said == []
    said.clear()  # llama.cpp does it for unigram models
    unigram = {"model_type": "unigram", "vocab_size": 340, "user_defined_symbols": []}
    gguf_vocabulary(spm_folder(tmp_path / "unigram", **options | unigram), 340, said)
    assert said == []


@pytest.mark.parametrize("name", ["My Phi-3 copy", "phi3"])
def test_a_name_does_not_change_how_llama_cpp_reads_text(name: str, tmp_path: Path) -> None:
    """llama.cpp cannot load a vocabulary without `</s>` under such a name."""
    metadata = {"general.name": GGUFValue.string(name)}
    source = pico_gguf(tmp_path / "pico.gguf", metadata=metadata)
    import_model(source, tmp_path / "pico", name="pico")
    exported = Provenance(name, "pico", ()).metadata()["general.name"]
    base = BaseModel.open(tmp_path / "pico")
    assert base.gguf.metadata["general.name"] == exported
    text = "<|im_start|> a<|im_end|> \n b"
    with LlamaModel(base.gguf.path, threads=1) as model:
        assert model.tokenize(text, special=True) == base.tokenizer.encode(text, special=True)


def test_two_chat_templates_are_said(tmp_path: Path) -> None:
    # llama.cpp's converter takes tokenizer_config.json's, transformers the file.
    folder = pico_folder(tmp_path / "source")
    said = {}
    for name, text in (("same", tiny.CHATML), ("other", "{{ messages[0].content }}")):
        (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
        import_model(folder, tmp_path / name, name=name)
        said[name] = " ".join(BaseModel.open(tmp_path / name).info.warnings)
    assert "have different chat templates" not in said["same"]
    assert "have different chat templates" in said["other"]
