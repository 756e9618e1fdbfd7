"""Networks: normalised images in, logits out.

``detector`` is the whole one: a backbone (``backbones``), the pyramid (``fpn``) and a head (``solo``,
``decoupled``, ``solov2``; ``head`` says what their outputs have in common). ``layers`` and ``deformable``
are what they are built from.
"""
