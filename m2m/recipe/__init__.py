"""The recipe: one TOML file that says everything about a run.

`load_recipe` reads it and checks all of it. Paths in a recipe are relative to its own folder.
"""

from m2m.recipe.data_fields import Dataset, Target
from m2m.recipe.fields import (
    MERGE_METHODS,
    PROJECTIONS,
    QUANTIZATIONS,
    Confirm,
    Data,
    Limits,
    Merge,
    Quantize,
    Report,
    Search,
    Train,
)
from m2m.recipe.reader import load_recipe
from m2m.recipe.whole import LISTS, SECTIONS, Recipe, as_json, changed, run_folder

__all__ = [
    "LISTS",
    "MERGE_METHODS",
    "PROJECTIONS",
    "QUANTIZATIONS",
    "SECTIONS",
    "Confirm",
    "Data",
    "Dataset",
    "Limits",
    "Merge",
    "Quantize",
    "Recipe",
    "Report",
    "Search",
    "Target",
    "Train",
    "as_json",
    "changed",
    "load_recipe",
    "run_folder",
]
