"""All real chat templates: m2m writes what Jinja writes with transformers' settings, or refuses.

`scripts/install-templates test` gets llama.cpp's collection of 70 templates.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pytest
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from m2m.dataset.tool_calls import fit_arguments
from m2m.errors import InputError
from m2m.export.serving import as_trained
from m2m.tokenizer import ChatTemplate, Formatter
from m2m.tokenizer.template import TODAY, with_variables
from tests.templates import (
    BOS,
    CALLING,
    CONVERSATIONS,
    EOS,
    TOOLS,
    pico_tokenizer,
    prompts,
    template_folder,
)

REAL = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted((template_folder() or Path("none")).glob("*.jinja"))
}
pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not REAL, reason="scripts/install-templates gets them"),
]
# It fails without these, and no program sets them by itself.
NEEDED = {"fireworks-ai-llama-3-firefunction-v2": {"functions": "", "datetime": "26 Jul 2024"}}
THINKING: Sequence[Mapping[str, Any]] = ({}, {"enable_thinking": True}, {"enable_thinking": False})
NO_TOOLS = {
    "CohereForAI-c4ai-command-r-plus-tool_use",  # wants tools of another form
    "HuggingFaceTB-SmolLM3-3B",  # reads xml_tools and python_tools
    "Kimi-K2-Instruct",  # changes a list, which transformers forbids
    "Kimi-K2-Thinking",
    "LFM2-8B-A1B",  # no calls
    "LFM2.5-Instruct",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",  # no tools
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
    "deepseek-ai-DeepSeek-V3.1",
    "fireworks-ai-llama-3-firefunction-v2",  # reads functions
    "google-gemma-2-2b-it",
    "ibm-granite-granite-3.3-2B-Instruct",  # no calls
    "llama-cpp-rwkv-world",
    "microsoft-Phi-3.5-mini-instruct",
}


class _Generation(Extension):
    tags = {"generation"}  # noqa: RUF012 (declared so by Jinja)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _json(value: Any, **options: Any) -> str:
    # llama.cpp's own template for DeepSeek R1 passes what `map` returns, which is no list yet.
    value = list(value) if isinstance(value, Iterator) else value
    return json.dumps(value, **{"ensure_ascii": False} | options)


@functools.cache
def _compiled(source: str) -> jinja2.Template:
    """Compile like transformers/utils/chat_template_utils.py."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = TODAY.strftime
    return environment.from_string(source)


def by_jinja(source: str, messages: Any, prompt: bool, tools: Any = None, **variables: Any) -> str:
    """Return Jinja's text."""
    values = {"bos_token": BOS, "eos_token": EOS, **({} if tools is None else {"tools": tools})}
    return _compiled(source).render(
        messages=copy.deepcopy(list(messages)), add_generation_prompt=prompt, **values, **variables
    )


def opened(name: str) -> ChatTemplate:
    template = ChatTemplate(REAL[name], BOS, EOS)
    return with_variables(template, NEEDED[name]) if name in NEEDED else template


def test_there_are_70() -> None:
    assert len(REAL) == 70


@pytest.mark.parametrize("name", REAL)
def test_every_template_trains_and_is_asked_as_jinja_writes(name: str) -> None:
    template = opened(name)
    exported = as_trained(template.source)
    formatter = Formatter(pico_tokenizer(), template)
    for conversation in CONVERSATIONS.values():
        formatter.samples(conversation)
        if name.startswith("StepFun"):  # llama.cpp takes white space off for it, Jinja does not
            conversation = [{**m, "content": m["content"].strip()} for m in conversation]
        for messages in prompts(conversation):
            placed = template.placed(messages)  # a system message without a place
            trained = template.render(messages, add_generation_prompt=True)
            assert trained == by_jinja(REAL[name], placed, True, **NEEDED.get(name, {}))
            for variables in THINKING:
                assert by_jinja(exported, placed, True, **variables) == trained


@pytest.mark.parametrize("name", REAL)
def test_tools_are_refused_only_if_jinja_does_not_write_them(name: str) -> None:
    template = opened(name)
    messages = fit_arguments(CALLING, template)
    try:
        Formatter(pico_tokenizer(), template).samples(messages, TOOLS)
        taken = True
    except InputError:
        taken = False
    assert taken == (name not in NO_TOOLS)
    assert taken == _jinja_writes_tools(template.source, messages)


def _jinja_writes_tools(source: str, messages: Sequence[Mapping[str, Any]]) -> bool:
    without = [{k: v for k, v in m.items() if k != "tool_calls"} for m in messages]
    try:
        text = by_jinja(source, messages, False, list(TOOLS))
        lists_them = text != by_jinja(source, messages, False)
    except (jinja2.TemplateError, TypeError):
        return False
    try:
        calls = text != by_jinja(source, without, False, list(TOOLS))
    except (jinja2.TemplateError, TypeError):
        calls = True
    return lists_them and calls and "sunny" in text
