"""Warnings: a vocabulary gives other ids than its maker's, or llama.cpp changes how it works."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

# llama.cpp strips white space after the special tokens of models with such a name, and cannot load
# one whose vocabulary lacks `</s>` (src/llama-vocab.cpp, "set attributes by model name").
_PHI3 = re.compile("phi-?3", re.I)
_MODERN_BERT = re.compile("modern-bert", re.I)  # white space before `[MASK]`, in the same place
_NAMED = 4  # tokens that a warning names
_FLAGS = {
    "lstrip": "removes white space before these tokens",
    "rstrip": "removes white space after these tokens",
    "single_word": "finds these tokens only as whole words",
    "normalized": "looks for these tokens in normalised text",
}


def safe_name(name: str) -> str:
    """Return the name, changed so that llama.cpp does not change the vocabulary because of it."""
    return _MODERN_BERT.sub("modern_bert", _PHI3.sub("phi_3", name))


def flag_warnings(flags: Mapping[str, list[str]]) -> list[str]:
    """Return warnings about flags of added tokens (flag -> tokens) that llama.cpp ignores."""
    return [
        f"The tokenizer {_FLAGS[flag]}: {_listed(tokens)} ({flag}). llama.cpp and m2m do not, so "
        "text next to these tokens gets other ids than in transformers."
        for flag, tokens in flags.items()
    ]


def _listed(tokens: list[str]) -> str:
    more = f" and {len(tokens) - _NAMED} more" if len(tokens) > _NAMED else ""
    return ", ".join(tokens[:_NAMED]) + more


def beyond_warning(tokens: Mapping[int, str], size: int) -> list[str]:
    """Return warnings about added tokens (id -> text) beyond the `size` rows of embeddings."""
    if not tokens:
        return []
    names = _listed([f"{text} ({index})" for index, text in sorted(tokens.items())])
    return [
        f"The tokenizer has tokens that the model has no embeddings for ({size} rows): {names}. "
        "m2m leaves them out, so their text becomes several tokens. In transformers, "
        "resize_token_embeddings(len(tokenizer)) makes rows for them; they must then be trained."
    ]


def spm_warning(normalizer: str, merges_spaces: bool) -> str:
    """Return a warning: SentencePiece changes text before BPE, llama.cpp only before unigram."""
    done = [f"normalises text ({normalizer})"] if normalizer else []
    done += ["makes several spaces one"] if merges_spaces else []
    return (
        f"tokenizer.model {' and '.join(done)} first; llama.cpp and m2m do not for this kind of "
        "vocabulary, so some text gets other ids than in transformers. Save your data as NFKC with "
        "single spaces."
    )


DROPOUT = (
    "The tokenizer leaves out merges at random (dropout). llama.cpp and m2m make all of them, as "
    "is usual after the training of the base model."
)
PREFIX_SPACE = (
    "The tokenizer puts a space before each text (add_prefix_space). llama.cpp and m2m add none "
    "for this kind of vocabulary, so the first word gets other ids than in transformers."
)
CASES = (
    "llama.cpp cuts words for this tokenizer ({}) at marks that stand alone, and takes letters "
    "beyond ASCII for capital and small ones. m2m does the same, so some words get other ids than "
    "in transformers."
)
NO_BYTES = (
    "The vocabulary has no byte tokens. A row with a character that it lacks is refused; llama.cpp "
    "leaves the character out, transformers writes the unknown token."
)


def form_warning(form: str) -> str:
    """Return a warning about a normalizer that changes text to a form, such as NFC."""
    if form == "Lowercase":
        return (
            "The tokenizer first makes capital letters small; llama.cpp and m2m do not. Capital "
            "letters get ids that the model never saw, in your data and in questions to the model: "
            "write both in small letters."
        )
    letters = "Letters that are stored as letter and mark apart" if form == "NFC" else "Other texts"
    found = "; `m2m data check` finds rows that are not" if form == "NFC" else ""
    return (
        f"The tokenizer first changes text to Unicode {form}; llama.cpp and m2m do not. {letters} "
        f"get other ids. Save your data as {form}{found}."
    )


FOLDED = (
    "The chat template has no place for a system message. m2m puts it at the start of the first "
    "question, with a newline after it, as llama.cpp does."
)


def vocabulary_warnings(get: Callable[[str], Any]) -> list[str]:
    """Return warnings about the vocabulary of a GGUF file, to read before training with it.

    Args:
        get: returns the value of a metadata key, or None.
    """
    warnings = []
    kind, pre = get("tokenizer.ggml.model"), get("tokenizer.ggml.pre")
    if kind == "gpt2" and pre in (None, "", "default"):
        state = 'only "default"' if pre else "missing"
        warnings.append(
            "The model's file does not say how to cut text into words (tokenizer.ggml.pre is "
            f"{state}). m2m and llama.cpp then use a general rule, probably not the one that the "
            "model was trained with, and its answers get worse. Get a newer GGUF of this model, or "
            "import its Hugging Face folder."
        )
    if kind == "gpt2" and get("tokenizer.ggml.bos_token_id") is None:
        template = get("tokenizer.chat_template")
        tokens = get("tokenizer.ggml.tokens") or []
        if isinstance(template, str) and "bos_token" in template and len(tokens) > 11:
            warnings.append(
                "The chat template writes bos_token, but the file names no such token. llama.cpp "
                f"takes token 11 ({tokens[11]!r}), and so does m2m. Get a newer GGUF of this model."
            )
    if kind == "llama" and get("tokenizer.ggml.remove_extra_whitespaces"):
        warnings.append(
            "The vocabulary asks for single spaces (tokenizer.ggml.remove_extra_whitespaces), "
            "which llama.cpp and m2m do not make here. Use single spaces in your data."
        )
    if _PHI3.search(str(get("general.name") or "")) and "</s>" in (
        get("tokenizer.ggml.tokens") or ()
    ):
        warnings.append(
            "The model's name contains phi-3. For such a name llama.cpp leaves out white space "
            "after special tokens; m2m keeps it, and writes the name of its own files with phi_3 "
            "so that llama.cpp keeps it too."
        )
    if _MODERN_BERT.search(str(get("general.name") or "")) and "[MASK]" in (
        get("tokenizer.ggml.tokens") or ()
    ):
        warnings.append(
            "The model's name contains modern-bert. For such a name llama.cpp leaves out white "
            "space before [MASK]; m2m keeps it, and writes the name of its own files with "
            "modern_bert so that llama.cpp keeps it too."
        )
    return warnings
