"""How much is made at once; plans reckon with it, so nothing here asks for torch."""

FEW_LOGITS = 2**21
"""So many numbers (8 MiB) of the output layer are kept for the way back; more are made in parts."""
COPIES, LEARNED_COPIES = 3, 8
"""How many copies of them are alive at a time, without gradients and where autograd keeps them."""
TILE_LOGITS = {"cpu": 2**18, "cuda": 2**24}
"""As many stay in a core's cache; a GPU is idle between parts that are much smaller."""
TILE_COPIES = 3
"""How many copies of a tile are alive at a time."""
REDUCE_BUCKET_NUMEL = 200_000_000
"""The most gradient values that are summed over ranks at once."""
