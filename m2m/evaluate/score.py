"""A score with its standard error, to store, print and compare."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

_HALF = 1.959964  # standard errors: half of a normal 95 % interval


class Score(NamedTuple):
    """A metric's value on some examples.

    Attributes:
        value: on all the examples.
        stderr: its standard error over the examples; nan if it is not known.
    """

    value: float
    stderr: float = math.nan

    @property
    def ends(self) -> tuple[float, float]:
        """Return a normal 95 % interval; only the value if the standard error is not known."""
        half = _HALF * self.stderr if math.isfinite(self.stderr) else 0.0
        return self.value - half, self.value + half

    def text(self, digits: int = 3) -> str:
        """Format for people: "0.123 ± 0.045", without the error if it is not known."""
        value = f"{self.value:z.{digits}f}"
        return f"{value} ± {self.stderr:z.{digits}f}" if math.isfinite(self.stderr) else value

    def as_json(self) -> dict[str, float]:
        """Return `{"value", "stderr"}`."""
        return {"value": self.value, "stderr": self.stderr}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Score:
        """Invert `as_json`; JSON has null for an error that is not known."""
        error = data.get("stderr")
        return cls(float(data["value"]), math.nan if error is None else float(error))


Measured = Mapping[str, Score]  # by metric
