"""Weights files and the published models.

``files`` reads and writes self-describing weights files, ``tensors`` checks that they fit a model, ``zoo``
lists the published models.
"""
