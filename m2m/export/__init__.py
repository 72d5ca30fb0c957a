"""Files for others: merged GGUF models and what tools want beside them."""
