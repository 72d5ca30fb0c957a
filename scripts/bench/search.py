#!/usr/bin/env python3
"""Search strategies on recorded scores: `python scripts/bench search [--seeds N]`.

Replays `examples/swahili/scores.npz` (made by `scripts/research/record_scores.py`): the
per-example scores of all 255 mixtures of the starter's eight datasets. `racing`: scored tokens as
a fraction of exhaustive scoring, in how many seeds the pick's score on all examples is within one
standard error of the best, and how the whole ranking agrees with exhaustive scoring's (Spearman). A
block's
tokens are the common beginning of its prompts and each example's own.

`guided`: 16 and 24 datasets, simulated. Their mixtures' log-likelihoods are a second-order
expansion in the weights, fitted to the recording, plus what it leaves over as noise; each recorded
dataset is split into 2 or 3, whose experts differ by noise of 0.3 of an expert's change. Guided
search, random mixtures, greedy forward selection and, where Optuna is installed, TPE take 150
evaluations each. Best known is the best of all these and of steepest ascent on the true scores.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.blas import one_blas_thread
from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores
from m2m.mix.example_order import ExampleOrder
from m2m.mix.make_strategy import make_strategy
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.ranking import rank
from m2m.mix.scoreboard import Objective, scoreboard
from m2m.mix.space import Space
from m2m.mix.strategy import Strategy
from m2m.mix.trial import Places, Trial
from m2m.recipe import Search

RECORDING = Path(__file__).resolve().parents[2] / "examples/swahili/scores.npz"
AIM = Objective("swahili", METRICS["choice_bits"])


class Recording:
    """The recorded scores as a study's scorer."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self.names = tuple(arrays["names"].tolist())
            included = arrays["included"]
            self.bytes, self.gold = arrays["bytes"].astype(float), arrays["gold"].astype(np.int64)
            self.prefix, self.tokens = int(arrays["prefix"]), arrays["tokens"]
            loglik = arrays["loglik"] / 100.0
        self.loglik = {
            tuple(name for name, inside in zip(self.names, row, strict=True) if inside): values
            for row, values in zip(included, loglik, strict=True)
        }
        self.examples = {AIM.target: len(self.gold)}

    def scores(self, mixture: Mixture) -> Scores:
        """On all examples."""
        loglik = self.loglik[mixture.datasets]
        return Scores("choices", loglik, self.bytes, self.bytes, self.gold)

    def score(self, mixture: Mixture, places: Places | None = None) -> Trial:
        """A trial and what it takes."""
        some = list(places[AIM.target]) if places else list(range(len(self.gold)))
        cost = self.prefix + int(self.tokens[some].sum())
        whole = self.scores(mixture)
        return Trial(mixture, {AIM.target: whole.take(some)}, {}, cost, 0.0, dict(places or {}))


def play(
    strategy: Strategy, world: Recording, order: ExampleOrder, base: Trial
) -> tuple[dict[Mixture, Trial], int]:
    """A search to its end: the last trial of each mixture, and all scored tokens."""
    trials: dict[Mixture, Trial] = {}
    tokens = base.scored_tokens
    strategy.tell([base])
    while asks := strategy.ask():
        scored = []
        for ask in asks:
            before = trials[ask.mixture].places[AIM.target] if ask.mixture in trials else ()
            count = len(before)
            block = {AIM.target: tuple(p for _, p in order.steps[count : ask.examples])}
            tokens += world.score(ask.mixture, block).scored_tokens
            whole = ask.examples >= len(order)
            places = None if whole else order.first(ask.examples)
            scored.append(world.score(ask.mixture, places))
            trials[ask.mixture] = scored[-1]
        strategy.tell(scored)
    return trials, tokens


def value(trial: Trial) -> float:
    """The metric on the scored examples."""
    return float(AIM.metric.value(trial.scores[AIM.target], None)[0])


def pick(trials: Sequence[Trial]) -> Trial:
    """The best of those scored in full: what the ranking puts first."""
    return max((trial for trial in trials if trial.complete), key=value)


def places(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Each value's place among them, from 0."""
    return values.argsort().argsort()


def ties(trials: Sequence[Trial], seed: int) -> int:
    """How many of these, the base first, the ranking marks as tied with the best."""
    board = scoreboard(trials, [AIM], seed)
    counts = [trial.examples for trial in trials[1:]]
    ranking = rank(board.mixtures[1:], board.points[1:], board.replicates[1:], examples=counts)
    return sum(ranked.tied_with_best for ranked in ranking)


def racing(world: Recording, seeds: int) -> dict[str, object]:
    """Race the recorded mixtures under many seeds."""
    space = Space(world.names)
    base = world.score(BASE)
    every = [world.score(mixture) for mixture in space.subsets()]
    exhaustive = sum(trial.scored_tokens for trial in every)
    best = pick(every)
    enough = value(best) - AIM.metric.stderr(best.scores[AIM.target])
    truth = np.array([value(trial) for trial in every])
    fractions, picks, agreements, tied = [], [], [], []
    for seed in range(seeds):
        order = ExampleOrder.stratified(base, [AIM], seed)
        strategy = make_strategy(Search(strategy="racing", seed=seed), space, len(order), [AIM])
        trials, tokens = play(strategy, world, order, base)
        chosen = pick(list(trials.values()))
        fractions.append(tokens / exhaustive)
        picks.append(value(chosen))
        scored = [base, *(trials[trial.mixture] for trial in every)]
        points = scoreboard(scored, [AIM], seed).points[1:]
        agreements.append(float(np.corrcoef(places(points), places(truth))[0, 1]))
        tied.append(ties(scored, seed))
        print(
            f"seed {seed}: {fractions[-1]:.4f} of {exhaustive:,} tokens, {chosen.mixture.label} "
            f"{picks[-1]:.4f} (best {value(best):.4f}, one standard error below {enough:.4f})"
        )
        print(f"  {strategy.notes[0]}")
    return {
        "tokens_over_exhaustive": round(float(np.mean(fractions)), 4),
        "most_tokens_over_exhaustive": round(max(fractions), 4),
        "within_one_stderr": sum(score >= enough for score in picks),
        "best_found": sum(score == value(best) for score in picks),
        "spearman": round(float(np.mean(agreements)), 3),
        "least_spearman": round(min(agreements), 3),
        "tied_with_best": round(float(np.mean(tied)), 1),
        "exhaustive_tied_with_best": ties([base, *every], 0),
        "seeds": seeds,
    }


class Simulated(Recording):
    """More datasets, made from the recorded ones by splitting and perturbing."""

    def __init__(self, path: Path, split: int, seed: int) -> None:
        super().__init__(path)
        recorded, places = self.loglik, {name: i for i, name in enumerate(self.names)}
        self._base = recorded[()]
        alone = np.stack([recorded[(name,)] - self._base for name in self.names])
        mixed = [datasets for datasets in recorded if len(datasets) > 1]
        weights = np.zeros((len(mixed), len(self.names)))
        for row, datasets in zip(weights, mixed, strict=True):
            row[[places[name] for name in datasets]] = 1 / len(datasets)
        left = np.stack([recorded[datasets] - self._base for datasets in mixed])
        left -= np.einsum("mi,iek->mek", weights, alone)
        pairs = self._pairs(weights)
        fitted = np.linalg.lstsq(pairs, left.reshape(len(mixed), -1), rcond=None)[0]
        self._curves = fitted
        self._noise = (left.reshape(len(mixed), -1) - pairs @ fitted).std(axis=0)
        rng = np.random.default_rng(seed)
        self._parent = np.repeat(np.arange(len(self.names)), split)
        self._alone = alone[self._parent]
        self._alone = self._alone + 0.3 * self._alone.std() * rng.normal(size=self._alone.shape)
        self.names = tuple(f"{name}.{part}" for name in self.names for part in range(split))
        self._scored: dict[Mixture, Scores] = {}

    @staticmethod
    def _pairs(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(m, N (N - 1) / 2) products of two weights."""
        first, second = np.triu_indices(weights.shape[1], 1)
        products: NDArray[np.float64] = weights[:, first] * weights[:, second]
        return products

    def scores(self, mixture: Mixture) -> Scores:
        """On all examples; the same mixture always gets the same."""
        if mixture not in self._scored:
            weights = np.zeros(len(self.names))
            for name, weight in zip(mixture.datasets, mixture.weights, strict=True):
                weights[self.names.index(name)] = weight
            whole = np.zeros((1, self._parent.max() + 1))
            np.add.at(whole[0], self._parent, weights)
            loglik = self._base + np.einsum("i,iek->ek", weights, self._alone)
            bent = (self._pairs(whole) @ self._curves)[0]
            own = np.random.default_rng(zlib.crc32(mixture.label.encode()))
            if len(mixture.datasets) > 1:
                bent = bent + self._noise * own.normal(size=bent.shape)
            loglik = loglik + bent.reshape(loglik.shape)
            self._scored[mixture] = Scores("choices", loglik, self.bytes, self.bytes, self.gold)
        return self._scored[mixture]

    def value(self, chosen: frozenset[str]) -> float:
        """The metric of a subset on all examples."""
        if not chosen:
            return 0.0
        mixture = Space(self.names).uniform(chosen)
        return float(AIM.metric.value(self.scores(mixture), None)[0])


BUDGET = 150


def random_search(world: Simulated, rng: np.random.Generator) -> float:
    """The best of as many random mixtures."""
    space = Space(world.names)
    drawn = [space.draw(rng) for _ in range(BUDGET)]
    return max(world.value(frozenset(mixture.datasets)) for mixture in drawn if mixture)


def greedy(world: Simulated, rng: np.random.Generator) -> float:
    """Forward selection: add what helps most, until nothing does or the budget is spent."""
    chosen: frozenset[str] = frozenset()
    best, left = 0.0, BUDGET
    while left > 0:
        more = [chosen | {name} for name in world.names if name not in chosen][:left]
        left -= len(more)
        candidate = max(more, key=world.value, default=chosen)
        if world.value(candidate) <= best:
            break
        chosen, best = candidate, world.value(candidate)
    return best


def tpe(world: Simulated, rng: np.random.Generator) -> float:
    """Optuna's tree-structured Parzen estimator over the inclusion vector."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=int(rng.integers(1 << 30)), multivariate=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(
        lambda trial: world.value(
            frozenset(n for n in world.names if trial.suggest_categorical(n, [False, True]))
        ),
        n_trials=BUDGET,
    )
    return float(study.best_value)


def climbed(world: Simulated, rng: np.random.Generator, starts: int = 12) -> frozenset[str]:
    """The best known mixture: steepest ascent from many starts, with the true scores."""
    space = Space(world.names)
    ends = [frozenset([name]) for name in world.names]
    for _ in range(starts):
        drawn = space.draw(rng)
        here = frozenset(drawn.datasets if drawn else world.names)
        while True:
            near = max((here ^ {name} for name in world.names), key=world.value)
            if world.value(near) <= world.value(here):
                break
            here = near
        ends.append(here)
    return max(ends, key=world.value)


def guided(path: Path, split: int, seeds: int) -> dict[str, object]:
    """Guided search and its rivals: how many standard errors they end below the best known."""
    methods = {"random": random_search, "greedy": greedy}
    if importlib.util.find_spec("optuna"):
        methods["tpe"] = tpe
    behind: dict[str, list[float]] = {"guided": [], **{name: [] for name in methods}}
    spent = []
    for seed in range(seeds):
        world = Simulated(path, split, seed)
        base = world.score(BASE)
        order = ExampleOrder.stratified(base, [AIM], seed)
        search = Search(strategy="guided", seed=seed, budget=BUDGET)
        strategy = make_strategy(search, Space(world.names), len(order), [AIM])
        trials, tokens = play(strategy, world, order, base)
        spent.append(tokens / base.scored_tokens)
        ends = {"guided": value(pick(list(trials.values())))}
        for name, method in methods.items():
            ends[name] = method(world, np.random.default_rng(seed))
        top = climbed(world, np.random.default_rng(seed))
        best = max(world.value(top), *ends.values())
        error = AIM.metric.stderr(world.scores(Space(world.names).uniform(top)))
        for name, end in ends.items():
            behind[name].append((best - end) / error)
        summary = ", ".join(f"{name} {end:.4f}" for name, end in ends.items())
        print(
            f"{len(world.names)} datasets, seed {seed}: best known {best:.4f} "
            f"(standard error {error:.4f}), {summary}; guided: {len(trials)} mixtures, "
            f"{spent[-1]:.1f} evaluations"
        )
    return {
        "within_one_stderr": sum(distance <= 1 for distance in behind["guided"]),
        "seeds": seeds,
        "evaluations": round(float(np.mean(spent)), 1),
        "standard_errors_behind": {n: round(float(np.mean(e)), 3) for n, e in behind.items()},
    }


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recording", type=Path, default=RECORDING)
    parser.add_argument("--seeds", type=int, default=20, help="of the races")
    parser.add_argument("--guided-seeds", type=int, default=3)
    options = parser.parse_args()
    if not options.recording.is_file():
        sys.exit(f"{options.recording} is missing: make it with scripts/research/record_scores.py")
    started = time.perf_counter()
    results = {
        "racing": racing(Recording(options.recording), options.seeds) if options.seeds else None,
        "guided": {
            str(8 * split): guided(options.recording, split, options.guided_seeds)
            for split in (2, 3)
        },
    }
    print(f"{time.perf_counter() - started:.0f} s")
    print(json.dumps(results))


if __name__ == "__main__":
    with one_blas_thread():
        main()
