"""The results of a run: one class for each, which goes to JSON and comes back from it.

A step of the pipeline makes a result, `RunFolder` stores it, and everything that shows results (the
terminal, the report, the model card) reads the same class. Nothing here computes a score.
"""
