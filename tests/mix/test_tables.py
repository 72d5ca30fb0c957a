from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from m2m.errors import InputError
from m2m.mix.mixture import Mixture, subsets
from m2m.mix.ranking import rank
from m2m.mix.space import Space
from m2m.mix.tables import propose_from, write_tables

EFFECT = {"a": 0.5, "b": 0.2, "c": -0.4, "d": 0.1}


def truth(mixture: Mixture) -> float:
    weight = mixture.weight_by_dataset
    pair = 3.0 * weight.get("b", 0.0) * weight.get("d", 0.0)
    return sum(EFFECT[name] * each for name, each in weight.items()) + pair


def written(folder: Path, mixtures: list[Mixture], metric: str, sign: float = 1.0) -> Path:
    folder.mkdir()
    points = sign * np.array([truth(each) for each in mixtures])
    noise = 0.01 * np.random.default_rng(0).normal(size=(len(mixtures), 50))
    ranking = rank(mixtures, points, points[:, None] + noise, sign > 0)
    write_tables(folder, ranking, tuple(EFFECT), metric, sign > 0)
    return folder


def test_the_files_are_what_data_mixing_tools_read(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", list(subsets(tuple(EFFECT))), "t choice_bits")
    ratios, metrics = (
        list(csv.DictReader((folder / name).read_text(encoding="utf-8").splitlines()))
        for name in ("ratios.csv", "metrics.csv")
    )
    assert list(ratios[0]) == ["run_id", "name", "a", "b", "c", "d"]
    assert list(metrics[0]) == ["run_id", "name", "t choice_bits"]
    assert [row["run_id"] for row in ratios] == [row["run_id"] for row in metrics]
    assert all(sum(float(row[n]) for n in EFFECT) == pytest.approx(1.0) for row in ratios)


@pytest.mark.parametrize(("metric", "sign"), [("t choice_bits", 1.0), ("t bits_per_byte", -1.0)])
def test_a_mixture_that_was_left_out_is_proposed(tmp_path: Path, metric: str, sign: float) -> None:
    every = list(subsets(tuple(EFFECT)))
    best = max(every, key=truth)
    assert best.label == "b + d"
    folder = written(tmp_path / "run", [each for each in every if each != best], metric, sign)
    first = propose_from(folder).proposals[0]
    assert first.mixture == best
    assert first.scored is None
    assert first.expected == pytest.approx(sign * truth(best), abs=0.15)


def test_unequal_ratios_are_answered_with_ratios(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    space = Space(tuple(EFFECT), parts=20)
    drawn = dict.fromkeys(each for _ in range(60) if (each := space.draw(rng)))
    folder = written(tmp_path / "run", list(drawn), "t choice_bits")
    first = propose_from(folder).proposals[0].mixture
    assert set(first.datasets) >= {"b", "d"}
    assert truth(first) >= max(map(truth, drawn)) - 0.02


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("ratios.csv", None, "cannot read"),
        ("ratios.csv", "id,a\n1,1\n", "no column run_id"),
        ("ratios.csv", "run_id,a,b\n1,0.5,0.2\n2,1,0\n3,1,0\n", "do not sum to 1"),
        ("ratios.csv", "run_id,a,b\n1,x,0.2\n2,1,0\n3,1,0\n", "expected a number"),
        ("metrics.csv", "run_id,m\n1,nan\n2,1\n3,1\n", "finite"),
        ("metrics.csv", "run_id,m\n7,1\n", "0 runs"),
        ("metrics.csv", "run_id\n7\n", "no columns except"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    good = {
        "ratios.csv": "run,a,b\n1,1,0\n2,0,1\n3,.5,.5\n",
        "metrics.csv": "run,m\n1,1\n2,2\n3,3\n",
    }
    for each, content in good.items():
        (tmp_path / each).write_text(content, encoding="utf-8")
    assert propose_from(tmp_path, higher=True).runs == 3
    with pytest.raises(InputError, match="no column 'other'"):
        propose_from(tmp_path, "other")
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        propose_from(tmp_path, higher=True)
    assert message in caught.value.message
