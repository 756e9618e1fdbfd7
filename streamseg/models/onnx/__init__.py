"""Detectors as ONNX files.

``network`` is a detector with post-processing whose outputs are of fixed size; ``export`` writes it.
"""
