from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2m.errors import InputError
from m2m.llamacpp import generate as generation
from m2m.llamacpp.generate import HeldText, Sampling, choose, complete, generate
from m2m.llamacpp.model import LlamaModel

PROMPT = [1, 60, 70, 80]


def test_greedy_text_is_the_likeliest_token_each_time(exact: LlamaModel) -> None:
    ids = list(PROMPT)
    for _ in range(12):
        ids.append(int(exact.logits(ids)[-1].argmax()))
        if exact.ends_generation(ids[-1]):
            break
    expected = b"".join(exact.piece(i) for i in ids[len(PROMPT) :]).decode("utf-8", "replace")
    pieces = list(generate(exact, PROMPT, Sampling(max_tokens=12)))
    assert "".join(pieces) == expected
    assert len(pieces) > 1


def test_sampling_follows_its_seed(exact: LlamaModel) -> None:
    def text(seed: int, **settings: float) -> str:
        sampling = Sampling(temperature=1.5, max_tokens=20, **settings)  # type: ignore[arg-type]
        return "".join(generate(exact, PROMPT, sampling, np.random.default_rng(seed)))

    assert text(1, top_p=1.0, top_k=0) == text(1, top_p=1.0, top_k=0)
    assert len({text(seed, top_p=1.0, top_k=0) for seed in range(4)}) > 1
    greedy = "".join(generate(exact, PROMPT, Sampling(max_tokens=20)))
    assert text(1, top_k=1) == text(1, top_p=1e-9) == greedy


def test_a_stop_text_ends_the_answer_and_is_left_out(exact: LlamaModel) -> None:
    whole = "".join(generate(exact, PROMPT, Sampling(max_tokens=12)))
    stop = whole[4:7]
    cut = "".join(generate(exact, PROMPT, Sampling(max_tokens=12), stop=[stop]))
    assert cut == whole[: whole.find(stop)]


def test_the_context_is_not_overrun(exact: LlamaModel) -> None:
    ids = [1, *[60] * 507]
    pieces = list(generate(exact, ids, Sampling(temperature=1.0, max_tokens=100)))
    assert len(pieces) <= 5
    with pytest.raises(InputError, match="513 tokens"):
        next(generate(exact, [60] * 513))
    with pytest.raises(ValueError, match="at least one token"):
        next(generate(exact, []))


def test_choose_draws_by_probability() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    rng = np.random.default_rng(0)
    drawn = [choose(logits, Sampling(temperature=1.0, top_p=1.0), rng) for _ in range(4000)]
    shares = np.bincount(drawn, minlength=3) / 4000
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=0.03)
    kept = {choose(logits, Sampling(temperature=1.0, top_p=0.6), rng) for _ in range(100)}
    assert kept == {0, 1}
    assert choose(logits, Sampling(), rng) == 0


@given(st.text("abc", max_size=20), st.lists(st.text("abc", min_size=1, max_size=3), max_size=2))
def test_text_is_held_back_only_where_it_may_stop(text: str, stop: list[str]) -> None:
    held = HeldText(stop)
    shown = ""
    for letter in text:
        shown += "".join(held.add(letter))
        assert text.startswith(shown)
        if held.stopped:
            break
    else:
        shown += "".join(held.rest())
    ends = [text.find(s) + len(s) for s in stop if s in text]
    if ends:
        upto = text[: min(ends)]
        assert shown == upto[: min(i for s in stop if (i := upto.find(s)) >= 0)]
    else:
        assert shown == text


def alone(model: LlamaModel, prompts: list[list[int]], tokens: int, stop: list[str]) -> list[str]:
    sampling = Sampling(max_tokens=tokens)
    return ["".join(generate(model, prompt, sampling, stop=stop)) for prompt in prompts]


@pytest.mark.parametrize("at_once", [1, 3, 32])
@pytest.mark.parametrize("stop", [[], ["a", "e "]])
def test_many_answers_are_those_of_each_prompt_alone(
    exact: LlamaModel, monkeypatch: pytest.MonkeyPatch, at_once: int, stop: list[str]
) -> None:
    monkeypatch.setattr(generation, "_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    shared = [1, *map(int, rng.integers(60, 200, 40))]
    prompts = [[*shared, *map(int, rng.integers(60, 290, n))] for n in (1, 9, 4, 30, 2, 4)]
    expected = alone(exact, prompts, 24, stop)
    found = complete(exact, prompts, 24, stop)
    assert found.texts == expected
    assert len(set(expected)) > 2
    whole = sum(len(p) for p in prompts) + 24 * len(prompts)
    assert len(shared) < found.decoded < whole - 40 * (0 if at_once == 1 else 4)


@pytest.mark.slow
def test_many_long_prompts_fit_the_cache_and_the_context(exact: LlamaModel) -> None:
    prompts = [[1, 60 + i, *[70] * 507] for i in range(6)]
    found = complete(exact, prompts, 100)
    assert found.texts == alone(exact, prompts, 100, [])
    assert complete(exact, [], 5).texts == []
    with pytest.raises(InputError, match="513 tokens"):
        complete(exact, [[60] * 513], 5)
    with pytest.raises(ValueError, match="at least one token"):
        complete(exact, [[]], 5)


def test_answers_of_a_recurrent_model_share_no_state(recurrent: LlamaModel) -> None:
    prompts = [[*range(20, 30), *tail] for tail in ([5], [6, 7], [5, 9, 4], [8])]
    together = complete(recurrent, prompts, 6)
    alone = [complete(recurrent, [prompt], 6).texts[0] for prompt in prompts]
    assert together.texts == alone == [complete(recurrent, [p], 6).texts[0] for p in prompts]
    assert together.decoded < sum(map(len, prompts)) + 4 * 6
