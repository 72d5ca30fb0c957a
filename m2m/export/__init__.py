"""Files for others: merged GGUF models, and the files that other programs need with them."""
