"""A model that cannot stop is never made silently.

The kind: what llama.cpp ends an answer at is not what m2m trains as the end, or no end is trained
at all. The reference is llama.cpp itself: `llama_vocab_is_eog` over the written base.gguf.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from click.testing import CliRunner

import tests.tiny as tiny
from m2m.checkpoint import BaseModel, import_model
from m2m.cli.main import cli
from m2m.commands.doctor import model_checks
from m2m.errors import InputError
from m2m.formats.atomic import write_json
from m2m.formats.gguf import GGMLQuantizationType, GGUFFile, GGUFValue, GGUFValueType
from m2m.formats.records import read_object
from m2m.llamacpp.model import LlamaModel
from m2m.pipeline.inputs import read_inputs
from m2m.recipe import load_recipe
from m2m.tokenizer import Formatter, Tokenizer
from tests.pipeline.scenario import make_scenario
from tests.tiny import CHATML, SPECIAL, pico_gguf, pico_tokens, write_jsonl
from tests.tiny_folder import pico_folder

K = "tokenizer.ggml."
NO_END = CHATML.replace(" + '<|im_end|>'", "")
NEVER_STOPS = "does not learn to stop"


def named(*special: str) -> dict[str, GGUFValue]:
    """Metadata with other names for the three special tokens."""
    tokens = [*special, *pico_tokens()[3:]]
    template = CHATML.replace(SPECIAL[1], special[1]).replace(SPECIAL[2], special[2])
    return {
        K + "tokens": GGUFValue.array(GGUFValueType.STRING, tokens),
        "tokenizer.chat_template": GGUFValue.string(template),
    }


def imported(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    without: tuple[str, ...] = (),
    weights: Callable[[Any], None] | None = None,
    **metadata: GGUFValue,
) -> BaseModel:
    """An imported pico GGUF that lacks some keys, with other values and embeddings."""
    keys, arrays = tiny.pico_metadata, tiny.pico_weights

    def fewer(config: Any) -> dict[str, GGUFValue]:
        return {key: value for key, value in keys(config).items() if key not in without}

    def other(seed: int = 0, config: Any = None) -> Any:
        made = arrays(seed, config)
        if weights:
            weights(made["model.embed_tokens.weight"])
        return made

    monkeypatch.setattr(tiny, "pico_metadata", fewer)
    monkeypatch.setattr(tiny, "pico_weights", other)
    source = pico_gguf(folder / "pico.gguf", metadata=metadata)
    import_model(source, folder / "models" / "pico", name="pico")
    return BaseModel.open(folder / "models" / "pico")


def ends_of_llama(path: Path) -> set[int]:
    """All ids at which llama.cpp ends an answer."""
    with LlamaModel(path, threads=1) as model:
        return {token for token in range(model.vocab_size) if model.ends_generation(token)}


def ends(base: BaseModel) -> list[str]:
    """The texts of m2m's end tokens, which must be llama.cpp's."""
    assert ends_of_llama(base.gguf.path) == base.tokenizer.eog_ids
    return sorted(base.tokenizer.tokens[i] for i in base.tokenizer.eog_ids)


NAMES: list[tuple[str, ...]] = [
    SPECIAL,
    ("<|a|>", "<|b|>", "<|c|>"),
    ("<|return|>", "<|call|>", "<|end|>"),
    ("<|flush|>", "<|calls|>", "<|end|>"),
    ("<|calls|>", "<|return|>", "<|end|>"),
    ("<|flush|>", "<|return|>", "<|end|>"),
    ("<|tool_response>", "<turn|>", "</s>"),
    ("<|channel|>", "<|message|>", "<|start|>"),
    ("<fim_pad>", "<|file_sep|>", "<reponame>"),
    ("[EOS]", "[e~[", "<end_of_utterance>"),
]


@pytest.mark.parametrize("roles", [(), ("eos",), ("eot",), ("eom",), ("eos", "eot", "eom")])
@pytest.mark.parametrize("special", NAMES, ids=" ".join)
def test_the_ends_of_any_vocabulary_are_those_of_llama_cpp(
    special: tuple[str, ...], roles: tuple[str, ...], tmp_path: Path
) -> None:
    metadata = named(*special)
    metadata |= {f"{K}{role}_token_id": GGUFValue.uint32(i + 20) for i, role in enumerate(roles)}
    path = pico_gguf(tmp_path / "pico.gguf", metadata=metadata)
    if not roles:  # as no converter leaves it, but people do
        data = path.read_bytes().replace(b"ggml.eos_token_id", b"ggml.eos_token_no")
        path.write_bytes(data)
    ours = Tokenizer.from_metadata(GGUFFile(path).value)
    assert ends_of_llama(path) == ours.eog_ids
    peer = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    text = "a " + " b".join(special) + "\nc"
    for parsed in (False, True):
        expected = peer.tokenize(text.encode(), add_bos=False, special=parsed)
        assert ours.encode(text, parsed) == expected


def test_a_vocabulary_without_eos_does_not_end_at_token_11(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = imported(tmp_path, monkeypatch, without=(K + "eos_token_id",))
    assert ends(base) == ["<|endoftext|>", "<|im_end|>"]
    assert base.tokenizer.eos_id == 0
    assert "name no end token; llama.cpp would stop at '\\x08'" in base.info.warnings[0]


def test_the_template_tells_the_end_that_no_name_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = named("<|a|>", "<|b|>", "<|c|>")
    base = imported(tmp_path, monkeypatch, without=(K + "eos_token_id",), **names)
    assert ends(base) == ["<|c|>"]
    (tmp_path / "b").mkdir()
    other = {**names, K + "eos_token_id": GGUFValue.uint32(0)}
    base = imported(tmp_path / "b", monkeypatch, **other)
    assert ends(base) == ["<|a|>", "<|c|>"]
    assert "does not mark <|c|> as an end token" in base.info.warnings[0]


def test_of_several_tokens_none_is_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Command R writes `<|END_RESPONSE|><|END_OF_TURN_TOKEN|>`, and only the second ends a turn."""
    both = named("<|a|>", "<|b|>", "<|c|>")
    text = str(both["tokenizer.chat_template"].value).replace("<|c|>", "<|c|><|a|>")
    both["tokenizer.chat_template"] = GGUFValue.string(text)
    base = imported(tmp_path, monkeypatch, **both, **{K + "eos_token_id": GGUFValue.uint32(0)})
    assert ends(base) == ["<|a|>"]
    assert base.info.warnings == ()
    (tmp_path / "b").mkdir()
    other = {K + "eos_token_id": GGUFValue.uint32(20)}
    base = imported(tmp_path / "b", monkeypatch, **both, **other)
    assert ends(base) == [base.tokenizer.tokens[20]]
    assert any("'<|c|><|a|>', which is not an end token" in said for said in base.info.warnings)


def test_a_vocabulary_that_cannot_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = named("<|a|>", "<|b|>", "<|c|>") | {"tokenizer.chat_template": GGUFValue.string(NO_END)}
    with pytest.raises(InputError, match=r"names no end token; llama.cpp would stop at '\\x08'"):
        imported(tmp_path, monkeypatch, without=(K + "eos_token_id",), **names)


@pytest.mark.parametrize("stops", [2, [2, 0], [2, 0, 7]])
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_a_folder_ends_where_its_lists_say(file: str, stops: Any, tmp_path: Path) -> None:
    source = pico_folder(tmp_path / "source")
    names = {**dict(zip(SPECIAL, ("<|a|>", "<|b|>", "<|c|>"), strict=True))}
    text = (source / "tokenizer.json").read_text(encoding="utf-8")
    for old, new in names.items():
        text = text.replace(old, new)
    (source / "tokenizer.json").write_text(text, encoding="utf-8")
    write_json(source / "tokenizer_config.json", {"chat_template": NO_END})
    config = read_object(source / "config.json")
    config.pop("eos_token_id")
    write_json(source / "config.json", config)
    write_json(source / file, (config if file == "config.json" else {}) | {"eos_token_id": stops})
    import_model(source, tmp_path / "pico", name="pico")
    base = BaseModel.open(tmp_path / "pico")
    ends(base)
    wanted = [stops] if isinstance(stops, int) else stops
    assert base.tokenizer.eog_ids == set(wanted)
    assert base.tokenizer.eos_id == 2


def test_an_end_token_that_is_ordinary_text_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comma = pico_tokens().index(",")
    given = {K + "eos_token_id": GGUFValue.uint32(comma)}
    (warning,) = imported(tmp_path, monkeypatch, **given).info.warnings
    assert f"wherever the model writes ',' (token {comma}), which is ordinary text" in warning


def test_the_end_token_of_special_tokens_map_counts(tmp_path: Path) -> None:
    source = pico_folder(tmp_path / "source")
    config = read_object(source / "config.json")
    write_json(source / "config.json", config | {"eos_token_id": None})
    write_json(source / "tokenizer_config.json", {})
    write_json(source / "special_tokens_map.json", {"eos_token": {"content": "<|im_end|>"}})
    assert import_model(source, tmp_path / "pico", name="pico").warnings == ()
    assert BaseModel.open(tmp_path / "pico").tokenizer.eos_id == 2


def test_a_folder_that_names_no_end_is_refused_or_said(tmp_path: Path) -> None:
    source = pico_folder(tmp_path / "source")
    config = read_object(source / "config.json")
    write_json(source / "config.json", config | {"eos_token_id": None})
    write_json(source / "tokenizer_config.json", {})
    info = import_model(source, tmp_path / "pico", name="pico")
    assert ends(BaseModel.open(tmp_path / "pico")) == ["<|endoftext|>", "<|im_end|>"]
    assert "m2m wrote <|endoftext|> as eos" in info.warnings[0]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (NO_END, "writes no end token after an answer"),
        (CHATML.replace("<|im_end|>", "<|eot|>"), "ends an answer with '<|eot|>', which is not"),
    ],
)
def test_a_template_without_an_end_token_is_said_with_its_cure(
    template: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = imported(
        tmp_path, monkeypatch, **{"tokenizer.chat_template": GGUFValue.string(template)}
    )
    (warning,) = base.info.warnings
    assert words in warning
    assert NEVER_STOPS in warning
    assert 'template = "plain"' in warning
    assert base.warnings_with(Formatter(base.tokenizer)) == []  # the cure works
    recipe = make_scenario(tmp_path / "run")
    found = CliRunner().invoke(
        cli, ["models", "list", "--models", str(tmp_path / "models"), "--json"]
    )
    assert json.loads(found.stdout)[0]["warnings"] == [warning]
    assert [each.value for each in model_checks([tmp_path / "models"]) if each.state == "note"] == [
        warning
    ]
    text = recipe.read_text(encoding="utf-8").replace('"pico"', f'"{base.path.as_posix()}"')
    recipe.write_text(text, encoding="utf-8")
    assert read_inputs(load_recipe(recipe)).warnings == (warning,)
    recipe.write_text(text.replace("[base]", '[base]\ntemplate = "plain"'), encoding="utf-8")
    assert read_inputs(load_recipe(recipe)).warnings == ()


def test_an_end_that_comes_with_the_next_turn_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such templates end an answer when a question follows; that end is trained."""
    late = NO_END.replace(
        "{{'<|im_start|>'", "{% if not loop.first %}<|im_end|>{% endif %}{{'<|im_start|>'"
    )
    base = imported(tmp_path, monkeypatch, **{"tokenizer.chat_template": GGUFValue.string(late)})
    assert base.info.warnings == ()


def test_rows_that_end_without_an_end_token_are_said(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path)
    answer = [("b", True), ("<|im_end|>", True)]
    rows = [[("a", False), *answer], [("a", False), *answer[:1]]]
    pieces = [[{"text": text, "label": label} for text, label in row] for row in rows]
    write_jsonl(tmp_path / "copy.jsonl", [{"segments": each} for each in pieces])
    (warning,) = read_inputs(load_recipe(recipe)).warnings
    assert warning.startswith("1 of 2 rows of copy are trained without an end token")


def _zero(rows: Any) -> None:
    rows[2] = 0


def _tiny(rows: Any) -> None:
    rows[2] *= np.float16(1e-3)


def _equal(rows: Any) -> None:
    rows[[2, 40, 41]] = rows[2]


@pytest.mark.parametrize(
    ("change", "words"),
    [(_zero, "is zero"), (_tiny, "is almost zero"), (_equal, "and of 1 more token.")],
)
def test_an_end_token_that_was_never_trained_is_said(
    change: Callable[[Any], None], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (warning,) = imported(tmp_path, monkeypatch, weights=change).info.warnings
    assert "end token <|im_end|> was never trained" in warning
    assert words in warning
    assert "plain" not in warning  # there eos is the same token


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_of_an_untied_model_the_heads_row_counts(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = tiny.pico_weights

    def other(seed: int = 0, config: Any = None) -> Any:
        made = arrays(seed, config)
        made["lm_head.weight"][2] = -0.0
        return made

    monkeypatch.setattr(tiny, "pico_weights", other)
    source = pico_gguf(tmp_path / "pico.gguf", tie=False, type=GGMLQuantizationType[kind])
    (warning,) = import_model(source, tmp_path / "pico", name="pico").warnings
    assert "its row of lm_head.weight is zero" in warning


def test_an_added_token_beyond_the_embeddings_is_said(tmp_path: Path) -> None:
    source = pico_folder(tmp_path / "source")
    content = read_object(source / "tokenizer.json")
    added: dict[str, Any] = {"id": 400, "content": "<|eot|>", "special": True}
    content["added_tokens"] = [*content["added_tokens"], added]
    write_json(source / "tokenizer.json", content)
    settings: Mapping[str, Any] = read_object(source / "tokenizer_config.json")
    template = CHATML.replace("<|im_end|>", "<|eot|>")
    write_json(source / "tokenizer_config.json", {**settings, "chat_template": template})
    info = import_model(source, tmp_path / "pico", name="pico")
    beyond, ending = info.warnings
    assert "no embeddings for (295 rows): <|eot|> (400)" in beyond
    assert "'<|eot|>', which is not an end token" in ending


@pytest.mark.parametrize(
    ("template", "words", "how"),
    [
        ("{% if", "not valid Jinja", "--quiet"),
        ("{{ raise_exception('no') }}", "refuses a conversation", "--json"),
    ],
)
def test_a_template_that_does_not_work_is_said_at_import(
    template: str, words: str, how: str, tmp_path: Path
) -> None:
    given = {"tokenizer.chat_template": GGUFValue.string(template)}
    source = pico_gguf(tmp_path / "pico.gguf", metadata=given)
    where = ["--models", str(tmp_path / "models")]
    found = CliRunner().invoke(cli, ["models", "add", str(source), *where, how])
    assert found.exit_code == 0, found.output
    assert words in (
        found.stderr if how == "--quiet" else json.loads(found.stdout)[0]["warnings"][0]
    )


@pytest.mark.slow
def test_plan_and_run_say_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_scenario(tmp_path)
    text = recipe.read_text(encoding="utf-8")
    template = {"tokenizer.chat_template": GGUFValue.string(NO_END)}
    (tmp_path / "other").mkdir()
    base = imported(tmp_path / "other", monkeypatch, **template)
    recipe.write_text(text.replace('"pico"', f'"{base.path.as_posix()}"'), encoding="utf-8")
    for command in ("plan", "train"):
        found = CliRunner().invoke(cli, [command, str(recipe), "--quiet", "--json"])
        assert found.exit_code == 0, found.output
        assert found.stderr.count(NEVER_STOPS) == 1
