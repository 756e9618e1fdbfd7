"""A detector at work on a device, in three calls: submit, wait, finish.

``segmenter`` has the calls; ``prepare`` (before the network) and ``finish`` (after it) are its ends.
``devices`` chooses device and precision, ``runtimes`` what computes the network. ``streams``
are those of CUDA, ``oom`` guards against full memory.
"""

from streamseg.inference.oom import OomGuard
from streamseg.inference.segmenter import Segmenter

__all__ = ["OomGuard", "Segmenter"]
