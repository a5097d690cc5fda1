"""What a run will be, and whether it can be, before anything starts."""
