"""Ollama's Go template, derived from a model's own chat template.

The derivation renders short conversations and reads the text between their messages, so it needs no
list of known templates. The rules are those of Ollama's template/template.go since 0.3
(`collate`, `Execute`): `.System` holds all system messages, joined by an empty line; `.Messages`
holds all messages, system messages too, and neighbouring messages of one role are joined. If the
last message is an answer, the model continues it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from m2m.errors import InputError
from m2m.escaping import no_three_quotes
from m2m.tokenizer import ChatTemplate

# Texts that no template contains and that every template passes on unchanged.
_SYSTEM, _ASK, _ANSWER, _AGAIN = "m2mSystem", "m2mAsk", "m2mAnswer", "m2mAgain"
_ROLES = ("user", "assistant")

Texts = tuple[str, str]


@dataclass(frozen=True)
class Turns:
    """The texts that a chat template writes before each message.

    Attributes:
        bare: before the first question if there is no system message (for example a default one).
        with_system: before and after the system message; the second text ends at the first
            question.
        again: before a later question.
        with_system_later: before and after the system message, if the template puts it into the
            last question; `with_system` then applies if the first question is also the last. Else
            None.
        answer: before an answer, with the end of the question.
        prompt: before the answer that the model writes.
    """

    bare: str
    with_system: Texts
    again: str
    with_system_later: Texts | None
    answer: str
    prompt: str

    def write(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the text that Ollama makes of a conversation with `go_template`."""
        system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
        turns = [m for m in messages if m["role"] != "system"]
        text, first = "", True
        for i, message in enumerate(turns):
            if message["role"] == "assistant":
                text += self.answer + message["content"]
                continue
            last = i == len(turns) - 1
            around = self.with_system if first else self.with_system_later
            if system and around and (last or self.with_system_later is None):
                text += system.join(around)
            else:
                text += self.bare if first else self.again
            text, first = text + message["content"], False
        ends = not turns or turns[-1]["role"] != "assistant"
        return text + (self.prompt if ends else "")


def read_turns(template: ChatTemplate, added: str = "") -> Turns:
    """Find the texts that a chat template writes before messages.

    Args:
        template: the model's chat template.
        added: the text (BOS) that the tokenizer itself puts in front of every text. It is left out
            here, so that it is not written twice if the template writes it too.

    Raises:
        InputError: the template does not write the messages one after the other.
    """

    def render(*contents: str, system: str = "") -> str:
        turns = [{"role": r, "content": c} for r, c in zip(_ROLES * 2, contents, strict=False)]
        first = [{"role": "system", "content": system}] if system else []
        return template.render([*first, *turns], add_generation_prompt=True).removeprefix(added)

    bare, prompt = _cut(render(_ASK), _ASK)
    later = render(_ASK, _ANSWER, _AGAIN)
    _, answer, again, _ = _cut(later, _ASK, _ANSWER, _AGAIN)
    *with_system, _ = _cut(render(_ASK, system=_SYSTEM), _SYSTEM, _ASK)
    long = render(_ASK, _ANSWER, _AGAIN, system=_SYSTEM)
    with_system_later: Texts | None = None
    if long.find(_SYSTEM) > long.find(_ANSWER):
        _, _, before, after, _ = _cut(long, _ASK, _ANSWER, _SYSTEM, _AGAIN)
        with_system_later = before, after
    return Turns(bare, (with_system[0], with_system[1]), again, with_system_later, answer, prompt)


def _cut(text: str, *marks: str) -> list[str]:
    """Return the texts before, between and after the marks."""
    parts = []
    for mark in marks:
        before, separator, text = text.partition(mark)
        if not separator:
            raise InputError("the chat template moves messages or leaves some out")
        parts.append(before)
    return [*parts, text]


def go_template(turns: Turns) -> str:
    """Return the same turns as a template for Ollama (Go's text/template, with `.Messages`)."""
    with_system = "{{ $.System }}".join(map(_go, turns.with_system))
    first, later, rest = _go(turns.bare), _go(turns.again), ""
    condition = "$.System"
    if turns.with_system_later is not None:
        last = "(eq (len (slice $.Messages $i)) 1)"
        condition = f"and $.System {last}"
        again = "{{ $.System }}".join(map(_go, turns.with_system_later))
        later = f"{{{{ if {condition} }}}}{again}{{{{ else }}}}{later}{{{{ end }}}}"
    first = f"{{{{ if {condition} }}}}{with_system}{{{{ else }}}}{first}{{{{ end }}}}"
    rest = f'{{{{ if ne $last "assistant" }}}}{_go(turns.prompt)}{{{{ end }}}}'
    return (
        '{{ $first := true }}{{ $last := "" }}{{ range $i, $_ := .Messages }}{{ $last = .Role }}'
        f'{{{{ if eq .Role "user" }}}}{{{{ if $first }}}}{{{{ $first = false }}}}{first}'
        f"{{{{ else }}}}{later}{{{{ end }}}}{{{{ .Content }}}}"
        f'{{{{ else if eq .Role "assistant" }}}}{_go(turns.answer)}{{{{ .Content }}}}'
        f"{{{{ end }}}}{{{{ end }}}}{rest}"
    )


def plain_template(end: str) -> str:
    """Return a template for models without one: a line per message, EOS after each answer."""
    return (
        f'{{{{ range .Messages }}}}{{{{ .Content }}}}{{{{ if eq .Role "assistant" }}}}{_go(end)}'
        "{{ else }}\n{{ end }}{{ end }}"
    )


def unread(text: str) -> re.Match[str] | None:
    """Find a character that Ollama skips when it reads a Modelfile (Go's `strconv.IsPrint`)."""
    return next((m for m in re.finditer(r"[^\n\t ]", text) if not m[0].isprintable()), None)


def _readable(character: re.Match[str]) -> str:
    """Return the character, or a Go string for it if Ollama would skip it."""
    shown = character[0]
    return shown if shown.isprintable() else f'{{{{ "\\U{ord(shown):08x}" }}}}'


def _go(text: str) -> str:
    """Escape plain text for a Go template inside the three quotes of a Modelfile."""
    text = no_three_quotes(text.replace("{{", '{{ "{{" }}'), '{{ "\\"" }}')
    # In one pass: a hostile template can write a hundred thousand different characters.
    text = re.sub(r"[^\n\t ]", _readable, text)
    # A brace or quote at the end would join the text that follows.
    if text and text[-1] in '{"':
        text = f"{text[:-1]}{{{{ {json.dumps(text[-1])} }}}}"
    return text
