"""Commands that have no run: one module for each."""
