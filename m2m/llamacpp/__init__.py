"""A small safe interface to llama.cpp's C library."""
