"""Mixtures: search, ranking, study, confirmation."""
