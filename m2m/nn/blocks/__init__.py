"""The blocks that a layer is made of: norms, self-attention, MLP. A family chooses among them."""
