from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from m2m.recipe import Train
from m2m.tuner.row_mix import budget, draw, hold_out, mixed_held_out, replayed
from tests.tuner.conftest import pico_samples


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_a_share_of_a_large_dataset_is_held_out_and_nothing_of_a_small_one() -> None:
    many = pico_samples("reverse", 300)
    kept, held = hold_out(many, Train())
    assert (len(kept), len(held)) == (285, 15)
    assert {id(s) for s in kept} | {id(s) for s in held} == {id(s) for s in many}
    assert not {id(s) for s in kept} & {id(s) for s in held}
    assert [s.line for s in hold_out(many, Train())[1]] == [s.line for s in held]
    assert [s.line for s in hold_out(many, Train(seed=1))[1]] != [s.line for s in held]
    assert hold_out(many, Train(holdout=0.0)) == (many, [])
    assert hold_out(many[:199], Train()) == (many[:199], [])
    assert len(hold_out(many, Train(holdout=0.5))[1]) == 64


@pytest.mark.parametrize(("share", "added"), [(0.5, 10), (0.2, 2), (0.75, 30)])
def test_replayed_rows_are_a_share_of_all_in_equal_parts(share: float, added: int) -> None:
    own, others = list(range(10)), [list(range(100, 105)), list(range(200, 230))]
    rows = replayed(own, others, share, rng())
    assert rows[:10] == own
    assert len(rows) == 10 + added
    low = [row for row in rows[10:] if row < 200]
    assert abs(2 * len(low) - added) <= 1
    assert rows == replayed(own, others, share, rng())
    assert rows != replayed(own, others, share, np.random.default_rng(4))


def test_a_row_is_drawn_once_before_one_is_drawn_twice() -> None:
    assert draw("abc", 3, rng()) == ["a", "b", "c"]
    seven = draw("abc", 7, rng())
    assert sorted(seven.count(letter) for letter in "abc") == [2, 2, 3]
    assert draw("abc", 2, rng()) == sorted(draw("abc", 2, rng()))


def test_a_mixture_holds_out_rows_of_all_its_datasets_or_none() -> None:
    held = [list(range(100)), list(range(200, 210))]
    rows = mixed_held_out(held, [0.5, 0.5], rng())
    assert [sum(row < 200 for row in rows), sum(row >= 200 for row in rows)] == [32, 10]
    assert mixed_held_out([held[0], []], [0.5, 0.5], rng()) == []


def test_tokens_and_epochs_become_steps() -> None:
    """What a step count means for packed rows is in tests/cases/test_budgets.py."""
    row_mixes = [pico_samples("copy", 60), pico_samples("reverse", 20)]
    train = Train(steps=7, batch_tokens=128)
    assert budget(train, row_mixes) == 7
    needs = [budget(dataclasses.replace(train, epochs=2.0), [each]) for each in row_mixes]
    assert needs[0] > needs[1]
    assert budget(dataclasses.replace(train, epochs=2.0), row_mixes) == -(-sum(needs) // 2)
    least = [budget(dataclasses.replace(train, tokens=12_800), [each]) for each in row_mixes]
    assert budget(dataclasses.replace(train, tokens=12_800), row_mixes) == max(least) >= 100
