"""Ollama's Modelfile, its Go template derived from the model's own chat template.

The derivation renders short conversations and looks at what stands between their messages, so it
needs no list of known templates. Without `ADAPTER`, which Ollama refuses since 0.34.1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from m2m.errors import InputError
from m2m.formats.atomic import write_text
from m2m.tokenizer import ChatTemplate, Formatter

# Texts that no template contains and that every template passes on unchanged.
_SYSTEM, _ASK, _ANSWER, _AGAIN = "m2mSystem", "m2mAsk", "m2mAnswer", "m2mAgain"
_LONGEST_CONTEXT = 8192


@dataclass(frozen=True)
class Turns:
    """What a chat template writes round messages.

    Attributes:
        system: before and after a system message; None where the template has no place for one.
        without_system: what it writes where there is no system message (a default one, or "").
        user: before and after a user's message.
        assistant: before and after the model's answer.
    """

    system: tuple[str, str] | None
    without_system: str
    user: tuple[str, str]
    assistant: tuple[str, str]


def read_turns(template: ChatTemplate, added: str = "") -> Turns:
    """Find out what a chat template writes round messages.

    Args:
        template: the model's.
        added: what the tokenizer puts in front of every text by itself (BOS), so that a template
            that writes it too does not double it.

    Raises:
        InputError: it does not treat messages one after the other.
    """

    def render(*contents: str, prompt: bool = False) -> str:
        roles = ("user", "assistant", "user")
        messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]
        text = template.render(messages, add_generation_prompt=prompt)
        return text.removeprefix(added)

    first = render(_ASK)
    answered = render(_ASK, _ANSWER)
    head, close = _split(first, _ASK)
    opened = _after(render(_ASK, prompt=True), first)
    end = _split(answered, _ANSWER)[1]
    between = _split(_split(render(_ASK, _ANSWER, _AGAIN), _ANSWER)[1], _AGAIN)[0]
    user_open = _after(between, end)
    if not head.endswith(user_open):
        raise InputError("the chat template opens its first turn in another way than later ones")
    without_system = head[: len(head) - len(user_open)]
    system = _system(template, user_open, added)
    return Turns(system, without_system, (user_open, close), (opened, end))


def _system(template: ChatTemplate, user_open: str, added: str) -> tuple[str, str] | None:
    messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _ASK}]
    try:
        text = template.render(messages).removeprefix(added)
        before, rest = _split(text, _SYSTEM)
        after, _ = _split(rest, _ASK)
    except InputError:  # the template refuses system messages, or hides them
        return None
    return (before, after.removesuffix(user_open)) if after.endswith(user_open) else None


def _split(text: str, mark: str) -> tuple[str, str]:
    before, found, after = text.partition(mark)
    if not found:
        raise InputError(f"the chat template leaves out a message: {text!r:.200}")
    return before, after


def _after(text: str, start: str) -> str:
    if not text.startswith(start):
        raise InputError("the chat template rewrites earlier turns when a later one comes")
    return text[len(start) :]


def go_template(turns: Turns) -> str:
    """The same turns as a template for Ollama (text/template of Go, with `.Messages`)."""
    (user, user_end), (answer, answer_end) = turns.user, turns.assistant
    head = _go(turns.without_system)
    if turns.system is not None:
        before, after = turns.system
        head = (
            f"{{{{ if .System }}}}{_go(before)}{{{{ .System }}}}{_go(after)}"
            f"{{{{ else }}}}{head}{{{{ end }}}}"
        )
    return (
        f"{head}{{{{ range .Messages }}}}"
        f'{{{{ if eq .Role "user" }}}}{_go(user)}{{{{ .Content }}}}{_go(user_end)}'
        f'{{{{ else if eq .Role "assistant" }}}}{_go(answer)}{{{{ .Content }}}}{_go(answer_end)}'
        f"{{{{ end }}}}{{{{ end }}}}{_go(answer)}"
    )


def _go(text: str) -> str:
    """Plain text inside a Go template, inside the three quotes of a Modelfile."""
    for mark in ("{{", '"""'):
        text = text.replace(mark, f"{{{{ {json.dumps(mark)} }}}}")
    return text


def modelfile(gguf: Path, formatter: Formatter, context: int, licences: Mapping[str, str]) -> str:
    """The text of a Modelfile for `gguf`, which lies beside it.

    Args:
        gguf: the exported model.
        formatter: tokenizer and template; without a template Ollama passes the prompt on as it is.
        context: tokens that the model was trained for.
        licences: of the base and the datasets, by name.
    """
    lines = [f"FROM ./{gguf.name}"]
    tokenizer, template = formatter.tokenizer, formatter.template
    if template is None:
        lines.append('TEMPLATE """{{ .Prompt }}\n"""')
    else:
        turns = read_turns(template, template.bos if tokenizer.adds_bos else "")
        lines.append(f'TEMPLATE """{go_template(turns)}"""')
    stops = sorted(tokenizer.tokens[i] for i in tokenizer.eog_ids)
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops]
    lines.append(f"PARAMETER num_ctx {min(context, _LONGEST_CONTEXT)}")
    if licences:
        listed = "\n".join(f"{name}: {licence}" for name, licence in licences.items())
        lines.append(f'LICENSE """{listed}"""')
    return "\n".join(lines) + "\n"


def write_modelfile(
    gguf: Path, formatter: Formatter, context: int, licences: Mapping[str, str]
) -> Path:
    """Write `Modelfile` beside `gguf`; returns its path."""
    path = gguf.parent / "Modelfile"
    write_text(path, modelfile(gguf, formatter, context, licences))
    return path
