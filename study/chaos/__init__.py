"""Runs that are struck at random moments, and what came of them."""
