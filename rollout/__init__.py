"""Plays episodes."""
