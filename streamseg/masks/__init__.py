"""Masks of objects: at source resolution, as run lengths, their main parts."""
