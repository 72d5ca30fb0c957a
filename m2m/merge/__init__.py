"""Merge the deltas of adapters into a base model, one tensor at a time."""
