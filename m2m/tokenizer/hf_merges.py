"""How llama.cpp can make the merges of a `tokenizer.json`: by scores of tokens, or by the list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from m2m.tokenizer.merging import merge
from m2m.tokenizer.spm import SPACE

Merges = Sequence[tuple[str, str]]


def unmade_token(vocabulary: Iterable[str], merges: Merges) -> str | None:
    """Return the first token that its merges do not make; it can only be found as a whole word."""
    ranks: dict[tuple[str, str], int] = {}
    for place, pair in enumerate(merges):
        ranks.setdefault(pair, place)

    def rank(left: str, right: str) -> int | None:
        return ranks.get((left, right))

    return next((t for t in vocabulary if len(t) > 1 and merge(t, rank) != [t]), None)


def scores_of(
    vocabulary: Iterable[str], merges: Merges, added: Iterable[str]
) -> dict[str, float] | None:
    """Return scores with which llama.cpp makes these merges like SentencePiece, or None.

    llama.cpp joins any two neighbours that make a token, the best score first. The file lists the
    pairs that are joined, in order. Both give the same ids if the list has every way to cut a token
    in two; the result is None if it lacks one.

    Args:
        vocabulary: the tokens.
        merges: the pairs.
        added: tokens that are found before anything is merged.
    """
    pairs = set(merges)
    scores: dict[str, float] = {}
    for rank, (left, right) in enumerate(merges):
        scores.setdefault(left + right, -float(rank))
    merged = set(vocabulary) - set(added)
    parts = (scores.keys() | {token for token in merged if len(token) == 1}) - set(added)
    for token in merged:
        for cut in range(1, len(token)):
            pair = token[:cut], token[cut:]
            if pair[0] in parts and pair[1] in parts and pair not in pairs:
                return None
    return scores


def listed_reason(merges: Merges, *, cut_at_spaces: bool) -> str | None:
    """Return why llama.cpp cannot follow a list of merges of characters, or None if it can.

    With `tokenizer.ggml.pre = "sarvam-moe"` it cuts a text at line ends only, writes U+2581 for a
    space and makes the merges in order.

    Args:
        merges: the pairs.
        cut_at_spaces: whether the file's words begin at a space.
    """
    for left, right in merges:
        token = left + right
        if " " in token:
            return f"the merge of {left!r} and {right!r} has a space"
        if "\n" in token and token.strip("\n"):
            return f"the merge of {left!r} and {right!r} joins a line end to other characters"
        if cut_at_spaces and SPACE in token[1:]:
            return f"the merge of {left!r} and {right!r} goes beyond a word"
    return None


def has_bytes(tokens: Mapping[str, int]) -> bool:
    """Return whether a vocabulary has a token for each byte."""
    return all(f"<0x{byte:02X}>" in tokens for byte in range(256))
