"""Tasks, metrics and the evaluation of one model."""
