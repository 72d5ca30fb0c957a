"""The time that is left for a whole run, from the plan's estimate."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from m2m.progress import duration
from m2m.results.folder import CONFIRMED

if TYPE_CHECKING:
    from m2m.cli.console import TerminalProgress
    from m2m.pipeline.run import Run

# Stages of a plan that are parts of one stage of a run.
_PARTS = {"halving": "confirm", "last training": "confirm"}
_LONG = 400  # steps of all experts: some minutes at least, on any machine and base
_ORDER = ("train", "search", "confirm", "export")


class TimeLeft:
    """Counts down the seconds of a plan, stage by stage.

    A stage that takes longer than planned has the time of its bar left; the later ones keep theirs.

    Args:
        planned: seconds by the name of a plan's stage.
        last: the stage with which the command ends.
    """

    def __init__(self, planned: Mapping[str, float], last: str = "export") -> None:
        names = _ORDER[: _ORDER.index(last) + 1]
        self.seconds = dict.fromkeys(names, 0.0)
        for name, seconds in planned.items():
            own = _PARTS.get(name, name)
            if own in self.seconds:
                self.seconds[own] += seconds
        self.enter("")

    def enter(self, stage: str) -> None:
        """Note that a stage begins."""
        self._stage, self._since = stage, time.monotonic()
        self.least = 0.0  # seconds that the present bar still takes

    @property
    def left(self) -> float | None:
        """Return the seconds for all that is left; None if it is not known."""
        if self._stage not in self.seconds:
            return None
        own = max(self.least, self.seconds[self._stage] - (time.monotonic() - self._since))
        place = [*self.seconds].index(self._stage)
        return own + sum([*self.seconds.values()][place + 1 :])

    @property
    def all(self) -> str:
        """Return the time of all stages in words."""
        return f"about {duration(sum(self.seconds.values()))}"

    def __str__(self) -> str:
        return f"about {duration(self.left)} for all that is left" if self.left else ""

    def before(self, command: str) -> str:
        """Say which stages come before that of a command, and how long they take."""
        earlier = {n: s for n, s in self.seconds.items() if n != command and s > 0}
        if not earlier:
            return ""
        names = " and ".join(f"{name} (about {duration(s)})" for name, s in earlier.items())
        return f"{command} needs the results of {names}, which is done first"


class HoursLeft(TimeLeft):
    """The rest of the hours that the user gave, counted from now."""

    def __init__(self, hours: float) -> None:
        super().__init__({})
        self._hours, self._began = hours, time.monotonic()

    @property
    def left(self) -> float:
        """Return the seconds for all that is left."""
        return max(0.0, self._hours * 3600 - (time.monotonic() - self._began))

    def __str__(self) -> str:
        rest = f"{duration(self.left)} of {self._hours:g} hours left for all"
        return rest if self.left else f"the {self._hours:g} hours are over"


def expect(work: Run, progress: TerminalProgress, command: str) -> None:
    """Let the progress show the time that is left, if that is worth a measurement of seconds.

    It is on a terminal, for long trainings, and if other stages come before the one that the user
    asked for.
    """
    from m2m.errors import Interrupted, M2MError
    from m2m.pipeline.kept import finished_experts
    from m2m.planning.plan import estimated

    inputs = work.inputs
    if command not in (*_ORDER, "run") or progress.quiet or inputs.files.is_fresh(CONFIRMED):
        return
    missing = {*inputs.untrained_names} - {*finished_experts(inputs)}
    early = bool(missing) and command in ("confirm", "export")
    long = len(missing) * inputs.recipe.train.steps >= _LONG
    if not (early or long or progress.is_terminal):
        return
    try:
        plan = estimated(inputs, progress)
    except Interrupted:
        raise
    except M2MError:
        return  # the run itself meets the same fault, and says so
    last = command if command in _ORDER else "export"
    left = TimeLeft({stage.name: stage.seconds for stage in plan.stages}, last)
    progress.expected = left
    if early:
        progress.note(left.before(command))
    else:
        progress.note(f"All of it takes {left.all} here, at the speed measured now.")
