"""Places, supervises, drives and records a run."""
