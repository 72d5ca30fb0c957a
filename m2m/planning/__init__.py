"""Estimate the cost of a run on this machine, and cut a run down to the user's hours."""
