"""Commands that need no run: one module for each."""
