"""The wall round C: llama.cpp's library behind a small safe interface."""
