"""Checkpoints of the reference implementations as detectors.

``checkpoint`` reads a file without executing it, ``key_maps`` translates its tensors' names, ``infer_spec``
tells the model from their shapes; ``detectors`` does all of it in turn.
"""
