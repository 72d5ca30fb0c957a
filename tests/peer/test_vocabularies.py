"""Real vocabularies of llama.cpp's source: its own golden ids, and 5,000 random texts each.

`scripts/install-templates test` gets what this needs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("llama_cpp", reason="scripts/install-templates test runs these")

from m2m.errors import InputError
from m2m.formats.gguf import GGUFFile
from m2m.tokenizer import Tokenizer
from m2m.tokenizer.convert import gguf_vocabulary
from m2m.tokenizer.pretokenize import PRETOKENIZERS
from tests.tokenizer.llama_peer import Peer
from tests.tokenizer.samples import HARD, random_texts
from tests.tokenizer.test_pretokenize import FIRST, texts, vocabulary, write_vocabulary

_BUILD = Path(__file__).parents[2] / "build"
_SOURCE = _BUILD / "llama.cpp"
FILES = sorted((_BUILD / "tokenizers").glob("*/tokenizer.json"))
VOCABULARIES = sorted((_SOURCE / "models").glob("ggml-vocab-*.gguf"))
# SentencePiece and llama.cpp cut a word with several best cuts in different ways.
TIES = {"ggml-vocab-nomic-bert-moe"}
pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not VOCABULARIES, reason="scripts/install-templates gets them"),
]


def test_the_table_has_every_name_of_llama_cpp() -> None:
    source = (_SOURCE / "src" / "llama-vocab.cpp").read_text(encoding="utf-8")
    names = set(re.findall(r'tokenizer_pre == "([^"]+)"', source))
    assert len(names) == 91
    assert names - PRETOKENIZERS.keys() == {"whitespace"}  # refused with a reason
    assert PRETOKENIZERS.keys() <= names


@pytest.mark.parametrize("path", VOCABULARIES, ids=lambda path: path.stem)
def test_real_vocabularies(path: Path) -> None:
    metadata = GGUFFile(path)
    if metadata.value("tokenizer.ggml.model") == "bert":
        with pytest.raises(InputError, match="models that compare texts"):
            Tokenizer.from_metadata(metadata.value)
        return
    ours, peer = Tokenizer.from_metadata(metadata.value), Peer(path)
    golden = path.with_name(path.name + ".inp")
    if golden.is_file():
        asked = golden.read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
        answers = path.with_name(path.name + ".out").read_text(encoding="utf-8").split("\n")
        assert len(asked) >= 46
        for text, line in zip(asked, answers, strict=False):
            assert ours.encode(text) == list(map(int, line.split())), ascii(text)
    for text in [*HARD, *random_texts(5000, seed=11)]:
        if path.stem in TIES and "xxxx" in text:
            continue
        assert ours.encode(text, special=True) == peer(text, special=True), ascii(text)
    peer.model.close()


@pytest.mark.skipif(not FILES, reason="scripts/install-templates gets them if npm is there")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_real_tokenizer_files(path: Path, tmp_path: Path) -> None:
    """Ids of an imported tokenizer.json; tests/peer/test_defaults.py has the maker's library."""
    whole = json.loads(path.read_text(encoding="utf-8"))
    size = max([len(whole["model"]["vocab"]) - 1, *(t["id"] for t in whole["added_tokens"])]) + 1
    values = gguf_vocabulary(path.parent, size)
    ours = Tokenizer.from_metadata(values.get)
    peer = Peer(write_vocabulary(tmp_path / "real.gguf", values))
    for text in [*HARD, *random_texts(5000, seed=12)]:
        assert ours.encode(text, special=True) == peer(text, special=True), ascii(text)
    peer.model.close()


@pytest.mark.parametrize("name", FIRST)
def test_every_expression(name: str, tmp_path: Path) -> None:
    values = vocabulary(name) | {"tokenizer.ggml.bos_token_id": 0}
    ours = Tokenizer.from_metadata(values.get)
    peer = Peer(write_vocabulary(tmp_path / "pairs.gguf", values))
    for text in [*texts(4500, seed=9), *random_texts(500, seed=4)]:
        assert ours.encode(text, special=True) == peer(text, special=True), ascii(text)
    peer.model.close()
