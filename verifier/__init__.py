"""Says whether an answer is right, what it earns, and what to tell the model."""
