"""Artifacts on their way out."""
