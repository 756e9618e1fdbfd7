"""How long each step may take once the user has stopped the run: all is over within 10 s."""

import math
import time

BROKER_SECONDS = 4.0
"""For a broker that is down."""
_SUBMIT_SECONDS = 6.0
"""For frames to go to the device; those that wait longer are given up."""
_MODEL_SECONDS = 8.0
"""For the device and the host to be done with them."""
_OUTPUT_SECONDS = 9.0
"""For outputs to finish their files."""


class ShutdownBudget:
    """Runs from the moment of the first :meth:`stop`; before it, there is time for everything."""

    def __init__(self) -> None:
        self._stopped_at = math.inf

    def stop(self) -> None:
        """Start the clock, once."""
        self._stopped_at = min(self._stopped_at, time.monotonic())

    @property
    def may_submit(self) -> bool:
        """Whether there is time to hand more frames to the device."""
        return time.monotonic() < self._stopped_at + _SUBMIT_SECONDS

    @property
    def may_compute(self) -> bool:
        """Whether there is time to wait for the device and the host."""
        return time.monotonic() < self._stopped_at + _MODEL_SECONDS

    def outputs_end(self) -> float:
        """When the outputs have to be through, on the monotonic clock."""
        return self._stopped_at + _OUTPUT_SECONDS
