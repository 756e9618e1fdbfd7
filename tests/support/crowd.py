"""How busy the machine is that a test runs on: bounds in seconds are for one that has nothing else to do."""

import os


def crowd() -> float:
    """How many programs want each core, at least 1: so many times longer takes what they do."""
    return max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))
