from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from m2m.errors import InputError
from m2m.export.modelfile import go_template, modelfile, read_turns
from m2m.formats.gguf import GGUFFile
from m2m.pipeline.inputs import make_formatter
from m2m.tokenizer import ChatTemplate
from tests.tiny import pico_gguf

CHATML_WITH_DEFAULT = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + "
    "'<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}{% for m in messages %}{{ '<start_of_turn>' + "
    "('model' if m['role'] == 'assistant' else 'user') + '\n' + m['content'] + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
ODD = "{{ messages | length }}: {{ messages[-1]['content'] }}"


def render_go(template: str, system: str, messages: Sequence[Mapping[str, str]]) -> str:
    """What Go's text/template makes of the actions that `go_template` uses."""
    template = re.sub(
        r'\{\{ ("(?:[^"\\]|\\.)*") \}\}', lambda found: "\0" + json.loads(found[1])[::-1], template
    )
    head, body = template.split("{{ range .Messages }}")
    body, tail = body.split("{{ end }}{{ end }}")
    if system_part := re.fullmatch(
        r"(?s)\{\{ if \.System \}\}(.*)\{\{ else \}\}(.*)\{\{ end \}\}", head
    ):
        head = system_part[1].replace("{{ .System }}", system) if system else system_part[2]
    user, assistant = body.split('{{ else if eq .Role "assistant" }}')
    parts = {"user": user.removeprefix('{{ if eq .Role "user" }}'), "assistant": assistant}
    turns = [parts[m["role"]].replace("{{ .Content }}", m["content"]) for m in messages]
    text = head + "".join(turns) + tail
    return re.sub("\0(..)", lambda found: found[1][::-1], text)


@pytest.mark.parametrize(
    "source", [CHATML_WITH_DEFAULT, LLAMA3, GEMMA], ids=["chatml", "llama3", "gemma"]
)
@pytest.mark.parametrize("system", ["", "Answer in Swahili."])
def test_the_go_template_writes_what_the_chat_template_writes(source: str, system: str) -> None:
    template = ChatTemplate(source, bos="<s>")
    turns = read_turns(template, added="<s>")
    if system and turns.system is None:
        pytest.skip("this template has no place for a system message")
    messages = [
        {"role": "user", "content": "Habari?"},
        {"role": "assistant", "content": "Nzuri."},
        {"role": "user", "content": "Shule?"},
    ]
    given = [{"role": "system", "content": system}] if system else []
    expected = template.render([*given, *messages], add_generation_prompt=True)
    assert render_go(go_template(turns), system, messages) == expected.removeprefix("<s>")


def test_a_template_that_does_not_go_turn_by_turn_is_refused() -> None:
    with pytest.raises(InputError, match="chat template"):
        read_turns(ChatTemplate(ODD))


def test_braces_in_a_template_survive_go() -> None:
    source = CHATML_WITH_DEFAULT.replace("Be kind.", "Use {{ '{{' }} braces.")
    turns = read_turns(ChatTemplate(source.replace("{{ '{{' }}", "' + '{' + '{' + '")))
    assert '{{ "{{" }}' in go_template(turns)


def test_a_modelfile_has_what_ollama_needs_and_no_adapter(tmp_path: Path) -> None:
    file = GGUFFile(pico_gguf(tmp_path / "pico.gguf"))
    text = modelfile(Path("x/m.gguf"), make_formatter(file, "chat"), 4096, {"copy": "CC0-1.0"})
    assert text.startswith("FROM ./m.gguf\nTEMPLATE ")
    assert 'PARAMETER stop "<|im_end|>"\n' in text
    assert "PARAMETER num_ctx 4096\n" in text
    assert 'LICENSE """copy: CC0-1.0"""' in text
    assert "ADAPTER" not in text
