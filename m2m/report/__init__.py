"""The report of a run: one HTML file, JSON and CSV, drawn from the run's facts."""

from m2m.report.write import Written, write_report

__all__ = ["Written", "write_report"]
