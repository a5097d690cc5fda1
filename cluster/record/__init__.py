"""What a run leaves behind: files, metrics, compute, checkpoints, episodes."""
