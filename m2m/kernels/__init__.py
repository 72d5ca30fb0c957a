"""Loops that llama-cpp-python compiled for this machine's processor, for NumPy arrays."""
