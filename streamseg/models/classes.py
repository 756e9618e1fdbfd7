"""Class names of the published models."""

_COCO = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv,
laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase,
scissors, teddy bear, hair drier, toothbrush
"""
COCO_CLASSES: tuple[str, ...] = tuple(name.strip() for name in _COCO.split(","))
"""The 80 classes of COCO, in ascending order of their category ids."""

_SYNONYMS = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "bike": "bicycle",
    "pedestrian": "person",
    "people": "person",
    "television": "tv",
    "tvmonitor": "tv",
    "sofa": "couch",
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "cellphone": "cell phone",
    "mobile phone": "cell phone",
}
"""Other names of COCO's classes."""


def coco_place(name: str) -> int | None:
    """The place of a class among COCO's 80 by its name, whatever its case and underscores; None: unknown."""
    plain = name.strip().lower().replace("_", " ")
    plain = _SYNONYMS.get(plain, plain)
    return COCO_CLASSES.index(plain) if plain in COCO_CLASSES else None
