"""Networks: normalised images in, logits out.

``detector`` is the whole one: a backbone (``backbones``, ``shufflenet``), a neck (``fpn``, ``ghost_pan``) and
a head (``solo``, ``decoupled``, ``solov2``, ``windowed``; ``head`` says what their outputs have in common).
``layers``, ``deformable``, ``depthwise``, ``detail`` and ``windows`` are what they are built from.
"""
