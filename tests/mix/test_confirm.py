from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

from m2m.mix.contenders import budget_steps, contenders, mixed_rows
from m2m.mix.mixture import Mixture, subsets
from m2m.mix.ranking import rank
from m2m.recipe import Confirm

FIXED = Confirm(top=2, budget="fixed")


def test_contenders_are_the_top_and_the_baselines_each_once() -> None:
    mixtures = list(subsets(("a", "b", "c")))
    points = np.array([0.9, 0.1, 0.2, 0.8, 0.3, 0.4, 0.5])
    ranking = rank(mixtures, points, np.tile(points[:, None], (1, 10)))
    rows = {"a": 10, "b": 10, "c": 80}
    found = {each.label: each.mixture.label for each in contenders(ranking, rows, FIXED)}
    assert found == {
        "top 1, best single": "a",
        "top 2": "a + b",
        "all datasets equally": "a + b + c",
        "all rows": "10 % a + 10 % b + 80 % c",
    }
    equal = contenders(ranking, dict.fromkeys("abc", 7), dataclasses.replace(FIXED, top=1))
    assert equal[-1].label == "all datasets equally, all rows"
    alone = contenders(ranking, rows, dataclasses.replace(FIXED, top=1, baselines=()))
    assert [each.mixture.label for each in alone] == ["a"]


def test_no_baseline_is_trained_on_wrong_answers() -> None:
    mixtures = list(subsets(("a", "b", "wrong")))
    ranking = rank(mixtures, np.linspace(1, 0, 7), np.tile(np.linspace(1, 0, 7)[:, None], (1, 10)))
    rows = {"a": 10, "b": 30, "wrong": 20}
    found = contenders(ranking, rows, Confirm(top=1), controls={"wrong"})
    assert {each.label: each.mixture.label for each in found} == {
        "top 1, best single": "a",
        "best 2 together, all datasets equally": "a + b",
        "all rows": "25 % a + 75 % b",
    }
    found = contenders(ranking[::-1], rows, Confirm(top=1), controls={"wrong"})
    best = next(each.mixture for each in found if "best single" in each.label)
    assert best.label == "b"  # the control is ahead of it
    nothing = contenders([], rows, Confirm(baselines=()), controls={"wrong"})
    assert [each.mixture.label for each in nothing] == ["25 % a + 75 % b"]


def test_until_the_best_datasets_together_contend_too_if_the_recipe_allows_them() -> None:
    mixtures = list(subsets(("a", "b", "c", "d")))
    alone = {"a": 0.3, "b": 0.1, "c": 0.9, "d": 0.2}
    points = np.array([max(alone[name] for name in each.datasets) / len(each.datasets)
                       for each in mixtures])  # fmt: skip
    ranking = rank(mixtures, points, np.tile(points[:, None], (1, 10)))
    confirm, rows = Confirm(top=1), dict.fromkeys("abcd", 7)
    found = {each.label: each.mixture.label for each in contenders(ranking, rows, confirm)}
    assert found == {
        "top 1, best single": "c",
        "best 2 together": "a + c",
        "best 3 together": "a + c + d",
        "all datasets equally, all rows": "a + b + c + d",
    }
    pairs = contenders(ranking, rows, confirm, lambda mixture: len(mixture.datasets) < 3)
    assert "best 3 together" not in {each.label for each in pairs}


def test_the_budget_follows_the_regime() -> None:
    three = Mixture.uniform("abc")
    assert budget_steps(Confirm(budget="fixed"), 200, three) == 200
    assert budget_steps(Confirm(budget="proportional"), 200, three) == 600
    assert budget_steps(Confirm(budget=50), 200, three) == 50


def test_mixed_rows_keep_the_proportions_and_use_each_row_before_any_twice() -> None:
    rows = {"a": [f"a{i}" for i in range(10)], "b": [f"b{i}" for i in range(30)]}
    mixed = mixed_rows(rows, Mixture.uniform("ab"), np.random.default_rng(0))
    counts = Counter(mixed)
    assert sum(row[0] == "a" for row in mixed) == 20
    assert all(counts[row] == 2 for row in rows["a"])
    assert sum(row[0] == "b" for row in mixed) == 20
    assert max(counts[row] for row in rows["b"]) == 1
    assert mixed == mixed_rows(rows, Mixture.uniform("ab"), np.random.default_rng(0))


@pytest.mark.parametrize("sizes", [(190, 10), (1, 1), (7, 3, 997), (1, 100_000), (33, 33, 34)])
def test_the_union_of_datasets_is_each_row_once(sizes: tuple[int, ...]) -> None:
    rows = {str(i): [f"{i}-{row}" for row in range(size)] for i, size in enumerate(sizes)}
    union = Mixture.union({name: len(each) for name, each in rows.items()})
    mixed = mixed_rows(rows, union, np.random.default_rng(0))
    assert sorted(mixed) == sorted(row for each in rows.values() for row in each)


@pytest.mark.parametrize("weights", [(0.25, 0.75), (0.999, 0.001)])
def test_mixed_rows_follow_weights(weights: tuple[float, float]) -> None:
    rows = {"a": list(range(100)), "b": list(range(100, 200))}
    mixture = Mixture(("a", "b"), weights)
    mixed = mixed_rows(rows, mixture, np.random.default_rng(0))
    assert sum(row < 100 for row in mixed) == round(200 * weights[0])
    assert any(row >= 100 for row in mixed)
