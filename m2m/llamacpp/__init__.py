"""A small safe interface to llama.cpp's C library: other rooms call no C function of it."""
