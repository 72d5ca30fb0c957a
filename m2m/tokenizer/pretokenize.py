"""Cuts text into words before byte-pair merging, at the same places as llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import m2m.tokenizer.expressions as cuts
from m2m.errors import InputError
from m2m.families import USE_KNOWN
from m2m.tokenizer.expressions import Cutter
from m2m.tokenizer.spm import SPACE


@dataclass(frozen=True)
class Pretokenizer:
    """How one family of vocabularies cuts text, and its other settings in llama.cpp.

    Attributes:
        steps: how a text is cut.
        ignore_merges: whether a word that is a token is kept whole.
        adds_bos: whether a sequence starts with the BOS token if the file does not say it.
        always_bos: whether it does so even if the file says that it does not.
        has_default_bos: whether a file that names no BOS token has llama.cpp's, token 11.
        byte_level: whether a token's letters are bytes; if not, they are the text's own.
        marks_spaces: whether a token has U+2581 for a space.
        keeps_newlines: whether several line ends that are a token are kept whole.
        mask_takes_spaces: whether white space before `<mask>` is left out.
    """

    steps: tuple[Cutter, ...]
    ignore_merges: bool = False
    adds_bos: bool = False
    always_bos: bool = False
    has_default_bos: bool = True
    byte_level: bool = True
    marks_spaces: bool = False
    keeps_newlines: bool = False
    mask_takes_spaces: bool = False

    def cut(self, text: str) -> list[str]:
        """Cut `text` into words, in order; together they are the text, with marked spaces."""
        if self.marks_spaces:
            text = text.replace(" ", SPACE)
        view, seen = self.steps[0].view, text
        if plain := text.isascii():
            pieces = [text]
        else:
            seen = text.translate(view)
            pieces = [seen]
        for step in self.steps:
            if step.view is not view and not plain:
                view = step.view
                pieces = _same_cuts(text.translate(view), pieces)
            pieces = [part for piece in pieces for part in step.cut(piece) if part]
        return pieces if plain else _same_cuts(text, pieces)


def _same_cuts(text: str, pieces: list[str]) -> list[str]:
    """Cut a text into pieces that are as long as these."""
    words, start = [], 0
    for piece in pieces:
        words.append(text[start : start + len(piece)])
        start += len(piece)
    return words


_GPT2 = Pretokenizer(cuts.GPT2)
_DIGITS_GPT2 = Pretokenizer(cuts.DIGITS_GPT2)
_LLAMA3 = Pretokenizer(cuts.LLAMA3)
_QWEN2 = Pretokenizer(cuts.QWEN2)
_GPT4O = Pretokenizer(cuts.GPT4O)
_JINA = Pretokenizer(cuts.GPT2, mask_takes_spaces=True)
_LINES = Pretokenizer(cuts.LINES, byte_level=False, marks_spaces=True)
_GEMMA4 = Pretokenizer(
    cuts.LINES, byte_level=False, marks_spaces=True, keeps_newlines=True, always_bos=True
)

# How to cut -> the values of tokenizer.ggml.pre with which llama.cpp does so (src/llama-vocab.cpp,
# llama_vocab::impl::load). They are separated by spaces.
_NAMES: tuple[tuple[Pretokenizer, str], ...] = (
    (Pretokenizer(cuts.DEFAULT), "default"),
    (
        _GPT2,
        "gpt-2 phi-2 jina-es jina-de gigachat a.x-4.0 mellum modern-bert exaone4 mpt olmo jais "
        "trillion granite-docling jina-v1-en roberta-bpe",
    ),
    (_JINA, "jina-v2-es jina-v2-de jina-v2-code"),
    (_DIGITS_GPT2, "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2"),
    (
        Pretokenizer(cuts.LLAMA3, ignore_merges=True, adds_bos=True),
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
    ),
    (_LLAMA3, "smaug-bpe dbrx"),
    (Pretokenizer(cuts.LLAMA3, has_default_bos=False), "chatglm-bpe"),
    (Pretokenizer(cuts.LLAMA3, has_default_bos=False, ignore_merges=True), "glm4 glm5"),
    (_QWEN2, "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2"),
    (Pretokenizer(cuts.QWEN35), "qwen35"),
    (Pretokenizer(cuts.JAIS2), "jais-2"),
    (Pretokenizer(cuts.MINICPM5, ignore_merges=True), "minicpm5"),
    (Pretokenizer(cuts.LAGUNA), "laguna"),
    (Pretokenizer(cuts.SEED_CODER), "seed-coder"),
    (Pretokenizer(cuts.BAILING), "bailingmoe bailingmoe2 llada-moe"),
    (Pretokenizer(cuts.UFAKZEKA), "ufakzeka"),
    (Pretokenizer(cuts.EXAONE_MOE), "exaone-moe"),
    (Pretokenizer(cuts.TEKKEN, ignore_merges=True, adds_bos=True), "tekken"),
    (_GPT4O, "gpt-4o llama4 kanana2 talkie minimax-m2"),
    (Pretokenizer(cuts.GRANITE_MULTI, ignore_merges=True), "granite-embed-multi-97m"),
    (Pretokenizer(cuts.TINY_AYA), "tiny_aya cohere2moe"),
    (Pretokenizer(cuts.YOUTU, ignore_merges=True), "youtu"),
    (Pretokenizer(cuts.KIMI_K2), "kimi-k2"),
    (Pretokenizer(cuts.SUPERBPE), "superbpe"),
    (Pretokenizer(cuts.AFMOE), "afmoe"),
    (Pretokenizer(cuts.DEEPSEEK3), "deepseek-v3 hunyuan-dense joyai-llm hy_v4"),
    (Pretokenizer(cuts.SPARK), "spark2_5"),
    (Pretokenizer(cuts.DEEPSEEK_CODER), "deepseek-coder"),
    (Pretokenizer(cuts.DEEPSEEK_LLM), "deepseek-llm"),
    (Pretokenizer(cuts.FALCON), "falcon"),
    (Pretokenizer(cuts.BLOOM), "bloom poro-chat gpt3-finnish"),
    (Pretokenizer(cuts.VIKING), "viking"),
    (Pretokenizer(cuts.CHAMELEON, adds_bos=True), "chameleon"),
    (_GEMMA4, "gemma4 granite-embed-multi-311m"),
    (_LINES, "sarvam-moe"),
)
PRETOKENIZERS = {name: entry for entry, names in _NAMES for name in names.split()}


def find_pretokenizer(name: Any) -> Pretokenizer:
    """Return the entry of `PRETOKENIZERS` for a file's `tokenizer.ggml.pre` (absent: "default").

    Raises:
        InputError: the name is not in the table; guessing would give wrong ids.
    """
    if name == "whitespace":
        raise InputError(
            "the pre-tokenizer 'whitespace' (tokenizer.ggml.pre) is made for models that compare "
            "texts: llama.cpp crashes on two spaces, and the text cannot be written again",
            USE_KNOWN,
        )
    try:
        return PRETOKENIZERS[name or "default"]
    except (KeyError, TypeError):  # TypeError: a list
        raise InputError(
            f"unknown pre-tokenizer {name!r} (tokenizer.ggml.pre); "
            f"known are {', '.join(sorted(PRETOKENIZERS))}",
            USE_KNOWN,
        ) from None
