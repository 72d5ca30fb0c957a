"""Chat templates of every kind that models have, written for the tests, and conversations."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from m2m.templates.parent import Template
from m2m.tokenizer import ChatTemplate, Formatter, Segment, Tokenizer
from m2m.tokenizer.template import TODAY
from tests.tiny import CHATML, pico_config, pico_metadata

BOS, EOS = "<|endoftext|>", "<|im_end|>"
_OPEN = "'<|im_start|>' + m.role + '\n'"
_PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"


def _turns(content: str, prompt: str = _PROMPT, opening: str = _OPEN, head: str = "") -> str:
    return (
        f"{head}{{% for m in messages %}}{{{{ {opening} + {content} + '<|im_end|>\n' }}}}"
        f"{{% endfor %}}{prompt}"
    )


_LAST_ANSWER = "loop.last and m.role == 'assistant'"
_PARTED = "(m.content.split('</think>')[-1].lstrip('\n') if m.role == 'assistant' else m.content)"
_MODEL = "'<|im_start|>' + ('model' if m.role == 'assistant' else m.role) + '\n'"

KINDS = {
    "chatml": CHATML,
    # SmolLM2, Qwen2.5
    "default system": _turns(
        "m.content",
        head="{% if messages[0].role != 'system' %}"
        "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}",
    ),
    # Llama 3
    "trims": "{{ bos_token }}" + _turns("(m.content | trim)"),
    # Qwen3: an empty thought in the last turn only
    "thinks last": _turns(
        f"(('<think>\n' + m.reasoning_content | default('') + '\n</think>\n\n') if {_LAST_ANSWER}"
        f" else '') + {_PARTED}"
    ),
    # Qwen3.5: the generation prompt opens a thought, the last turn closes it
    "opens and closes": _turns(
        f"(('<think>\n' + m.reasoning_content | default('') + '\n</think>\n\n') if {_LAST_ANSWER}"
        f" else '') + {_PARTED}",
        _PROMPT.replace("assistant\n", "assistant\n<think>\n"),
    ),
    # DeepSeek-R1: the generation prompt opens a thought that the template never shows
    "opens": _turns(_PARTED, _PROMPT.replace("assistant\n", "assistant\n<think>\n")),
    # GLM-4.6, Kimi-K2-Thinking: an empty thought before every answer
    "thinks always": _turns(
        "('<think>' + m.reasoning_content | default('') + '</think>\n' "
        "if m.role == 'assistant' else '') + m.content"
    ),
    # gpt-oss: every answer begins with its channel
    "channel": _turns(
        "('final>' if m.role == 'assistant' else 'say>') + m.content",
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}",
        "'<|im_start|>' + m.role",
    ),
    # Gemma 2 refuses a system message
    "refuses system": "{% if messages[0].role == 'system' %}{{ raise_exception('No system') }}"
    "{% endif %}" + _turns("(m.content | trim)", _PROMPT.replace("assistant", "model"), _MODEL),
    # Gemma 3 puts it into the first question
    "folds system": "{% set first = '' %}{% if messages[0].role == 'system' %}"
    "{% set first = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
    + _turns(
        "(first if loop.first else '') + m.content", _PROMPT.replace("assistant", "model"), _MODEL
    ),
    # Mistral puts it into the last question
    "system last": "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{% set told = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}"
    "{% else %}{% set told = '' %}{% endif %}{% for m in messages %}{% if m.role == 'user' %}"
    "{{ '[INST]' + (told if loop.last else '') + m.content + '[/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
    # RWKV: the answer begins with a space, and no special token stands anywhere
    "words": "{% for m in messages %}{{ ('Q: ' if m.role == 'user' else 'A: ' if "
    "m.role == 'assistant' else '') + m.content + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}A:{% endif %}",
    # Apertus writes the end of an answer only before the next turn
    "ends late": "{% for m in messages %}{{ '[' + m.role + ']' + m.content }}"
    "{% if not loop.last or m.role == 'user' %}<|im_end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}",
    # A template that numbers turns
    "numbers": "{% for m in messages %}{{ loop.index ~ ' ' + m.role + ': ' + m.content + "
    "'<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ (messages | length + 1) ~ ' assistant: ' }}{% endif %}",
}

Messages = list[dict[str, str]]


def turn(role: str, content: str, **more: str) -> dict[str, str]:
    return {"role": role, "content": content, **more}


def _conversation(system: str, *contents: str) -> Messages:
    roles = ("user", "assistant") * len(contents)
    first = [turn("system", system)] if system else []
    return first + [turn(role, text) for role, text in zip(roles, contents, strict=False)]


# Each ends with an answer.
CONVERSATIONS = {
    "one turn": _conversation("", "copy abc", "abc"),
    "system": _conversation("Be brief.", "copy abc", "abc"),
    "turns": _conversation("", "copy abc", "abc", "and d", "d", "the end", "of it"),
    "white space": _conversation("", " copy  abc\n", " abc\n\nd ", "and\n\nd ", " d\n"),
    "system and turns": _conversation("Be brief.", "copy abc", "abc", "and d", "d"),
}


WEATHER = {
    "name": "weather",
    "description": "The weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
TOOLS = ({"type": "function", "function": WEATHER},)
CALL = {"id": "call00001", "type": "function"}
CALLING: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [CALL | {"function": {"name": "weather", "arguments": {"city": "Nairobi"}}}],
    },
    {"role": "tool", "content": "sunny", "tool_call_id": "call00001", "name": "weather"},
    {"role": "assistant", "content": "It is sunny."},
]


@functools.cache
def pico_tokenizer() -> Tokenizer:
    values = {key: value.value for key, value in pico_metadata(pico_config()).items()}
    return Tokenizer.from_metadata(values.get)


def formatter_of(source: str) -> Formatter:
    return Formatter(pico_tokenizer(), ChatTemplate(source, BOS, EOS))


def answers(sequences: Sequence[Sequence[Segment]]) -> Iterator[tuple[list[int], list[int]]]:
    """Every trained answer with all that comes before it in its sequence."""
    for sequence in sequences:
        before: list[int] = []
        for segment in sequence:
            if segment.trained:
                yield before, list(segment.ids)
            before = [*before, *segment.ids]


def prompts(messages: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """The conversation before each of its answers."""
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            yield messages[:i]


def template_folder() -> Path | None:
    """llama.cpp's collection of real chat templates, if scripts/fetch-templates got it."""
    folder = Path(__file__).parents[1] / "build" / "llama.cpp" / "models" / "templates"
    return folder if folder.is_dir() else None


def of_task(source: str, name: str = "a task file") -> Template:
    """A template of a task file."""
    return Template(source, "text", name, TODAY.isoformat())
