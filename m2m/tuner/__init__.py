"""Fine-tune one LoRA adapter; a stopped run can go on later."""
