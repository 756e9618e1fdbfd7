"""Weights files, and the published models."""
