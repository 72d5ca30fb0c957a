"""What the tokenizers library trains by default, and real files: its ids, a reason or a warning.

`scripts/install-peers test` has the library; `scripts/install-templates` gets the real files if npm
is there.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
tokenizers = pytest.importorskip("tokenizers", reason="scripts/install-peers makes the venv")

from tokenizers import decoders, implementations, models, pre_tokenizers, trainers  # noqa: E402

from m2m.errors import InputError  # noqa: E402
from m2m.tokenizer import Tokenizer  # noqa: E402
from m2m.tokenizer.convert import gguf_vocabulary  # noqa: E402
from tests.tokenizer.folders import HARDER, TEXT, write  # noqa: E402
from tests.tokenizer.samples import random_texts  # noqa: E402

ROOT = Path(__file__).parents[2]
REAL = sorted((ROOT / "build" / "tokenizers").glob("*/tokenizer.json"))
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def lines() -> Iterator[str]:
    """Yield texts of the Swahili example, to train on."""
    for path in sorted((ROOT / "examples" / "swahili" / "datasets").glob("*.jsonl"))[:3]:
        for line in path.read_text(encoding="utf-8").splitlines()[:300]:
            yield from (text for text in json.loads(line).values() if isinstance(text, str))


def own(pre: Any, *, fallback: bool = False) -> Any:
    """A BPE with this pre-tokeniser and the defaults otherwise."""
    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=fallback))
    made.pre_tokenizer, made.decoder = pre, decoders.Metaspace()
    tokens = SPECIAL + BYTES if fallback else SPECIAL
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=tokens, show_progress=False)
    made.train_from_iterator(lines(), trainer)
    return made


def ready(kind: str, **options: Any) -> Any:
    """One of the library's ready-made tokenizers, trained."""
    made = getattr(implementations, kind)(**options)
    made.train_from_iterator(lines(), vocab_size=2000, special_tokens=SPECIAL, show_progress=False)
    return made


UNASSIGNED = {"Cn", "Co", "Cs"}
# How to make it, words of its warning, and the texts on which the ids are the library's.
Case = tuple[Callable[[], Any], str, Callable[[str], str]]


def _as_it_is(text: str) -> str:
    return text


def _small(text: str) -> str:
    """In small letters, without letters that only the library's newer Unicode has."""
    return "".join(c for c in text.lower() if unicodedata.category(c) not in UNASSIGNED)


def _spaced(text: str) -> str:
    return " " + text.lstrip()


def _nfkc_spaced(text: str) -> str:
    """In NFKC, with a space in front, and with characters of the vocabulary only."""
    kept = "".join(c for c in text if c.isascii() and c.isprintable())
    return " " + unicodedata.normalize("NFKC", kept).lstrip()


ACCEPTED: dict[str, Case] = {
    "byte level": (lambda: ready("ByteLevelBPETokenizer"), "", _as_it_is),
    "byte level, dropout": (
        lambda: ready("ByteLevelBPETokenizer", unicode_normalizer="nfkc"),
        "Unicode NFKC",
        lambda text: unicodedata.normalize("NFKC", text),
    ),
    "byte level, small letters": (
        lambda: ready("ByteLevelBPETokenizer", lowercase=True),
        "in small letters",
        _small,
    ),
    "byte level, prefix": (lambda: own(pre_tokenizers.ByteLevel()), "puts a space", _spaced),
    "metaspace": (
        lambda: own(pre_tokenizers.Metaspace(), fallback=True),
        "puts a space before",
        _spaced,
    ),
    "metaspace, never": (
        lambda: own(pre_tokenizers.Metaspace(prepend_scheme="never"), fallback=True),
        "",
        _as_it_is,
    ),
    "sentencepiece": (
        lambda: ready("SentencePieceBPETokenizer"),
        "no byte tokens",
        _nfkc_spaced,
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_defaults_that_llama_cpp_can_follow(name: str, tmp_path: Path) -> None:
    make, warning, prepared = ACCEPTED[name]
    peer = make()
    peer.save(str(tmp_path / "tokenizer.json"))
    write(tmp_path / "tokenizer_config.json", {"eos_token": "</s>", "unk_token": "<unk>"})
    warnings: list[str] = []
    values = gguf_vocabulary(tmp_path, peer.get_vocab_size(), warnings)
    assert warning in " ".join(warnings)
    assert bool(warnings) == bool(warning)
    ours = Tokenizer.from_metadata(values.get)
    compared = 0
    for text in map(prepared, [*lines(), *TEXT, *HARDER, *random_texts(5000, seed=5)]):
        if any(token in text for token in SPECIAL) or not text.strip():
            continue
        encoded = peer.encode(text, add_special_tokens=False)
        if 0 in encoded.ids:  # the unknown token, which llama.cpp does not have here
            continue
        assert ours.encode(text) == encoded.ids, ascii(text)
        compared += 1
    assert compared > 900


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ready("CharBPETokenizer"), "end_of_word_suffix is '</w>'"),
        (lambda: ready("BertWordPieceTokenizer"), "holds a WordPiece model"),
        (lambda: own(pre_tokenizers.Whitespace()), "unknown treatment of spaces"),
    ],
)
def test_defaults_that_it_cannot_follow_are_refused_by_name(
    make: Callable[[], Any], words: str, tmp_path: Path
) -> None:
    peer = make()
    peer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match=words):
        gguf_vocabulary(tmp_path, peer.get_vocab_size())


# llama.cpp cuts some words of these in another way, which m2m says.
DIFFERENT = {"gpt4o", "gptoss"}


@pytest.mark.skipif(not REAL, reason="scripts/install-templates gets them")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.parent.name)
def test_real_files(path: Path) -> None:
    peer = tokenizers.Tokenizer.from_file(str(path))
    warnings: list[str] = []
    values = gguf_vocabulary(path.parent, max(peer.get_vocab(True).values()) + 1, warnings)
    assert (path.parent.name in DIFFERENT) == ("beyond ASCII for capital" in " ".join(warnings))
    ours = Tokenizer.from_metadata(values.get)
    for text in [*lines(), *TEXT, *HARDER, *random_texts(5000, seed=6)]:
        text = unicodedata.normalize("NFC", text)
        # The library knows a newer Unicode. llama.cpp ends answers at any </s>, and takes spaces as
        # tokens of the greatest length from the left.
        if "</s>" in text or " " * 40 in text or UNASSIGNED & {*map(unicodedata.category, text)}:
            continue
        if path.parent.name in DIFFERENT and not text.isascii():
            continue
        expected = peer.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, special=True) == expected, ascii(text)
