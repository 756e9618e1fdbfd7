"""From a head's output to the instances of each image, on the network's device.

``candidates`` picks cells and classes, ``maskness`` scores their masks, ``matrix_nms`` lowers the scores of
duplicates; ``detections`` does all of it in turn.
"""
