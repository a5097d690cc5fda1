"""Hands of cards: their pictures, and what is said of them."""
