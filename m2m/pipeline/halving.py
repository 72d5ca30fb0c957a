"""`[confirm] budget = "until"`: halve the contenders at equal steps, then train the last one on.

Nothing is thrown away: a contender that goes on continues its own training, and an expert is the
beginning of its dataset's. Only dev questions decide. Every decision follows from scores that are
stored, so a run that was killed anywhere decides the same again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from m2m.counted import counted
from m2m.evaluate.metrics import best_possible
from m2m.evaluate.score import Score
from m2m.mix.mixture import Mixture
from m2m.mix.rungs import Checks, going_on, next_check, outlook, turned
from m2m.mix.scoreboard import Scoreboard, metric_name, scoreboard
from m2m.pipeline.experts import goes_on
from m2m.pipeline.finetunes import DEV, objectives_on
from m2m.pipeline.ladder import Ladder, Stop
from m2m.pipeline.trained_run import TrainedRun
from m2m.results.courses import CAP, PASSES, PATIENCE, TIME, Check, Course, Courses, Spoiled


class Deadlines(NamedTuple):
    """Times (`time.monotonic`) that the user's hours set.

    Attributes:
        rungs: no rung but the first begins if it would end later, because the rest of the hours
            belongs to the last training.
        last: the last training ends.
        halving: the same limit as `rungs`, in seconds from the beginning of the first rung.
        words: compares a stage's seconds with its part of the hours, for people; "" for no limit.
    """

    rungs: float
    last: float
    halving: float = math.inf
    words: Callable[[str, float], str] = lambda name, seconds: ""


@dataclass(frozen=True)
class Halved:
    """The course of all contenders.

    Attributes:
        stops: by contender, its stops in the order of their steps.
        winner: the contender that was left.
        best: the winner's stop with the best dev score.
        end: why the winner's training ended.
        spoiled: the datasets whose held-out loss turned in the winner's last training.
    """

    stops: dict[Mixture, list[Stop]]
    winner: Mixture
    best: Stop
    end: str
    spoiled: Sequence[Spoiled] = ()


def seconds_to(steps: int, stops: Sequence[Stop]) -> float:
    """Return how long a training takes from its last stop to that many steps.

    A step takes as long as one of the stretch before, scoring included. Stretches differ in length:
    a rung has twice the steps of the next check, and a very short one an eighth of them.
    """
    before = stops[-2].steps if len(stops) > 1 else 0
    return stops[-1].seconds * (steps - stops[-1].steps) / (stops[-1].steps - before)


class Halving:
    """Trains the contenders of a run.

    Args:
        run: the run, with trained experts.
        deadlines: of rungs and last training; None: the last training ends after as many steps as
            all experts and rungs together, and where an earlier call with deadlines has ended
            something, it ends here too.
    """

    def __init__(self, run: TrainedRun, deadlines: Deadlines | None = None) -> None:
        self._run, self._inputs = run, run.inputs
        self._deadlines = deadlines
        self._ladder = Ladder(run)
        self._spoiled: dict[str, Spoiled] = {}
        self._dropped = 0  # steps after which the last dataset was left out

    def run(self, contenders: Sequence[Mixture]) -> Halved:
        """Train the contenders until one is left, and that one as long as it pays.

        Raises:
            Interrupted: the user asked to stop; all states and scores are kept.
        """
        self._leave_experts(contenders)
        started = self._started = time.monotonic()
        stops: dict[Mixture, list[Stop]] = {mixture: [] for mixture in contenders}
        steps, spent = self._first, self._first * len(self._inputs.usable_names)
        left = [*contenders]
        rung: list[Stop] = []
        while len(left) > 1 and not self._too_late(left, rung, steps):
            self._reopen(left[0])
            spent += len(left) * (steps - (rung[0].steps if rung else 0))
            rung = self._ladder.climb(left, steps)
            for stop in rung:
                stops[stop.mixture].append(stop)
            left = self._better(rung)
            steps *= 2
        winner = left[0]
        if not stops[winner]:  # there was nothing to compare it with
            stops[winner] += self._ladder.climb([winner], steps)
        halved = time.monotonic()
        self._say("halving", halved - started)
        end = self._train_on(winner, stops[winner], stops[winner][-1].steps + spent)
        self._say("last training", time.monotonic() - halved)
        best = stops[winner][self._checks(stops[winner]).best]
        return Halved(stops, winner, best, end, [*self._spoiled.values()])

    def rung(self, contenders: Sequence[Mixture]) -> tuple[int, list[Mixture]]:
        """Return the steps of the first rung that is not complete, and its contenders.

        Nothing is trained and deleted. After the last rung, one contender is left.
        """
        left, steps = [*contenders], self._first
        while len(left) > 1 and self._ladder.knows(left, steps):
            left = self._going_on(self._ladder.climb(left, steps))
            steps *= 2
        return steps, left

    def courses(self, halved: Halved) -> Courses:
        """Return the dev scores of all stops, as the results keep them."""
        every = [stop for stops in halved.stops.values() for stop in stops]
        board = self._board(every)
        errors = board.replicates.std(axis=1, ddof=1)
        checks = [
            Check(stop.steps, Score(float(point), float(error)), stop.held_out)
            for stop, point, error in zip(every, board.points, errors, strict=True)
        ]
        courses, start = [], 0
        for mixture, stops in halved.stops.items():
            courses.append(Course(mixture, checks[start : start + len(stops)]))
            start += len(stops)
        stops = halved.stops[halved.winner]
        own, steps = self._board(stops), [stop.steps for stop in stops]
        more = outlook(
            steps,
            own.sign * own.points,
            own.sign * own.replicates,
            steps.index(halved.best.steps),
            self._scale(stops[-1]),
        )
        last = seconds_to(steps[-1] + 1, stops) if len(steps) > 1 else 0.0
        return Courses(
            metric_name(self._inputs.objectives),
            courses,
            [*halved.stops].index(halved.winner),
            halved.best.steps,
            halved.end,
            more,
            round(last, 4),
            halved.spoiled,
        )

    @property
    def ladder(self) -> Ladder:
        """Return the ladder, which gives the adapters of all stops."""
        return self._ladder

    def _too_late(self, left: Sequence[Mixture], rung: Sequence[Stop], steps: int) -> bool:
        """Return whether there is no time to train the contenders that are left up to `steps`.

        Args:
            left: the contenders, best first.
            rung: the stops of the last rung; none before the first, which is always made.
            steps: of the next rung.
        """
        if not rung:
            return False
        best, now = left[0], rung[0].steps
        if self._ladder.knows(left, steps):
            return False
        if self._deadlines is None:
            return self._ladder.closed(best) == now or self._ladder.ended(best) == (now, TIME)
        needed = len(left) * (steps - now) * self._seconds_per_step(rung)
        ends = min(self._deadlines.rungs, self._started + self._deadlines.halving)
        fits = time.monotonic() + needed <= ends
        self._ladder.close(best, 0 if fits else now)
        if fits:
            return False
        self._run.progress.note(
            f"{counted(len(left), 'contender')} could go on to {counted(steps, 'step')}, but that "
            "would take time that belongs to the last training. So the best so far is trained on"
        )
        return True

    def _seconds_per_step(self, rung: Sequence[Stop]) -> float:
        """Return the time of a rung, scoring included, for each step that it made."""
        steps, first = rung[0].steps, rung[0].steps == self._first
        begun = first and goes_on(self._inputs.recipe)  # by the experts
        trained = [stop for stop in rung if not (begun and len(stop.mixture.datasets) == 1)]
        made = len(trained) * (steps if first else steps // 2)
        return sum(stop.seconds for stop in rung) / made if made else 0.0

    def _say(self, stage: str, seconds: float) -> None:
        if self._deadlines and (words := self._deadlines.words(stage, seconds)):
            self._run.progress.note(words)

    def _reopen(self, mixture: Mixture) -> None:
        """Forget the end of an earlier call, because this one has time to go on."""
        if self._deadlines is not None:
            self._ladder.reopen(mixture)

    @cached_property
    def _first(self) -> int:
        return self._inputs.recipe.train.steps

    def _leave_experts(self, contenders: Sequence[Mixture]) -> None:
        """Delete the states of the experts that are the beginning of no contender."""
        for name in self._inputs.expert_names:
            if (alone := Mixture.uniform([name])) not in contenders:
                self._ladder.leave(alone)

    def _going_on(self, stops: Sequence[Stop]) -> list[Mixture]:
        """Return the mixtures that go on, best first."""
        board = self._board(stops)
        places = going_on(board.sign * board.points, board.sign * board.replicates)
        return [stops[place].mixture for place in places]

    def _better(self, stops: Sequence[Stop]) -> list[Mixture]:
        """Return the mixtures that go on, best first; the states of the others are deleted."""
        chosen = self._going_on(stops)
        for stop in stops:
            if stop.mixture not in chosen:
                self._ladder.leave(stop.mixture)
        count = len(self._inputs.corpora)
        names = ", ".join(mixture.short(count) for mixture in chosen)
        self._run.progress.note(
            f"after {stops[0].steps:,} steps each, {len(chosen)} of {len(stops)} go on: {names}"
        )
        return chosen

    def _train_on(self, winner: Mixture, stops: list[Stop], cap: int) -> str:
        """Train the winner on, check by check, and add its stops; return why it ended."""
        ladder = self._ladder
        rungs = [stop.steps for stop in stops]
        ended = ladder.ended(winner) if self._deadlines is None else None
        following = self._next(stops)
        while not (end := self._end(stops, len(rungs), ended, cap, following)):
            self._reopen(winner)
            stops += ladder.climb([winner], following, watch=True)
            self._watch(winner, stops)
            best = stops[self._checks(stops).best].steps
            for stop in stops[:-1]:
                if stop.steps not in rungs and stop.steps != best:
                    ladder.forget(winner, stop.steps)
            self._tell(stops, len(rungs))
            following = self._next(stops)
        ladder.end(winner, stops[-1].steps, end)
        return end

    def _watch(self, winner: Mixture, stops: Sequence[Stop]) -> None:
        """Report a dataset whose held-out loss turned; leave it out if the recipe says so."""
        drop, now = self._inputs.recipe.confirm.drop, stops[-1]
        watched = [stop for stop in stops if stop.by_dataset and stop.steps > self._dropped]
        left = [
            name
            for name in winner.datasets
            if not (name in self._spoiled and self._spoiled[name].dropped)
        ]
        losses = {name: [stop.by_dataset[name] for stop in watched] for name in left if watched}
        for name, place in turned(losses).items():
            if name in self._spoiled:
                continue
            lowest = watched[place]
            values = lowest.by_dataset[name], now.by_dataset[name]
            spoiled = Spoiled(name, lowest.steps, values[0], now.steps, values[1], drop)
            self._spoiled[name] = spoiled
            self._run.progress.warn(spoiled.sentence)
            if drop:  # one at a time, because the others are better without it
                self._ladder.drop(winner, now.steps, name)
                self._dropped = now.steps
                return

    def _end(
        self,
        stops: Sequence[Stop],
        rungs: int,
        ended: tuple[int, str] | None,
        cap: int,
        following: int,
    ) -> str:
        """Return why the training ends at its last stop; "" if it goes on to `following`."""
        confirm, steps = self._inputs.recipe.confirm, stops[-1].steps
        winner = stops[-1].mixture
        if ended is not None:
            return ended[1] if steps >= ended[0] else ""
        if self._checks(stops, rungs).waited >= confirm.patience:
            return PATIENCE
        seen = self._ladder.seen(winner, steps)
        if max(rows.passes for rows in seen.values()) >= confirm.max_passes:
            return PASSES
        if self._deadlines is None:
            return CAP if steps >= cap else ""
        if self._ladder.knows([winner], following):
            return ""  # an earlier call had more time
        return "" if seconds_to(following, stops) <= self._room() else TIME

    def _room(self) -> float:
        """Return the seconds that are left for the last training."""
        return self._deadlines.last - time.monotonic() if self._deadlines else math.inf

    def _next(self, stops: Sequence[Stop]) -> int:
        """Return the steps of the last training's next check.

        It comes earlier if there is no time for the whole way to it: after the most checkpoints
        that there is time for, if they are a quarter of the way. A check of an earlier call that
        had less time is not passed over.
        """
        steps, every = stops[-1].steps, self._inputs.recipe.train.checkpoint_every
        whole = next_check(self._first, every, steps)
        nearer = range((steps // every + 1) * every, whole, every)
        for known in nearer:
            if self._ladder.knows([stops[-1].mixture], known):
                return known
        if self._ladder.knows([stops[-1].mixture], whole) or (room := self._room()) == math.inf:
            return whole
        fitting = [
            each
            for each in [*nearer, whole]
            if 4 * (each - steps) >= whole - steps and seconds_to(each, stops) <= room
        ]
        return max(fitting, default=whole)

    def _tell(self, stops: Sequence[Stop], rungs: int) -> None:
        checks, board = self._checks(stops, rungs), self._board(stops)
        patience = self._inputs.recipe.confirm.patience
        best = checks.best
        self._run.progress.note(
            f"{counted(stops[-1].steps, 'step')}: dev {board.points[-1]:z.3f}; best "
            f"{board.points[best]:z.3f} after {stops[best].steps:,}; {checks.waited} of {patience} "
            "checks without improvement"
        )

    def _scale(self, stop: Stop) -> tuple[float, float]:
        """Return the ends of the metric's scale, higher is better: guessing and perfect.

        Several targets have no ends, and many metrics no score of guessing.
        """
        objectives = objectives_on(DEV, self._inputs)
        if len(objectives) > 1:
            return -math.inf, math.inf
        metric, scores = objectives[0].metric, stop.trial.scores[objectives[0].target]
        guess = metric.chance(scores)
        least = -math.inf if guess is None else metric.sign * guess
        return least, metric.sign * best_possible(metric, scores)

    def _checks(self, stops: Sequence[Stop], rungs: int = 1) -> Checks:
        board = self._board(stops)
        # After a dataset was left out, the held-out rows are others.
        held_out = [stop.held_out if stop.steps > self._dropped else None for stop in stops]
        return Checks(board.sign * board.points, held_out, rungs)

    def _board(self, stops: Sequence[Stop]) -> Scoreboard:
        objectives, seed = objectives_on(DEV, self._inputs), self._inputs.recipe.search.seed
        return scoreboard([stop.trial for stop in stops], objectives, seed)
