"""Where objects may be and where they pass: regions, zones and lines in the picture of a stream.

Tracked instances -> anchors -> zones and lines -> events and counts
"""

from streamseg.zones.filter import StreamFilter
from streamseg.zones.rules import StreamRules
from streamseg.zones.watch import Watch, Watched

__all__ = ["StreamFilter", "StreamRules", "Watch", "Watched"]
