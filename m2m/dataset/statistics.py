"""What `m2m data check` tells about a dataset."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from m2m.dataset.rows import Row
from m2m.dataset.samples import Sample
from m2m.tokenizer import Tokenizer


@dataclass(frozen=True)
class Statistics:
    """Counts over one file.

    Attributes:
        rows: rows of the file.
        tokens: tokens of all samples, template included.
        trained_tokens: tokens that are predicted.
        tokens_per_word: tokens of the rows' own text per word between white space.
        bytes_per_token: UTF-8 bytes of that text per token.
        longest: tokens of the longest sample.
        duplicates: rows whose text an earlier row has already, case and punctuation apart.
        overlap: rows that hold a whole target text.
    """

    rows: int
    tokens: int
    trained_tokens: int
    tokens_per_word: float
    bytes_per_token: float
    longest: int
    duplicates: int
    overlap: int


def statistics(
    rows: Sequence[Row],
    samples: Sequence[Sample],
    tokenizer: Tokenizer,
    targets: Iterable[str] = (),
) -> Statistics:
    """Count; `targets` are texts of the targets that training rows should not hold."""
    texts = [row.plain_text for row in rows]
    words = sum(len(text.split()) for text in texts)
    ids = sum(len(tokenizer.encode(text)) for text in texts)
    # A row of signs only, such as an emoji, is compared as it is.
    folded = [found if (found := normalise(text)).strip() else text for text in texts]
    return Statistics(
        rows=len(rows),
        tokens=sum(len(sample) for sample in samples),
        trained_tokens=sum(int(sample.loss_mask.sum()) for sample in samples),
        tokens_per_word=ids / max(words, 1),
        bytes_per_token=sum(len(text.encode("utf-8", "replace")) for text in texts) / max(ids, 1),
        longest=max((len(sample) for sample in samples), default=0),
        duplicates=len(folded) - len(set(folded)),
        overlap=count_overlap(folded, targets),
    )


def normalise(text: str) -> str:
    """Lower case, words only, a space before, between and after them: what counts as the same."""
    folded = unicodedata.normalize("NFC", text).casefold()
    # Combining marks belong to their letters: without them tone marks would cut words apart.
    kept = (c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in folded)
    return f" {' '.join(''.join(kept).split())} "


def count_overlap(texts: Sequence[str], targets: Iterable[str]) -> int:
    """How many of the normalised `texts` hold a target text of two words or more."""
    wanted = {found for target in targets if (found := normalise(target)).count(" ") > 2}
    starts: dict[str, list[str]] = {}
    for target in wanted:
        starts.setdefault(target.split()[0], []).append(target)
    return sum(
        any(target in text for word in set(text.split()) & starts.keys() for target in starts[word])
        for text in texts
    )
