"""Masks at the edge: source resolution, frame results, overlay painting."""
