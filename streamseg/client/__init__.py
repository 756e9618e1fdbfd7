"""Results as they are published to Redis or stored in files, in programs without torch, PyAV or OpenCV.

    from streamseg.client import subscribe

    for result in subscribe("redis://localhost:6379/0", ["lobby"]):
        masks = [instance.mask for instance in result.instances]  # (height, width) bool each

A mask is decoded when it is asked for. :func:`asubscribe` does the same for asyncio. Both survive a
restart of the broker and go on after the last entry they saw. With ``gaps=True`` a :class:`Gap` stands where
the broker had trimmed results before they were read. :func:`read_results` iterates over an NDJSON file.
"""

from streamseg.redis.gaps import Gap
from streamseg.redis.reader import Start
from streamseg.redis.subscribe import Subscription, subscribe
from streamseg.redis.subscribe_async import AsyncSubscription, asubscribe
from streamseg.results.reading import read_results

__all__ = ["AsyncSubscription", "Gap", "Start", "Subscription", "asubscribe", "read_results", "subscribe"]
