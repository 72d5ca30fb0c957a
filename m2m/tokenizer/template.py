"""A model's Jinja chat template, rendered in a child process."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from m2m.errors import InputError
from m2m.templates.parent import Refused, Template

Message = Mapping[str, Any]

# Templates that print today's date would give other tokens every day. This is the date that
# Llama 3's template uses if there is no clock.
TODAY = datetime.date(2024, 7, 26)

# Variables of every chat template, which programs set for each conversation.
_SET_BY_PROGRAMS = {
    "messages",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
    "tools",
    "raise_exception",
    "strftime_now",
}
_UNDEFINED = re.compile(r"'(\w+)' is undefined")
_STEPFUN = "You have access to the following functions in JSONSchema format"


def plain_source(bos: bool) -> str:
    """Return a chat template for plain text: messages as lines, but answers end with EOS.

    Args:
        bos: whether the tokenizer begins texts with BOS.
    """
    return ("{{ bos_token }}" if bos else "") + (
        "{% for message in messages %}{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\\n' }}{% endif %}"
        "{% endfor %}"
    )


def with_variables(template: ChatTemplate, variables: Mapping[str, Any]) -> ChatTemplate:
    """Return the chat template with fixed variables, such as `enable_thinking = false`.

    They are written into its text. So every program that reads the template asks in the same way.

    Raises:
        InputError: the template does not use a variable, or it fails with the value.
    """
    unknown = sorted(variables.keys() - (template.variables - _SET_BY_PROGRAMS))
    if unknown:
        usable = ", ".join(sorted(template.variables - _SET_BY_PROGRAMS)) or "none"
        raise InputError(
            f"template_variables: the chat template has no variable {unknown[0]!r}; "
            f"it has {usable}",
            "correct the name in [base], or take it out",
        )
    lines = [
        f"{{% set {name} = {json.dumps(value, ensure_ascii=False)} %}}"
        for name, value in sorted(variables.items())
    ]
    source = "".join(lines) + template.source
    return ChatTemplate(source, template.bos, template.eos, template.file, variables)


class ChatTemplate:
    """A model's Jinja chat template, rendered like in transformers and llama.cpp, with limits.

    A template that refuses or leaves out a system message gets it and a newline before the next
    message, as in llama.cpp (common/chat.cpp, `system_message_not_supported`).

    Args:
        source: the template, from a GGUF's `tokenizer.chat_template`.
        bos: text of the BOS token, "" if there is none.
        eos: text of the EOS token.
        file: the model file of the template, for errors.
        fixed: variables that the source sets itself, see `with_variables`.

    Attributes:
        has_folded: whether a system message was put into the message after it.

    Raises:
        InputError: the template is not valid Jinja.
        LimitError: compiling it takes more memory or time than a stranger's file gets; later
            renderings may also raise this.
    """

    def __init__(
        self,
        source: str,
        bos: str = "",
        eos: str = "",
        file: str = "",
        fixed: Mapping[str, Any] | None = None,
    ) -> None:
        self.source = source
        self.bos = bos
        self.eos = eos
        self.file = file
        self.fixed = dict(fixed or {})
        self.has_folded = False
        self._checked: set[tuple[Any, ...]] = set()
        name = f"{file}: the chat template" if file else "the model's chat template"
        try:
            self._template = Template(source, "chat", name, TODAY.isoformat())
        except Refused as error:
            place = f"line {error.line}: " if error.line else ""
            raise InputError(
                f"the model's chat template is not valid Jinja: {place}{error}",
                'set template = "plain" in [base] to do without it',
            ) from error

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = False,
        tools: Sequence[Any] | None = None,
        **variables: Any,
    ) -> str:
        """Return the text of a conversation.

        Args:
            messages: dicts with a role and a content.
            add_generation_prompt: whether the text ends with the start of the model's answer.
            tools: for templates that write tools; if None, undefined, as in llama.cpp.
            variables: other variables that a program may set, such as `enable_thinking`; for
                `strftime_now`, the text that this function returns.

        Raises:
            InputError: the template refuses these messages, or it does not end.
        """
        return self._render(self.placed(messages), add_generation_prompt, tools, **variables)

    def placed(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return messages as programs must send them; not every template takes a system message.

        llama.cpp does this by itself; other programs do not.
        """
        messages = self._adapted(messages)
        if messages and messages[0].get("role") == "system" and not self.takes_system:
            self.has_folded = True
            return _folded(messages)
        return messages

    def _adapted(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return messages as llama.cpp changes them for some templates (common/chat.cpp)."""
        if "<|channel|>" not in self.source:
            messages = [
                {**message, "role": "system"} if message.get("role") == "developer" else message
                for message in messages
            ]
        if _STEPFUN in self.source:
            messages = [
                {**message, "content": str(message.get("content")).strip()} for message in messages
            ]
        return messages

    @cached_property
    def takes_system(self) -> bool:
        """Whether the template has a place for a system message."""
        messages = [
            {"role": "system", "content": "m2mSystem"},
            {"role": "user", "content": "m2mAsk"},
        ]
        try:
            return "m2mSystem" in self._render(messages, True)
        except InputError:
            return False

    @cached_property
    def variables(self) -> set[str]:
        """Names that the template takes from the program that renders it."""
        return self._template.variables()

    def check(self, messages: Sequence[Message], tools: Sequence[Any] | None = None) -> None:
        """Raise if the template leaves a message of a conversation out.

        If it ends with an answer, a message may be in any of its prompts or answers; if not, it
        must be in the prompt.

        Raises:
            InputError: it does, or it does not write the tools or the calls of tools.
        """
        kind = (*((m.get("role"), bool(m.get("tool_calls"))) for m in messages), not tools)
        if kind in self._checked:
            return
        marked = [
            {**message, "content": f"m2mMark{i}End"} if message.get("content") else message
            for i, message in enumerate(messages)
        ]
        ends = [i for i, m in enumerate(messages) if m.get("role") == "assistant"]
        if len(marked) - 1 in ends:
            text = "".join(self.render(marked[:end], True, tools) for end in ends)
            text += "".join(self.render(marked[: end + 1], tools=tools) for end in ends)
        else:
            text = self.render(marked, True, tools)
        for i, message in enumerate(marked):
            if message.get("content") and f"m2mMark{i}End" not in text:
                raise InputError(
                    f"the model's chat template leaves out message {i + 1} ({message.get('role')})",
                    'take it out, or set template = "plain" in [base]',
                )
        if tools and self.render(marked, tools=tools) == self.render(marked):
            raise InputError(
                "the model's chat template has no place for tools",
                "take `tools` out of the row, or choose a base model whose template takes them",
            )
        if any(m.get("tool_calls") for m in marked) and self._ignores_calls(marked):
            raise InputError(
                "the model's chat template leaves out the calls of tools",
                "take the row out, or choose a base model whose template writes them",
            )
        self._checked.add(kind)

    def _ignores_calls(self, messages: Sequence[Message]) -> bool:
        """Return whether the conversation would be the same without its calls of tools."""
        without = [{k: v for k, v in m.items() if k != "tool_calls"} for m in messages]
        try:
            return self.render(messages) == self.render(without)
        except InputError:  # for example a result without its call
            return False

    def _render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool,
        tools: Sequence[Any] | None = None,
        **variables: Any,
    ) -> str:
        today = variables.pop("strftime_now", None)
        try:
            return self._template.render(
                {
                    "messages": [dict(message) for message in messages],
                    "add_generation_prompt": add_generation_prompt,
                    "bos_token": self.bos,
                    "eos_token": self.eos,
                    **({} if tools is None else {"tools": tools}),
                    **variables,
                },
                today,
            )
        except Refused as error:
            roles = ", ".join(str(message.get("role")) for message in messages)
            raise InputError(
                f"the model's chat template refuses a conversation of {roles}: {error}",
                f'correct the row, {_set_it(str(error))}or set template = "plain" in [base]',
            ) from error


def _set_it(error: str) -> str:
    """Return the advice to set a variable that a template misses."""
    missing = _UNDEFINED.fullmatch(error)
    return f'set template_variables = {{ {missing[1]} = "" }} in [base], ' if missing else ""


def _folded(messages: Sequence[Message]) -> Sequence[Message]:
    """Return messages with the system message at the start of the next one."""
    if len(messages) < 2:
        raise InputError("the model's chat template has no place for a system message alone")
    system, first, *rest = messages
    return [{**first, "content": f"{system.get('content')}\n{first.get('content')}"}, *rest]
