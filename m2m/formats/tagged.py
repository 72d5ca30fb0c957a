"""Files of words with tags (CoNLL): the row that the user can write in place of a sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

_NAMED = re.compile(r"[BIESLU]-\w+")
_MOST_WORDS = 12


def tagged_hint(lines: Sequence[str], answer: str = "completion") -> str:
    """Return a hint with a row made of the first sentence of a file, as a question and its answer.

    Args:
        lines: the first lines: a word with its tags each, or a comment.
        answer: the key of the answer in a row.
    """
    words: list[tuple[str, str]] = []
    for line in lines:
        cells = [] if line.startswith("-DOCSTART-") else line.split()
        if words and not cells:
            break
        if len(cells) > 1 and not line.startswith("#"):
            numbered = len(cells) > 3 and cells[0].isdecimal()  # CoNLL-U
            words.append((cells[1], cells[3]) if numbered else (cells[0], cells[-1]))
    return tagged_row(words[:_MOST_WORDS], answer)


def tagged_row(words: Sequence[tuple[str, str]], answer: str = "completion") -> str:
    """Return a hint with a row made of the (word, tag) pairs of a sentence."""
    sentence = " ".join(word for word, _ in words) or "..."
    names = [word for word, tag in words if _NAMED.fullmatch(tag)]
    if names:
        row = {"prompt": f"Which names are in: {sentence}", answer: ", ".join(names)}
    else:
        tags = ", ".join(f"{word} {tag}" for word, tag in words) or "..."
        row = {"prompt": f"Name the kind of each word: {sentence}", answer: tags}
    return (
        "write a row for each sentence, with a question in your language and its answer: "
        f"{json.dumps(row, ensure_ascii=False)}"
    )
