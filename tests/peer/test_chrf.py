"""chrF is sacrebleu's; run as a program, this file records tests/golden/chrf.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.peer
sacrebleu = pytest.importorskip("sacrebleu", reason="pip install sacrebleu")

from m2m.evaluate.overlap import chrf, chrf_counts  # noqa: E402

GOLDEN = Path(__file__).parent.parent / "golden" / "chrf.json"
SENTENCES = Path(__file__).parent.parent / "golden" / "sentences.txt"


def corpora(seed: int = 0) -> dict[str, list[tuple[str, list[str]]]]:
    """Predictions with their references: real sentences in many scripts, damaged a little."""
    rng = np.random.default_rng(seed)
    lines = [s for s in SENTENCES.read_text(encoding="utf-8").splitlines() if s.strip()][:40]
    said = []
    for line in lines:
        letters = list(line)
        for at in rng.integers(0, len(letters), max(1, len(letters) // 6)):
            letters[at] = letters[int(rng.integers(len(letters)))]
        said.append("".join(letters))
    odd = [("", ["a b"]), ("ab", ["a"]), ("a", ["abcdefgh"]), ("  ", ["x"]), ("abc", ["xyz"])]
    several = [(s, [other, line]) for s, line, other in zip(said, lines, lines[1:], strict=False)]
    return {
        "one reference": [(s, [line]) for s, line in zip(said, lines, strict=True)],
        "several references": several[:10],
        "odd ones": odd,
    }


def judged(rows: list[tuple[str, list[str]]]) -> tuple[float, list[float]]:
    """sacrebleu's chrF of a corpus and of its sentences."""
    metric = sacrebleu.metrics.CHRF()
    most = max(len(right) for _, right in rows)
    streams = [[right[i] for _, right in rows] for i in range(most)]
    corpus = metric.corpus_score([said for said, _ in rows], streams).score
    return corpus, [metric.sentence_score(said, right).score for said, right in rows]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", list(corpora()))
def test_chrf_is_sacrebleus(name: str, seed: int) -> None:
    rows = corpora(seed)[name]
    corpus, each = judged(rows)
    counts = np.array([chrf_counts(said, right) for said, right in rows])
    assert float(chrf(counts.sum(axis=0))) == pytest.approx(corpus, abs=1e-9)
    np.testing.assert_allclose(chrf(counts), each, atol=1e-9)


def record() -> None:
    found: list[dict[str, Any]] = []
    for name, rows in corpora().items():
        corpus, each = judged(rows)
        listed = [
            {"said": said, "right": right, "chrf": score}
            for (said, right), score in zip(rows, each, strict=True)
        ]
        found.append({"name": name, "corpus": corpus, "rows": listed})
    about = f"sacrebleu {sacrebleu.__version__}, CHRF(); written by tests/peer/test_chrf.py"
    text = json.dumps({"about": about, "corpora": found}, ensure_ascii=False, indent=1)
    GOLDEN.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
