"""The search strategies by name: the only list of them.

The strategy NAME is in the module `m2m/mix/NAME.py`, which assigns its class to `STRATEGY`.
"""

from __future__ import annotations

from dataclasses import dataclass

AUTO = "auto"
NONE = "none"  # no strategy: nothing is scored, and no expert is trained


@dataclass(frozen=True)
class StrategyFacts:
    """A strategy in the words of recipes and their help.

    Attributes:
        words: the way it works, for the help.
        budget: its own number of evaluations, for the help; "" if no budget limits it.
        auto_up_to: "auto" takes the first strategy that allows enough datasets: up to this many, or
            fewer than 2 to this power mixtures; 0 for any number, None if "auto" never takes it.
        any_weights: whether it can choose mixtures whose weights differ.
    """

    words: str
    budget: str = ""
    auto_up_to: int | None = None
    any_weights: bool = False


STRATEGIES = {
    "racing": StrategyFacts(
        "all start, few finish", "an eighth of the cost of all mixtures", auto_up_to=12
    ),
    "guided": StrategyFacts("a model proposes", "150", auto_up_to=0, any_weights=True),
    "exhaustive": StrategyFacts("all finish"),
}
NAMES = (AUTO, NONE, *STRATEGIES)


def strategy_help() -> str:
    """Return the help of `[search] strategy`."""
    every = ", ".join(f"{name} ({known.words})" for name, known in STRATEGIES.items())
    limits = {n: k.auto_up_to for n, k in STRATEGIES.items() if k.auto_up_to is not None}
    taken = (f"{name} up to {most} datasets" if most else name for name, most in limits.items())
    return (
        f"how mixtures are chosen: {every}; auto: {', then '.join(taken)}; none: no experts and no "
        "search, all datasets are trained on at once"
    )


def budget_help() -> str:
    """Return the help of `[search] budget`."""
    own = ", ".join(f"{name} {known.budget}" for name, known in STRATEGIES.items() if known.budget)
    return f"evaluations of the whole dev set that the search may take; 0: {own}"


def for_any_weights() -> list[str]:
    """Return the names of the strategies that can choose mixtures whose weights differ."""
    return [name for name, known in STRATEGIES.items() if known.any_weights]
