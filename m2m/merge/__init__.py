"""Merges adapters' deltas into a base model, one tensor at a time."""
