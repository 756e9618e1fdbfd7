"""The keys that results are published under. The braces are literal: a cluster keeps a stream together."""

STREAMS_KEY = "streamseg:streams"
"""Set of the ids of all known streams."""


def results_key(stream: str) -> str:
    """Redis stream of a stream's results."""
    return f"streamseg:{{{stream}}}:results"


def overlays_key(stream: str) -> str:
    """Redis stream of a stream's painted pictures."""
    return f"streamseg:{{{stream}}}:overlays"


def events_key(stream: str) -> str:
    """Redis stream of what happens at a stream's zones and lines."""
    return f"streamseg:{{{stream}}}:events"


def status_key(stream: str) -> str:
    """Hash with a stream's state and numbers."""
    return f"streamseg:{{{stream}}}:status"


def owner_key(stream: str) -> str:
    """Hash with the first epoch of the engine that may publish a stream, and the newest one published."""
    return f"streamseg:{{{stream}}}:owner"


def stream_of(key: bytes) -> str:
    """Id of the stream that a key belongs to."""
    return key.decode().partition("{")[2].partition("}")[0]
