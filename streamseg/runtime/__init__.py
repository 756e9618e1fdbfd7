"""A run: the stages wired together, from the sources' frames to the outputs' writers."""
