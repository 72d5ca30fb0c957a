"""The report of a run: one HTML file, JSON and CSV, drawn from plain facts.

The pipeline fills `Facts` and calls `write_report`; nothing here knows a model.
"""

from m2m.report.facts import Facts
from m2m.report.write import Written, write_report

__all__ = ["Facts", "Written", "write_report"]
