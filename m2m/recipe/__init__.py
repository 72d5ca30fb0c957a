"""The recipe: one TOML file that says everything about a run.

`load_recipe` reads it and checks all of it. Paths in a recipe are relative to its own folder.
"""

from m2m.recipe.data_fields import Dataset, Target
from m2m.recipe.fields import (
    LISTS,
    MERGE_METHODS,
    PROJECTIONS,
    QUANTIZATIONS,
    SECTIONS,
    Confirm,
    Data,
    Limits,
    Merge,
    Quantize,
    Recipe,
    Report,
    Search,
    Train,
    as_json,
    changed,
    run_folder,
)
from m2m.recipe.reader import load_recipe

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
