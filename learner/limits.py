"""How much is made at once; plans reckon with it, so nothing here asks for torch."""

FEW_LOGITS = 2**21
"""So many numbers (8 MiB) of the output layer are made at once."""
COPIES, LEARNED_COPIES = 3, 8
"""How many copies of them are alive at a time, without gradients or where these are worked out by hand, and where
autograd keeps them."""
WIDEST = 4
"""Rows that several sequences share are at most so many times as wide as the longest of these."""
