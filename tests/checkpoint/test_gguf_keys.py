"""Every key that llama.cpp reads: m2m computes what it computes, or refuses the file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from m2m.checkpoint import BaseModel, import_model
from m2m.checkpoint.gguf_keys import (
    COMPUTED,
    EMPTY,
    HARMLESS,
    HEADS,
    NEUTRAL,
)
from m2m.errors import InputError, M2MError
from m2m.formats.gguf import GGUFValue, GGUFValueType
from m2m.llamacpp import bindings as c
from m2m.llamacpp.model import LlamaModel
from m2m.nn.decoder import Decoder
from m2m.tokenizer.convert import gguf_vocabulary
from tests.checkpoint.families import VARIANTS
from tests.tiny import pico_config, pico_metadata, write_pico_gguf
from tests.tokenizer.folders import as_gguf, spm_folder

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3")
WHOLE_KEY = re.compile(rb"(?<=\0)((?:tokenizer|general|split|adapter)\.[a-z0-9_.]+)(?=\0)")
# What reads these is not the model's loader: gguf.cpp, the reader of splits, that of adapters.
ELSEWHERE = re.compile(r"general\.(architecture|alignment)|(split|adapter)\..*")
# No reader of llama.cpp takes one of these where it expects anything.
MISFITS = (
    GGUFValue(GGUFValueType.FLOAT64, 0.5),
    GGUFValue.array(GGUFValueType.FLOAT64, [0.5]),
)
TEXTS = ("Habari za  asubuhi, 12 3!\n\n", "ẹ̀kọ́ [MASK] <|im_end|> x<mask>y <PRE> z", " </s>  a\t😀")
# Whole keys that m2m.tokenizer reads, that `refuse_keys` refuses or that `quiet_keys` replaces.
TOKENIZER = frozenset(
    f"tokenizer.ggml.{name}"
    for name in (
        *("model", "pre", "tokens", "token_type", "scores", "merges", "precompiled_charsmap"),
        *("add_bos_token", "add_eos_token", "add_sep_token", "add_space_prefix"),
        *("remove_extra_whitespaces", "suppress_tokens", "unknown_token_id"),
        *(f"{role}_token_id" for role in ("bos", "eos", "eot", "eom", "fim_pre", "fim_suf")),
        *(f"{role}_token_id" for role in ("fim_mid", "fim_pad", "fim_rep", "fim_sep")),
        *(f"{role}_token_id" for role in ("prefix", "suffix", "middle")),
    )
)
# Only kinds of vocabularies that m2m does not import, and the programs of llama.cpp, use these.
HARMLESS_ANYWHERE = frozenset(
    {
        "general.file_type",
        "general.name",  # `safe_name` writes another if it has an effect
        "tokenizer.ggml.mask_token_id",
        "tokenizer.ggml.normalizer.lowercase",
        "tokenizer.ggml.normalizer.strip_accents",
        "tokenizer.ggml.padding_token_id",
        "tokenizer.ggml.seperator_token_id",
        "tokenizer.ggml.token_type_count",
    }
)


def known(family: str) -> set[str]:
    """The keys in the table of m2m.checkpoint.gguf_keys."""
    parts = COMPUTED | NEUTRAL.keys() | HEADS | HARMLESS
    return {f"{family}.{part}" for part in parts} | TOKENIZER | HARMLESS_ANYWHERE | {*EMPTY}


@cache
def names(family: str) -> frozenset[str]:
    """The names of keys in the library of llama.cpp."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    libraries = [path for path in folder.iterdir() if re.match(r"(lib)?llama\.", path.name)]
    if not libraries:
        pytest.skip("llama.cpp is no library beside llama_cpp here")
    data = libraries[0].read_bytes()
    parts = {match.decode() for match in re.findall(rb"%s\.([a-z0-9_.]+)\0", data)}
    whole = {match.decode() for match in WHOLE_KEY.findall(data)}
    assert len(parts) > 100 and "tokenizer.ggml.model" in whole
    found = {f"{family}.{part}" for part in parts} | whole
    return frozenset(name for name in found if not ELSEWHERE.fullmatch(name))


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, GGUFValue]]:
    """A vocabulary of each kind, all of one size: byte-level BPE, SentencePiece's two."""
    found: dict[str, dict[str, GGUFValue]] = {"gpt2": {}}
    # llama.cpp writes no bytes with a unigram model, m2m does: see m2m.tokenizer.unigram.
    unigram = {"model_type": "unigram", "byte_fallback": False, "character_coverage": 1.0}
    for kind, options in {"llama": {}, "t5": unigram}.items():
        folder = tmp_path_factory.mktemp(kind)
        spm_folder(folder, **{"vocab_size": 400, "hard_vocab_limit": False, **options})
        found[kind] = as_gguf(gguf_vocabulary(folder, 400))
    return found


def written(
    path: Path, architecture: str, vocabulary: Mapping[str, GGUFValue], odd: dict[str, GGUFValue]
) -> Path:
    """A pico model with this vocabulary (empty: its own) and these odd values."""
    config = VARIANTS[architecture]
    if vocabulary:
        config = pico_config(architecture=architecture, vocab_size=400)
    return write_pico_gguf(path, config, metadata={**vocabulary, **odd})


def loads(path: Path) -> bool:
    params = c.llama_model_default_params()
    params.load_mode = c.LOAD_MODE_MMAP
    if model := c.llama_model_load_from_file(os.fsencode(path), params):
        c.llama_model_free(model)
    return bool(model)


def read_keys(
    path: Path, architecture: str, vocabulary: Mapping[str, GGUFValue], keys: Iterable[str]
) -> set[str]:
    """Those of `keys` whose value llama.cpp looks at, seen by its refusal of a misfit."""
    return {
        key
        for key in keys
        for misfit in MISFITS
        if not loads(written(path, architecture, vocabulary, {key: misfit}))
    }


@pytest.mark.slow
def test_the_table_has_every_key_that_llama_cpp_reads(
    tmp_path: Path, vocabularies: dict[str, dict[str, GGUFValue]]
) -> None:
    path = tmp_path / "x.gguf"
    read: set[str] = set()
    kinds = [*((each, "gpt2") for each in ARCHITECTURES), ("llama", "llama"), ("llama", "t5")]
    for architecture, kind in kinds:
        table, vocabulary = known(architecture), vocabularies[kind]
        others = names(architecture) - table
        for misfit in MISFITS:
            odd = dict.fromkeys(sorted(others), misfit)
            assert loads(written(path, architecture, vocabulary, odd)), read_keys(
                path, architecture, vocabulary, others
            )
        mine = {key for key in table if kind == "gpt2" or key in TOKENIZER}
        read |= {
            key.removeprefix(f"{architecture}.")
            for key in read_keys(path, architecture, vocabulary, mine)
        }
    # Keys of others that m2m refuses: llama.cpp does not look at them.
    unread = {key.removeprefix("llama.") for key in known("llama")} - read
    assert unread == {"attn_logit_softcapping"}


def number(value: int) -> GGUFValue:
    return GGUFValue.uint32(value)


def real(value: float) -> GGUFValue:
    return GGUFValue.float32(value)


def boolean(value: bool) -> GGUFValue:
    return GGUFValue.boolean(value)


def text(value: str) -> GGUFValue:
    return GGUFValue.string(value)


def ids(*values: int) -> GGUFValue:
    return GGUFValue.array(GGUFValueType.INT32, values)


def words(*values: str) -> GGUFValue:
    return GGUFValue.array(GGUFValueType.STRING, values)


# All odd values of a key, or few of them.
EVERY = pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])
LISTS = {"tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.merges"}
REALS = {"layer_norm_rms_epsilon", "freq_base", "freq_base_swa", "factor", "attn_factor", "alpha"}
REALS |= {"scale_linear", "attn_logit_softcapping", "final_logit_softcapping"}
FLAGS = {"causal", "finetuned", "lowercase", "strip_accents", "add_bos_token", "add_eos_token"}
FLAGS |= {"add_sep_token", "add_space_prefix", "remove_extra_whitespaces"}


def odd_values(key: str, size: int) -> list[GGUFValue]:
    """Odd values of the type that llama.cpp expects of a key; `size` tokens."""
    last = key.rpartition(".")[2]
    special: dict[str, list[GGUFValue]] = {
        "tokenizer.ggml.model": [text("gpt2"), text("llama"), text("bert"), text("none")],
        "tokenizer.ggml.pre": [text("default"), text("jina-v2-es"), text("llama3"), text("?")],
        "tokenizer.ggml.token_type": [ids(*[kind] * size) for kind in (0, 1, 2, 4, 5, 7, -1, 99)],
        "tokenizer.ggml.precompiled_charsmap": [GGUFValue.array(GGUFValueType.UINT8, [1] * 99)],
        "tokenizer.ggml.suppress_tokens": [ids(2), ids(-1, 10**6)],
        "general.name": [text("Phi-3"), text("my MODERN-bert")],
        "general.tensor_extra.name": [words("output.weight")],
    }
    special["tokenizer.ggml.suppress_tokens"].append(ids())
    if key in special:
        return special[key]
    if last == "output_labels":
        return [words("yes", "no")]
    if last == "type":
        return [text(kind) for kind in ("none", "linear", "yarn", "longrope", "?")]
    if last in FLAGS:
        return [boolean(False), boolean(True)]
    if last in REALS:
        return [real(value) for value in (0.0, 0.25, 1.0, 3.0, -1.0, float("nan"))]
    if last.endswith("_token_id"):
        return [number(value) for value in (0, 7, 300, size, 2**32 - 1)]
    return [number(value) for value in (0, 1, 3, 32, 64, 2**31)]


def difference(folder: Path, source: Path, texts: Iterable[str] = TEXTS) -> str:
    """What m2m's model and llama.cpp's do otherwise; empty for nothing, or if it is refused."""
    try:
        import_model(source, folder, name="m")
        model = BaseModel.open(folder)
        model.tokenizer.encode("".join(texts))
        with LlamaModel(source, threads=1, exact_cache=True):
            pass
    except M2MError:
        return ""
    ours = model.tokenizer
    with LlamaModel(folder / "base.gguf", threads=1, exact_cache=True) as peer:
        for piece in texts:
            for special in (False, True):
                if ours.encode(piece, special=special) != peer.tokenize(piece, special=special):
                    return f"ids of {piece!r} (special: {special})"
            begin = [ours.bos_id] if ours.adds_bos else []
            if [*begin, *ours.encode(piece, special=True)] != whole(peer, piece):
                return f"what is put round {piece!r}"
        ends = {token for token in range(peer.vocab_size) if peer.ends_generation(token)}
        if ends != ours.eog_ids:
            return f"ends {sorted(ends ^ ours.eog_ids)}"
        # Longer rows are refused: by both where the context ends, in training by `exact_length`.
        length = min(24, model.config.exact_length)
        sample = np.random.default_rng(3).integers(3, peer.vocab_size, length)
        apart = np.abs(Decoder(model.config, model.weights).logits(sample) - peer.logits(sample))
        return f"logits by {apart.max()}" if not apart.max() < 0.05 else ""


def whole(peer: LlamaModel, piece: str) -> list[int]:
    """The ids that llama.cpp's programs make of a prompt."""
    data, room = piece.encode(), np.empty(999, np.int32)
    size = c.llama_tokenize(peer._vocab, data, len(data), room.ctypes.data, 999, True, True)
    return [int(token) for token in room[:size]]


@EVERY
@pytest.mark.parametrize(
    "kind", ["gpt2", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("llama", "t5"))]
)
def test_odd_values_of_the_vocabulary_change_both_or_are_refused(
    tmp_path: Path, vocabularies: dict[str, dict[str, GGUFValue]], kind: str, every: int
) -> None:
    vocabulary = vocabularies[kind]
    stated = (vocabulary or pico_metadata(VARIANTS["llama"]))["tokenizer.ggml.tokens"]
    different: dict[Any, str] = {}
    for key in sorted((TOKENIZER | HARMLESS_ANYWHERE | {*EMPTY}) - LISTS):
        for number, odd in enumerate(odd_values(key, len(stated.value))[::every]):
            path = written(tmp_path / "x.gguf", "llama", vocabulary, {key: odd})
            # m2m and llama.cpp join unknown characters of a unigram vocabulary otherwise.
            texts = TEXTS[:2] if kind == "t5" else TEXTS
            if found := difference(tmp_path / f"{key}-{number}", path, texts):
                different[key, f"{odd.value!r:.40}"] = found
    assert not different


@EVERY
@pytest.mark.parametrize(
    "architecture",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "gemma3")) for name in ARCHITECTURES],
)
def test_odd_values_of_the_model_change_both_or_are_refused(
    tmp_path: Path, architecture: str, every: int
) -> None:
    different: dict[Any, str] = {}
    for part in sorted(COMPUTED | NEUTRAL.keys() | HEADS | HARMLESS):
        for number, odd in enumerate(odd_values(part, 400)[::every]):
            path = written(tmp_path / "x.gguf", architecture, {}, {f"{architecture}.{part}": odd})
            if found := difference(tmp_path / f"{part}-{number}", path):
                different[part, odd.value] = found
    assert not different


def test_refusals_name_the_keys(tmp_path: Path) -> None:
    odd = {"llama.attention.causal": boolean(False), "llama.nextn_predict_layers": number(1)}
    path = written(tmp_path / "x.gguf", "llama", {}, odd)
    with pytest.raises(InputError, match=r"attention\.causal is False(.|\n)*nextn_predict_layers"):
        import_model(path, tmp_path / "m", name="m")
    types = [3] * 3 + [1] * 292
    types[50] = 99
    path = written(tmp_path / "x.gguf", "llama", {}, {"tokenizer.ggml.token_type": ids(*types)})
    with pytest.raises(InputError, match="token_type has 99 for token 50, expected 1 to 6"):
        import_model(path, tmp_path / "m", name="m")


def test_an_end_token_after_each_text_is_said_and_not_exported(tmp_path: Path) -> None:
    odd = {"tokenizer.ggml.add_eos_token": boolean(True)}
    info = import_model(written(tmp_path / "x.gguf", "llama", {}, odd), tmp_path / "m", name="m")
    assert any("add_eos_token" in warning for warning in info.warnings)
    assert BaseModel.open(tmp_path / "m").gguf.value("tokenizer.ggml.add_eos_token") is False


@pytest.mark.slow
def test_gemma_3_of_62_layers_divides_by_another_width(tmp_path: Path) -> None:
    config = pico_config(
        architecture="gemma3", layers=62, layer_is_local=tuple(i % 6 != 5 for i in range(62))
    )
    path = write_pico_gguf(tmp_path / "x.gguf", config)
    assert not difference(tmp_path / "m", path)
    assert BaseModel.open(tmp_path / "m").config.query_scale == 16**-0.5
