"""Hard texts in many scripts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

HARD = [
    " ",
    "   ",
    "a  b",
    "a   1 2  3",
    "\t\t x\n\n\n y \r\n z\r\r",
    "a\n \n b \n",
    "don't DON'T we'll I'd they've 're 'LL' ' s",
    "12345 1 22 333 4444 ４５ Ⅻ ½ ² ١٢٣",  # noqa: RUF001
    "E\u0301te\u0301 \u0301x",
    "ẹ̀kọ́ ọmọ ìyá Yorùbá ṣé ọ̀rọ̀",
    "ሰላም ለሁሉም፡ ኢትዮጵያ። ፩፪፫",
    "👩‍👩‍👧‍👦 🇰🇪 👍🏽 ☕️",
    "\x01\x1f\x7f\x85\xa0x\u2003y\u3000z\u200bq\u2028",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|><|im_end",
    "<|im_end|><|im_end|>",
    "日本語テキスト 한국어 العربية עברית ไทย हिन्दी",
    "Habari za asubuhi? Ninafurahi; ŋa ɓ ɗ ƙ",
    "x" * 700,
    "ab" * 300,
    " " * 300,
    "\ufeffBOM \ufffd",
    "\U0001d4b3\U0001d7d9 𞤀𞤣𞤤𞤢𞤥 𐊀 \U0001e4d0\U0001e4f0 \U0001e030",
    "foo_bar(baz)[1]{2};--//\\ $5 + 3% <=> ^~|`",
    "…—“”‘’'s",  # noqa: RUF001
    "@\n\n!!\r\n??\n",
]


def random_texts(count: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    pools: list[Callable[[], str]] = [
        lambda: chr(rng.randrange(0x20, 0x7F)),
        lambda: rng.choice(" \t\n\r'"),
        lambda: chr(rng.randrange(1, 0x250)),
        lambda: chr(rng.choice([rng.randrange(0x80, 0xD800), rng.randrange(0x10000, 0x20000)])),
        lambda: rng.choice(["<|im_end|>", "1", "é", "the", "ing"]),
    ]
    for _ in range(count):
        yield "".join(rng.choice(pools)() for _ in range(rng.randrange(1, 60)))
