"""From a head's output to detections."""
