"""What happens in one iteration of a run."""
