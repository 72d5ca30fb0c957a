"""Search, rank and confirm mixtures."""
