"""m2m: find out which datasets to fine-tune a small language model on, before you fine-tune."""

__version__ = "0.1.0"
