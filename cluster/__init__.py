"""Runs one training: plans, places, supervises, drives, measures and records it."""
