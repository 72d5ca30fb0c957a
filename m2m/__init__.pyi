"""The types of the API for type checkers; `__init__.py` imports it lazily."""

from m2m.api import M2MError as M2MError
from m2m.api import M2MWarning as M2MWarning
from m2m.api import Metric as Metric
from m2m.api import MixtureScore as MixtureScore
from m2m.api import Recipe as Recipe
from m2m.api import Run as Run
from m2m.api import Scores as Scores
from m2m.api import own_metric as own_metric

__version__: str
