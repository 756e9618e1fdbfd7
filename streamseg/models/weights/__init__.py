"""Weights files and the published models.

``files`` reads and writes self-describing weights files, ``tensors`` checks that they fit a model,
``coco_start`` fills a new detector with what a detector of COCO knows, ``zoo`` lists the published models.
"""
