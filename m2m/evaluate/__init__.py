"""Evaluate a model: tasks, metrics and scores."""
