"""NumPy kernels, the decoder and its LoRA: arrays in, arrays out."""
