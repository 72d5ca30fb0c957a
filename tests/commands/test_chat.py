"""A conversation: remembered, forgotten when it grows too long, ended when the reader wants."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.checkpoint import BaseModel, import_model
from m2m.cli.main import cli
from m2m.commands.chat import Chat, ask, text_after
from m2m.llamacpp.generate import Sampling
from tests.tiny import pico_gguf
from tests.tiny_folder import pico_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(pico_gguf(tmp_path_factory.mktemp("chat") / "pico.gguf"))


def roles(chat: Chat) -> list[object]:
    return [turn["role"] for turn in chat.turns]


def test_turns_are_remembered_and_forgotten(model: str) -> None:
    with Chat(model, Sampling(max_tokens=4)) as talk:
        first = "".join(talk.answer("copy abc"))
        again = "".join(talk.answer("copy abc"))
        assert roles(talk) == ["user", "assistant"] * 2
        assert talk.turns[1]["content"] == first
        talk.forget()
        assert "".join(talk.answer("copy abc")) == first
    assert ask(model, ["copy abc"], tokens=4) == [" ".join(first.split())]
    assert again != first  # the model was told more


def test_the_oldest_turns_go_where_the_context_is_full(model: str) -> None:
    with Chat(model, Sampling(max_tokens=8), system="be brief") as talk:
        for number in range(12):
            assert "".join(talk.answer(f"{number} " + "word " * 12)) is not None
        assert len(talk.turns) < 24
        assert roles(talk)[0] == "user"
        assert str(talk.turns[-2]["content"]).startswith("11 ")


@pytest.mark.parametrize(
    ("head", "pieces", "shown"),
    [
        ("", ["a", " b"], "a b"),
        ("</think>", ["\n", "</thi", "nk>", "\n\n", "a b"], "a b"),
        ("</think>", ["</think>\n\na"], "a"),
        ("</think>", ["I ", "</think> a"], "I </think> a"),
        ("</think>", ["</th"], "</th"),
    ],
)
def test_the_words_before_every_answer_are_not_shown(
    head: str, pieces: list[str], shown: str
) -> None:
    assert "".join(text_after(head, iter(pieces))) == shown


def test_a_stopped_answer_is_kept_as_far_as_it_went(model: str) -> None:
    with Chat(model, Sampling(max_tokens=50, temperature=5.0)) as talk:
        pieces = talk.answer("go on")
        said = next(pieces)
        pieces.close()  # type: ignore[attr-defined]
        assert talk.turns[-1]["content"] == said
        assert "".join(talk.answer("and now")) is not None


def test_the_system_message_counts(model: str) -> None:
    answers = []
    for system in (None, "upper case only"):
        with Chat(model, Sampling(max_tokens=6), system=system) as talk:
            answers.append("".join(talk.answer("copy abc")))
    assert answers[0] != answers[1]


def test_new_begins_anew_on_the_command_line(model: str) -> None:
    typed = "copy abc\n\n/new\ncopy abc\n"
    found = CliRunner().invoke(cli, ["chat", model, "--tokens", "4"], input=typed)
    assert found.exit_code == 0
    half = len(found.stdout) // 2
    assert found.stdout[:half] == found.stdout[half:]


def test_a_model_without_a_chat_template_is_asked_in_plain_text(tmp_path: Path) -> None:
    settings = pico_folder(tmp_path / "source") / "tokenizer_config.json"
    kept = json.loads(settings.read_text(encoding="utf-8")) | {"chat_template": None}
    settings.write_text(json.dumps(kept), encoding="utf-8")
    import_model(settings.parent, tmp_path / "pico", name="pico")
    path = str(BaseModel.open(tmp_path / "pico").gguf.path)
    found = CliRunner().invoke(cli, ["chat", path, "--tokens", "4"], input="copy abc\n")
    assert found.exit_code == 0
    assert "This model has no chat template." in found.stderr
