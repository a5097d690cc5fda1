"""The built-in models of a million parameters: their tokenizer, what they were taught, the recipe."""
