from __future__ import annotations

from pathlib import Path

import pytest
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from m2m.errors import InputError
from m2m.export.go_template import go_template, read_turns
from m2m.export.modelfile import modelfile
from m2m.export.serving import added_text, as_trained, ollama_remarks, serving_remarks
from m2m.formats.gguf import GGUFFile, GGUFValue
from m2m.pipeline.inputs import make_formatter
from m2m.tokenizer import ChatTemplate
from tests.templates import BOS, CONVERSATIONS, EOS, KINDS, formatter_of, prompts, turn
from tests.tiny import pico_gguf

ODD = "{{ messages | length }}: {{ messages[-1]['content'] }}"
DATED = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ '<|im_start|>system\nToday: ' + date_string + '<|im_end|>\n' }}" + KINDS["chatml"]
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_ollama_writes_what_the_chat_template_writes(kind: str, name: str) -> None:
    # Turns.write is what Go makes of go_template: tests/peer/test_templates.py has Go say so.
    formatter = formatter_of(KINDS[kind])
    template, added = formatter.template, added_text(formatter)
    assert template is not None
    turns = read_turns(template, added)
    for messages in prompts(CONVERSATIONS[name]):
        expected = template.render(messages, add_generation_prompt=True).removeprefix(added)
        same = turns.write(messages) == expected
        words = " ".join(ollama_remarks(formatter))
        assert same or "cannot write" in words or (name == "white space" and "removes" in words)
        assert same == (kind != "numbers" or len(messages) < 2) or name == "white space"


def test_an_answer_at_the_end_is_continued() -> None:
    turns = read_turns(ChatTemplate(KINDS["chatml"]))
    assert turns.write([turn("user", "a"), turn("assistant", "b")]).endswith("assistant\nb")


def test_a_template_that_does_not_go_turn_by_turn_gives_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="chat template"):
        read_turns(ChatTemplate(ODD))
    text = written(tmp_path, ODD)
    assert 'TEMPLATE "' not in text
    assert "# - Ollama cannot follow this chat template" in text


def test_braces_and_quotes_in_a_template_survive_go() -> None:
    source = KINDS["default system"].replace("Be kind.", 'Use {\' + \'{ and """ here: {')
    text = go_template(read_turns(ChatTemplate(source)))
    assert '{{ "{{" }}' in text
    assert '"""' not in text.replace(r"\"\"\"", "")


def written(folder: Path, source: str | None = None, template: str = "chat") -> str:
    metadata = {} if source is None else {"tokenizer.chat_template": GGUFValue.string(source)}
    file = GGUFFile(pico_gguf(folder / "pico.gguf", metadata=metadata))
    return modelfile(Path("x/m.gguf"), make_formatter(file, template), 4096, {"copy": "CC0-1.0"})


def test_a_modelfile_has_what_ollama_needs_and_no_adapter(tmp_path: Path) -> None:
    text = written(tmp_path)
    assert text.startswith("FROM ./m.gguf\nTEMPLATE ")
    assert 'PARAMETER stop "<|im_end|>"\n' in text
    assert "PARAMETER num_ctx 4096\n" in text
    assert 'LICENSE """copy: CC0-1.0"""' in text
    assert "ADAPTER" not in text


def test_a_modelfile_without_a_chat_template_writes_all_messages(tmp_path: Path) -> None:
    text = written(tmp_path, template="plain")
    assert (
        'TEMPLATE """{{ range .Messages }}{{ .Content }}{{ if eq .Role "assistant" }}<|im_end|>'
        '{{ else }}\n{{ end }}{{ end }}"""\n'
    ) in text
    assert "# - It was trained without a chat template" in text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("opens", 'Every answer begins with "</think>"'),
        ("refuses system", "no place for a system message"),
        ("trims", "removes white space from the ends"),
        ("numbers", "cannot write questions with a system message and conversations"),
    ],
)
def test_what_differs_is_said(kind: str, words: str, tmp_path: Path) -> None:
    formatter = formatter_of(KINDS[kind])
    said = [*serving_remarks(formatter), *ollama_remarks(formatter)]
    assert any(words in remark for remark in said)
    text = " ".join(written(tmp_path, KINDS[kind]).replace("\n#  ", "").split())
    assert words in text


@pytest.mark.parametrize("kind", ["chatml", "default system", "folds system"])
def test_nothing_is_said_where_nothing_differs(kind: str) -> None:
    formatter = formatter_of(KINDS[kind])
    assert [*serving_remarks(formatter), *ollama_remarks(formatter)] == []


def test_a_date_is_that_of_training() -> None:
    (said,) = serving_remarks(formatter_of(DATED))
    assert "always 26 Jul 2024 in the GGUF and the Modelfile" in said
    assert """--chat-template-kwargs '{"date_string": "26 Jul 2024"}'""" in said
    for source in (DATED, "Today: {{ strftime_now('%Y-%m-%d') }}." + KINDS["chatml"]):
        formatter = formatter_of(source)
        theirs = Jinja2ChatFormatter(template=as_trained(source), eos_token=EOS, bos_token=BOS)
        sent = theirs(messages=[turn("user", "a")], date_string="1 Jan 2030").prompt  # type: ignore
        assert formatter.template
        assert sent == formatter.template.render([turn("user", "a")], True)
        assert "2024" in sent


@pytest.mark.parametrize(
    "when",
    [
        "enable_thinking is defined and enable_thinking",  # gemma-4
        "enable_thinking is defined and enable_thinking is false",  # Qwen3
        "enable_thinking is not defined or enable_thinking",  # GLM-4.6
        "enable_thinking is true or enable_thinking is false",  # RWKV
    ],
)
def test_thinking_is_not_turned_on_or_off_in_the_gguf(when: str) -> None:
    source = KINDS["chatml"] + f"{{% if {when} %}}<think>{{% endif %}}"
    trained = ChatTemplate(source).render([turn("user", "a")], True)
    for value in (True, False):
        theirs = Jinja2ChatFormatter(template=as_trained(source), eos_token=EOS, bos_token=BOS)
        sent = theirs(messages=[turn("user", "a")], enable_thinking=value).prompt  # type: ignore
        assert sent == trained


def test_a_date_that_cannot_be_fixed_is_said() -> None:
    source = "{% set form = '%Y' %}{{ strftime_now(form) }}" + KINDS["chatml"]
    assert as_trained(source) == source
    (said,) = serving_remarks(formatter_of(source))
    assert "use today's: expect small differences" in said


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ("enable_thinking is defined and enable_thinking", "start them with `--reasoning off`"),
        ("enable_thinking is defined", "through `/completion`"),
        ("documents is defined", "unset, as in training: `documents`"),
    ],
)
def test_variables_that_programs_set_are_said(when: str, words: str) -> None:
    source = KINDS["chatml"] + f"{{% if {when} %}}<think>{{% endif %}}"
    (said,) = serving_remarks(formatter_of(source))
    assert words in said


def test_a_bos_that_only_some_programs_add_is_said(tmp_path: Path) -> None:
    metadata = {
        "tokenizer.ggml.add_bos_token": GGUFValue.boolean(True),
        "tokenizer.ggml.bos_token_id": GGUFValue.uint32(0),
    }
    file = GGUFFile(pico_gguf(tmp_path / "pico.gguf", metadata=metadata))
    (said,) = serving_remarks(make_formatter(file, "chat"))
    assert "The tokenizer puts <|endoftext|> first" in said
