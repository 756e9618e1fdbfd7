"""Checkpoints of the reference implementations as weights files."""
