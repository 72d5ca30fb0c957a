"""Ollama's Modelfile, without `ADAPTER`, which Ollama refuses since 0.34.1."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from m2m.errors import InputError
from m2m.escaping import modelfile_value, one_line, visible
from m2m.export.go_template import go_template, plain_template, read_turns, unread
from m2m.export.serving import added_text, ollama_remarks, serving_remarks
from m2m.tokenizer import Formatter, Tokenizer

_LONGEST_CONTEXT = 8192
_NO_PLACE = (
    "The model was scored with an instruction, and this file has no place for it. Write it at the "
    "start of each question"
)


def modelfile(
    gguf: Path,
    formatter: Formatter,
    context: int,
    licences: Mapping[str, str],
    instruction: str = "",
) -> str:
    """Return the text of a Modelfile for `gguf`, which is in the same folder.

    Args:
        gguf: the exported model.
        formatter: tokenizer and template; comments say how Ollama differs from them.
        context: the context length of the training, in tokens.
        licences: the licences of the base and the datasets, by name.
        instruction: the system message with which the model was scored.
    """
    tokenizer = formatter.tokenizer
    template = _template(formatter) or ""
    system = instruction if ".System" in template else ""
    remarks = [*ollama_remarks(formatter), *serving_remarks(formatter)]
    remarks += [_NO_PLACE] if instruction != system else []
    lines = [
        line
        for remark in map(one_line, remarks)
        for line in textwrap.wrap(remark, 96, initial_indent="# - ", subsequent_indent="#   ")
    ]
    path = f"./{gguf.name}"
    lines.append(f"FROM {path if path.isprintable() else modelfile_value(path)}")
    if template:
        lines.append(f'TEMPLATE """{template}"""')
    stops = sorted(_shown(tokenizer, i) for i in tokenizer.eog_ids)
    lines += [f"PARAMETER stop {modelfile_value(stop)}" for stop in stops if unread(stop) is None]
    lines.append(f"PARAMETER num_ctx {min(context, _LONGEST_CONTEXT)}")
    lines.append("PARAMETER temperature 0")  # the likeliest token, as the model was scored
    if system:
        lines.append(f"SYSTEM {modelfile_value(visible(system), long=True)}")
    if licences:
        listed = "\n".join(f"{name}: {licence}" for name, licence in licences.items())
        lines.append(f"LICENSE {modelfile_value(visible(listed), long=True)}")
    return "\n".join(lines) + "\n"


def _template(formatter: Formatter) -> str | None:
    """Return the Go template; None if no Go template can write the same as the chat template."""
    tokenizer, template = formatter.tokenizer, formatter.template
    if template is None:
        eos = tokenizer.eos_id
        return plain_template("" if eos is None else tokenizer.tokens[eos])
    try:
        return go_template(read_turns(template, added_text(formatter)))
    except InputError:
        return None


def _shown(tokenizer: Tokenizer, index: int) -> str:
    """Return an end token as an answer's text shows it; ordinary tokens are spelled differently."""
    return tokenizer.tokens[index] if tokenizer.is_special(index) else tokenizer.decode([index])
