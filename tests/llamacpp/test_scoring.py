from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m2m.errors import InputError, LlamaError
from m2m.formats.gguf import GGUFFile
from m2m.llamacpp import scoring
from m2m.llamacpp.filetypes import file_type
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.scoring import Request, common_prefix, log_normalizer, score, score_text
from m2m.llamacpp.scratch_model import Surrogate
from tests.tiny import PLACE_NATS

TARGET = Path(__file__).parents[2] / "examples"

ids = st.lists(st.integers(3, 290), min_size=1, max_size=30)
short = st.lists(st.sampled_from([5, 6, 7]), min_size=0, max_size=4)
requests = st.lists(
    st.builds(Request, ids, st.lists(short, min_size=1, max_size=5)), min_size=1, max_size=12
)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    logs: np.ndarray = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return logs


def naive(model: LlamaModel, prompt: Sequence[int], continuation: Sequence[int]) -> float:
    """One sequence alone in the cache, every token decoded."""
    logs = log_softmax(model.logits([*prompt, *continuation]))
    return float(sum(logs[len(prompt) - 1 + i, t] for i, t in enumerate(continuation)))


def assert_equals_naive(
    model: LlamaModel, asked: Sequence[Request], tolerance: float
) -> scoring.Scored:
    scored = score(model, asked)
    for request, found in zip(asked, scored.loglik, strict=True):
        expected = [naive(model, request.prompt, c) for c in request.continuations]
        np.testing.assert_allclose(found, expected, atol=tolerance)
    return scored


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(asked=requests, prefix=st.lists(st.integers(3, 290), max_size=40))
def test_scores_are_those_of_one_sequence_at_a_time(
    exact: LlamaModel, asked: list[Request], prefix: list[int]
) -> None:
    asked = [Request([*prefix, *r.prompt], r.continuations) for r in asked]
    scored = assert_equals_naive(exact, asked, 1e-3)
    assert scored.decoded <= max(scored.separate, len(common_prefix(asked)))


def test_many_windows_and_nothing_decoded_twice(exact: LlamaModel) -> None:
    prefix = list(range(10, 60))
    asked = [
        Request([*prefix, 70 + i, 80, 90], [[100, 101, 102], [100, 103], [104]]) for i in range(60)
    ]
    scored = assert_equals_naive(exact, asked, 1e-3)
    # prefix once; per row three of the prompt, 100 and 101, since 102, 103, 104 are only predicted
    assert scored.decoded == 50 + 60 * (3 + 2)
    assert scored.separate == 60 * (3 * 53 + 3)


def test_a_second_call_with_the_same_prefix_finds_it_in_the_cache(exact: LlamaModel) -> None:
    asked = [Request([*range(20, 50), i], [[7]]) for i in (60, 61)]
    exact.clear()
    first, second = score(exact, asked), score(exact, asked)
    assert first.loglik == second.loglik
    assert (first.decoded, second.decoded) == (32, 2)


@pytest.mark.parametrize("type", ["f16", "bf16", "q8_0", "q4_0"])
def test_low_bit_weights_agree_within_their_rounding(type: str, pico: Path, tmp_path: Path) -> None:
    asked = [Request([*range(10, 30), i], [[40, 41], [42, 43, 44], [45]]) for i in range(50, 90)]
    with Surrogate(GGUFFile(pico), file_type(type), tmp_path) as surrogate:
        assert_equals_naive(surrogate.load([]), asked, PLACE_NATS[type])


@pytest.mark.parametrize("type", ["f32", "f16", "bf16", "q8_0", "q4_0"])
def test_a_row_scores_the_same_to_the_bit_a_multiple_of_32_cells_further_on(
    type: str, pico: Path, tmp_path: Path
) -> None:
    """Other rows of the batch do not count, nor how many there are: only lanes of vectors do."""
    row = [5 + 7 * i % 250 for i in range(40)]

    def logits(model: LlamaModel, before: int, after: int) -> bytes:
        model.clear()
        places = [*range(before), *range(len(row)), *range(after)]
        owners = [(1,)] * before + [(0,)] * len(row) + [(2,)] * after
        wanted = [False] * before + [True] * len(row) + [False] * after
        others = [
            [9 + (start + 3 * i) % 200 for i in range(n)] for start, n in enumerate((before, after))
        ]
        return model.decode([*others[0], *row, *others[1]], places, owners, wanted).tobytes()

    with Surrogate(GGUFFile(pico), file_type(type), tmp_path, threads=2) as surrogate:
        model = surrogate.load([])
        alone = logits(model, 0, 0)
        for before, after in ((0, 1), (0, 2), (0, 3), (0, 100), (32, 0), (64, 5), (96, 61)):
            assert logits(model, before, after) == alone, (before, after)


@pytest.mark.parametrize("length", [5, 60, 300])
def test_the_first_batch_takes_the_prefix_along(
    exact: LlamaModel, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """One batch fewer than by keeping the prefix first, unless it fills one; the same scores."""
    head = [3 + i % 250 for i in range(length)]
    asked = [Request([*head, 10 + i, 40], [[5, 6], [7]]) for i in range(4)]
    calls: list[int] = []
    decode = LlamaModel.decode

    def counted(model: LlamaModel, tokens: Sequence[int], *more: object) -> object:
        calls.append(len(tokens))
        return decode(model, tokens, *more)  # type: ignore[arg-type]

    exact.clear()
    exact.reserve(length + 200)
    monkeypatch.setattr(LlamaModel, "decode", counted)
    together = score(exact, asked)
    batches = len(calls)
    exact.clear()
    exact.keep(head)
    apart = score(exact, asked)
    assert together.decoded == sum(calls[:batches])
    assert len(calls) - batches == batches + (length < exact.batch)
    assert together.decoded - apart.decoded == length
    for one, other in zip(together.loglik, apart.loglik, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_more_choices_than_sequences(exact: LlamaModel) -> None:
    choices = list(itertools.islice(itertools.product(range(5, 30), repeat=2), 300))
    scored = assert_equals_naive(exact, [Request([9, 8], choices)], 1e-3)
    assert len(scored.loglik[0]) == 300


def test_rows_longer_than_the_window_and_the_batch(pico: Path, exact: LlamaModel) -> None:
    rng = np.random.default_rng(0)
    asked = [
        Request(rng.integers(3, 290, n).tolist(), [rng.integers(3, 290, 120).tolist(), [5]])
        for n in (10, 300, 390)
    ]
    with LlamaModel(pico, threads=1, exact_cache=True, batch=100) as model:
        found = score(model, asked).loglik
    expected = [[naive(exact, r.prompt, c) for c in r.continuations] for r in asked]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_too_long_a_row_is_refused(exact: LlamaModel) -> None:
    with pytest.raises(InputError, match=r"a row has 513 tokens.*at most 512"):
        score(exact, [Request([5] * 510, [[6] * 4])])
    assert score(exact, [Request([5] * 510, [[6] * 3])]).loglik[0][0] < 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_of_damaged_weights_is_refused(value: float, pico: Path, tmp_path: Path) -> None:
    data = bytearray(pico.read_bytes())
    place = next(t for t in GGUFFile(pico).tensors.values() if t.name == "output_norm.weight")
    data[place.offset : place.offset + 4] = np.float32(value).tobytes()
    path = tmp_path / "damaged.gguf"
    path.write_bytes(data)
    request = Request([5], [[6, 7]])
    with (
        LlamaModel(path, threads=1) as model,
        pytest.raises(LlamaError, match=r"damaged\.gguf: .* not finite numbers"),
    ):
        score(model, [request])


def test_nothing_to_score(exact: LlamaModel) -> None:
    assert score(exact, []).loglik == []
    assert score(exact, [Request([5], [[]])]).loglik == [[0.0]]
    with pytest.raises(ValueError, match="at least one token"):
        score(exact, [Request([], [[5]])])


def test_prompts_that_differ_from_their_first_token_on(exact: LlamaModel) -> None:
    heads, answers = [[10, 11], [12, 11, 13], [14]], [[20, 21], [20, 21], [22]]
    wholes = [head + answer for head, answer in zip(heads, answers, strict=True)]
    asked = [Request([10, 9], [[20, 21]]), Request([], wholes, [2, 3, 1])]
    scored = score(exact, asked)
    expected = [naive(exact, h, a) for h, a in zip(heads, answers, strict=True)]
    np.testing.assert_allclose(scored.loglik[1], expected, atol=1e-3)
    np.testing.assert_allclose(scored.loglik[0], [naive(exact, [10, 9], [20, 21])], atol=1e-3)


def test_common_prefix_stops_before_the_last_prompt_token() -> None:
    assert common_prefix([Request([1, 2, 3, 4], []), Request([1, 2, 9], [])]) == [1, 2]
    assert common_prefix([Request([1, 2, 3], []), Request([1, 2], [])]) == [1]
    assert common_prefix([Request([1, 2, 3], [])]) == [1, 2]
    assert list(common_prefix([])) == []


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=8))
def test_tree_size_counts_different_beginnings(paths: list[list[int]]) -> None:
    branches = [scoring._Branch(path, []) for path in paths]
    beginnings = {tuple(p[: i + 1]) for p in paths for i in range(len(p))}
    assert scoring._tree_size(branches) == len(beginnings)


def test_log_normalizer_is_exact_for_large_and_small_logits() -> None:
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal((5, 49152)) * 8).astype(np.float32)
    logits[1] += 300
    logits[2] -= 300
    expected = logits.astype(np.float64) - log_softmax(logits)
    np.testing.assert_allclose(log_normalizer(logits), expected[:, 0], atol=1e-6)


def test_a_text_is_scored_token_by_token(exact: LlamaModel) -> None:
    text = np.random.default_rng(1).integers(3, 290, 400).tolist()
    logs = log_softmax(exact.logits(text))
    expected = logs[np.arange(399), text[1:]]
    np.testing.assert_allclose(score_text(exact, text), expected, atol=1e-3)
    assert score_text(exact, text[:1]).shape == (0,)


def test_a_long_text_is_cut_into_windows_with_context(exact: LlamaModel) -> None:
    text = np.random.default_rng(2).integers(3, 290, 700).tolist()
    found = score_text(exact, text, window=256, stride=128)
    assert found.shape == (699,)
    # the last token of the second window was seen after 255 tokens, from 128 on
    alone = log_softmax(exact.logits(text[128:384]))
    np.testing.assert_allclose(found[382], alone[254, text[383]], atol=1e-3)
    assert score_text(exact, text).shape == (699,)


@pytest.mark.slow  # 135M parameters at F32, one sequence at a time
@pytest.mark.model
def test_starter_scores_are_those_of_one_sequence_at_a_time(starter: Path, tmp_path: Path) -> None:
    """At F32, where nothing rounds, on rows of the starter's target."""
    rows = next(TARGET.rglob("dev.jsonl")).read_text(encoding="utf-8").splitlines()[:12]
    with Surrogate(GGUFFile(starter / "base.gguf"), file_type("f32"), tmp_path) as surrogate:
        model = surrogate.load([], exact_cache=True)
        asked = []
        for row in map(json.loads, rows):
            text = f"<|im_start|>user\n{row['question']}<|im_end|>\n<|im_start|>assistant\n"
            choices = [model.tokenize(choice) for choice in row["choices"]]
            asked.append(Request(model.tokenize(text, special=True), choices))
        scored = assert_equals_naive(model, asked, 1e-3)
    assert scored.separate > 2.5 * scored.decoded
    assert not list(tmp_path.iterdir())


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(asked=requests, prefix=st.lists(st.integers(3, 290), max_size=40))
def test_sequences_of_a_recurrent_model_share_no_state(
    recurrent: LlamaModel, asked: list[Request], prefix: list[int]
) -> None:
    """Each score is that of one sequence alone, also from the cache of the call before."""
    asked = [Request([*prefix, *r.prompt], r.continuations) for r in asked]
    first, second = score(recurrent, asked), score(recurrent, asked)
    assert first.loglik == second.loglik
    assert first.decoded - second.decoded in (0, len(common_prefix(asked)))
    assert_equals_naive(recurrent, asked, 1e-3)


def test_a_recurrent_model_takes_no_token_of_two_sequences(recurrent: LlamaModel) -> None:
    with pytest.raises(ValueError, match="one sequence"):
        recurrent.decode([5], [0], [(0, 1)], [True])
