"""m2m: find out which datasets to fine-tune a small language model on, before you fine-tune.

`from m2m import Recipe, Run` is the API (`m2m.api`). It is imported when it is first used, so that
`import m2m` costs nothing.
"""

__version__ = "0.1.0"
_API = ("M2MError", "M2MWarning", "Metric", "MixtureScore", "Recipe", "Run", "Scores", "own_metric")


def __getattr__(name: str) -> object:
    """Import a name of the API when it is first used (PEP 562)."""
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("m2m.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_API])
