"""Check that a model can stop: the end tokens that base.gguf names, and if they were trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.checkpoint.base_weights import Tensors
from m2m.counted import counted
from m2m.errors import InputError
from m2m.formats.gguf import GGUFFile, GGUFValue
from m2m.formats.half import bf16_to_f32
from m2m.tokenizer import Formatter, Tokenizer
from m2m.tokenizer.ending import answer_ending, chat_template, trained_ends
from m2m.tokenizer.special import ENDS

# Names of tokens that end a text: the meaning of `eos`; the others of ENDS end a turn.
_TEXT_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[EOS]")
_ALMOST_ZERO = 0.01  # of the median norm of all rows
_SAMPLED = 512  # rows whose norms give the median
_KEY = "tokenizer.ggml.{}_token_id"


def settle_ends(
    where: Path, metadata: Mapping[str, GGUFValue], stops: Sequence[int] = ()
) -> tuple[dict[str, GGUFValue], list[str]]:
    """Return the end tokens that metadata lacks, so that llama.cpp stops as m2m trained the model.

    Without an eos id llama.cpp ends answers at token 11 of a byte-level vocabulary, often a comma.

    Args:
        where: the model, for messages.
        metadata: key-values of its GGUF file.
        stops: more ids at which generation stops, as the model's maker set them.

    Returns:
        key-values to add or replace, and a sentence about each.

    Raises:
        InputError: m2m knows no token of the vocabulary that could end a text.
    """
    plain: dict[str, Any] = {key: value.value for key, value in metadata.items()}
    ends: dict[str, int] = {}
    warnings: list[str] = []
    tokenizer = Tokenizer.from_metadata(plain.get)
    tokens, ending, eos = tokenizer.tokens, None, tokenizer.eos_id
    with suppress(InputError):  # `ending_warnings` reports a template that fails
        template = chat_template(plain.get, tokenizer, where)
        ids = [] if template is None else answer_ending(tokenizer, template)[1]
        # m2m does not guess which one of several tokens ends the turn.
        ending = ids[0] if len(ids) == 1 and tokenizer.is_special(ids[0]) else None
    stops = [index for index in stops if 0 <= index < len(tokens)]
    if _KEY.format("eos") not in plain and (eos is None or tokens[eos] not in ENDS):
        instead = "" if eos is None else f"; llama.cpp would stop at {tokenizer.decode([eos])!r}"
        eos = ends["eos"] = _find_eos(where, tokens, stops, ending, instead)
        if not stops:
            warnings.append(
                f"The model's files name no end token{instead}. m2m wrote {tokens[eos]} as eos."
            )
    for index in dict.fromkeys([*([] if ending is None else [ending]), *stops]):
        new = {_KEY.format(role): index for role, index in ends.items()}
        if index in Tokenizer.from_metadata((plain | new).get).eog_ids:
            continue
        role = next((r for r in ("eot", "eom") if _is_free(r, plain | new, tokens)), None)
        if role is None:
            warnings.append(f"llama.cpp has no place for one more end token, {tokens[index]}.")
            continue
        ends[role] = index
        if index not in stops:
            warnings.append(
                f"The vocabulary does not mark {tokens[index]} as an end token, but the chat "
                f"template ends answers with it. m2m wrote it as {role}, so llama.cpp stops there."
            )
    return {_KEY.format(role): GGUFValue.uint32(index) for role, index in ends.items()}, warnings


def _find_eos(
    where: Path, tokens: Sequence[str], stops: Sequence[int], ending: int | None, instead: str
) -> int:
    """Return the id of the end of text: the maker's, one with a known name, or the template's."""
    ids = {token: index for index, token in enumerate(tokens)}
    named = [ids[name] for name in (*_TEXT_ENDS, *ENDS) if name in ids]
    eos = next(iter([*stops, *named, *([] if ending is None else [ending])]), None)
    if eos is None:
        raise InputError(
            f"{where}: the vocabulary names no end token{instead}",
            'write the end token as "eos_token" into tokenizer_config.json of the Hugging Face '
            "folder and import that, or get a newer GGUF",
        )
    return eos


def _is_free(role: str, plain: Mapping[str, Any], tokens: Sequence[str]) -> bool:
    """Return whether `role` may mark another token: unset, an end token by name, or also eos."""
    index = plain.get(_KEY.format(role))
    return index is None or tokens[index] in ENDS or index == plain.get(_KEY.format("eos"))


def model_endings(gguf: GGUFFile, weights: Tensors) -> list[str]:
    """Return `ending_warnings` of a model's own chat template, or of plain text without one.

    Args:
        gguf: its base.gguf.
        weights: the model's tensors by HF name.
    """
    tokenizer = Tokenizer.from_metadata(gguf.value)
    try:
        formatter = Formatter(tokenizer, chat_template(gguf.value, tokenizer, gguf.path))
        return list(ending_warnings(formatter, weights))
    except InputError as error:
        remedy = 'Use a model with a template that works, or set template = "plain" in [base].'
        return [f"{error.message}. {remedy}"]


def ending_warnings(formatter: Formatter, weights: Tensors) -> Iterator[str]:
    """Yield why a model that is trained with these prompts may not stop, and the remedy.

    Args:
        formatter: of the model; if it has no template, answers end with eos.
        weights: the model's tensors by HF name.

    Raises:
        InputError: the template cannot format a question and its answer.
    """
    tokenizer, template = formatter.tokenizer, formatter.template
    name = "lm_head.weight" if "lm_head.weight" in weights else "model.embed_tokens.weight"
    head, eos = weights.raw(name), tokenizer.eos_id
    plain = ""
    if template is not None and eos is not None and not _untrained(head, eos, tokenizer):
        plain = (
            f' Or set template = "plain" in [base]: answers then end with {tokenizer.tokens[eos]}.'
        )
    for index in sorted(tokenizer.eog_ids):
        if not tokenizer.is_special(index):
            yield (
                f"llama.cpp ends an answer wherever the model writes {tokenizer.decode([index])!r} "
                f"(token {index}), which is ordinary text: the model's file names it as an end "
                "token, or names none. Import the model again. If this warning stays, get a newer "
                "GGUF, or import the model's Hugging Face folder."
            )
    ends = trained_ends(formatter)
    if not ends and template is not None:
        text, ids = answer_ending(tokenizer, template)
        wrote = (
            f"ends an answer with {text[:40]!r}, which is not an end token of the vocabulary (it "
            f"cuts this into {counted(len(ids), 'token')})"
            if text
            else "writes no end token after an answer"
        )
        yield (
            f"The chat template {wrote}. A model that is trained with it does not learn to stop. "
            f"Use a model whose template ends its answers.{plain}"
        )
    faults = [_untrained(head, end, tokenizer) for end in ends]
    if faults and all(faults):
        yield (
            f"The end token {tokenizer.tokens[ends[0]]} was never trained: its row of {name} "
            f"{faults[0]}. "
            "A LoRA cannot teach it, so answers may not stop. Use the instruct version of this "
            f"model.{plain}"
        )


def _untrained(head: NDArray[Any], index: int, tokenizer: Tokenizer) -> str | None:
    """Return the sign that a row (C,) of the head (V, C) was never trained, or None."""
    row = head[index]
    size = _norms(head[index : index + 1])[0]
    typical = float(np.median(_norms(head[:: max(1, len(head) // _SAMPLED)])))
    if size <= _ALMOST_ZERO * typical:
        return "is zero" if size == 0 else "is almost zero"
    alike = np.flatnonzero((head[:, :16] == row[:16]).all(axis=1))
    twins = [int(i) for i in alike if i != index and np.array_equal(head[i], row)]
    if not twins:
        return None
    more = f" and of {counted(len(twins) - 1, 'more token')}" if len(twins) > 1 else ""
    return f"equals that of {tokenizer.tokens[twins[0]]}{more}"


def _norms(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Return the norms of rows (N, C) of float16, float32, or uint16 for BF16."""
    values = bf16_to_f32(rows) if rows.dtype == np.uint16 else rows.astype(np.float32)
    norms: NDArray[np.float32] = np.linalg.norm(values, axis=1)
    return norms
