"""How programs ask an exported model differently than in training, and the remedies.

m2m trains and scores with the prompts that llama.cpp makes from a GGUF's own chat template if the
user sets nothing. Every sentence here comes from rendering the model's template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from m2m.errors import InputError
from m2m.export.go_template import Turns, read_turns
from m2m.tokenizer import ChatTemplate, Formatter, Message
from m2m.tokenizer.template import TODAY

# Variables that every program sets, and those that have their own sentence below.
_USUAL = {"messages", "add_generation_prompt", "bos_token", "eos_token", "tools", "raise_exception"}
_KNOWN = _USUAL | {"strftime_now", "date_string", "enable_thinking"}
_ASK: Sequence[Message] = ({"role": "user", "content": "m2mAsk"},)
_TOLD: Sequence[Message] = ({"role": "system", "content": "m2mSystem"}, *_ASK)

_DAY = TODAY.strftime("%d %b %Y")
_ANY_DAY: dict[str, Any] = {"strftime_now": "m2mDate", "date_string": "m2mDate"}
_TRIED = 100  # names of variables at most
_CALL = re.compile(r"""strftime_now\(\s*(['"])([^'"]*)\1\s*\)""")

_PLAIN = (
    "It was trained without a chat template: a message, a newline, the answer. The GGUF and the "
    "Modelfile ask in the same way; do not give a program another template for it. The GGUF LoRA "
    "on the unchanged base is asked in the same way by `m2m chat --lora`, but not by other programs"
)
_NO_SYSTEM = (
    "The chat template has no place for a system message. m2m, llama.cpp and the Modelfile put it "
    "at the start of the first question, with a newline after it. llama-cpp-python refuses it or "
    "leaves it out: write it into the first question yourself"
)
_NO_BOS = (
    "The tokenizer puts {} first, and the chat template does not write it. llama.cpp and Ollama "
    "add it; `create_chat_completion` of llama-cpp-python does not"
)
_NO_TEMPLATE = (
    "Ollama cannot follow this chat template ({}), so the Modelfile has no TEMPLATE. Use llama.cpp "
    "for this model"
)
_FIXED_DATE = (
    "The chat template writes a date. As in training, it is always {} in the GGUF and the "
    "Modelfile. With the GGUF LoRA on the unchanged base, llama.cpp and llama-cpp-python write "
    "today's"
)
_DATE = (
    "The chat template writes a date. Training, scoring and the Modelfile use {}, llama.cpp and "
    "llama-cpp-python use today's: expect small differences"
)
_THINKING = (
    "llama.cpp's own programs set `enable_thinking`, which changes this template's prompts. The "
    "model was trained without it"
)
_FIXED_THINKING = (
    "`enable_thinking` changes this chat template's prompts. The model was trained without it, and "
    "in the GGUF and the Modelfile it does nothing. For the GGUF LoRA on the unchanged base "
    "llama.cpp's own programs set it"
)
_VARIABLES = (
    "The model was trained with these variables of the chat template: {0}. The GGUF and the "
    "Modelfile set them. With the GGUF LoRA on the unchanged base, start llama-server with "
    "--chat-template-kwargs '{1}'; `m2m chat --lora` does it by itself"
)
_HEAD = (
    'Every answer begins with "{}", as in the chat template. Programs that separate reasoning hide '
    "this; with others, remove it before you show an answer or send it back"
)
_DIFFERS = (
    "Ollama's template cannot write {} as the chat template does. Do not send these to Ollama, or "
    "use llama.cpp"
)
_TRIMS = (
    "The chat template removes white space from the ends of messages, and Ollama does not: send "
    "messages without it"
)


def serving_remarks(formatter: Formatter) -> list[str]:
    """Return how programs ask a model differently than in training, one sentence each."""
    template = formatter.template
    if template is None:
        return [_PLAIN]
    remarks = [*_date(template), *_thinking(template), *_unset(template), *_head(formatter)]
    if template.fixed:
        listed = ", ".join(f"{k} = {json.dumps(v)}" for k, v in sorted(template.fixed.items()))
        remarks.append(_VARIABLES.format(listed, json.dumps(template.fixed, sort_keys=True)))
    if not template.takes_system:
        remarks.append(_NO_SYSTEM)
    tokenizer = formatter.tokenizer
    if tokenizer.adds_bos and tokenizer.bos_id is not None and not _writes_bos(template):
        remarks.append(_NO_BOS.format(tokenizer.tokens[tokenizer.bos_id]))
    return remarks


def ollama_remarks(formatter: Formatter) -> list[str]:
    """Return how Ollama with the Modelfile differs from the chat template, one sentence each."""
    template = formatter.template
    if template is None:
        return []
    try:
        turns = read_turns(template, added_text(formatter))
    except InputError as error:
        return [_NO_TEMPLATE.format(error.message)]
    added = added_text(formatter)
    return [*_differing(template, turns, added)] or [*_spaces(template, turns, added)]


def added_text(formatter: Formatter) -> str:
    """Return the text of the BOS token that the tokenizer itself adds; "" if it adds none."""
    template, tokenizer = formatter.template, formatter.tokenizer
    return template.bos if template is not None and tokenizer.adds_bos else ""


def as_trained(source: str) -> str:
    """Return the chat template, changed so that programs that set its variables ask as in training.

    Today's date becomes the date of the training, and `enable_thinking` has no effect. A part that
    cannot be changed in this way stays as it is.
    """
    fixed = _CALL.sub(_dated, source)
    if "date_string" in source:
        fixed = f'{{% set date_string = "{_DAY}" %}}{fixed}'
    if fixed != source and not _asks_alike(source, fixed, **_ANY_DAY):
        fixed = source
    if "enable_thinking" not in source:
        return fixed
    without = [
        f"{{% set enable_thinking = {value} %}}{fixed}" for value in ("true", "false", "none")
    ]
    return next((variant for variant in (fixed, *without) if _never_thinks(source, variant)), fixed)


def _dated(call: re.Match[str]) -> str:
    """Return the quoted text that a call of `strftime_now` writes; the call itself if it fails."""
    try:
        return call[1] + ChatTemplate(f"{{{{ {call[0]} }}}}").render([]) + call[1]
    except InputError:
        return call[0]


def _never_thinks(source: str, changed: str) -> bool:
    """Return whether the changed template writes the same with thinking on, and with it off."""
    return all(_asks_alike(source, changed, enable_thinking=on) for on in (True, False))


def _asks_alike(source: str, changed: str, **variables: Any) -> bool:
    """Return whether `changed` with these variables writes the same as `source` without them."""
    talks = (_ASK, _TOLD, (*_ASK, {"role": "assistant", "content": "m2mAnswer"}, *_ASK))
    try:
        one, other = ChatTemplate(source), ChatTemplate(changed)
        return all(one.render(t, True) == other.render(t, True, **variables) for t in talks)
    except InputError:
        return False


def _date(template: ChatTemplate) -> Iterator[str]:
    if _same(template, _ASK, **_ANY_DAY):
        return
    sets = {**_ANY_DAY, "date_string": _DAY}
    kwargs = f'{{"date_string": "{_DAY}"}}'
    remedy = f". Start llama-server with --chat-template-kwargs '{kwargs}' then"
    remedy = remedy if _same(template, _ASK, **sets) else ""
    fixed = _asks_alike(template.source, as_trained(template.source), **_ANY_DAY)
    yield f"{(_FIXED_DATE if fixed else _DATE).format(_DAY)}{remedy}"


def _thinking(template: ChatTemplate) -> Iterator[str]:
    on, off = (_same(template, _ASK, enable_thinking=value) for value in (True, False))
    if on and off:
        return
    remedy = "send it the prompt as text, through `/completion`"
    remedy = "start them with `--reasoning off`" if off else remedy
    remedy = "do not start them with `--reasoning off`" if on else remedy
    fixed = _never_thinks(template.source, as_trained(template.source))
    yield f"{_FIXED_THINKING if fixed else _THINKING}: {remedy}"


def _unset(template: ChatTemplate) -> Iterator[str]:
    unknown = sorted(template.variables - _KNOWN)
    # Every name costs four renderings; no honest template has thousands of names.
    names = [n for n in unknown[:_TRIED] if not _same_with(template, n)]
    if names:
        listed = ", ".join(f"`{name}`" for name in names)
        if more := len(unknown) - len(unknown[:_TRIED]):
            listed += f" and perhaps some of {more} more"
        yield f"Leave these variables of the chat template unset, as in training: {listed}"


def _head(formatter: Formatter) -> Iterator[str]:
    head = formatter.tokenizer.decode(formatter.head)
    if head.strip():
        yield _HEAD.format(" ".join(head.split()))


def _writes_bos(template: ChatTemplate) -> bool:
    return bool(template.bos) and template.render(_ASK, True).startswith(template.bos)


def _same(template: ChatTemplate, messages: Sequence[Message], **variables: Any) -> bool:
    return template.render(messages, True) == template.render(messages, True, **variables)


def _same_with(template: ChatTemplate, name: str) -> bool:
    """Return whether a program that sets this variable gets the same prompt."""
    try:
        return all(_same(template, _ASK, **{name: value}) for value in (True, "m2m"))
    except InputError:
        return False


def _differing(template: ChatTemplate, turns: Turns, added: str) -> Iterator[str]:
    """Yield a remark if Ollama would write some kinds of conversations in another way."""

    def differs(questions: int, with_system: bool) -> bool:
        roles = ("system",) * with_system + ("user", "assistant") * questions
        talk = [{"role": role, "content": f"m2m{i}"} for i, role in enumerate(roles[:-1])]
        return template.render(talk, True).removeprefix(added) != turns.write(talk)

    kinds = {
        "questions with a system message": differs(1, True),
        "conversations of more than one question": any(
            differs(questions, with_system) for questions in (2, 3) for with_system in (False, True)
        ),
    }
    if differing := [kind for kind, wrong in kinds.items() if wrong]:
        yield _DIFFERS.format(" and ".join(differing))


def _spaces(template: ChatTemplate, turns: Turns, added: str) -> Iterator[str]:
    roles = ("system", "user", "assistant", "user")
    talk = [{"role": role, "content": f" \nm2m{i}\n "} for i, role in enumerate(roles)]
    if template.render(talk, True).removeprefix(added) != turns.write(talk):
        yield _TRIMS
