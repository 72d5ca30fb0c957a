"""ggml's devices (GPUs and the processor), and a training step as one graph on one of them."""
