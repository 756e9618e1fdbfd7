"""Targets, losses, data, training loop and evaluation."""
