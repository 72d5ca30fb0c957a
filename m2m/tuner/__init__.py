"""Fine-tunes one LoRA adapter, resumably."""
