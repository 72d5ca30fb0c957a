"""The results of a run: one class for each, which can be written as JSON and read again.

A step of the pipeline makes a result, and `RunFolder` stores it. Everything that shows results (the
terminal, the report, the model card) reads the same class. Nothing here computes a score.
"""
