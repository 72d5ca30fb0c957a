"""Variables of a chat template that a recipe fixes: Jinja itself writes the same with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from m2m.checkpoint import BaseModel
from m2m.commands.chat import Chat
from m2m.errors import InputError
from m2m.export.lora_gguf import export_lora
from m2m.export.serving import as_trained, serving_remarks
from m2m.formats.gguf import GGUFFile, GGUFValue
from m2m.llamacpp.generate import Sampling
from m2m.pipeline.inputs import formatter_as_trained, make_formatter
from m2m.tokenizer import ChatTemplate, Formatter
from m2m.tokenizer.template import with_variables
from tests.merge.conftest import adapter, base
from tests.templates import BOS, CONVERSATIONS, EOS, KINDS, pico_tokenizer, prompts
from tests.tiny import pico_gguf

__all__ = ["base"]  # fixture

# Like Qwen3's: an empty thought if a program turns thinking off; and a text that a program sets.
SOURCE = (
    "{% macro end() %}{% if mood is defined %} ({{ mood }}){% endif %}<|im_end|>{% endmacro %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + end() + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
VARIABLES: dict[str, Any] = {"enable_thinking": False, "mood": 'say "hi"\n{{ x }} %} é', "n": 3}
MODEL = SOURCE + "{{ '' if n is defined and n > 5 }}"


def by_jinja(source: str, messages: Any, **variables: Any) -> str:
    """What transformers' settings of Jinja write."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template: jinja2.Template = environment.from_string(source)
    return template.render(
        messages=messages, add_generation_prompt=True, bos_token=BOS, eos_token=EOS, **variables
    )


def test_prompts_are_those_of_a_program_that_sets_them() -> None:
    fixed = with_variables(ChatTemplate(MODEL, BOS, EOS), VARIABLES)
    for conversation in CONVERSATIONS.values():
        for messages in prompts(conversation):
            expected = by_jinja(MODEL, messages, **VARIABLES)
            assert fixed.render(messages, add_generation_prompt=True) == expected
            # The exported template asks in this way whatever a program sets.
            for others in ({}, {"enable_thinking": True}, {"enable_thinking": False, "n": 9}):
                assert by_jinja(as_trained(fixed.source), messages, **others) == expected


def test_training_scoring_and_the_prompt_agree() -> None:
    template = with_variables(ChatTemplate(MODEL, BOS, EOS), {"enable_thinking": False})
    formatter = Formatter(pico_tokenizer(), template)
    talk = CONVERSATIONS["one turn"]
    prompt, answer = formatter.samples(talk)[0]
    assert list(prompt.ids) == formatter.prompt_ids(talk[:1])
    assert formatter.tokenizer.decode(prompt.ids).endswith("<think>\n\n</think>\n\n")
    assert formatter.tokenizer.decode(answer.ids) == "abc<|im_end|>"


def test_the_fingerprint_changes_only_if_they_are_set() -> None:
    plain = ChatTemplate(MODEL, BOS, EOS)
    marks = {
        Formatter(pico_tokenizer(), template).identity
        for template in (
            plain,
            with_variables(plain, {"enable_thinking": False}),
            with_variables(plain, {"enable_thinking": True}),
        )
    }
    assert len(marks) == 3
    assert with_variables(plain, {}).source == plain.source


def test_a_name_that_the_template_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match=r"no variable 'thinking'; it has enable_thinking, mood"):
        with_variables(ChatTemplate(MODEL), {"thinking": False})
    with pytest.raises(InputError, match="no variable 'messages'"):
        with_variables(ChatTemplate(MODEL), {"messages": "x"})


def test_a_template_that_misses_one_says_how_to_set_it() -> None:
    source = "{{ functions + '' }}" + KINDS["chatml"]
    with pytest.raises(InputError, match="'functions' is undefined") as caught:
        Formatter(pico_tokenizer(), ChatTemplate(source, BOS, EOS))
    assert 'template_variables = { functions = "" }' in str(caught.value.hint)
    Formatter(pico_tokenizer(), with_variables(ChatTemplate(source, BOS, EOS), {"functions": ""}))


def test_a_lora_carries_them_to_chat_and_eval(base: BaseModel, tmp_path: Path) -> None:
    model = pico_gguf(
        tmp_path / "pico.gguf", metadata={"tokenizer.chat_template": GGUFValue.string(MODEL)}
    )
    lora, file = tmp_path / "lora.gguf", GGUFFile(model)
    export_lora(adapter(base, 1), base, lora, "chat", {"enable_thinking": False})
    expected = make_formatter(file, "chat", {"enable_thinking": False})
    assert formatter_as_trained(file, lora).prompt_ids("a") == expected.prompt_ids("a")
    assert formatter_as_trained(file, None).prompt_ids("a") != expected.prompt_ids("a")
    remarks = " ".join(serving_remarks(expected))
    assert "--chat-template-kwargs '{\"enable_thinking\": false}'" in remarks
    with pytest.raises(InputError, match='no use with template = "plain"'):
        make_formatter(file, "plain", {"enable_thinking": False})


def test_a_system_message_without_a_place_is_said(tmp_path: Path) -> None:
    source = GGUFValue.string(KINDS["refuses system"])
    model = pico_gguf(tmp_path / "pico.gguf", metadata={"tokenizer.chat_template": source})
    for system, warned in (("Be brief.", True), (None, False)):
        with Chat(str(model), Sampling(max_tokens=1), system=system) as talk:
            assert any("no place for a system message" in w for w in talk.warnings) == warned
