"""Learns from episodes."""
