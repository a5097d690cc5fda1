"""Asks: environments that pose questions in words and pictures."""
